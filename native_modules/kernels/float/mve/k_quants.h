// Part of mve.c: Q4_K and Q6_K, four rows at a time.
#ifndef TP_MVE_K_QUANTS_H
#define TP_MVE_K_QUANTS_H

#include "../../tp_math.h"
#include "layout.h"
#include "subnormals.h"

// clang-format off

// Stores two dot products of each of two rows.
#define STORE "stmia r0!, {r4, r6, r8, r10}\n"

// 32 columns of a row of Q4_K, and the 32 columns after them.
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

// The sums of a row. 8 times the sums of activations are subtracted from its dot products, so that they fit 16 bits.
// Its scales are bytes at r3 + at, its minima 8 bytes further on.
#define Q4_K_SCALES(at, sum, min) \
    "vldrh.u16 q3, [r1, q2]\n" \
    "vldrb.u16 q4, [r3, #" at "]\n" \
    "vsub.i16 q3, q3, q1\n" \
    "vldrb.u16 q5, [r3, #" at "+8]\n" \
    "vmladav.s16 " sum ", q3, q4\n" \
    "vmladava.s16 " sum ", q1, q4\n" \
    "vmladav.s16 " min ", q0, q5\n"

// Q4_K: four rows, stride bytes apart, y[0..3].
//   r1 r3 r5 r7 rows; r2 x; r4 r6 r8 r10 dot products, stored as two of each row for 64 columns; r12 stride
//   r9 blocks left; r11 block; [sp] dot products; #128 scales and minima of each row; #192 sums; #208 fp16 scales
//   #288 y; #340 blocks
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
        // a lane for each row: its scales and minima of 6 bits as bytes
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
        // q2: offsets of the eight dot products of a row, 0 4 32 36 and so on
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

// Q6_K, two times 16 columns of a row. low, high: offsets of the low and high bits from byte 64 of the block; shift:
// instruction that brings the high bits to bits 0 and 4. VSLI and VSRI keep the bits of their destination that they do
// not set.
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
// 16 columns, and those 32, 64 and 96 further on. at: the first column.
#define Q6_K_64(at, low, high) \
    Q6_K_ROWS(at, low, high, "") \
    Q6_K_ROWS(at "+32", low "+32", high, "vshr.u8 q3, q3, #2\n")

// Dot products of four rows, stride bytes apart, with a block of 256. w: byte 64 of the block of the first row. dots:
// for 16 columns, those of each row with them and with the columns 64 further on, then with those 32 and 96 further on;
// then for the next 16 columns.
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

// clang-format on

// Q6_K: four rows, stride bytes apart, y[0..3].
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
            int32_t dot = -32 * offset; // 32 is subtracted from each value
            #pragma GCC unroll 4
            for (uint32_t j = 0; j < 4; ++j) {
                dot = vmladavaq_s32(dot, vldrwq_gather_offset_s32(dots + 16 * j + 2 * i, at),
                    vldrbq_gather_offset_s32(scales + j / 2 * 8 + j % 2, even));
            }
            sum[i] = dot;
        }
        uint32x4_t rows = vmulq_n_u32(vidupq_n_u32(0, 1), (uint32_t)stride);
        register uint32x4_t h __asm("q2") = vldrhq_gather_offset_u32((const uint16_t *)(const void *)d_at, rows);
        __asm(VCVTB_Q2_Q2 : "+w"(h));
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

// With fewer than four rows, each one is computed four times.
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
            // computes some of the last rows twice
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

#endif
