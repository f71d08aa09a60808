// Part of mve.c: Q4_0 and Q8_0, four rows at a time.
#ifndef TP_MVE_Q4_Q8_H
#define TP_MVE_Q4_Q8_H

#include "../../tp_math.h"
#include "layout.h"
#include "subnormals.h"

// clang-format off

// Rows, stride bytes apart, four at a time up to the end of y. BLOCK: the dot product of a row; size: bytes of a block
// + 2.
//   r1 r4 r5 r6 rows; r2 x; r3 from the end of a row to that of the row four further on; r7 r9 add and scale of block_t
//   r8 r10 r12 r0 dot products; r11 y; lr blocks left; q0 q1 activations; q2 q3 weights; q4 sums; q5 mask
//   q6 offsets of the scales from the first row's next block; [sp, #56] x; [sp, #100] blocks; [sp, #104] end
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

// The dot product of a block of a row.
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

// clang-format on

// A row as q4_0_rows and q8_0_rows have it, with scalars.
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

// With fewer than four rows, each one is computed four times.
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
                // the last rows, some of them again
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

#endif
