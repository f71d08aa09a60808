// Armv8.1-M with MVE (Cortex-M55, M85): VMLADAV adds sixteen products of bytes, or eight of halfwords,
// to a general register.
//
// MVE's float instructions take subnormal numbers for 0, and say so in FPSCR. If they do, C does a
// token's product once more with scalars.
//
// Q4_0, Q8_0 and TP3, four rows at a time, so that what belongs to a block is done for four lanes at once.
// A block of activations: 32 bytes as they are, what is added to a dot product, the scale (float), which of
// TP3 is its group's.
//
// The other types have groups of 256 with one scale. First the dot products of a group are stored, of
// four or eight rows; then those of a row become one vector, which meets its scales. A group of
// activations: values as below, then a tail_t or, of TP2 and TPT, a pair_tail_t.
#include "../isa.h"

#if defined(TP_PATH_FLOAT) && defined(TP_ISA_MVE)

#include <arm_mve.h>

#include "../tp_math.h"
#include "mve.h"

const char tp_kernels_variant[] = "mve";

#define ROWS (4)
#define PAIR_ROWS (8)
#define GROUP (TP_MAX_GROUP / TP_BLOCK) // blocks

typedef struct {
    int8_t q[TP_BLOCK];
    int32_t add;
    float scale;
} block_t;

// TP2 and TPT: 16 bytes each that meet the codes at bits 0 (first row of a pair), 2 (second), 4 and 6 of
// a block's bytes.
// Q4_K and Q6_K: as they are.
typedef struct {
    int16_t sums[2 * GROUP]; // of blocks, of Q6_K those of 16; 0 where there is none
    float scale;
} tail_t;

// The order of members is known to assembly. Lanes are blocks from the group's last to its first.
typedef struct {
    int16_t sums[GROUP];      // taken off four times a sum of codes; 0 where there is no block
    uint16_t scale_at[GROUP]; // where a row's int8 scales are, from its first on; 0 where there is none
    float scale;
    int32_t shift;            // by which dot products are too great, below 0
    uint32_t next;            // blocks of the group after this one
} pair_tail_t;

static inline uint32_t block_bytes(uint32_t type) {
    return tp_is_pair(type) ? 64 : TP_BLOCK;
}

static inline int is_single(uint32_t type) {
    return type == TP_Q4_0 || type == TP_Q8_0 || (tp_is_own(type) && !tp_is_pair(type));
}

static inline size_t tail_bytes(uint32_t type) {
    return tp_is_pair(type) ? sizeof(pair_tail_t) : sizeof(tail_t);
}

size_t tp_isa_activation_bytes(uint32_t type, uint32_t cols) {
    size_t blocks = cols / TP_BLOCK;
    if (is_single(type)) {
        return blocks * sizeof(block_t);
    }
    if (!tp_is_pair(type) && !tp_is_k(type)) {
        return 0;
    }
    return blocks * block_bytes(type) + (blocks + GROUP - 1) / GROUP * tail_bytes(type);
}

static void put_pair(int8_t *to, const int8_t *q) {
    static const uint8_t places[4][16] = {
        { 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30 },
        { 5, 7, 1, 3, 13, 15, 9, 11, 21, 23, 17, 19, 29, 31, 25, 27 },
        { 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31 },
        { 6, 0, 2, 4, 14, 8, 10, 12, 22, 16, 18, 20, 30, 24, 26, 28 },
    };
    for (uint32_t i = 0; i < 4; ++i, to += 16) {
        vst1q_s8(to, vldrbq_gather_offset_s8(q, vld1q_u8(places[i])));
    }
}

// The tail of a group of count blocks, what concerns its block i.
static void put_pair_tail(pair_tail_t *to, uint32_t type, uint32_t first, uint32_t i, uint32_t count, uint32_t left,
    int32_t sum, float scale) {
    if (i == 0) {
        for (uint32_t j = count; j < GROUP; ++j) {
            to->sums[j] = 0;
            to->scale_at[j] = 0;
        }
        to->scale = scale;
        to->shift = type == TP_TP2 ? -1 : -2;
        to->next = left < GROUP ? left : GROUP;
    }
    uint32_t lane = count - 1 - i;
    to->sums[lane] = (int16_t)((type == TP_TP2 ? 6 : 4) * sum);
    to->scale_at[lane] = (uint16_t)(2 * (first + i));
}

void tp_isa_put(uint32_t type, void *x, uint32_t cols, uint32_t n, uint32_t t, uint32_t b,
    const int8_t *q, tp_scale_t scale) {
    (void)n;
    uint8_t *token = (uint8_t *)x + t * tp_isa_activation_bytes(type, cols);
    int32_t half[2];
    int8x16_t low = vld1q_s8(q), high = vld1q_s8(q + 16);
    half[0] = vaddvq_s8(low);
    half[1] = vaddvq_s8(high);
    if (is_single(type)) {
        block_t *to = (block_t *)(void *)token + b;
        vst1q_s8(to->q, low);
        vst1q_s8(to->q + 16, high);
        to->add = (type == TP_Q4_0 ? -8 : type == TP_TP3 ? -4 : 0) * (half[0] + half[1]);
        to->scale = scale;
        return;
    }
    uint32_t bytes = block_bytes(type), blocks = cols / TP_BLOCK, i = b % GROUP;
    uint32_t end = b - i + GROUP < blocks ? b - i + GROUP : blocks; // of the group
    uint8_t *to = token + b * bytes + b / GROUP * tail_bytes(type);
    void *after = to + (end - b) * bytes;
    if (tp_is_pair(type)) {
        put_pair((int8_t *)to, q);
        put_pair_tail(after, type, b - i, i, end - (b - i), blocks - end, half[0] + half[1], scale);
        return;
    }
    tail_t *tail = after;
    vst1q_s8((int8_t *)to, low);
    vst1q_s8((int8_t *)to + 16, high);
    if (i == 0) {
        for (uint32_t j = 0; j < 2 * GROUP; ++j) {
            tail->sums[j] = 0;
        }
    }
    if (type == TP_Q6_K) {
        tail->sums[2 * i] = (int16_t)half[0];
        tail->sums[2 * i + 1] = (int16_t)half[1];
    } else {
        tail->sums[i] = (int16_t)(half[0] + half[1]);
    }
    tail->scale = scale;
}

// Naked functions hold assembly alone: the compiler does not see that it uses their parameters, and must
// not conclude that it writes nothing.
#pragma GCC diagnostic ignored "-Wunused-parameter"
#define ASSEMBLY __attribute__((naked, noipa))

// Rows, stride bytes apart, four at a time up to the end of y.
//   r1 r4 r5 r6 rows, r2 x, r3 from a row's end to that of four further on, r7 r9 what is added and
//   scale, r8 r10 r12 r0 dot products, r11 y, lr blocks left; q0 q1 activations, q2 q3 weights, q4 sums,
//   q5 mask, q6 from the first row's next block to scales; [sp, #56] x, [sp, #100] blocks, [sp, #104] end.
// VCVTB.F32.F16 q2, q2: assemblers of binutils 2.40 encode other registers.
#define VCVTB_Q2_Q2 ".inst.w 0xfe3f4e05\n"
#define VCVTT_Q2_Q2 ".inst.w 0xfe3f5e05\n"

#define ROWS_4(BLOCK, size) \
    ".syntax unified\n" \
    "push {r0-r11, lr}\n" \
    "vpush {d8-d13}\n" \
    "mov r11, r0\n" \
    "mvn r4, #" size "-1\n" \
    "adds r5, r4, r3\n" \
    "adds r6, r5, r3\n" \
    "adds r7, r6, r3\n" \
    "vmov q6[2], q6[0], r4, r6\n" \
    "vmov q6[3], q6[1], r5, r7\n" \
    "vmov.i8 q5, #15\n" \
    "adds r1, #2\n" \
    "adds r4, r1, r3\n" \
    "adds r5, r4, r3\n" \
    "adds r6, r5, r3\n" \
    "add r3, r3, r3, lsl #1\n" \
    "2:\n" \
    "ldr lr, [sp, #100]\n" \
    "ldr r2, [sp, #56]\n" \
    "vmov.i32 q4, #0\n" \
    "dls lr, lr\n" \
    "1:\n" \
    "vldrb.u8 q0, [r2], #16\n" \
    "vldrb.u8 q1, [r2], #16\n" \
    "ldrd r7, r9, [r2], #8\n" \
    BLOCK("r1", "r8") BLOCK("r4", "r10") BLOCK("r5", "r12") BLOCK("r6", "r0") \
    "vldrh.u32 q2, [r1, q6]\n" \
    "vmov q3[2], q3[0], r8, r12\n" \
    "vmov q3[3], q3[1], r10, r0\n" \
    "vadd.i32 q3, q3, r7\n" \
    VCVTB_Q2_Q2 \
    "vcvt.f32.s32 q3, q3\n" \
    "vmul.f32 q2, q2, r9\n" \
    "vmul.f32 q2, q2, q3\n" \
    "vadd.f32 q4, q4, q2\n" \
    "le lr, 1b\n" \
    "ldr r7, [sp, #104]\n" \
    "adds r1, r1, r3\n" \
    "adds r4, r4, r3\n" \
    "adds r5, r5, r3\n" \
    "adds r6, r6, r3\n" \
    "vstrw.32 q4, [r11], #16\n" \
    "cmp r11, r7\n" \
    "bne 2b\n" \
    "vpop {d8-d13}\n" \
    "pop {r0-r11, pc}\n"

#define Q4(row, dot) \
    "vldrb.u8 q2, [" row "], #18\n" \
    "vand q3, q2, q5\n" \
    "vshr.u8 q2, q2, #4\n" \
    "vmladav.s8 " dot ", q3, q0\n" \
    "vmladava.s8 " dot ", q2, q1\n"

ASSEMBLY
static void q4_0_rows(float *y, const uint8_t *w, const block_t *x, size_t stride, uint32_t blocks, float *end) {
    __asm volatile (ROWS_4(Q4, "20"));
}

#define Q8(row, dot) \
    "vldrb.u8 q2, [" row "], #16\n" \
    "vldrb.u8 q3, [" row "], #18\n" \
    "vmladav.s8 " dot ", q2, q0\n" \
    "vmladava.s8 " dot ", q3, q1\n"

ASSEMBLY
static void q8_0_rows(float *y, const uint8_t *w, const block_t *x, size_t stride, uint32_t blocks, float *end) {
    __asm volatile (ROWS_4(Q8, "36"));
}

#define STORE "stmia r0!, {r4, r6, r8, r10}\n"

// What all pairs of rows share.
typedef struct {
    const uint8_t *x;
    uint32_t blocks;
    uint32_t to_blocks; // bytes from scales to blocks
    uint32_t first;     // blocks of the first group
} pair_job_t;

// A code of each of four pairs, from q0 to q3.
#define CODES(take, product, dots) CODES_OF(take, product, dots)
#define CODES_OF(take, product, dot0, dot1, dot2, dot3) \
    "vldrb.u8 q4, [r9], #16\n" \
    take("q0") product ".s8 " dot0 ", q5, q4\n" \
    take("q1") product ".s8 " dot1 ", q5, q4\n" \
    take("q2") product ".s8 " dot2 ", q5, q4\n" \
    take("q3") product ".s8 " dot3 ", q5, q4\n"
#define BITS_0(w) "vand q5, " w ", q6\n"
#define BITS_2(w) "vand q5, " w ", q7\n"
#define BITS_4(w) "vshr.u8 " w ", " w ", #4\n" BITS_0(w)
#define FIRST_ROWS "r0", "r2", "r4", "r6"
#define SECOND_ROWS "r8", "r10", "r12", "lr"

// A pair's sums, which take the place of its last dot products. Four times a dot product of codes may
// not fit 16 bits; less what is taken off it does.
#define PAIR \
    "vldrb.s16 q4, [r11, q1]\n" \
    "vldrh.u16 q5, [r10, q3]\n" \
    "vshl.i16 q5, q5, #2\n" \
    "vsub.i16 q5, q5, q0\n" \
    "vmladav.s16 r4, q5, q4\n" \
    "vldrb.s16 q4, [r11, q2]\n" \
    "vldrh.u16 q6, [r12, q3]\n" \
    "vsub.i16 q6, q6, q0\n" \
    "vmladav.s16 r6, q6, q4\n" \
    "add r11, r11, r8\n" \
    "str r4, [r10], #4\n" \
    "str r6, [r12], #4\n"

// Pairs of rows, stride bytes apart, four at a time up to the end of y. w: scales.
//   r1 r3 r5 r7 pairs, r9 x, r11 dots; r0 r2 r4 r6 dot products of first rows, r8 r10 r12 lr of second rows,
//   four times as great; sp: those of each block, the last first; #256 sums, #288 0 32 .. 224; #368 y, #372
//   first scales, #376 stride, #380 job, #420 end.
// Then: r8 stride, r9 tail, r10 r12 dots of rows, r11 scales; q0 to q2 what the tail says of first and second
// rows, q3 from a block's dot products to those of the one before.
ASSEMBLY
static void pair_rows(float *y, const uint8_t *w, const pair_job_t *job, size_t stride, float *end) {
    __asm volatile (
        ".syntax unified\n"
        "push {r0-r11, lr}\n"
        "vpush {d8-d15}\n"
        "sub sp, #304\n"
        "strd r3, r2, [sp, #376]\n"
        "mov r8, r3\n"
        "movs r4, #0\n"
        "vidup.u16 q0, r4, #8\n"
        "vshl.i16 q0, q0, #2\n"
        "vstrw.32 q0, [sp, #288]\n"
        "5:\n"
        "ldmia r2, {r9-r12}\n"
        "vmov.i32 q0, #0\n"
        "vstrw.32 q0, [sp, #256]\n"
        "vstrw.32 q0, [sp, #272]\n"
        "add r1, r1, r11\n"
        "mov r11, r12\n"
        "add r3, r1, r8\n"
        "add r5, r3, r8\n"
        "add r7, r5, r8\n"
        "2:\n"
        "cmp r11, #8\n"
        "bhs 3f\n"
        "vmov.i32 q0, #0\n"
        "mov r0, sp\n"
        "movs r4, #16\n"
        "dls lr, r4\n"
        "4:\n"
        "vstrw.32 q0, [r0], #16\n"
        "le lr, 4b\n"
        "3:\n"
        "vmov.i8 q6, #3\n"
        "vmov.i8 q7, #12\n"
        "add r11, sp, r11, lsl #5\n"
        "1:\n"
        "vldrb.u8 q0, [r1], #16\n"
        "vldrb.u8 q1, [r3], #16\n"
        "vldrb.u8 q2, [r5], #16\n"
        "vldrb.u8 q3, [r7], #16\n"
        CODES(BITS_0, "vmladav", FIRST_ROWS)
        CODES(BITS_2, "vmladav", SECOND_ROWS)
        CODES(BITS_4, "vmladava", FIRST_ROWS)
        CODES(BITS_2, "vmladava", SECOND_ROWS)
        "stmdb r11!, {r0, r2, r4, r6, r8, r10, r12, lr}\n"
        "cmp r11, sp\n"
        "bne 1b\n"
        "mov r10, r11\n"
        "add r12, sp, #16\n"
        "ldrd r11, r8, [sp, #372]\n"
        "vldrh.u16 q0, [r9]\n"
        "vldrh.u16 q1, [r9, #16]\n"
        "vldrw.u32 q3, [sp, #288]\n"
        "vmov q2, q1\n"
        "vorr.i16 q2, #1\n"
        PAIR PAIR PAIR PAIR
        "vldrw.u32 q2, [sp]\n"
        "vldrw.u32 q3, [sp, #16]\n"
        "ldrd r4, r6, [r9, #32]\n"
        "vshl.s32 q2, r6\n"
        "vshl.s32 q3, r6\n"
        "vldrw.u32 q0, [sp, #256]\n"
        "vldrw.u32 q1, [sp, #272]\n"
        "vcvt.f32.s32 q2, q2\n"
        "vcvt.f32.s32 q3, q3\n"
        "vmul.f32 q2, q2, r4\n"
        "vmul.f32 q3, q3, r4\n"
        "vadd.f32 q0, q0, q2\n"
        "vadd.f32 q1, q1, q3\n"
        "ldr r11, [r9, #40]\n"
        "vstrw.32 q0, [sp, #256]\n"
        "vstrw.32 q1, [sp, #272]\n"
        "add r9, r9, #44\n"
        "cmp r11, #0\n"
        "bne 2b\n"
        "ldrd r0, r1, [sp, #368]\n"
        "movs r4, #0\n"
        "vidup.u32 q4, r4, #1\n"
        "vmul.i32 q4, q4, r8\n"
        "subs r1, #8\n"
        "vldrw.u32 q2, [r1, q4]\n"
        "adds r1, #4\n"
        "vldrw.u32 q3, [r1, q4]\n"
        "vmul.f32 q0, q0, q2\n"
        "vmul.f32 q1, q1, q3\n"
        "vst20.32 {q0, q1}, [r0]\n"
        "vst21.32 {q0, q1}, [r0]!\n"
        "add r1, r1, r8, lsl #2\n"
        "adds r1, #4\n"
        "ldr r4, [sp, #420]\n"
        "ldr r2, [sp, #380]\n"
        "strd r0, r1, [sp, #368]\n"
        "cmp r0, r4\n"
        "bne 5b\n"
        "add sp, #304\n"
        "vpop {d8-d15}\n"
        "pop {r0-r11, pc}\n"
        );
}

// Two digits of each byte of w, below those that the fourth row has there.
#define TP3_ROW(w, dot) \
    "vand q4, " w ", q5\n" \
    "vmladav.s8 " dot ", q4, q0\n" \
    "vshr.u8 q4, " w ", #3\n" \
    "vand q4, q4, q5\n" \
    "vmladava.s8 " dot ", q4, q1\n"

// Rows in fours up to the end of y.
//   r1 w, r11 its factors, r12 x, r4 r6 r8 r10 dot products, r7 r9 what is added and scale, lr blocks left of
//   the group, r5 after it; q0 q1 activations, q2 q3 weights, q5 mask, q6 sums of the group, q7 of rows;
//   [sp, #100] end.
ASSEMBLY
static void tp3_rows(float *y, const uint8_t *w, const block_t *x, uint32_t blocks, float *end) {
    __asm volatile (
        ".syntax unified\n"
        "push {r4-r11, lr}\n"
        "vpush {d8-d15}\n"
        "vmov.i8 q5, #7\n"
        "3:\n"
        "mov r5, r3\n"
        "mov r11, r1\n"
        "mov r12, r2\n"
        "adds r1, #16\n"
        "vmov.i32 q7, #0\n"
        "2:\n"
        "mov lr, r5\n"
        "cmp r5, #8\n"
        "it hs\n"
        "movhs lr, #8\n"
        "sub r5, r5, lr\n"
        "vmov.i32 q6, #0\n"
        "dls lr, lr\n"
        "1:\n"
        "vldrb.u8 q0, [r12], #16\n"
        "vldrb.u8 q1, [r12], #16\n"
        "ldrd r7, r9, [r12], #8\n"
        "vldrb.u8 q2, [r1, #4]\n"
        TP3_ROW("q2", "r4")
        "vldrb.u8 q3, [r1, #20]\n"
        TP3_ROW("q3", "r6")
        // the fourth row's digits come together in the upper six bits
        "vsri.8 q3, q2, #2\n"
        "vldrb.u8 q2, [r1, #36]\n"
        TP3_ROW("q2", "r8")
        "vsri.8 q2, q3, #2\n"
        "vshr.u8 q4, q2, #5\n"
        "vmladav.s8 r10, q4, q1\n"
        "vshr.u8 q4, q2, #2\n"
        "vand q4, q4, q5\n"
        "vmladava.s8 r10, q4, q0\n"
        "vldrb.s32 q2, [r1], #52\n"
        "vmov q4[2], q4[0], r4, r8\n"
        "vmov q4[3], q4[1], r6, r10\n"
        "vadd.i32 q4, q4, r7\n"
        "vmul.i32 q4, q4, q2\n"
        "vadd.i32 q6, q6, q4\n"
        "le lr, 1b\n"
        "vcvt.f32.s32 q6, q6\n"
        "vmul.f32 q6, q6, r9\n"
        "vadd.f32 q7, q7, q6\n"
        "cmp r5, #0\n"
        "bne 2b\n"
        "vldrw.u32 q6, [r11]\n"
        "ldr r4, [sp, #100]\n"
        "vmul.f32 q7, q7, q6\n"
        "vstrw.32 q7, [r0], #16\n"
        "cmp r0, r4\n"
        "bne 3b\n"
        "vpop {d8-d15}\n"
        "pop {r4-r11, pc}\n"
        );
}

#define Q4_K_ROW(row, low, high) \
    "vldrb.u8 q4, [" row "], #16\n" \
    "vldrb.u8 q5, [" row "], #16\n" \
    "vand q6, q4, q7\n" \
    "vmladav.s8 " low ", q6, q0\n" \
    "vshr.u8 q4, q4, #4\n" \
    "vmladav.s8 " high ", q4, q2\n" \
    "vand q6, q5, q7\n" \
    "vmladava.s8 " low ", q6, q1\n" \
    "vshr.u8 q5, q5, #4\n" \
    "vmladava.s8 " high ", q5, q3\n"

// Its dot products, less 8 times the sum of activations so that they fit 16 bits, and scales and mins,
// bytes at r3 + at and 8 further on.
#define Q4_K_SCALES(at, sum, min) \
    "vldrh.u16 q3, [r1, q2]\n" \
    "vldrb.u16 q4, [r3, #" at "]\n" \
    "vsub.i16 q3, q3, q1\n" \
    "vldrb.u16 q5, [r3, #" at "+8]\n" \
    "vmladav.s16 " sum ", q3, q4\n" \
    "vmladava.s16 " sum ", q1, q4\n" \
    "vmladav.s16 " min ", q0, q5\n"

// Four rows, stride bytes apart: y[0..3].
//   r1 r3 r5 r7 rows, r2 x, r4 r6 r8 r10 dot products, stored as two of each row for each 64 columns; r12
//   stride, r9 blocks left, r11 block; sp: dot products, scales and mins of each row (#128), sums (#192),
//   fp16 scales (#208); [sp, #288] y, [sp, #340] blocks.
ASSEMBLY
static void q4_k_rows(float *y, const uint8_t *w, const uint8_t *x, size_t stride, uint32_t blocks) {
    __asm volatile (
        ".syntax unified\n"
        "push {r0-r11, lr}\n"
        "vpush {d8-d15}\n"
        "sub sp, #224\n"
        "mov r11, r1\n"
        "ldr r9, [sp, #340]\n"
        "vmov.i32 q0, #0\n"
        "vstrw.32 q0, [sp, #192]\n"
        "2:\n"
        "ldr r12, [sp, #300]\n"
        "add r1, r11, #16\n"
        "vmov.i8 q7, #15\n"
        "add r3, r1, r12\n"
        "add r5, r3, r12\n"
        "add r7, r5, r12\n"
        "mov r0, sp\n"
        "movs r4, #4\n"
        "dls lr, r4\n"
        "1:\n"
        "vldrb.u8 q0, [r2], #16\n"
        "vldrb.u8 q1, [r2], #16\n"
        "vldrb.u8 q2, [r2], #16\n"
        "vldrb.u8 q3, [r2], #16\n"
        Q4_K_ROW("r1", "r4", "r6") Q4_K_ROW("r3", "r8", "r10")
        STORE
        Q4_K_ROW("r5", "r4", "r6") Q4_K_ROW("r7", "r8", "r10")
        STORE
        "le lr, 1b\n"
        // of each row a lane: its scales and mins of 6 bits as bytes
        "movs r4, #0\n"
        "vidup.u32 q0, r4, #1\n"
        "vmul.i32 q1, q0, r12\n"
        "vadd.i32 q1, q1, r11\n"
        "vldrw.u32 q0, [q1]\n"
        "vldrw.u32 q4, [q1, #4]\n"
        "vldrw.u32 q5, [q1, #8]\n"
        "vldrw.u32 q6, [q1, #12]\n"
        "vstrw.32 q0, [sp, #208]\n"
        "vmov.i8 q3, #63\n"
        "vand q0, q4, q3\n"
        "vand q2, q5, q3\n"
        "vmov.i8 q3, #48\n"
        "vshr.u32 q4, q4, #2\n"
        "vshr.u32 q5, q5, #2\n"
        "vand q4, q4, q3\n"
        "vand q5, q5, q3\n"
        "vand q1, q6, q7\n"
        "vshr.u32 q6, q6, #4\n"
        "vorr q1, q1, q4\n"
        "vand q6, q6, q7\n"
        "vorr q3, q6, q5\n"
        "add r3, sp, #128\n"
        "vst40.32 {q0, q1, q2, q3}, [r3]\n"
        "vst41.32 {q0, q1, q2, q3}, [r3]\n"
        "vst42.32 {q0, q1, q2, q3}, [r3]\n"
        "vst43.32 {q0, q1, q2, q3}, [r3]\n"
        // q2: where a row's eight dot products are, 0 4 32 36 and so on
        "mov r5, r2\n"
        "vldrh.u16 q0, [r5]\n"
        "movs r4, #0\n"
        "vidup.u16 q2, r4, #4\n"
        "movs r6, #24\n"
        "vshr.u16 q3, q2, #3\n"
        "vshl.i16 q1, q0, #3\n"
        "vmla.s16 q2, q3, r6\n"
        "mov r1, sp\n"
        Q4_K_SCALES("0", "r0", "r8")
        "adds r1, #8\n"
        Q4_K_SCALES("16", "r2", "r10")
        "adds r1, #8\n"
        Q4_K_SCALES("32", "r4", "r12")
        "adds r1, #8\n"
        Q4_K_SCALES("48", "r6", "lr")
        "ldr r7, [r5, #32]\n"
        "vldrw.u32 q2, [sp, #208]\n"
        "vmov q3[2], q3[0], r0, r4\n"
        "vmov q3[3], q3[1], r2, r6\n"
        VCVTT_Q2_Q2
        "vmov q4[2], q4[0], r8, r12\n"
        "vmov q4[3], q4[1], r10, lr\n"
        "vmul.f32 q5, q2, r7\n"
        "vldrw.u32 q2, [sp, #208]\n"
        "vcvt.f32.s32 q3, q3\n"
        VCVTB_Q2_Q2
        "vcvt.f32.s32 q4, q4\n"
        "vldrw.u32 q0, [sp, #192]\n"
        "vmul.f32 q2, q2, r7\n"
        "vmul.f32 q2, q2, q3\n"
        "vmul.f32 q5, q5, q4\n"
        "vadd.f32 q0, q0, q2\n"
        "add r2, r5, #36\n"
        "vsub.f32 q0, q0, q5\n"
        "add r11, r11, #144\n"
        "vstrw.32 q0, [sp, #192]\n"
        "subs r9, #1\n"
        "bne 2b\n"
        "ldr r0, [sp, #288]\n"
        "vstrw.32 q0, [r0]\n"
        "add sp, #224\n"
        "vpop {d8-d15}\n"
        "pop {r0-r11, pc}\n"
        );
}

// low, high: where in a block, from its byte 64 on; shift: brings the two bits that are wanted to bits 0
// and 4. An insertion keeps the bits of its destination that it does not set.
#define Q6_K_ROW(row, low, high, shift, dot, dot_32) \
    "vldrb.u8 q2, [" row ", #" low "]\n" \
    "vldrb.u8 q3, [" row ", #" high "]\n" \
    shift \
    "vand q3, q3, q7\n" \
    "vmov q4, q2\n" \
    "vsli.8 q4, q3, #4\n" \
    "vmladav.s8 " dot ", q4, q0\n" \
    "vsri.8 q3, q2, #4\n" \
    "vmladav.s8 " dot_32 ", q3, q1\n"
#define Q6_K_ROWS(at, low, high, shift) \
    "vldrb.u8 q0, [r2, #" at "]\n" \
    "vldrb.u8 q1, [r2, #" at "+64]\n" \
    Q6_K_ROW("r1", low, high, shift, "r4", "r6") Q6_K_ROW("r3", low, high, shift, "r8", "r10") \
    STORE \
    Q6_K_ROW("r5", low, high, shift, "r4", "r6") Q6_K_ROW("r7", low, high, shift, "r8", "r10") \
    STORE
// 16 columns, and those 32, 64 and 96 further on; at: the first.
#define Q6_K_64(at, low, high) \
    Q6_K_ROWS(at, low, high, "") \
    Q6_K_ROWS(at "+32", low "+32", high, "vshr.u8 q3, q3, #2\n")

// Dot products of four rows, stride bytes apart, with a block of 256. w: 64 bytes behind a block's begin.
// dots: for 16 columns those of each row with them and 64 further on, then with 32 and 96 further on; then
// for the next 16.
ASSEMBLY
static void q6_k_dots(int32_t *dots, const uint8_t *w, const uint8_t *x, size_t stride) {
    __asm volatile (
        ".syntax unified\n"
        "push {r4-r10, lr}\n"
        "vpush {d8-d15}\n"
        "adds r4, r1, r3\n"
        "adds r5, r4, r3\n"
        "adds r7, r5, r3\n"
        "mov r3, r4\n"
        "vmov.i8 q7, #0x33\n"
        Q6_K_64("0", "-64", "64")
        Q6_K_64("16", "-48", "80")
        "adds r2, #128\n"
        Q6_K_64("0", "0", "96")
        Q6_K_64("16", "16", "112")
        "vpop {d8-d15}\n"
        "pop {r4-r10, pc}\n"
        );
}

// The same as q4_0_rows and q8_0_rows with scalars.
static void plain_row(uint32_t type, float *y, const uint8_t *w, const block_t *x, uint32_t blocks) {
    float sum = 0.0f;
    for (uint32_t b = 0; b < blocks; ++b) {
        int32_t dot = x[b].add;
        const uint8_t *v = w + 2;
        for (uint32_t j = 0; j < TP_BLOCK; ++j) {
            dot += x[b].q[j] * (type == TP_Q8_0 ? (int8_t)v[j] : j < 16 ? v[j] & 15 : v[j - 16] >> 4);
        }
        sum += tp_from_f16(tp_load_u16(w)) * x[b].scale * (float)dot;
        w = v + (type == TP_Q8_0 ? 32 : 16);
    }
    *y = sum;
}

static void single_matmul(const tp_product_t *p) {
    size_t stride = tp_row_bytes(p->type, p->cols);
    uint32_t rows = p->rows, blocks = p->cols / TP_BLOCK;
    const block_t *x = p->x;
    float *y = p->y;
    void (*some)(float *, const uint8_t *, const block_t *, size_t, uint32_t, float *) =
        p->type == TP_Q4_0 ? q4_0_rows : q8_0_rows;
    for (uint32_t t = 0; t < p->n; ++t, x += blocks, y += rows) {
        forget_subnormals();
        if (rows < ROWS) {
            for (uint32_t r = 0; r < rows; ++r) {
                float same[ROWS];
                some(same, p->w + r * stride, x, 0, blocks, same + ROWS);
                y[r] = same[0];
            }
        } else {
            uint32_t most = rows / ROWS * ROWS;
            some(y, p->w, x, stride, blocks, y + most);
            if (most < rows) {
                // the last rows, some of them once more
                some(y + rows - ROWS, p->w + (rows - ROWS) * stride, x, stride, blocks, y + rows);
            }
        }
        if (were_subnormals()) {
            for (uint32_t r = 0; r < rows; ++r) {
                plain_row(p->type, y + r, p->w + r * stride, x, blocks);
            }
        }
    }
}

// One row of TP2 or TPT with scalars. at: its scales; half: of the pair.
static float plain_pair_row(uint32_t type, const uint8_t *at, uint32_t half, const pair_job_t *job) {
    const uint8_t *x = job->x, *block = at - half + job->to_blocks;
    float sum = 0.0f;
    for (uint32_t b = 0; b < job->blocks;) {
        uint32_t end = b + GROUP < job->blocks ? b + GROUP : job->blocks;
        const void *after = x + (end - b) * block_bytes(type);
        const pair_tail_t *tail = after;
        int32_t group = 0;
        for (; b < end; ++b, at += 2, x += block_bytes(type), block += 16) {
            int32_t dot = 0;
            const int8_t *v = (const int8_t *)x + 16 * half;
            for (uint32_t j = 0; j < 16; ++j) {
                uint32_t codes = (uint32_t)block[j] >> 2 * half;
                dot += (int32_t)(codes & 3) * v[j] + (int32_t)(codes >> 4 & 3) * v[32 + j];
            }
            group += (4 * dot - tail->sums[end - b - 1]) / (1 << -tail->shift) * (int8_t)*at;
        }
        sum += tail->scale * (float)group;
        x = (const uint8_t *)(tail + 1);
    }
    return sum;
}

static void pair_matmul(const tp_product_t *p) {
    tp_own_t own = tp_own(p->type, p->cols);
    uint32_t pairs = p->rows / 2, once = PAIR_ROWS / 2;
    size_t x_bytes = tp_isa_activation_bytes(p->type, p->cols);
    pair_job_t job = {
        p->x, p->cols / TP_BLOCK, own.blocks - own.scales, p->cols / TP_BLOCK < GROUP ? p->cols / TP_BLOCK : GROUP,
    };
    float *y = p->y;
    for (uint32_t t = 0; t < p->n; ++t, job.x += x_bytes, y += p->rows) {
        const uint8_t *w = p->w + own.scales;
        forget_subnormals();
        if (pairs < once) {
            for (uint32_t i = 0; i < pairs; ++i) {
                float same[PAIR_ROWS];
                pair_rows(same, w + i * own.size, &job, 0, same + PAIR_ROWS);
                y[2 * i] = same[0];
                y[2 * i + 1] = same[1];
            }
        } else {
            pair_rows(y, w, &job, own.size, y + pairs / once * PAIR_ROWS);
            if (pairs % once != 0) {
                // the last rows, some of them once more
                pair_rows(y + p->rows - PAIR_ROWS, w + (pairs - once) * own.size, &job, own.size, y + p->rows);
            }
        }
        if (were_subnormals()) {
            for (uint32_t r = 0; r < p->rows; ++r) {
                const uint8_t *pair = p->w + r / 2 * own.size;
                y[r] = ((const float *)(const void *)pair)[r % 2]
                    * plain_pair_row(p->type, pair + own.scales + r % 2, r % 2, &job);
            }
        }
    }
}

// One row with scalars.
static float plain_tp3_row(const tp_product_t *p, uint32_t row, const block_t *x) {
    const tp_format_t *format = tp_format(TP_TP3);
    float sum = 0.0f;
    for (uint32_t b = 0; b < p->cols / TP_BLOCK;) {
        int32_t group = 0;
        do {
            tp_part_t part;
            tp_decode(format, p->w, row, p->cols, b, &part);
            for (uint32_t j = 0; j < TP_BLOCK; ++j) {
                group += part.scale[0] * part.q[j] * x[b].q[j];
            }
        } while (++b % GROUP != 0 && b < p->cols / TP_BLOCK);
        sum += x[b - 1].scale * (float)group;
    }
    return tp_from_bits(tp_row_factor(format, p->w, row, p->cols)) * sum;
}

static void tp3_matmul(const tp_product_t *p) {
    uint32_t blocks = p->cols / TP_BLOCK;
    const block_t *x = p->x;
    float *y = p->y;
    for (uint32_t t = 0; t < p->n; ++t, x += blocks, y += p->rows) {
        forget_subnormals();
        tp3_rows(y, p->w, x, blocks, y + p->rows);
        if (were_subnormals()) {
            for (uint32_t r = 0; r < p->rows; ++r) {
                y[r] = plain_tp3_row(p, r, x);
            }
        }
    }
}

// Four rows, stride bytes apart: y[0..3].
static void q6_k_rows(float *y, const uint8_t *w, const uint8_t *x, size_t stride, uint32_t blocks) {
    float32x4_t all = vdupq_n_f32(0.0f);
    const uint8_t *d_at = w + 208;
    for (; blocks > 0; --blocks, w += 210, d_at += 210) {
        int32_t dots[2 * GROUP * ROWS], sum[ROWS];
        q6_k_dots(dots, w + 64, x, stride);
        const tail_t *tail = (const tail_t *)(const void *)(x + TP_MAX_GROUP);
        int16x8_t sums = vld1q_s16(tail->sums), more = vld1q_s16(tail->sums + 8);
        static const uint32_t order[4] = { 0, 32, 4, 36 };
        uint32x4_t at = vld1q_u32(order), even = vidupq_n_u32(0, 2);
        const int8_t *scales = (const int8_t *)w + 192;
        #pragma GCC unroll 4
        for (uint32_t i = 0; i < ROWS; ++i, scales += stride) {
            int32_t offset = vmladavq_s16(sums, vldrbq_s16(scales));
            offset = vmladavaq_s16(offset, more, vldrbq_s16(scales + 8));
            int32_t dot = -32 * offset; // which is taken off each value
            #pragma GCC unroll 4
            for (uint32_t j = 0; j < 4; ++j) {
                dot = vmladavaq_s32(dot, vldrwq_gather_offset_s32(dots + 16 * j + 2 * i, at),
                    vldrbq_gather_offset_s32(scales + j / 2 * 8 + j % 2, even));
            }
            sum[i] = dot;
        }
        uint32x4_t rows = vmulq_n_u32(vidupq_n_u32(0, 1), (uint32_t)stride);
        register uint32x4_t h __asm ("q2") = vldrhq_gather_offset_u32((const uint16_t *)(const void *)d_at, rows);
        __asm (VCVTB_Q2_Q2 : "+w" (h));
        float32x4_t d = vmulq_n_f32(vreinterpretq_f32_u32(h), tail->scale);
        all = vaddq_f32(all, vmulq_f32(d, vcvtq_f32_s32(vld1q_s32(sum))));
        x = (const uint8_t *)(tail + 1);
    }
    vst1q_f32(y, all);
}

// One row with scalars.
static float plain_k_row(const tp_product_t *p, uint32_t row, const uint8_t *x) {
    const tp_format_t *format = tp_format(p->type);
    float sum = 0.0f;
    for (uint32_t b = 0; b < p->cols / TP_BLOCK;) {
        const tail_t *tail = (const tail_t *)(const void *)(x + TP_MAX_GROUP);
        int32_t dots = 0, mins = 0;
        tp_part_t part;
        do {
            tp_decode(format, p->w, row, p->cols, b, &part);
            for (uint32_t j = 0; j < TP_BLOCK; ++j, ++x) {
                dots += part.scale[j / 16] * part.q[j] * (int8_t)*x;
                mins += part.min[j / 16] * (int8_t)*x;
            }
        } while (++b % GROUP != 0);
        sum += tp_from_f16(part.d) * tail->scale * (float)dots;
        if (format->m_at != TP_NONE) {
            sum += tp_from_f16(part.m) * tail->scale * (float)mins;
        }
        x = (const uint8_t *)(tail + 1);
    }
    return sum;
}

static void k_matmul(const tp_product_t *p) {
    size_t stride = tp_row_bytes(p->type, p->cols), x_bytes = tp_isa_activation_bytes(p->type, p->cols);
    uint32_t rows = p->rows, blocks = p->cols / TP_MAX_GROUP;
    void (*some)(float *, const uint8_t *, const uint8_t *, size_t, uint32_t) =
        p->type == TP_Q4_K ? q4_k_rows : q6_k_rows;
    const uint8_t *x = p->x;
    float *y = p->y;
    for (uint32_t t = 0; t < p->n; ++t, x += x_bytes, y += rows) {
        forget_subnormals();
        for (uint32_t r = 0; r < rows; r += ROWS) {
            if (rows < ROWS) {
                float same[ROWS];
                some(same, p->w + r * stride, x, 0, blocks);
                y[r] = same[0];
                r -= ROWS - 1;
                continue;
            }
            // the last rows may be done twice
            uint32_t at = r < rows - ROWS ? r : rows - ROWS;
            some(y + at, p->w + at * stride, x, stride, blocks);
        }
        if (were_subnormals()) {
            for (uint32_t r = 0; r < rows; ++r) {
                y[r] = plain_k_row(p, r, x);
            }
        }
    }
}

void tp_isa_matmul(const tp_product_t *p) {
    if (tp_is_k(p->type)) {
        k_matmul(p);
    } else if (tp_is_pair(p->type)) {
        pair_matmul(p);
    } else if (tp_is_own(p->type)) {
        tp3_matmul(p);
    } else {
        single_matmul(p);
    }
}

#endif
