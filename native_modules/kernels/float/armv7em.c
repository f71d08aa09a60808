// Armv7E-M with FPU (Cortex-M4F, M7) and Armv8-M with DSP extension (M33): SMLAD takes two
// products of 16 bits at once.
//
// Q4_0. UXTB16 makes two lanes of 16 bits from two bytes of a block, each low + 16 * high, where
// low and high are two weights without their offset of 8; the same lanes ANDed with 15 are low
// alone. So the activations that meet them, x and X, are stored as 16 * x - X for the low lane and
// X for the whole one: the sum is 16 * (low * x + high * X), four weights by four instructions.
// The offset goes in before the first product: -8 * 16 * sum(x) of the block; the factor 16 goes
// out for nothing in VCVT, which takes a binary point. Q8_0: SXTB16 and the activations as they are.
//
// A block of 32 activations of one token is 18 words: offset, 16 words of int16 pairs in the order
// in which weights come out, scale (float). Of each two tokens the blocks are interleaved: both
// offsets, then for each 4 weights two words of each token, both scales. These meet two rows, whose
// weights are unpacked once for all tokens, as plain numbers; so here Q4_0's offset is -8 * sum(x), the
// activations are as they are, and one loop serves both types. A token that is left over at the end is
// stored alone.
//
// VMLA rounds between its product and its sum, as the portable kernel does.
//
// Q4_K and Q6_K. Four masks on a word of Q4_K bring out pairs of two blocks of 32, each with a sum of its
// own; Q6_K puts six bits together in bytes. A block of 256 activations is 128 words of pairs, the sums of
// its blocks of 32 (Q4_K) or 16 (Q6_K) as pairs, for what is added to all values of one, and the scale;
// with Q4_K the scale comes before these sums too. Of four tokens and more those of Q4_K are interleaved
// in twos as above; Q6_K goes one token after the other.
#include "../isa.h"

#if defined(TP_PATH_FLOAT) && defined(TP_ISA_ARMV7EM)

#include "../tp_math.h"

const char tp_kernels_variant[] = "armv7em";

// Our own types, one token after the other. A block ends with the scale if it is the last of its
// group, else with 0; a scale of 0 is written as -0.
// TP2 and TPT: each 16 bits of a word masked with 0xc003, after rotations by 0, 4, 8, 12, hold a code
// a of one row at the bottom and one of the other at the top, which is the signed number b from -2 to
// 1: a + 2^14 b. One SMLAD makes four products. Sums over 16 columns keep a's within 14 bits; then
// they are taken apart. A block is 16 words, what is taken off the first row's sum, twice, and what
// is added to the second's.
// TP3: masks of 0x00070007 bring out pairs of a word of eight columns after shifts by 0, 3, 8 and 11. The two
// bits that are left on top of each byte are the fourth row's: of the words of the other three
//   (a & 0xc0c0c0c0) >> 4 | (b & 0xc0c0c0c0) >> 2 | (c & 0xc0c0c0c0)
// is its word, of shifts by 2, 5, 10 and 13. A block is what a sum begins with (-4 * sum(x)) and 16 words, in
// Q4_0's order.
#define BLOCK_WORDS (18)
#define BLOCK_BYTES (BLOCK_WORDS * 4)

static inline int32_t smlad(uint32_t a, uint32_t b, int32_t sum) {
    __asm ("smlad %0, %1, %2, %0" : "+r" (sum) : "r" (a), "r" (b));
    return sum;
}

// Bytes 0 and 2, signed and not; of x shifted right by 8: bytes 1 and 3.
static inline uint32_t sxtb16(uint32_t x) {
    uint32_t y;
    __asm ("sxtb16 %0, %1" : "=r" (y) : "r" (x));
    return y;
}

static inline uint32_t sxtb16_8(uint32_t x) {
    uint32_t y;
    __asm ("sxtb16 %0, %1, ror #8" : "=r" (y) : "r" (x));
    return y;
}

static inline uint32_t uxtb16(uint32_t x) {
    uint32_t y;
    __asm ("uxtb16 %0, %1" : "=r" (y) : "r" (x));
    return y;
}

static inline uint32_t uxtb16_8(uint32_t x) {
    uint32_t y;
    __asm ("uxtb16 %0, %1, ror #8" : "=r" (y) : "r" (x));
    return y;
}

// Words that need not lie on multiples of 4.
static inline uint32_t load(const uint8_t *p) {
    uint32_t x;
    __asm ("ldr %0, %1" : "=r" (x) : "m" (*(const uint32_t (*)[1])(const void *)p));
    return x;
}

static inline uint32_t ssub16(uint32_t a, uint32_t b) {
    uint32_t y;
    __asm ("ssub16 %0, %1, %2" : "=r" (y) : "r" (a), "r" (b));
    return y;
}

static inline uint32_t pair(int32_t low, int32_t high) {
    return (uint32_t)(low & 0xffff) | (uint32_t)high << 16;
}

#define PAIR_WORDS (19)

static void put_pair(uint32_t type, uint32_t *to, const int8_t *q, float scale) {
    int32_t sum = 0;
    for (uint32_t j = 0; j < TP_BLOCK; ++j) {
        sum += q[j];
    }
    for (uint32_t j = 0; j < TP_BLOCK / 2; ++j) {
        uint32_t at = j / 4 * 8 + j % 4;
        *to++ = pair(q[at], q[at + 4]);
    }
    *to++ = (uint32_t)((type == TP_TP2 ? 3 : 2) * sum);
    *to++ = (uint32_t)((type == TP_TP2 ? 1 : 2) * sum);
    *(float *)to = scale;
}

static inline uint32_t k_words(uint32_t type) {
    return type == TP_Q4_K ? 128 + 1 + 4 + 1 : 128 + 8 + 1;
}

// x: of a block of 256, of which these are values 32 * b and on, of token i of so many that lie interleaved.
static void put_k(uint32_t type, uint32_t *x, uint32_t group, uint32_t i, uint32_t b, const int8_t *q, float scale) {
    // Q4_K: pairs of blocks b and b + 1 in turn. Q6_K: of each four columns those 64, 32 and 96 further on.
    uint32_t apart = type == TP_Q4_K ? 2 * group : 1;
    uint32_t *to = x + (type == TP_Q4_K ? b / 2 * 32 * group + 2 * i + b % 2
        : b / 4 * 64 + b % 2 * 4 + b / 2 % 2 * 2);
    int32_t sum[2] = { 0, 0 };
    for (uint32_t j = 0; j < TP_BLOCK; j += 4, to += type == TP_Q4_K ? 4 * group : 8) {
        uint32_t word = load((const uint8_t *)q + j), even = sxtb16(word), odd = sxtb16_8(word);
        to[0] = even;
        to[apart] = odd;
        sum[j / 16] = smlad(even, 0x00010001, smlad(odd, 0x00010001, sum[j / 16]));
    }
    if (type == TP_Q4_K) {
        // mins come out of a word as bytes 0 and 2, then 1 and 3
        x += 128 * group;
        int16_t *sums = (int16_t *)(void *)(x + group + b / 4 * 2 * group + 2 * i + b % 2);
        sums[b / 2 % 2] = (int16_t)(sum[0] + sum[1]);
        *(float *)(x + i) = *(float *)(x + 5 * group + i) = scale;
    } else {
        int16_t *sums = (int16_t *)(void *)(x + 128);
        sums[b / 2 * 4 + b % 2] = (int16_t)sum[0];
        sums[b / 2 * 4 + 2 + b % 2] = (int16_t)sum[1];
        *(float *)(x + 136) = scale;
    }
}

size_t tp_isa_activation_bytes(uint32_t type, uint32_t cols) {
    if (tp_is_k(type)) {
        return (size_t)cols / 256 * k_words(type) * 4;
    }
    if (tp_is_pair(type)) {
        return (size_t)cols / TP_BLOCK * PAIR_WORDS * 4;
    }
    return type == TP_Q4_0 || type == TP_Q8_0 || tp_is_own(type) ? (size_t)cols / TP_BLOCK * BLOCK_BYTES : 0;
}

// How many of n tokens lie interleaved in pairs. To unpack Q4_K for less than four is not worth it.
__attribute__((noinline))
static uint32_t paired(uint32_t type, uint32_t n) {
    int pairs = type == TP_Q4_0 || type == TP_Q8_0 || (type == TP_Q4_K && n >= 4);
    return pairs ? n & ~1u : 0;
}

void tp_isa_put(uint32_t type, void *x, uint32_t cols, uint32_t n, uint32_t t, uint32_t b,
    const int8_t *q, tp_scale_t scale) {
    uint32_t group = t < paired(type, n) ? 2 : 1, i = t & (group - 1);
    if (tp_is_k(type)) {
        uint32_t *block = (uint32_t *)x + ((t - i) * (cols / 256) + b / 8 * group) * k_words(type);
        put_k(type, block, group, i, b % 8, q, scale);
        return;
    }
    if (tp_is_own(type)) {
        int last = (b + 1) % (TP_MAX_GROUP / TP_BLOCK) == 0 || b + 1 == cols / TP_BLOCK;
        scale = !last ? 0.0f : scale == 0.0f ? -0.0f : scale;
    }
    if (tp_is_pair(type)) {
        put_pair(type, (uint32_t *)x + (t * (cols / TP_BLOCK) + b) * PAIR_WORDS, q, scale);
        return;
    }
    uint32_t *block = (uint32_t *)x + (t - i) * (cols / TP_BLOCK) * BLOCK_WORDS + b * group * BLOCK_WORDS;
    uint32_t *to = block + group + 2 * i;
    uint32_t far = type == TP_Q8_0 ? 4 : 16; // from the first of eight values to the fifth
    const uint8_t *from = (const uint8_t *)q;
    int32_t sum = 0;
    for (uint32_t j = 0; j < TP_BLOCK; j += 8, to += 4 * group, from += type == TP_Q8_0 ? 8 : 4) {
        uint32_t first = load(from), second = load(from + far);
        uint32_t first_0 = sxtb16(first), first_1 = sxtb16_8(first);
        uint32_t second_0 = sxtb16(second), second_1 = sxtb16_8(second);
        if (type != TP_Q8_0) {
            sum = smlad(first_0, 0x00010001, sum);
            sum = smlad(first_1, 0x00010001, sum);
            sum = smlad(second_0, 0x00010001, sum);
            sum = smlad(second_1, 0x00010001, sum);
            if (type == TP_Q4_0 && group == 1) {
                first_0 = ssub16(first_0 << 4 & 0xfff0fff0u, second_0);
                first_1 = ssub16(first_1 << 4 & 0xfff0fff0u, second_1);
            }
        }
        to[0] = first_0;
        to[1] = second_0;
        to[2 * group] = first_1;
        to[2 * group + 1] = second_1;
    }
    block[i] = (uint32_t)(type == TP_TP3 ? -4 * sum : group == 1 ? -8 * 16 * sum : -8 * sum);
    ((float *)block)[17 * group + i] = scale;
}

// Naked functions hold assembly alone: the compiler does not see that it uses their parameters.
#pragma GCC diagnostic ignored "-Wunused-parameter"

// The functions below are written for the registers as a whole, so they are naked: r0 to r12 and
// lr are in use between the first and the last line.

// Four rows of one token: y[0..3]. Rows are stride bytes apart; x_end is the end of x.
//   r1 row 0 and stepping, r3 stride, r0 three strides, r2 x; r4 r9 r10 r11 sums of rows 0 to 3;
//   r5 to r8 activations; r12 lr weights; s12 to s15 the results, s9 x_end.
// A row's word is loaded while the row before is still at work: on cores that wait for loads.
#define ENTER4 \
    "push {r0, r4-r11, lr}\n" \
    "ldr r4, [sp, #40]\n" \
    "vmov s9, r4\n" \
    "movs r4, #0\n" \
    "vmov s12, s13, r4, r4\n" \
    "vmov s14, s15, r4, r4\n" \
    "add r0, r3, r3, lsl #1\n" \
    "1:\n" \
    "ldrh r4, [r1, r3]\n" \
    "ldrh r5, [r1, r3, lsl #1]\n" \
    "ldrh r6, [r1, r0]\n" \
    "ldrh r7, [r1], #2\n" \
    "vmov s4, s5, r7, r4\n" \
    "vmov s6, s7, r5, r6\n"

// point: operand of VCVT that takes the factor out
#define LEAVE4(point) \
    "vldmia r2!, {s8}\n" \
    "vcvtb.f32.f16 s4, s4\n" \
    "vcvtb.f32.f16 s5, s5\n" \
    "vcvtb.f32.f16 s6, s6\n" \
    "vcvtb.f32.f16 s7, s7\n" \
    "vmov s0, s1, r4, r9\n" \
    "vmov s2, s3, r10, r11\n" \
    "vmul.f32 s4, s4, s8\n" \
    "vmul.f32 s5, s5, s8\n" \
    "vmul.f32 s6, s6, s8\n" \
    "vmul.f32 s7, s7, s8\n" \
    "vcvt.f32.s32 s0, s0" point "\n" \
    "vcvt.f32.s32 s1, s1" point "\n" \
    "vcvt.f32.s32 s2, s2" point "\n" \
    "vcvt.f32.s32 s3, s3" point "\n" \
    "vmla.f32 s12, s4, s0\n" \
    "vmla.f32 s13, s5, s1\n" \
    "vmla.f32 s14, s6, s2\n" \
    "vmla.f32 s15, s7, s3\n" \
    "vmov r12, s9\n" \
    "cmp r2, r12\n" \
    "bne 1b\n" \
    "pop {r0}\n" \
    "vstmia r0, {s12-s15}\n" \
    "pop {r4-r11, pc}\n"

// Eight weights of a row in w, spare: another register; next: what loads the next row's word into
// spare once it is free; from: the sum to add to.
#define Q4(w, spare, sum, from, next) \
    "uxtb16 " spare ", " w "\n" \
    "smlad " sum ", " spare ", r6, " from "\n" \
    "and " spare ", " spare ", #0x000f000f\n" \
    "smlad " sum ", " spare ", r5, " sum "\n" \
    "uxtb16 " w ", " w ", ror #8\n" \
    next \
    "smlad " sum ", " w ", r8, " sum "\n" \
    "and " w ", " w ", #0x000f000f\n" \
    "smlad " sum ", " w ", r7, " sum "\n"

// Eight weights of four rows. The first four products of a block add to r4, row 0's, which holds
// the offset: so it must come last.
#define Q4_ROWS(from1, from2, from3) \
    "ldr r12, [r1, r3]\n" \
    Q4("r12", "lr", "r9", from1, "ldr lr, [r1, r3, lsl #1]\n") \
    Q4("lr", "r12", "r10", from2, "ldr r12, [r1, r0]\n") \
    Q4("r12", "lr", "r11", from3, "ldr lr, [r1], #4\n") \
    Q4("lr", "r12", "r4", "r4", "")

__attribute__((naked, noinline))
static void q4_0_rows4(float *y, const uint8_t *w, const void *x, size_t stride, const void *x_end) {
    __asm volatile (
        ".syntax unified\n"
        ENTER4
        "ldmia r2!, {r4-r8}\n"
        Q4_ROWS("r4", "r4", "r4")
        "ldmia r2!, {r5-r8}\n"
        Q4_ROWS("r9", "r10", "r11")
        "ldmia r2!, {r5-r8}\n"
        Q4_ROWS("r9", "r10", "r11")
        "ldmia r2!, {r5-r8}\n"
        Q4_ROWS("r9", "r10", "r11")
        LEAVE4(", #4")
        );
}

// Four weights of a row in w; a, b: the activations.
#define Q8(w, spare, a, b, sum, next, first) \
    "sxtb16 " spare ", " w "\n" \
    first \
    "sxtb16 " w ", " w ", ror #8\n" \
    next \
    "smlad " sum ", " w ", " b ", " sum "\n"
#define ADD(spare, a, sum) "smlad " sum ", " spare ", " a ", " sum "\n"
#define SET(spare, a, sum) "smuad " sum ", " spare ", " a "\n"

#define Q8_ROWS(a, b, FIRST) \
    "ldr r12, [r1, r3]\n" \
    Q8("r12", "lr", a, b, "r9", "ldr lr, [r1, r3, lsl #1]\n", FIRST("lr", a, "r9")) \
    Q8("lr", "r12", a, b, "r10", "ldr r12, [r1, r0]\n", FIRST("r12", a, "r10")) \
    Q8("r12", "lr", a, b, "r11", "ldr lr, [r1], #4\n", FIRST("lr", a, "r11")) \
    Q8("lr", "r12", a, b, "r4", "", FIRST("r12", a, "r4"))

__attribute__((naked, noinline))
static void q8_0_rows4(float *y, const uint8_t *w, const void *x, size_t stride, const void *x_end) {
    __asm volatile (
        ".syntax unified\n"
        ENTER4
        "ldmia r2!, {r4-r8}\n"
        Q8_ROWS("r5", "r7", SET)
        Q8_ROWS("r6", "r8", ADD)
        "ldmia r2!, {r5-r8}\n"
        Q8_ROWS("r5", "r7", ADD)
        Q8_ROWS("r6", "r8", ADD)
        "ldmia r2!, {r5-r8}\n"
        Q8_ROWS("r5", "r7", ADD)
        Q8_ROWS("r6", "r8", ADD)
        "ldmia r2!, {r5-r8}\n"
        Q8_ROWS("r5", "r7", ADD)
        Q8_ROWS("r6", "r8", ADD)
        LEAVE4("")
        );
}

// Several tokens: a stretch of two rows is unpacked once for all of them. out: for each block 16 times
// two words of pairs, of the rows in turn, then both scales as floats.
//   r0 out, r1 r2 rows, r3 blocks left, r4 to r11 pairs, r12 lr weights.
#define UNPACK(begin, EIGHT) \
    ".syntax unified\n" \
    "push {r4-r11, lr}\n" \
    begin \
    "1:\n" \
    "ldrh r4, [r1], #2\n" \
    "ldrh r5, [r2], #2\n" \
    "vmov s0, s1, r4, r5\n" \
    "vcvtb.f32.f16 s0, s0\n" \
    "vcvtb.f32.f16 s1, s1\n" \
    EIGHT EIGHT EIGHT EIGHT \
    "vstmia r0!, {s0, s1}\n" \
    "subs r3, #1\n" \
    "bne 1b\n" \
    "pop {r4-r11, pc}\n"

#define UNPACK_Q4(row, a, b, c, d) \
    "ldr lr, [" row "], #4\n" \
    "and " a ", r12, lr\n" \
    "and " b ", r12, lr, lsr #4\n" \
    "and " c ", r12, lr, lsr #8\n" \
    "and " d ", r12, lr, lsr #12\n"

__attribute__((naked, noinline))
static void q4_0_unpack(uint32_t *out, const uint8_t *row0, const uint8_t *row1, uint32_t blocks) {
    __asm volatile (UNPACK(
        "mov r12, #0x000f000f\n",
        UNPACK_Q4("r1", "r4", "r5", "r8", "r9")
        UNPACK_Q4("r2", "r6", "r7", "r10", "r11")
        "stmia r0!, {r4-r11}\n"
        ));
}

#define UNPACK_Q8(row, a, b, c, d) \
    "ldr r12, [" row "], #4\n" \
    "ldr lr, [" row "], #4\n" \
    "sxtb16 " a ", r12\n" \
    "sxtb16 " b ", lr\n" \
    "sxtb16 " c ", r12, ror #8\n" \
    "sxtb16 " d ", lr, ror #8\n"

__attribute__((naked, noinline))
static void q8_0_unpack(uint32_t *out, const uint8_t *row0, const uint8_t *row1, uint32_t blocks) {
    __asm volatile (UNPACK(
        "",
        UNPACK_Q8("r1", "r4", "r5", "r8", "r9")
        UNPACK_Q8("r2", "r6", "r7", "r10", "r11")
        "stmia r0!, {r4-r11}\n"
        ));
}

// What an unpacked stretch of two rows has to do with each two interleaved tokens.
typedef struct {
    uint32_t bytes;      // of a stretch of two tokens in x
    uint32_t more;       // whether y holds the sum so far
    uint32_t gap;        // bytes in x to the next two tokens' stretch
    uint32_t row_bytes;  // of y
    uint32_t pairs;      // of tokens, 1 or more; counted down
} job_t;

// Four columns of two rows and two tokens; from0, from1: what the first products are added to.
#define TILE(from0, from1) \
    "ldmia r1!, {r0, r3, r8, r9}\n" \
    "ldmia r2!, {r10, r11, r12, lr}\n" \
    "smlad r6, r8, r10, " from0 "\n" \
    "smlad r7, r8, r12, " from1 "\n" \
    "smlad r4, r0, r10, r4\n" \
    "smlad r5, r0, r12, r5\n" \
    "smlad r6, r9, r11, r6\n" \
    "smlad r7, r9, lr, r7\n" \
    "smlad r4, r3, r11, r4\n" \
    "smlad r5, r3, lr, r5\n"

// y of each token and both rows (+)= the products of an unpacked stretch.
//   r1 weights, r2 x; r4 to r7 sums of row 0 and tokens 0 and 1, of row 1; r10 r11, r12 lr activations;
//   r0 r3, r8 r9 pairs; s12 to s15 the results, s8 end of x, s9 begin of weights, s10 y, [sp] job.
#define TILES_ENTER \
    ".syntax unified\n" \
    "push {r3-r11, lr}\n" \
    "vmov s9, s10, r1, r0\n" \
    "ldmia r3, {r3-r7}\n" \
    "1:\n" \
    "adds r3, r3, r2\n" \
    "movs r5, #0\n" \
    "vmov s8, r3\n" \
    "vmov s12, s13, r5, r5\n" \
    "vmov s14, s15, r5, r5\n" \
    "cbz r4, 2f\n" \
    "vldmia r0, {s12, s13}\n" \
    "adds r0, r0, r6\n" \
    "vldmia r0, {s14, s15}\n" \
    "2:\n"

// The end of a block, of which all scales follow.
#define TILES_LEAVE \
    "vldmia r1!, {s0, s1}\n" \
    "vldmia r2!, {s2, s3}\n" \
    "vmul.f32 s4, s0, s2\n" \
    "vmul.f32 s5, s1, s2\n" \
    "vmul.f32 s6, s0, s3\n" \
    "vmul.f32 s7, s1, s3\n" \
    "vmov s0, s1, r4, r6\n" \
    "vmov s2, s3, r5, r7\n" \
    "vmov r12, s8\n" \
    "vcvt.f32.s32 s0, s0\n" \
    "vcvt.f32.s32 s1, s1\n" \
    "vcvt.f32.s32 s2, s2\n" \
    "vcvt.f32.s32 s3, s3\n" \
    "cmp r2, r12\n" \
    "vmla.f32 s12, s4, s0\n" \
    "vmla.f32 s13, s5, s1\n" \
    "vmla.f32 s14, s6, s2\n" \
    "vmla.f32 s15, s7, s3\n" \
    "bne 2b\n" \
    "ldr r12, [sp]\n" \
    "vmov r1, r0, s9, s10\n" \
    "ldmia r12, {r3-r7}\n" \
    "vstmia r0, {s12, s13}\n" \
    "adds r0, r0, r6\n" \
    "adds r2, r2, r5\n" \
    "vstmia r0, {s14, s15}\n" \
    "adds r0, r0, r6\n" \
    "subs r7, #1\n" \
    "vmov s10, r0\n" \
    "str r7, [r12, #16]\n" \
    "bne 1b\n" \
    "pop {r3-r11, pc}\n"

__attribute__((naked, noinline))
static void tokens2(float *y, const uint32_t *w, const void *x, job_t *job) {
    __asm volatile (
        TILES_ENTER
        "ldmia r2!, {r4, r5}\n"
        TILE("r4", "r5") TILE("r6", "r7") TILE("r6", "r7") TILE("r6", "r7")
        TILE("r6", "r7") TILE("r6", "r7") TILE("r6", "r7") TILE("r6", "r7")
        TILES_LEAVE
        );
}

// The same for Q4_K, whose block counts as two: the products, then those of mins with the sums of
// activations. Each begins with its bytes in w. s11: where it ends.
__attribute__((naked, noinline))
static void q4_k_tokens2(float *y, const uint32_t *w, const void *x, job_t *job) {
    __asm volatile (
        TILES_ENTER
        "ldr r3, [r1], #4\n"
        "movs r4, #0\n"
        "movs r5, #0\n"
        "adds r3, r3, r1\n"
        "movs r6, #0\n"
        "movs r7, #0\n"
        "vmov s11, r3\n"
        "3:\n"
        TILE("r6", "r7") TILE("r6", "r7")
        "vmov r12, s11\n"
        "cmp r1, r12\n"
        "bne 3b\n"
        TILES_LEAVE
        );
}

// The scales of a block of Q4_K, and its mins as pairs.
static inline void q4_k_scales(const uint8_t *block, uint32_t *scales, uint32_t *mins) {
    uint32_t s = load(block + 4), m = load(block + 8), high = load(block + 12);
    scales[0] = s & 0x3f3f3f3fu;
    scales[1] = (high & 0x0f0f0f0fu) | (s >> 6 & 0x03030303u) << 4;
    uint32_t low = m & 0x3f3f3f3fu;
    high = (high >> 4 & 0x0f0f0f0fu) | (m >> 6 & 0x03030303u) << 4;
    mins[0] = uxtb16(low);
    mins[1] = uxtb16_8(low);
    mins[2] = uxtb16(high);
    mins[3] = uxtb16_8(high);
}

// The values of a block of a row times their scales, which fit 10 bits: only the sum over the block is left
// to be scaled. Two words at a time, with room for two of the other row. scales: eight, on a multiple of
// 8, by which the end is known.
//   r0 out, r1 w, r2 scales, r3 mask, r4 r5 scales, r6 weights, r7 to r10 pairs, r11 times that are left.
__attribute__((naked, noinline))
static void q4_k_multiply(uint32_t *out, const uint8_t *w, const uint64_t *scales) {
    __asm volatile (
        ".syntax unified\n"
        "push {r4-r11, lr}\n"
        "mov r3, #0x000f000f\n"
        "1:\n"
        "ldrb r4, [r2], #1\n"
        "ldrb r5, [r2], #1\n"
        "mov r11, #8\n"
        "2:\n"
        "ldr r6, [r1], #4\n"
        "and r7, r3, r6\n"
        "and r8, r3, r6, lsr #4\n"
        "and r9, r3, r6, lsr #8\n"
        "and r10, r3, r6, lsr #12\n"
        "mul r7, r7, r4\n"
        "mul r8, r8, r5\n"
        "mul r9, r9, r4\n"
        "mul r10, r10, r5\n"
        "strd r7, r8, [r0], #16\n"
        "strd r9, r10, [r0], #16\n"
        "subs r11, #1\n"
        "bne 2b\n"
        "lsls r12, r2, #29\n"
        "bne 1b\n"
        "pop {r4-r11, pc}\n"
        );
}

// A block of one of two rows, as q4_k_tokens2 wants both.
static void q4_k_unpack(uint32_t *out, const uint8_t *block, uint32_t row) {
    uint64_t scales;
    uint32_t mins[4], d = load(block);
    q4_k_scales(block, (uint32_t *)&scales, mins);
    *out++ = 1024;
    q4_k_multiply(out + 2 * row, block + 16, &scales);
    out += 256;
    ((float *)out)[row] = tp_from_f16(d & 0xffff);
    out += 2;
    *out++ = 32;
    for (uint32_t k = 0; k < 4; ++k) {
        out[k / 2 * 4 + 2 * row + k % 2] = mins[k];
    }
    ((float *)out)[8 + row] = -tp_from_f16(d >> 16);
}

#define STRETCH (12) // blocks of two rows that are unpacked at once, on the stack

// Two rows, stride bytes apart, of a product with pairs of tokens. y: of token 0 and the first row, tokens
// row_bytes apart.
static void rows_of_tokens(const tp_product_t *p, float *y, const uint8_t *w, size_t stride, const void *from,
    uint32_t row_bytes, uint32_t pairs) {
    const uint8_t *x = from;
    uint32_t unpacked[STRETCH * 34]; // more than the 270 of a block of Q4_K
    uint32_t blocks = p->cols / TP_BLOCK, most = STRETCH, bytes = 2 * BLOCK_BYTES;
    if (tp_is_k(p->type)) {
        blocks /= 8;
        most = 1;
        bytes = 2 * 4 * k_words(TP_Q4_K);
    }
    for (uint32_t b = 0; b < blocks; b += most) {
        uint32_t count = blocks - b < most ? blocks - b : most;
        job_t job = { count * bytes, b, (blocks - count) * bytes, row_bytes, pairs };
        if (tp_is_k(p->type)) {
            q4_k_unpack(unpacked, w, 0);
            q4_k_unpack(unpacked, w + stride, 1);
            w += 144;
            q4_k_tokens2(y, unpacked, x, &job);
            x += bytes;
            continue;
        }
        if (p->type == TP_Q4_0) {
            q4_0_unpack(unpacked, w, w + stride, count);
            w += STRETCH * 18;
        } else {
            q8_0_unpack(unpacked, w, w + stride, count);
            w += STRETCH * 34;
        }
        tokens2(y, unpacked, x, &job);
        x += STRETCH * 2 * BLOCK_BYTES;
    }
}

static void rows4(uint32_t type, float *y, const uint8_t *w, const void *x, size_t stride, const void *x_end) {
    if (type == TP_Q4_0) {
        q4_0_rows4(y, w, x, stride, x_end);
    } else {
        q8_0_rows4(y, w, x, stride, x_end);
    }
}

// Sums of groups so far are s0 and s1, integers; those of rows s2 and s3; s5 is the end of x.
#define OWN_BEGIN(zero) \
    "movs " zero ", #0\n" \
    "vmov s0, s1, " zero ", " zero "\n" \
    "vmov s2, s3, " zero ", " zero "\n"

// After a block; scale: what it ends with.
#define OWN_GROUP(scale, zero) \
    "cmp " scale ", #0\n" \
    "beq 1b\n" \
    "vmov s4, " scale "\n" \
    "vcvt.f32.s32 s0, s0\n" \
    "vcvt.f32.s32 s1, s1\n" \
    "vmov " scale ", s5\n" \
    "vmla.f32 s2, s4, s0\n" \
    "vmla.f32 s3, s4, s1\n" \
    "movs " zero ", #0\n" \
    "cmp r2, " scale "\n" \
    "vmov s0, s1, " zero ", " zero "\n" \
    "bne 1b\n"

// What all pairs or fours of rows share. The order of members is known to assembly, which changes the first
// and the third.
typedef struct {
    float *y;
    const float *end; // of y
    const uint8_t *w; // a pair
    size_t size;      // of it
    const uint32_t *x;
    size_t to_blocks;
    const uint32_t *x_end;
    float times;      // of pairs
} own_rows_t;

#define PAIRS_16(FIRST) \
    "ldmia r2!, {r5-r8}\n" \
    "ldr r9, [r1], #4\n" \
    "eor r9, r9, #0x88888888\n" \
    "and r10, r3, r9\n" \
    FIRST \
    "and r10, r3, r9, ror #4\n" \
    "smlad r11, r10, r6, r11\n" \
    "and r10, r3, r9, ror #8\n" \
    "smlad r11, r10, r7, r11\n" \
    "and r10, r3, r9, ror #12\n" \
    "smlad r11, r10, r8, r11\n"
#define PAIRS_32 \
    PAIRS_16("smuad r11, r10, r5\n") \
    PAIRS_16("smlad r11, r10, r5, r11\n")

// All pairs of rows up to the end of y.
//   r0 scales, r1 blocks, r2 x, r3 mask, r4 own_rows_t, r5 to r8 activations, r9 r10 weights, r11 sum, r12
//   first row, lr second row, times 2^14; s6 times.
__attribute__((naked, noinline))
static void pair_rows(own_rows_t *pairs) {
    __asm volatile (
        ".syntax unified\n"
        "push {r4-r11, lr}\n"
        "mov r4, r0\n"
        "vldr s5, [r0, #24]\n"
        "vldr s6, [r0, #28]\n"
        "movw r3, #0xc003\n"
        "movt r3, #0xc003\n"
        "ldr r0, [r0, #8]\n"
        "2:\n"
        "ldrd r2, r1, [r4, #16]\n"
        OWN_BEGIN("r8")
        "add r1, r1, r0\n"
        "adds r0, #8\n"
        "1:\n"
        PAIRS_32
        "sbfx r12, r11, #0, #14\n"
        "sub lr, r11, r12\n"
        PAIRS_32
        "sbfx r10, r11, #0, #14\n"
        "sub r11, r11, r10\n"
        "add r12, r12, r10\n"
        "add lr, lr, r11\n"
        "ldmia r2!, {r5-r7}\n"
        "vmov r8, r9, s0, s1\n"
        "ldrsb r10, [r0], #1\n"
        "ldrsb r11, [r0], #1\n"
        "rsb r12, r5, r12, lsl #1\n"
        "add lr, r6, lr, asr #13\n"
        "mla r8, r12, r10, r8\n"
        "mla r9, lr, r11, r9\n"
        "vmov s0, s1, r8, r9\n"
        OWN_GROUP("r7", "r8")
        "ldm r4, {r1, r2, r5, r6}\n"
        "vmul.f32 s2, s2, s6\n"
        "vmul.f32 s3, s3, s6\n"
        "vldmia r5, {s8, s9}\n"
        "adds r0, r5, r6\n"
        "vmul.f32 s2, s8, s2\n"
        "vmul.f32 s3, s9, s3\n"
        "str r0, [r4, #8]\n"
        "vstmia r1!, {s2, s3}\n"
        "str r1, [r4]\n"
        "cmp r1, r2\n"
        "bne 2b\n"
        "pop {r4-r11, pc}\n"
        );
}

// Eight columns of a row in w, at bits from, +3, +8 and +11.
#define TP3_ROW(sum, w, from) \
    "and r10, r3, " w ", lsr #" from "\n" \
    ADD("r10", "r4", sum) \
    "and r10, r3, " w ", lsr #3+" from "\n" \
    ADD("r10", "r5", sum) \
    "and r10, r3, " w ", lsr #8+" from "\n" \
    ADD("r10", "r6", sum) \
    "and r10, r3, " w ", lsr #11+" from "\n" \
    ADD("r10", "r7", sum)
// Eight columns of four rows.
#define TP3_8 \
    "ldmia r2!, {r4-r7}\n" \
    "ldr r8, [r1, #-32]\n" \
    TP3_ROW("r0", "r8", "0") \
    "and r9, r8, #0xc0c0c0c0\n" \
    "ldr r8, [r1, #-16]\n" \
    TP3_ROW("r11", "r8", "0") \
    "and r8, r8, #0xc0c0c0c0\n" \
    "orr r9, r8, r9, lsr #2\n" \
    "ldr r8, [r1], #4\n" \
    TP3_ROW("r12", "r8", "0") \
    "and r8, r8, #0xc0c0c0c0\n" \
    "orr r9, r8, r9, lsr #2\n" \
    TP3_ROW("lr", "r9", "2")

// All fours of rows up to the end of y.
//   r1 third row's weights, r2 x, r3 mask, r4 to r7 activations, r8 r9 weights, r0 r11 r12 lr dot products; s0 to
//   s3 sums of groups, s4 to s7 of rows, s8 to s11 their factors, s12 the end of x; [sp] own_rows_t.
__attribute__((naked, noinline))
static void tp3_rows(own_rows_t *rows) {
    __asm volatile (
        ".syntax unified\n"
        "push {r0, r4-r11, lr}\n"
        "vldr s12, [r0, #24]\n"
        "ldr r1, [r0, #8]\n"
        "mov r3, #0x00070007\n"
        "4:\n"
        "ldr r0, [sp]\n"
        "movs r4, #0\n"
        "vldmia r1!, {s8-s11}\n"
        "vmov s4, s5, r4, r4\n"
        "vmov s6, s7, r4, r4\n"
        "adds r1, #36\n"
        "ldr r2, [r0, #16]\n"
        "5:\n"
        "vmov s0, s1, r4, r4\n"
        "vmov s2, s3, r4, r4\n"
        "1:\n"
        "ldr r0, [r2], #4\n"
        "mov r11, r0\n"
        "mov r12, r0\n"
        "mov lr, r0\n"
        "cmp r3, r3\n"
        "2:\n"
        TP3_8 TP3_8
        // twice; nothing above sets flags
        "bne 3f\n"
        "cmp r3, #0\n"
        "b 2b\n"
        "3:\n"
        "ldrsb r4, [r1, #-52]\n"
        "ldrsb r5, [r1, #-51]\n"
        "ldrsb r6, [r1, #-50]\n"
        "ldrsb r7, [r1, #-49]\n"
        "vmov r8, r9, s0, s1\n"
        "mla r8, r0, r4, r8\n"
        "mla r9, r11, r5, r9\n"
        "vmov s0, s1, r8, r9\n"
        "vmov r8, r9, s2, s3\n"
        "mla r8, r12, r6, r8\n"
        "mla r9, lr, r7, r9\n"
        "vmov s2, s3, r8, r9\n"
        "ldmia r2!, {r4}\n"
        "adds r1, #36\n"
        "cmp r4, #0\n"
        "beq 1b\n"
        "vmov s13, r4\n"
        "vcvt.f32.s32 s0, s0\n"
        "vcvt.f32.s32 s1, s1\n"
        "vcvt.f32.s32 s2, s2\n"
        "vcvt.f32.s32 s3, s3\n"
        "vmov r5, s12\n"
        "vmla.f32 s4, s13, s0\n"
        "vmla.f32 s5, s13, s1\n"
        "vmla.f32 s6, s13, s2\n"
        "vmla.f32 s7, s13, s3\n"
        "movs r4, #0\n"
        "cmp r2, r5\n"
        "bne 5b\n"
        "ldr r0, [sp]\n"
        "vmul.f32 s4, s8, s4\n"
        "vmul.f32 s5, s9, s5\n"
        "vmul.f32 s6, s10, s6\n"
        "vmul.f32 s7, s11, s7\n"
        "ldrd r4, r5, [r0]\n"
        "subs r1, #36\n"
        "vstmia r4!, {s4-s7}\n"
        "str r4, [r0]\n"
        "cmp r4, r5\n"
        "bne 4b\n"
        "pop {r0, r4-r11, pc}\n"
        );
}

static void own_token(const tp_product_t *p, float *y, const uint32_t *x, const uint32_t *x_end) {
    tp_own_t own = tp_own(p->type, p->cols);
    // the products of TPT are made twice as great, as those of TP2 are
    float times = p->type == TP_TPT ? 0.5f : 1.0f;
    own_rows_t rows = { y, y + p->rows, p->w, own.size, x, own.blocks, x_end, times };
    (p->type == TP_TP3 ? tp3_rows : pair_rows)(&rows);
}

#define Q4_K_WORD(row, a, b, FIRST) \
    "ldr r12, [" row "], #4\n" \
    "and lr, r3, r12\n" \
    FIRST("lr", "r4", a) \
    "and lr, r3, r12, lsr #4\n" \
    FIRST("lr", "r5", b) \
    "and lr, r3, r12, lsr #8\n" \
    ADD("lr", "r6", a) \
    "and lr, r3, r12, lsr #12\n" \
    ADD("lr", "r7", b)
#define Q4_K_8(FIRST) \
    "ldmia r2!, {r4-r7}\n" \
    Q4_K_WORD("r1", "r8", "r9", FIRST) \
    Q4_K_WORD("r0", "r10", "r11", FIRST)

// A block of 256 of two rows: sums[0..1] of scales times dot products. scales: eight of each row, on a
// multiple of 8, by which the end is known.
//   r0 r1 rows 1 and 0, r2 x, r3 mask, r4 to r7 activations, r8 r9 and r10 r11 dot products, r12 lr
//   weights; s0 s1 sums.
__attribute__((naked, noinline))
static void q4_k_rows(int32_t *sums, const uint8_t *w0, const uint32_t *x, const uint8_t *w1,
    const uint8_t *scales) {
    __asm volatile (
        ".syntax unified\n"
        "push {r0, r4-r11, lr}\n"
        "mov r0, r3\n"
        "movs r4, #0\n"
        "ldr lr, [sp, #40]\n"
        "vmov s0, s1, r4, r4\n"
        "vmov s2, lr\n"
        "mov r3, #0x000f000f\n"
        "1:\n"
        Q4_K_8(SET) Q4_K_8(ADD) Q4_K_8(ADD) Q4_K_8(ADD)
        Q4_K_8(ADD) Q4_K_8(ADD) Q4_K_8(ADD) Q4_K_8(ADD)
        "vmov r12, lr, s0, s1\n"
        "vmov r4, s2\n"
        "ldrb r6, [r4, #8]\n"
        "ldrb r7, [r4, #9]\n"
        "mla lr, r10, r6, lr\n"
        "ldrb r6, [r4], #1\n"
        "mla lr, r11, r7, lr\n"
        "ldrb r7, [r4], #1\n"
        "mla r12, r8, r6, r12\n"
        "mla r12, r9, r7, r12\n"
        "lsls r5, r4, #29\n"
        "vmov s2, r4\n"
        "vmov s0, s1, r12, lr\n"
        "bne 1b\n"
        "pop {r0}\n"
        "vstmia r0, {s0, s1}\n"
        "pop {r4-r11, pc}\n"
        );
}

static inline int32_t q4_k_mins(const uint32_t *mins, const uint32_t *sums) {
    int32_t sum = smlad(mins[0], sums[0], 0);
    sum = smlad(mins[1], sums[1], sum);
    sum = smlad(mins[2], sums[2], sum);
    return smlad(mins[3], sums[3], sum);
}

// y + d * da * dots - dmin * da * mins, rounded after each step.
static inline float q4_k_add(float y, const uint8_t *block, float da, int32_t dots, int32_t mins) {
    float scales = tp_from_bits(load(block)), d, dmin;
    __asm ("vcvtb.f32.f16 %0, %1" : "=t" (d) : "t" (scales));
    __asm ("vcvtt.f32.f16 %0, %1" : "=t" (dmin) : "t" (scales));
    __asm ("vmla.f32 %0, %1, %2" : "+t" (y) : "t" (d * da), "t" ((float)dots));
    __asm ("vmls.f32 %0, %1, %2" : "+t" (y) : "t" (dmin * da), "t" ((float)mins));
    return y;
}

static void q4_k_token(const tp_product_t *p, float *y, const uint32_t *x, const uint32_t *x_end) {
    size_t stride = tp_row_bytes(TP_Q4_K, p->cols);
    const uint8_t *w = p->w;
    for (uint32_t r = 0; r < p->rows; r += 2, w += 2 * stride, y += 2) {
        size_t next = r + 1 < p->rows ? stride : 0;
        const uint8_t *block = w;
        float sum0 = 0.0f, sum1 = 0.0f;
        for (const uint32_t *at = x; at < x_end; at += k_words(TP_Q4_K), block += 144) {
            uint64_t scales[2];
            uint32_t mins[4];
            int32_t dots[2];
            q4_k_scales(block, (uint32_t *)&scales[0], mins);
            int32_t mins0 = q4_k_mins(mins, at + 129);
            __asm volatile ("" : : : "memory"); // what is loaded early ends on the stack
            q4_k_scales(block + next, (uint32_t *)&scales[1], mins);
            int32_t mins1 = q4_k_mins(mins, at + 129);
            float da = tp_from_bits(at[128]);
            q4_k_rows(dots, block + 16, at, block + next + 16, (const uint8_t *)scales);
            sum0 = q4_k_add(sum0, block, da, dots[0], mins0);
            sum1 = q4_k_add(sum1, block + next, da, dots[1], mins1);
        }
        y[0] = sum0;
        if (next == 0) {
            ++y;
            break;
        }
        y[1] = sum1;
    }
}

// Four values of Q6_K: r5 and r6 hold their low and high bits, join brings them together.
#define Q6_K_4(take, bits, join, sum, FIRST) \
    "and r5, r3, #" take "\n" \
    "and r6, r4, #" bits "\n" \
    "ldrd r7, r8, [r1], #8\n" \
    join \
    "uxtb16 r6, r5\n" \
    FIRST("r6", "r7", sum) \
    "uxtb16 r5, r5, ror #8\n" \
    ADD("r5", "r8", sum)
// Four columns, and those 64, 32 and 96 further on; at: bytes.
#define Q6_K_16(at, FIRST) \
    "ldr r4, [r2, #" at "]\n" \
    "ldr r3, [r0, #" at "]\n" \
    Q6_K_4("0x0f0f0f0f", "0x03030303", "orr r5, r5, r6, lsl #4\n", "r9", FIRST) \
    Q6_K_4("0xf0f0f0f0", "0x30303030", "orr r5, r6, r5, lsr #4\n", "r11", FIRST) \
    "ldr r3, [r0, #32+" at "]\n" \
    Q6_K_4("0x0f0f0f0f", "0x0c0c0c0c", "orr r5, r5, r6, lsl #2\n", "r10", FIRST) \
    Q6_K_4("0xf0f0f0f0", "0xc0c0c0c0", "lsr r6, r6, #2\norr r5, r6, r5, lsr #4\n", "r12", FIRST)

// A block of 256 of a row, as if values were 0 to 63: the sum of scales times dot products.
//   r0 low bits, r1 x, r2 high bits, r3 r4 weights, r7 r8 activations, r9 to r12 dot products, lr
//   scales; [sp] times that are left, [sp, #4] sum.
__attribute__((naked, noinline))
static int32_t q6_k_block(const uint8_t *w, const uint32_t *x) {
    __asm volatile (
        ".syntax unified\n"
        "push {r2-r11, lr}\n"
        "add r2, r0, #128\n"
        "add lr, r0, #192\n"
        "movs r3, #4\n"
        "movs r4, #0\n"
        "strd r3, r4, [sp]\n"
        "1:\n"
        Q6_K_16("0", SET) Q6_K_16("4", ADD) Q6_K_16("8", ADD) Q6_K_16("12", ADD)
        "ldrd r3, r4, [sp]\n"
        "ldrsb r5, [lr, #2]\n"
        "ldrsb r6, [lr, #4]\n"
        "ldrsb r7, [lr, #6]\n"
        "ldrsb r8, [lr], #1\n"
        "mla r4, r10, r5, r4\n"
        "mla r4, r11, r6, r4\n"
        "mla r4, r12, r7, r4\n"
        "mla r4, r9, r8, r4\n"
        "adds r0, #16\n"
        "adds r2, #16\n"
        "cmp r3, #3\n"
        "itt eq\n"
        "addeq r0, #32\n"
        "addeq lr, #6\n"
        "subs r3, #1\n"
        "strd r3, r4, [sp]\n"
        "bne 1b\n"
        "mov r0, r4\n"
        "pop {r2-r11, pc}\n"
        );
}

static float q6_k_row(const uint8_t *block, const uint32_t *x, const uint32_t *end) {
    float y = 0.0f;
    for (; x < end; x += k_words(TP_Q6_K), block += 210) {
        int32_t sum = 0; // 32 is taken off each value
        for (uint32_t i = 0; i < 8; i += 2) {
            uint32_t s = load(block + 192 + 2 * i);
            sum = smlad(sxtb16(s), x[128 + i], sum);
            sum = smlad(sxtb16_8(s), x[129 + i], sum);
        }
        float d = tp_from_f16(tp_load_u16(block + 208)) * tp_from_bits(x[136]);
        y += d * (float)(q6_k_block(block, x) - 32 * sum);
    }
    return y;
}

static void q6_k_token(const tp_product_t *p, float *y, const uint32_t *x, const uint32_t *x_end) {
    size_t stride = tp_row_bytes(TP_Q6_K, p->cols);
    for (uint32_t r = 0; r < p->rows; ++r) {
        *y++ = q6_k_row(p->w + r * stride, x, x_end);
    }
}

// Q4_0 and Q8_0, four rows at a time; of fewer each one, four times.
static void q4_0_token(const tp_product_t *p, float *y, const uint32_t *x, const uint32_t *x_end) {
    uint32_t type = p->type, rows = p->rows, count = rows < 4 ? 1 : 4;
    const uint8_t *w = p->w;
    size_t stride = tp_row_bytes(type, p->cols), apart = count == 1 ? 0 : stride;
    float result[4];
    for (uint32_t r = 0; r < rows; r += count) {
        uint32_t at = r < rows - count ? r : rows - count; // the last rows may be done twice
        rows4(type, count == 1 ? result : y + at, w + at * stride, x, apart, x_end);
        if (count == 1) {
            y[at] = result[0];
        }
    }
}

void tp_isa_matmul(const tp_product_t *p) {
    uint32_t type = p->type, rows = p->rows, pairs = paired(type, p->n) / 2;
    size_t stride = tp_row_bytes(type, p->cols), x_words = tp_isa_activation_bytes(type, p->cols) / 4;
    const uint32_t *x = p->x;
    float *y = p->y;
    for (uint32_t r = 0; pairs > 0 && rows > 1 && r < rows; r += 2) {
        uint32_t at = r < rows - 2 ? r : rows - 2; // the last rows may be done twice
        rows_of_tokens(p, y + at, p->w + at * stride, stride, x, rows * sizeof(float), pairs);
    }
    for (uint32_t i = 0; rows == 1 && i < pairs; ++i) { // twice the same row
        float result[4];
        rows_of_tokens(p, result, p->w, 0, x + 2 * i * x_words, 2 * sizeof(float), 1);
        y[2 * i] = result[0];
        y[2 * i + 1] = result[2];
    }
    y += 2 * pairs * rows;
    x += 2 * pairs * x_words;
    for (uint32_t t = 2 * pairs; t < p->n; ++t, y += rows, x += x_words) {
        if (tp_is_own(type)) {
            own_token(p, y, x, x + x_words);
        } else if (tp_is_k(type)) {
            (type == TP_Q4_K ? q4_k_token : q6_k_token)(p, y, x, x + x_words);
        } else {
            q4_0_token(p, y, x, x + x_words);
        }
    }
}

#endif
