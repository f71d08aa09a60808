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
// in which weights come out, scale (float). Of each four tokens the blocks are interleaved: four
// offsets, then for each 8 weights four words of each token, four scales. Tokens that are left
// over at the end are stored one by one.
//
// VMLA rounds between its product and its sum, as the portable kernel does.
//
// Q4_K and Q6_K, one token after the other. Four masks on a word of Q4_K bring out pairs of two blocks
// of 32, each with a sum of its own; Q6_K puts six bits together in bytes. A block of 256 activations
// is 128 words of pairs, the sums of its blocks of 32 (Q4_K) or 16 (Q6_K) as pairs, for what is added
// to all values of one, and the scale.
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
// TP3: five masks of three bits give pairs, the sixteenth pair is put together of the spare bits. A
// block is what a sum begins with (-4 * sum(x)) and 16 words.
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

static inline uint32_t own_words(uint32_t type) {
    return type == TP_TP3 ? 18 : 19;
}

static void put_own(uint32_t type, uint32_t *to, const int8_t *q, float scale, int last) {
    int32_t sum = 0;
    for (uint32_t j = 0; j < TP_BLOCK; ++j) {
        sum += q[j];
    }
    uint32_t scale_bits = !last ? 0 : scale == 0.0f ? 0x80000000u : tp_to_bits(scale);
    if (type == TP_TP3) {
        *to++ = (uint32_t)(-4 * sum);
        for (uint32_t j = 0; j < TP_BLOCK; j += 2) {
            *to++ = pair(q[j], q[j + 1]);
        }
    } else {
        for (uint32_t j = 0; j < TP_BLOCK / 2; ++j) {
            uint32_t at = j / 4 * 8 + j % 4;
            *to++ = pair(q[at], q[at + 4]);
        }
        *to++ = (uint32_t)((type == TP_TP2 ? 3 : 2) * sum);
        *to++ = (uint32_t)((type == TP_TP2 ? 1 : 2) * sum);
    }
    *to = scale_bits;
}

static inline uint32_t k_words(uint32_t type) {
    return 128 + (type == TP_Q4_K ? 4 : 8) + 1;
}

// x: of a block of 256, of which these are values 32 * b and on.
static void put_k(uint32_t type, uint32_t *x, uint32_t b, const int8_t *q, float scale) {
    int16_t *sums = (int16_t *)(void *)(x + 128);
    int32_t sum[2] = { 0, 0 };
    for (uint32_t j = 0; j < TP_BLOCK; ++j) {
        sum[j / 16] += q[j];
    }
    if (type == TP_Q4_K) {
        // pairs of blocks b and b + 1 in turn
        uint32_t *to = x + b / 2 * 32 + b % 2;
        for (uint32_t j = 0; j < TP_BLOCK; j += 4, to += 4) {
            to[0] = pair(q[j], q[j + 2]);
            to[2] = pair(q[j + 1], q[j + 3]);
        }
        // mins come out of a word as bytes 0 and 2, then 1 and 3
        sums[b / 4 * 4 + b % 2 * 2 + b / 2 % 2] = (int16_t)(sum[0] + sum[1]);
    } else {
        // of each four columns those 64, 32 and 96 further on
        uint32_t *to = x + b / 4 * 64 + b % 2 * 4 + b / 2 % 2 * 2;
        for (uint32_t j = 0; j < TP_BLOCK; j += 4, to += 8) {
            to[0] = pair(q[j], q[j + 2]);
            to[1] = pair(q[j + 1], q[j + 3]);
        }
        sums[b / 2 * 4 + b % 2] = (int16_t)sum[0];
        sums[b / 2 * 4 + 2 + b % 2] = (int16_t)sum[1];
    }
    *(float *)(x + k_words(type) - 1) = scale;
}

size_t tp_isa_x_bytes(uint32_t type, uint32_t cols) {
    if (tp_is_k(type)) {
        return (size_t)cols / 256 * k_words(type) * 4;
    }
    if (tp_is_own(type)) {
        return (size_t)cols / TP_BLOCK * own_words(type) * 4;
    }
    return type == TP_Q4_0 || type == TP_Q8_0 ? (size_t)cols / TP_BLOCK * BLOCK_BYTES : 0;
}


void tp_isa_put(uint32_t type, void *x, uint32_t cols, uint32_t n, uint32_t t, uint32_t b,
    const int8_t *q, tp_scale_t scale) {
    if (tp_is_k(type)) {
        put_k(type, (uint32_t *)x + (t * (cols / 256) + b / 8) * k_words(type), b % 8, q, scale);
        return;
    }
    if (tp_is_own(type)) {
        uint32_t *to = (uint32_t *)x + (t * (cols / TP_BLOCK) + b) * own_words(type);
        put_own(type, to, q, scale, (b + 1) % (TP_MAX_GROUP / TP_BLOCK) == 0 || b + 1 == cols / TP_BLOCK);
        return;
    }
    uint32_t group = (n - (t & ~3u)) >= 4 ? 4 : 1; // tokens that lie interleaved with this one
    uint32_t *block = (uint32_t *)x + (t & ~(group - 1)) * (cols / TP_BLOCK) * BLOCK_WORDS
        + b * group * BLOCK_WORDS;
    uint32_t i = t & (group - 1);
    uint32_t *to = block + group + 4 * i;
    int32_t sum = 0;
    for (uint32_t j = 0; j < TP_BLOCK; j += 8, to += 4 * group) {
        if (type == TP_Q4_0) {
            uint32_t low = load((const uint8_t *)q + j / 2), high = load((const uint8_t *)q + j / 2 + 16);
            uint32_t low_0 = sxtb16(low), low_1 = sxtb16_8(low);
            to[0] = sxtb16(high);
            to[1] = ssub16(low_0 << 4 & 0xfff0fff0u, to[0]);
            to[2] = sxtb16_8(high);
            to[3] = ssub16(low_1 << 4 & 0xfff0fff0u, to[2]);
            sum = smlad(low_0, 0x00010001, sum);
            sum = smlad(low_1, 0x00010001, sum);
            sum = smlad(to[0], 0x00010001, sum);
            sum = smlad(to[2], 0x00010001, sum);
        } else {
            uint32_t first = load((const uint8_t *)q + j), second = load((const uint8_t *)q + j + 4);
            to[0] = sxtb16(first);
            to[1] = sxtb16_8(first);
            to[2] = sxtb16(second);
            to[3] = sxtb16_8(second);
        }
    }
    block[i] = (uint32_t)(-8 * 16 * sum);
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
    "smlad " sum ", " spare ", r5, " from "\n" \
    "and " spare ", " spare ", #0x000f000f\n" \
    "smlad " sum ", " spare ", r6, " sum "\n" \
    "uxtb16 " w ", " w ", ror #8\n" \
    next \
    "smlad " sum ", " w ", r7, " sum "\n" \
    "and " w ", " w ", #0x000f000f\n" \
    "smlad " sum ", " w ", r8, " sum "\n"

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
        Q8_ROWS("r5", "r6", SET)
        Q8_ROWS("r7", "r8", ADD)
        "ldmia r2!, {r5-r8}\n"
        Q8_ROWS("r5", "r6", ADD)
        Q8_ROWS("r7", "r8", ADD)
        "ldmia r2!, {r5-r8}\n"
        Q8_ROWS("r5", "r6", ADD)
        Q8_ROWS("r7", "r8", ADD)
        "ldmia r2!, {r5-r8}\n"
        Q8_ROWS("r5", "r6", ADD)
        Q8_ROWS("r7", "r8", ADD)
        LEAVE4("")
        );
}

// Several tokens: a stretch of a row is unpacked once for all of them. out: for each block the scale
// as float, then 16 words of pairs as the products want them.
//   r0 out, r1 row, r2 blocks left; r3 to r6 pairs, r7 r12 weights.
#define UNPACK(EIGHT) \
    ".syntax unified\n" \
    "push {r4-r7, lr}\n" \
    "1:\n" \
    "ldrh r3, [r1], #2\n" \
    "vmov s0, r3\n" \
    "vcvtb.f32.f16 s0, s0\n" \
    "vstmia r0!, {s0}\n" \
    EIGHT EIGHT EIGHT EIGHT \
    "subs r2, #1\n" \
    "bne 1b\n" \
    "pop {r4-r7, pc}\n"

__attribute__((naked, noinline))
static void q4_0_unpack(uint32_t *out, const uint8_t *w, uint32_t blocks) {
    __asm volatile (UNPACK(
        "ldr r7, [r1], #4\n"
        "uxtb16 r3, r7\n"
        "uxtb16 r5, r7, ror #8\n"
        "and r4, r3, #0x000f000f\n"
        "and r6, r5, #0x000f000f\n"
        "stmia r0!, {r3-r6}\n"
        ));
}

__attribute__((naked, noinline))
static void q8_0_unpack(uint32_t *out, const uint8_t *w, uint32_t blocks) {
    __asm volatile (UNPACK(
        "ldr r7, [r1], #4\n"
        "ldr r12, [r1], #4\n"
        "sxtb16 r3, r7\n"
        "sxtb16 r4, r7, ror #8\n"
        "sxtb16 r5, r12\n"
        "sxtb16 r6, r12, ror #8\n"
        "stmia r0!, {r3-r6}\n"
        ));
}

// What one unpacked stretch of a row has to do with each four interleaved tokens.
typedef struct {
    uint32_t bytes;      // of a stretch of four tokens in x
    uint32_t more;       // whether y holds the sum so far
    uint32_t gap;        // bytes in x to the next four tokens' stretch
    uint32_t row_bytes;  // of y
    uint32_t groups;     // of four tokens, 1 or more; counted down
} job_t;

// y of each token (+)= the products of an unpacked stretch.
//   r1 weights, r2 x; r4 to r7 sums of tokens 0 to 3; r8 to r11 activations; r0 r3 r12 lr pairs;
//   s8 scale, s12 to s15 the results, s9 end of x, s10 begin of weights, s11 y, [sp] job.
#define TOKEN(sum) \
    "ldmia r2!, {r8-r11}\n" \
    "smlad " sum ", r0, r8, " sum "\n" \
    "smlad " sum ", r3, r9, " sum "\n" \
    "smlad " sum ", r12, r10, " sum "\n" \
    "smlad " sum ", lr, r11, " sum "\n"

#define EIGHT_OF_TOKENS \
    "ldmia r1!, {r0, r3, r12, lr}\n" \
    TOKEN("r4") TOKEN("r5") TOKEN("r6") TOKEN("r7")

// point: operand of VCVT that takes the factor out
#define TOKENS4(point) \
    ".syntax unified\n" \
    "push {r3-r11, lr}\n" \
    "vmov s10, s11, r1, r0\n" \
    "1:\n" \
    "ldr r12, [sp]\n" \
    "ldrd r4, r5, [r12]\n" \
    "adds r4, r4, r2\n" \
    "vmov s9, r4\n" \
    "movs r4, #0\n" \
    "vmov s12, s13, r4, r4\n" \
    "vmov s14, s15, r4, r4\n" \
    "cbz r5, 2f\n" \
    "vmov r0, s11\n" \
    "ldr r4, [r12, #12]\n" \
    "vldr s12, [r0]\n" \
    "adds r0, r0, r4\n" \
    "vldr s13, [r0]\n" \
    "adds r0, r0, r4\n" \
    "vldr s14, [r0]\n" \
    "adds r0, r0, r4\n" \
    "vldr s15, [r0]\n" \
    "2:\n" \
    "vldmia r1!, {s8}\n" \
    "ldmia r2!, {r4-r7}\n" \
    EIGHT_OF_TOKENS EIGHT_OF_TOKENS EIGHT_OF_TOKENS EIGHT_OF_TOKENS \
    "vldmia r2!, {s4-s7}\n" \
    "vmov s0, s1, r4, r5\n" \
    "vmov s2, s3, r6, r7\n" \
    "vmul.f32 s4, s8, s4\n" \
    "vmul.f32 s5, s8, s5\n" \
    "vmul.f32 s6, s8, s6\n" \
    "vmul.f32 s7, s8, s7\n" \
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
    "bne 2b\n" \
    "ldr r12, [sp]\n" \
    "vmov r1, r0, s10, s11\n" \
    "ldrd r3, r4, [r12, #8]\n" \
    "ldr r5, [r12, #16]\n" \
    "adds r2, r2, r3\n" \
    "vstr s12, [r0]\n" \
    "adds r0, r0, r4\n" \
    "vstr s13, [r0]\n" \
    "adds r0, r0, r4\n" \
    "vstr s14, [r0]\n" \
    "adds r0, r0, r4\n" \
    "vstr s15, [r0]\n" \
    "adds r0, r0, r4\n" \
    "vmov s11, r0\n" \
    "subs r5, #1\n" \
    "str r5, [r12, #16]\n" \
    "bne 1b\n" \
    "pop {r3-r11, pc}\n"

__attribute__((naked, noinline))
static void q4_0_tokens4(float *y, const uint32_t *w, const void *x, job_t *job) {
    __asm volatile (TOKENS4(", #4"));
}

__attribute__((naked, noinline))
static void q8_0_tokens4(float *y, const uint32_t *w, const void *x, job_t *job) {
    __asm volatile (TOKENS4(""));
}

#define STRETCH (16) // blocks of a row that are unpacked at once, on the stack

// One row of a product with groups times four tokens. y: of token 0 and that row.
static void row_of_tokens(uint32_t type, float *y, const uint8_t *w, const uint8_t *x, uint32_t rows,
    uint32_t blocks, uint32_t groups) {
    uint32_t unpacked[STRETCH * 17];
    for (uint32_t b = 0; b < blocks; b += STRETCH) {
        uint32_t count = blocks - b < STRETCH ? blocks - b : STRETCH;
        job_t job = {
            count * 4 * BLOCK_BYTES, b, (blocks - count) * 4 * BLOCK_BYTES, rows * sizeof(float), groups,
        };
        if (type == TP_Q4_0) {
            q4_0_unpack(unpacked, w + b * 18, count);
            q4_0_tokens4(y, unpacked, x + b * 4 * BLOCK_BYTES, &job);
        } else {
            q8_0_unpack(unpacked, w + b * 34, count);
            q8_0_tokens4(y, unpacked, x + b * 4 * BLOCK_BYTES, &job);
        }
    }
}

static void rows4(uint32_t type, float *y, const uint8_t *w, const uint8_t *x, size_t stride, const uint8_t *x_end) {
    if (type == TP_Q4_0) {
        q4_0_rows4(y, w, x, stride, x_end);
    } else {
        q8_0_rows4(y, w, x, stride, x_end);
    }
}

// Sums of groups so far are s0 and s1, integers; those of rows s2 and s3; s5 is the end of x. r0 holds
// what a block ends with.
#define OWN_ENTER(end) \
    ".syntax unified\n" \
    "push {r0, r4-r11, lr}\n" \
    "ldr r4, [sp, #" end "]\n" \
    "vmov s5, r4\n" \
    "movs r4, #0\n" \
    "vmov s0, s1, r4, r4\n" \
    "vmov s2, s3, r4, r4\n"

#define OWN_LEAVE(scale, zero) \
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
    "bne 1b\n" \
    "pop {r0}\n" \
    "vstmia r0, {s2, s3}\n" \
    "pop {r4-r11, pc}\n"

#define PAIRS_16(FIRST) \
    "ldmia r2!, {r5-r8}\n" \
    "ldr r9, [r1], #4\n" \
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

// A pair of rows: y[0..1] without their factors.
//   r0 scales, r1 blocks, r2 x, r3 mask, r5 to r8 activations, r9 r10 weights, r11 sum, r12 first row,
//   lr second row, times 2^14.
__attribute__((naked, noinline))
static void pair_rows(float *y, const uint8_t *blocks, const uint32_t *x, const uint8_t *scales,
    const uint32_t *x_end) {
    __asm volatile (
        OWN_ENTER("40")
        "mov r0, r3\n"
        "movw r3, #0xc003\n"
        "movt r3, #0xc003\n"
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
        OWN_LEAVE("r7", "r8")
        );
}

#define TP3_WORD(sum, load) \
    load \
    "and r10, r11, r9\n" \
    "smlad " sum ", r10, r4, " sum "\n" \
    "and r10, r11, r9, lsr #3\n" \
    "smlad " sum ", r10, r5, " sum "\n" \
    "and r10, r11, r9, lsr #6\n" \
    "smlad " sum ", r10, r6, " sum "\n" \
    "and r10, r11, r9, lsr #9\n" \
    "smlad " sum ", r10, r7, " sum "\n" \
    "and r10, r11, r9, lsr #12\n" \
    "smlad " sum ", r10, r8, " sum "\n"
#define TP3_ROWS \
    "ldmia r2!, {r4-r8}\n" \
    TP3_WORD("lr", "ldr r9, [r1, r3]\n") \
    TP3_WORD("r12", "ldr r9, [r1], #4\n")

// The pair of the spare bits of the three words before at.
#define TP3_LAST(at, sum) \
    "ldmdb " at ", {r5-r7}\n" \
    "and r5, r5, #0x80008000\n" \
    "and r6, r6, #0x80008000\n" \
    "and r7, r7, #0x80008000\n" \
    "orr r6, r6, r5, lsr #1\n" \
    "orr r7, r7, r6, lsr #1\n" \
    "lsr r7, r7, #13\n" \
    "smlad " sum ", r7, r4, " sum "\n"

// Two rows, stride bytes apart: y[0..1] without their factors.
//   r0 scales, r1 blocks, r2 x, r3 stride, r4 to r8 activations, r9 r10 weights, r11 mask, r12 lr dot
//   products.
__attribute__((naked, noinline))
static void tp3_rows(float *y, const uint8_t *blocks, const uint32_t *x, size_t stride,
    const uint32_t *x_end, const uint8_t *scales) {
    __asm volatile (
        OWN_ENTER("40")
        "ldr r0, [sp, #44]\n"
        "mov r11, #0x00070007\n"
        "1:\n"
        "ldr r12, [r2], #4\n"
        "mov lr, r12\n"
        TP3_ROWS
        TP3_ROWS
        TP3_ROWS
        "ldr r4, [r2], #4\n"
        TP3_LAST("r1", "r12")
        "add r10, r1, r3\n"
        TP3_LAST("r10", "lr")
        "vmov r8, r9, s0, s1\n"
        "ldrsb r5, [r0, r3]\n"
        "ldrsb r4, [r0], #1\n"
        "ldr r7, [r2], #4\n"
        "mla r9, lr, r5, r9\n"
        "mla r8, r12, r4, r8\n"
        "vmov s0, s1, r8, r9\n"
        OWN_LEAVE("r7", "r8")
        );
}

static void own_matmul(const tp_product_t *p) {
    tp_own_t own = tp_own(p->type, p->cols);
    uint32_t x_words = tp_isa_x_bytes(p->type, p->cols) / 4;
    const uint32_t *x = p->x;
    float *y = p->y;
    // the products of TPT are made twice as great, as those of TP2 are
    float half = p->type == TP_TPT ? 0.5f : 1.0f;
    for (uint32_t t = 0; t < p->n; ++t, x += x_words) {
        const uint8_t *w = p->w;
        for (uint32_t r = 0; r < p->rows; r += 2) {
            const float *factors = (const float *)(const void *)w;
            float sums[2];
            if (p->type != TP_TP3) {
                pair_rows(sums, w + own.blocks, x, w + own.scales, x + x_words);
                y[0] = factors[0] * (sums[0] * half);
                y[1] = factors[1] * (sums[1] * half);
            } else {
                size_t stride = r + 1 < p->rows ? own.size : 0;
                tp3_rows(sums, w + own.blocks, x, stride, x + x_words, w + own.scales);
                w += stride;
                y[0] = factors[0] * sums[0];
                if (stride == 0) {
                    ++y;
                    break;
                }
                y[1] = *(const float *)(const void *)w * sums[1];
            }
            w += own.size;
            y += 2;
        }
    }
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

// The scales of a block of Q4_K as bytes; returns the sum of its mins times those of activations.
static inline int32_t q4_k_scales(const uint8_t *block, uint64_t *scales, const uint32_t *sums) {
    uint32_t s = load(block + 4), m = load(block + 8), high = load(block + 12);
    *scales = (s & 0x3f3f3f3fu) | (uint64_t)((high & 0x0f0f0f0fu) | (s >> 6 & 0x03030303u) << 4) << 32;
    uint32_t low = m & 0x3f3f3f3fu;
    high = (high >> 4 & 0x0f0f0f0fu) | (m >> 6 & 0x03030303u) << 4;
    int32_t sum = smlad(uxtb16(low), sums[0], 0);
    sum = smlad(uxtb16_8(low), sums[1], sum);
    sum = smlad(uxtb16(high), sums[2], sum);
    return smlad(uxtb16_8(high), sums[3], sum);
}

static inline float q4_k_add(float y, const uint8_t *block, float da, int32_t dots, int32_t mins) {
    uint32_t scales = load(block);
    y += tp_from_f16(scales & 0xffff) * da * (float)dots;
    return y - tp_from_f16(scales >> 16) * da * (float)mins;
}

static void q4_k_matmul(const tp_product_t *p) {
    size_t stride = tp_row_bytes(TP_Q4_K, p->cols);
    uint32_t x_words = tp_isa_x_bytes(TP_Q4_K, p->cols) / 4;
    const uint32_t *x = p->x;
    float *y = p->y;
    for (uint32_t t = 0; t < p->n; ++t, x += x_words) {
        const uint8_t *w = p->w;
        for (uint32_t r = 0; r < p->rows; r += 2, w += 2 * stride, y += 2) {
            size_t next = r + 1 < p->rows ? stride : 0;
            const uint8_t *block = w;
            float sum0 = 0.0f, sum1 = 0.0f;
            for (const uint32_t *at = x; at < x + x_words; at += k_words(TP_Q4_K), block += 144) {
                uint64_t scales[2];
                int32_t dots[2];
                int32_t mins0 = q4_k_scales(block, &scales[0], at + 128);
                int32_t mins1 = q4_k_scales(block + next, &scales[1], at + 128);
                float da = tp_from_bits(at[132]);
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

static void q6_k_matmul(const tp_product_t *p) {
    size_t stride = tp_row_bytes(TP_Q6_K, p->cols);
    uint32_t x_words = tp_isa_x_bytes(TP_Q6_K, p->cols) / 4;
    const uint32_t *x = p->x;
    float *y = p->y;
    for (uint32_t t = 0; t < p->n; ++t, x += x_words) {
        for (uint32_t r = 0; r < p->rows; ++r) {
            *y++ = q6_k_row(p->w + r * stride, x, x + x_words);
        }
    }
}

void tp_isa_matmul(const tp_product_t *p) {
    if (tp_is_own(p->type)) {
        own_matmul(p);
        return;
    }
    if (tp_is_k(p->type)) {
        (p->type == TP_Q4_K ? q4_k_matmul : q6_k_matmul)(p);
        return;
    }
    uint32_t type = p->type, rows = p->rows, cols = p->cols, n = p->n;
    const uint8_t *w = p->w;
    float *y = p->y;
    size_t stride = tp_row_bytes(type, cols);
    size_t x_bytes = tp_isa_x_bytes(type, cols);
    const uint8_t *from = p->x;
    uint32_t groups = n / 4;
    if (groups > 0) {
        for (uint32_t r = 0; r < rows; ++r) {
            row_of_tokens(type, y + r, w + r * stride, from, rows, cols / TP_BLOCK, groups);
        }
        n -= groups * 4;
        y += (size_t)groups * 4 * rows;
        from += groups * 4 * x_bytes;
    }
    float result[4];
    for (; n > 0; --n, from += x_bytes, y += rows) {
        if (rows < 4) {
            for (uint32_t r = 0; r < rows; ++r) {
                rows4(type, result, w + r * stride, from, 0, from + x_bytes); // four times the same
                y[r] = result[0];
            }
            continue;
        }
        for (uint32_t r = 0; r < rows; r += 4) {
            // the last rows may be done twice
            uint32_t at = r < rows - 4 ? r : rows - 4;
            rows4(type, y + at, w + at * stride, from, stride, from + x_bytes);
        }
    }
}

#endif
