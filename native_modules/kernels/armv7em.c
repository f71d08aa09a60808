// Matrix products for Cortex-M4, M7 and M33: SMLAD on weights masked out of their words, three rows
// at once, scales in the FPU.
//
// Activations of a block of 32, in words: the block's scale (float); for Q4_0 minus eight times the
// sum of the values, since weights are stored with 8 added; then 16 words of two int16 each, in the
// order in which masks deliver the weights:
//   Q4_0, word i of the nibbles:  (4i, 4i+2) (4i+16, 4i+18) (4i+1, 4i+3) (4i+17, 4i+19)
//   Q8_0, word i of the bytes:    (4i, 4i+2) (4i+1, 4i+3)
#include "kernels.h"

#if TP_VARIANT == TP_VARIANT_ARMV7EM

#define BLOCK_WORDS_Q4 (18)
#define BLOCK_WORDS_Q8 (17)

const char tp_kernels_variant[] = "armv7em";

size_t tp_input_bytes(uint32_t type, uint32_t cols) {
    if (type == TP_Q4_0) {
        return cols / TP_BLOCK * BLOCK_WORDS_Q4 * 4;
    }
    if (type == TP_Q8_0) {
        return cols / TP_BLOCK * BLOCK_WORDS_Q8 * 4;
    }
    return tp_ref_input_bytes(type, cols);
}

static inline uint32_t pair(int8_t low, int8_t high) {
    return (uint32_t)(uint16_t)low | (uint32_t)(uint16_t)high << 16;
}

void tp_quantize(uint32_t type, uint8_t *out, const float *x, uint32_t cols) {
    uint32_t *o = (uint32_t *)out;
    int8_t q[TP_BLOCK];
    for (uint32_t b = 0; b < cols; b += TP_BLOCK, x += TP_BLOCK) {
        union { float f; uint32_t u; } d = { .f = tp_quantize_block(q, x) };
        *o++ = d.u;
        if (type == TP_Q4_0) {
            int32_t sum = 0;
            for (uint32_t j = 0; j < TP_BLOCK; ++j) {
                sum += q[j];
            }
            *o++ = (uint32_t)(-8 * sum);
            for (const int8_t *p = q; p < q + 16; p += 4) {
                *o++ = pair(p[0], p[2]);
                *o++ = pair(p[16], p[18]);
                *o++ = pair(p[1], p[3]);
                *o++ = pair(p[17], p[19]);
            }
        } else {
            for (const int8_t *p = q; p < q + TP_BLOCK; p += 4) {
                *o++ = pair(p[0], p[2]);
                *o++ = pair(p[1], p[3]);
            }
        }
    }
}

// The scales of three rows' blocks into s3..s5, times the activations' scale. r5 weights of the first
// row, r6 bytes from row to row, r7 activations.
#define SCALES \
    "vldmia r7!, {s0}\n" \
    "ldrh r11, [r5, r6, lsl #1]\n" \
    "ldrh r12, [r5, r6]\n" \
    "vmov s4, s5, r12, r11\n" \
    "ldrh r11, [r5], #2\n" \
    "vmov s3, r11\n" \
    "vcvtb.f32.f16 s3, s3\n" \
    "vcvtb.f32.f16 s4, s4\n" \
    "vcvtb.f32.f16 s5, s5\n" \
    "vmul.f32 s3, s3, s0\n" \
    "vmul.f32 s4, s4, s0\n" \
    "vmul.f32 s5, s5, s0\n"

// The three integer sums r0, r9, r10 into the rows' sums s10..s12, and round again.
#define ADD_AND_LOOP \
    "vmov s7, s8, r9, r10\n" \
    "vmov s6, r0\n" \
    "vcvt.f32.s32 s6, s6\n" \
    "vcvt.f32.s32 s7, s7\n" \
    "vcvt.f32.s32 s8, s8\n" \
    "vmul.f32 s6, s6, s3\n" \
    "vmul.f32 s7, s7, s4\n" \
    "vmul.f32 s8, s8, s5\n" \
    "vadd.f32 s10, s10, s6\n" \
    "vadd.f32 s11, s11, s7\n" \
    "vadd.f32 s12, s12, s8\n" \
    "subs lr, lr, #1\n" \
    "bne 1b\n"

// Both kernels: y[0..3 * groups) = rows of weights, stride bytes apart, by one token's activations.
// r0 y, r1 weights, r2 stride, r3 activations; blocks and groups on the stack; none of them 0. On the
// stack y is at 0, the activations at 4, blocks at 44, groups at 48.
#define ENTER \
    "push {r0, r3-r11, lr}\n" \
    "mov r5, r1\n" \
    "mov r6, r2\n"

#define BEGIN_GROUP \
    "2:\n" \
    "ldr r7, [sp, #4]\n" \
    "ldr lr, [sp, #44]\n" \
    "movs r0, #0\n" \
    "vmov s10, r0\n" \
    "vmov s11, s12, r0, r0\n" \
    "1:\n"

// The first row's pointer has come to the second row: two more to the next group.
#define END_GROUP_AND_LEAVE \
    "ldr r0, [sp]\n" \
    "ldr r1, [sp, #48]\n" \
    "vstmia r0!, {s10-s12}\n" \
    "add r5, r5, r6, lsl #1\n" \
    "str r0, [sp]\n" \
    "subs r1, r1, #1\n" \
    "str r1, [sp, #48]\n" \
    "bne 2b\n" \
    "pop {r0, r3-r11, pc}\n"

// Eight weights of one row, loaded by `load`, into the sum `acc`, which begins as `from`.
#define NIBBLES(load, acc, from) \
    load \
    "and r12, r8, r11\n" \
    "smlad " acc ", r12, r1, " from "\n" \
    "and r12, r8, r11, lsr #4\n" \
    "smlad " acc ", r12, r2, " acc "\n" \
    "and r12, r8, r11, lsr #8\n" \
    "smlad " acc ", r12, r3, " acc "\n" \
    "and r12, r8, r11, lsr #12\n" \
    "smlad " acc ", r12, r4, " acc "\n"

#define ROW2 "ldr r11, [r5, r6, lsl #1]\n"
#define ROW1 "ldr r11, [r5, r6]\n"
#define ROW0 "ldr r11, [r5], #4\n"

#define NIBBLE_WORD(from2, from1) \
    NIBBLES(ROW2, "r10", from2) \
    NIBBLES(ROW1, "r9", from1) \
    NIBBLES(ROW0, "r0", "r0")

// All core registers are taken, which a compiler does not do: 137 instructions for 96 products.
__attribute__((naked, noinline)) static void rows3_q4_0(float *y, const uint8_t *w, size_t stride,
    const uint8_t *x, uint32_t blocks, uint32_t groups) {
    (void)y;
    (void)w;
    (void)stride;
    (void)x;
    (void)blocks;
    (void)groups;
    __asm volatile (
        ".syntax unified\n"
        ENTER
        "mov r8, #0x000f000f\n"
        BEGIN_GROUP
        SCALES
        "ldmia r7!, {r0, r1, r2, r3, r4}\n"
        NIBBLE_WORD("r0", "r0")
        "ldmia r7!, {r1, r2, r3, r4}\n"
        NIBBLE_WORD("r10", "r9")
        "ldmia r7!, {r1, r2, r3, r4}\n"
        NIBBLE_WORD("r10", "r9")
        "ldmia r7!, {r1, r2, r3, r4}\n"
        NIBBLE_WORD("r10", "r9")
        ADD_AND_LOOP
        END_GROUP_AND_LEAVE
        );
}

// Four weights of one row; a and b hold the activations.
#define BYTES(load, acc, a, b) \
    load \
    "sxtb16 r12, r11\n" \
    "smlad " acc ", r12, " a ", " acc "\n" \
    "sxtb16 r12, r11, ror #8\n" \
    "smlad " acc ", r12, " b ", " acc "\n"

#define BYTE_WORD(a, b) \
    BYTES(ROW2, "r10", a, b) \
    BYTES(ROW1, "r9", a, b) \
    BYTES(ROW0, "r0", a, b)

#define BYTE_WORDS \
    "ldmia r7!, {r1, r2, r3, r4}\n" \
    BYTE_WORD("r1", "r2") \
    BYTE_WORD("r3", "r4")

// 149 instructions for 96 products.
__attribute__((naked, noinline)) static void rows3_q8_0(float *y, const uint8_t *w, size_t stride,
    const uint8_t *x, uint32_t blocks, uint32_t groups) {
    (void)y;
    (void)w;
    (void)stride;
    (void)x;
    (void)blocks;
    (void)groups;
    __asm volatile (
        ".syntax unified\n"
        ENTER
        BEGIN_GROUP
        SCALES
        "movs r0, #0\n"
        "mov r9, r0\n"
        "mov r10, r0\n"
        BYTE_WORDS
        BYTE_WORDS
        BYTE_WORDS
        BYTE_WORDS
        ADD_AND_LOOP
        END_GROUP_AND_LEAVE
        );
}

void tp_matmul(uint32_t type, float *y, const uint8_t *w, const uint8_t *x, uint32_t rows,
    uint32_t cols, uint32_t n) {
    if (type != TP_Q4_0 && type != TP_Q8_0) {
        tp_ref_matmul(type, y, w, x, rows, cols, n);
        return;
    }
    void (*rows3)(float *, const uint8_t *, size_t, const uint8_t *, uint32_t, uint32_t) =
        type == TP_Q4_0 ? rows3_q4_0 : rows3_q8_0;
    size_t stride = tp_row_bytes(type, cols);
    size_t x_bytes = tp_input_bytes(type, cols);
    uint32_t blocks = cols / TP_BLOCK;
    // For several tokens three rows at a time, so that these are read once from slow storage.
    uint32_t groups = n == 1 ? rows / 3 : 1;
    uint32_t r = 0;
    for (; r + 3 <= rows; r += 3 * groups, w += 3 * groups * stride) {
        for (uint32_t t = 0; t < n; ++t) {
            rows3(y + (size_t)t * rows + r, w, stride, x + t * x_bytes, blocks, groups);
        }
    }
    // One or two rows left: the missing ones repeat the last, and their sums are dropped.
    if (r < rows) {
        float sums[3];
        for (uint32_t t = 0; t < n; ++t) {
            rows3(sums, w, rows - r == 2 ? stride : 0, x + t * x_bytes, blocks, 1);
            y[(size_t)t * rows + r] = sums[0];
            if (rows - r == 2) {
                y[(size_t)t * rows + r + 1] = sums[1];
            }
        }
    }
}

#endif
