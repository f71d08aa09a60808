// Part of armv7em.c: Q4_0 and Q8_0, four rows with one token, or two rows with pairs of tokens.
#ifndef TP_ARMV7EM_Q4_Q8_H
#define TP_ARMV7EM_Q4_Q8_H

#include "simd.h"
#include "tiles.h"

// A block of activations: see armv7em.c.
#define BLOCK_WORDS (18)
#define BLOCK_BYTES (BLOCK_WORDS * 4)

// clang-format off

// Four rows of one token, y[0..3]. Rows are stride bytes apart; x_end is the end of x.
//   r1 row 0, advancing; r3 stride; r0 three strides; r2 x; r4 r9 r10 r11 sums of rows 0 to 3
//   r5 to r8 activations; r12 lr weights; s12 to s15 results; s9 x_end
// The word of a row is loaded while the row before is computed, for cores that wait for loads.
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

// point: binary point for VCVT, which divides by the factor
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

// Eight weights of a row, in w. spare: another register; next: instruction that loads the word of the next row into
// spare when it is free; from: register to which the first product is added.
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

// Eight weights of four rows. The first products of all rows in a block are added to r4, the sum of row 0, which holds
// the offset: so row 0 comes last.
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

// Four weights of a row, in w. a, b: registers of the activations; first: instruction for the first product.
#define Q8(w, spare, a, b, sum, next, first) \
    "sxtb16 " spare ", " w "\n" \
    first \
    "sxtb16 " w ", " w ", ror #8\n" \
    next \
    "smlad " sum ", " w ", " b ", " sum "\n"

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

// For several tokens a stretch of two rows is unpacked once. out: for each block 16 times two words of pairs, of the
// first and the second row alternately, then both scales as floats.
//   r0 out; r1 r2 rows; r3 blocks left; r4 to r11 pairs; r12 lr weights
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

// Pairs of tokens with a stretch of two rows that is unpacked.
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

// clang-format on

static void rows4(uint32_t type, float *y, const uint8_t *w, const void *x, size_t stride, const void *x_end) {
    if (type == TP_Q4_0) {
        q4_0_rows4(y, w, x, stride, x_end);
    } else {
        q8_0_rows4(y, w, x, stride, x_end);
    }
}

// One token, four rows at a time. With fewer than four rows, each row is computed four times.
static void q4_0_token(const tp_product_t *p, float *y, const uint32_t *x, const uint32_t *x_end) {
    uint32_t type = p->type, rows = p->rows, count = rows < 4 ? 1 : 4;
    const uint8_t *w = p->w;
    size_t stride = tp_row_bytes(type, p->cols), apart = count == 1 ? 0 : stride;
    float result[4];
    for (uint32_t r = 0; r < rows; r += count) {
        uint32_t at = r < rows - count ? r : rows - count; // computes some of the last rows twice
        rows4(type, count == 1 ? result : y + at, w + at * stride, x, apart, x_end);
        if (count == 1) {
            y[at] = result[0];
        }
    }
}

#endif
