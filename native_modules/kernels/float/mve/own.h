// Part of mve.c: our own types, TP2 and TPT in four pairs of rows, TP3 in four rows.
#ifndef TP_MVE_OWN_H
#define TP_MVE_OWN_H

#include "../../tp_math.h"
#include "layout.h"
#include "subnormals.h"

// What all pairs of rows share. Assembly knows the order of the members.
typedef struct {
    const uint8_t *x;
    uint32_t blocks;
    uint32_t to_blocks; // bytes from scales to blocks
    uint32_t first; // blocks of the first group
} pair_job_t;

// clang-format off

// A code of each of four pairs, in q0 to q3. take: brings the code out; product: instruction; dots: registers.
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

// The sums of a pair, which replace its last dot products. Four times a dot product of codes may not fit 16 bits, but
// fits them once the part of the offset is subtracted.
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

// TP2 and TPT: pairs of rows, stride bytes apart, four at a time up to the end of y. w: scales of the first pair.
//   r1 r3 r5 r7 pairs; r9 x; r11 where dot products go; r0 r2 r4 r6 dot products of first rows
//   r8 r10 r12 lr those of second rows, four times as great
//   [sp] dot products of each block, the last one first; #256 sums; #288 offsets 0, 32 to 224; #368 y
//   #372 first scales; #376 stride; #380 job; #420 end
// At the end of a group:
//   r8 stride; r9 tail; r10 r12 dot products of first and second rows; r11 scales
//   q0 sums of the tail; q1 q2 its scale_at, for first and second rows; q3 offsets from the
//   dot products of a block to those of the one before
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

// The products of a row of TP3 in w, below the bits of the fourth row.
#define TP3_ROW(w, dot) \
    "vand q4, " w ", q5\n" \
    "vmladav.s8 " dot ", q4, q0\n" \
    "vshr.u8 q4, " w ", #3\n" \
    "vand q4, q4, q5\n" \
    "vmladava.s8 " dot ", q4, q1\n"

// TP3: fours of rows up to the end of y.
//   r1 w; r11 its factors; r12 x; r4 r6 r8 r10 dot products; r7 r9 add and scale of block_t
//   lr blocks left in the group; r5 blocks after it; q0 q1 activations; q2 q3 weights; q5 mask; q6 sums of the group
//   q7 sums of the rows
//   [sp, #100] end
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
        // the bits of the fourth row meet in the upper six bits
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

// clang-format on

// One row of TP2 or TPT with scalars, without its factor. at: its scales; half: 0 or 1, which row of the pair.
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
    pair_job_t job = { p->x, p->cols / TP_BLOCK, own.blocks - own.scales,
        p->cols / TP_BLOCK < GROUP ? p->cols / TP_BLOCK : GROUP };
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
                // the last rows, some of them again
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

// One row of TP3 with scalars.
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

#endif
