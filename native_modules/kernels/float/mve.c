// Armv8.1-M with MVE (Cortex-M55, M85): VMLADAV adds sixteen products of bytes to a general register.
// Four rows at a time, so that what belongs to a block is done for four lanes at once.
//
// MVE's float instructions take subnormal numbers for 0. So they are used only where no scale of the
// activations is so small or great that one could come up; else C does the same with scalars.
//
// A block of activations: Q4_0 and Q8_0: 32 bytes as they are, what is added to a dot product, the
// scale (float). TP2 and TPT: 16 bytes each that meet the codes at bits 0 and 4 (first row of a pair)
// and 2 and 6 (second) of a block's bytes, four words that are added to the dot products of two pairs
// of rows, the group's scale. The second row's codes are signed numbers as they lie.
#include "armv7em.h"

#if defined(TP_PATH_FLOAT) && defined(TP_ISA_MVE)

#include "../tp_math.h"

const char tp_kernels_variant[] = "mve";

#define ROWS (4)
#define GROUP (TP_MAX_GROUP / TP_BLOCK) // blocks

typedef struct {
    int8_t q[TP_BLOCK];
    int32_t add;
    float scale;
} block_t;

typedef struct {
    int8_t q[4][16];
    int32_t add[ROWS];
    float scale;
} pair_block_t;

static inline int is_pair(uint32_t type) {
    return type == TP_TP2 || type == TP_TPT;
}

static inline int is_known(uint32_t type) {
    return type == TP_Q4_0 || type == TP_Q8_0 || is_pair(type);
}

size_t tp_isa_x_bytes(uint32_t type, uint32_t cols) {
    if (!is_known(type)) {
        return tp_armv7em_x_bytes(type, cols);
    }
    return cols / TP_BLOCK * (is_pair(type) ? sizeof(pair_block_t) : sizeof(block_t));
}

void tp_isa_put(uint32_t type, void *x, uint32_t cols, uint32_t n, uint32_t t, uint32_t b,
    const int8_t *q, tp_scale_t scale) {
    if (!is_known(type)) {
        tp_armv7em_put(type, x, cols, n, t, b, q, scale);
        return;
    }
    uint32_t at = t * (cols / TP_BLOCK) + b;
    int32_t sum = 0;
    for (uint32_t j = 0; j < TP_BLOCK; ++j) {
        sum += q[j];
    }
    if (!is_pair(type)) {
        block_t *to = (block_t *)x + at;
        for (uint32_t j = 0; j < TP_BLOCK; ++j) {
            to->q[j] = q[j];
        }
        to->add = type == TP_Q4_0 ? -8 * sum : 0;
        to->scale = scale;
        return;
    }
    pair_block_t *to = (pair_block_t *)x + at;
    for (uint32_t j = 0; j < 16; ++j) {
        const int8_t *word = q + j / 4 * 8;
        uint32_t col = j % 4 * 2;
        to->q[0][j] = word[col];
        to->q[1][j] = word[col + 1];
        to->q[2][j] = word[(col + 5) % 8];
        to->q[3][j] = word[(col + 6) % 8];
    }
    // TP2: 2 c - 3, or 2 (c - 2) + 1; TPT: c - 1, or (c - 2) + 1
    to->add[0] = to->add[2] = (type == TP_TP2 ? -3 : -1) * sum;
    to->add[1] = to->add[3] = sum;
    to->scale = scale;
}

// Naked functions hold assembly alone: the compiler does not see that it uses their parameters.
#pragma GCC diagnostic ignored "-Wunused-parameter"

// Four rows, stride bytes apart: y[0..3].
//   r1 r4 r5 r6 rows, r2 x, r7 r9 what is added and scale, r8 r10 r12 r0 dot products, lr blocks left;
//   q0 q1 activations, q2 q3 weights, q4 sums, q5 mask, q6 from the first row's next block to scales.
// VCVTB.F32.F16 q2, q2: assemblers of binutils 2.40 encode other registers.
#define VCVTB_Q2_Q2 ".inst.w 0xfe3f4e05\n"

#define ROWS_4(BLOCK, size) \
    ".syntax unified\n" \
    "push {r0, r4-r10, lr}\n" \
    "vpush {d8-d13}\n" \
    "ldr lr, [sp, #84]\n" \
    "mvn r4, #" size "-1\n" \
    "adds r5, r4, r3\n" \
    "adds r6, r5, r3\n" \
    "adds r7, r6, r3\n" \
    "vmov q6[2], q6[0], r4, r6\n" \
    "vmov q6[3], q6[1], r5, r7\n" \
    "vmov.i8 q5, #15\n" \
    "vmov.i32 q4, #0\n" \
    "adds r1, #2\n" \
    "adds r4, r1, r3\n" \
    "adds r5, r4, r3\n" \
    "adds r6, r5, r3\n" \
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
    "vmov q0, q4\n" \
    "vpop {d8-d13}\n" \
    "pop {r0, r4-r10, lr}\n" \
    "vstrw.32 q0, [r0]\n" \
    "bx lr\n"

#define Q4(row, dot) \
    "vldrb.u8 q2, [" row "], #18\n" \
    "vand q3, q2, q5\n" \
    "vshr.u8 q2, q2, #4\n" \
    "vmladav.s8 " dot ", q3, q0\n" \
    "vmladava.s8 " dot ", q2, q1\n"

__attribute__((naked, noinline))
static void q4_0_rows(float *y, const uint8_t *w, const block_t *x, size_t stride, uint32_t blocks) {
    __asm volatile (ROWS_4(Q4, "20"));
}

#define Q8(row, dot) \
    "vldrb.u8 q2, [" row "], #16\n" \
    "vldrb.u8 q3, [" row "], #18\n" \
    "vmladav.s8 " dot ", q2, q0\n" \
    "vmladava.s8 " dot ", q3, q1\n"

__attribute__((naked, noinline))
static void q8_0_rows(float *y, const uint8_t *w, const block_t *x, size_t stride, uint32_t blocks) {
    __asm volatile (ROWS_4(Q8, "36"));
}

// Both pairs' codes at a place, each with the sum that they go to.
#define PAIR(first, second, take, product) \
    "vldrb.u8 q0, [r2], #16\n" \
    take("q1") \
    product ".s8 " first ", q3, q0\n" \
    take("q2") \
    product ".s8 " second ", q3, q0\n"
#define BITS_0(w) "vand q3, " w ", q7\n"
#define BITS_4(w) "vshr.u8 q3, " w ", #4\nvand q3, q3, q7\n"
#define BITS_2(w) "vshl.i8 q3, " w ", #4\nvshr.s8 q3, q3, #6\n"
#define BITS_6(w) "vshr.s8 q3, " w ", #6\n"

// Two pairs of rows, stride bytes apart: y[0..3] without their factors. times: what dot products are
// multiplied with.
//   r1 r4 pairs, r2 x, r3 scales, r5 blocks left, r6 r8 r10 r12 dot products, r7 times, lr blocks left
//   of a group; q4 sums, q5 those of a group, q6 offsets of the four scales, q7 mask.
__attribute__((naked, noinline))
static void pair_rows(float *y, const uint8_t *w, const pair_block_t *x, size_t stride, uint32_t blocks,
    const uint8_t *scales, int32_t times) {
    __asm volatile (
        ".syntax unified\n"
        "push {r0, r4-r10, lr}\n"
        "vpush {d8-d15}\n"
        "adds r4, r1, r3\n"
        "movs r6, #0\n"
        "movs r7, #1\n"
        "adds r8, r3, #1\n"
        "vmov q6[2], q6[0], r6, r3\n"
        "vmov q6[3], q6[1], r7, r8\n"
        "ldrd r5, r3, [sp, #100]\n"
        "ldr r7, [sp, #108]\n"
        "vmov.i8 q7, #3\n"
        "vmov.i32 q4, #0\n"
        "1:\n"
        "cmp r5, #8\n"
        "ite hi\n"
        "movhi lr, #8\n"
        "movls lr, r5\n"
        "subs r5, r5, lr\n"
        "vmov.i32 q5, #0\n"
        "dls lr, lr\n"
        "2:\n"
        "vldrb.u8 q1, [r1], #16\n"
        "vldrb.u8 q2, [r4], #16\n"
        PAIR("r6", "r10", BITS_0, "vmladav")
        PAIR("r6", "r10", BITS_4, "vmladava")
        PAIR("r8", "r12", BITS_2, "vmladav")
        PAIR("r8", "r12", BITS_6, "vmladava")
        "vldrw.u32 q0, [r2], #16\n"
        "vmov q3[2], q3[0], r6, r10\n"
        "vmov q3[3], q3[1], r8, r12\n"
        "vmla.s32 q0, q3, r7\n"
        "vldrb.s32 q3, [r3, q6]\n"
        "ldr r9, [r2], #4\n"
        "adds r3, #2\n"
        "vmul.i32 q0, q0, q3\n"
        "vadd.i32 q5, q5, q0\n"
        "le lr, 2b\n"
        "vcvt.f32.s32 q5, q5\n"
        "vmul.f32 q5, q5, r9\n"
        "vadd.f32 q4, q4, q5\n"
        "cmp r5, #0\n"
        "bne 1b\n"
        "vmov q0, q4\n"
        "vpop {d8-d15}\n"
        "pop {r0, r4-r10, lr}\n"
        "vstrw.32 q0, [r0]\n"
        "bx lr\n"
        );
}

// The same with scalars.

static void plain_rows(uint32_t type, float *y, const uint8_t *w, const block_t *x, size_t stride,
    uint32_t blocks) {
    for (uint32_t r = 0; r < ROWS; ++r, w += stride) {
        const uint8_t *block = w;
        float sum = 0.0f;
        for (uint32_t b = 0; b < blocks; ++b) {
            int32_t dot = x[b].add;
            const uint8_t *v = block + 2;
            for (uint32_t j = 0; j < TP_BLOCK; ++j) {
                dot += x[b].q[j] * (type == TP_Q8_0 ? (int8_t)v[j] : j < 16 ? v[j] & 15 : v[j - 16] >> 4);
            }
            sum += tp_from_f16(tp_load_u16(block)) * x[b].scale * (float)dot;
            block = v + (type == TP_Q8_0 ? 32 : 16);
        }
        y[r] = sum;
    }
}

static void plain_pair_rows(float *y, const uint8_t *w, const pair_block_t *x, size_t stride, uint32_t blocks,
    const uint8_t *scales, int32_t times) {
    for (uint32_t r = 0; r < ROWS; ++r) {
        const uint8_t *block = w + r / 2 * stride;
        const int8_t *scale = (const int8_t *)scales + r / 2 * stride + r % 2;
        float sum = 0.0f;
        int32_t group = 0;
        for (uint32_t b = 0; b < blocks; ++b, block += 16, scale += 2) {
            int32_t dot = 0;
            for (uint32_t j = 0; j < 16; ++j) {
                if (r % 2 == 0) {
                    dot += (block[j] & 3) * x[b].q[0][j] + (block[j] >> 4 & 3) * x[b].q[1][j];
                } else {
                    // codes with their top bits turned
                    dot += (((block[j] >> 2 & 3) ^ 2) - 2) * x[b].q[2][j] + ((block[j] >> 6 ^ 2) - 2) * x[b].q[3][j];
                }
            }
            group += (x[b].add[r] + times * dot) * *scale;
            if (b + 1 == blocks || (b + 1) % GROUP == 0) {
                sum += x[b].scale * (float)group;
                group = 0;
            }
        }
        y[r] = sum;
    }
}

// Whether no product of a scale and a weight's can be subnormal or infinite.
static int is_ordinary(float scale) {
    uint32_t exponent = tp_to_bits(scale) >> 23 & 255;
    return scale == 0.0f || (exponent > 67 && exponent < 187);
}

static void pairs_matmul(const tp_product_t *p) {
    tp_own_t own = tp_own(p->type, p->cols);
    uint32_t blocks = p->cols / TP_BLOCK;
    const pair_block_t *x = p->x;
    float *y = p->y;
    for (uint32_t t = 0; t < p->n; ++t, x += blocks) {
        int ordinary = 1;
        for (uint32_t b = 0; b < blocks; ++b) {
            ordinary &= is_ordinary(x[b].scale);
        }
        const uint8_t *w = p->w;
        for (uint32_t r = 0; r < p->rows; r += ROWS) {
            size_t stride = r + 2 < p->rows ? own.size : 0; // of two pairs the last may be the same
            float sums[ROWS];
            (ordinary ? pair_rows : plain_pair_rows)(sums, w + own.blocks, x, stride, blocks, w + own.scales,
                p->type == TP_TP2 ? 2 : 1);
            for (uint32_t i = 0; i < (stride == 0 ? 2 : ROWS); ++i) {
                const float *factors = (const float *)(const void *)(w + i / 2 * own.size);
                *y++ = factors[i % 2] * sums[i];
            }
            w += 2 * own.size;
        }
    }
}

void tp_isa_matmul(const tp_product_t *p) {
    if (!is_known(p->type)) {
        tp_armv7em_matmul(p);
        return;
    }
    if (is_pair(p->type)) {
        pairs_matmul(p);
        return;
    }
    size_t stride = tp_row_bytes(p->type, p->cols);
    uint32_t rows = p->rows, blocks = p->cols / TP_BLOCK;
    const block_t *x = p->x;
    float *y = p->y;
    for (uint32_t t = 0; t < p->n; ++t, x += blocks, y += rows) {
        int ordinary = 1;
        for (uint32_t b = 0; b < blocks; ++b) {
            ordinary &= is_ordinary(x[b].scale);
        }
        for (uint32_t r = 0; r < rows; r += ROWS) {
            // the last rows may be done twice, of less than four the first four times
            uint32_t at = rows < ROWS || r < rows - ROWS ? r : rows - ROWS;
            float few[ROWS], *to = rows < ROWS ? few : y + at;
            const uint8_t *w = p->w + at * stride;
            size_t next = rows < ROWS ? 0 : stride;
            if (!ordinary) {
                plain_rows(p->type, to, w, x, next, blocks);
            } else if (p->type == TP_Q4_0) {
                q4_0_rows(to, w, x, next, blocks);
            } else {
                q8_0_rows(to, w, x, next, blocks);
            }
            if (rows < ROWS) {
                y[r] = few[0];
                r -= ROWS - 1;
            }
        }
    }
}

#endif
