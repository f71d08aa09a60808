// Part of armv7em.c: our own types, one token after the other.
//
// A block of activations ends with the scale if it is the last one of its group, else with 0. A scale of 0 is written
// as -0.
//
// TP2 and TPT. Each 16 bits of a word under the mask 0xc003, after rotations by 0, 4, 8 and 12, hold a code a of one
// row at the bottom, and at the top one of the other row, which is the signed number b from -2 to 1: together a + 2^14
// b. One SMLAD makes four products. Sums over 16 columns keep those of a within 14 bits; then the two are separated. A
// block of activations is 16 words, what is subtracted from twice the sum of the first row, and what is added to the
// second's.
//
// TP3. Masks of 0x00070007 give pairs of weights of a word of eight columns, after shifts by 0, 3, 8 and 11. The two
// bits that are left at the top of each byte belong to the fourth row: from the words of the other three rows,
//   (a & 0xc0c0c0c0) >> 4 | (b & 0xc0c0c0c0) >> 2 | (c & 0xc0c0c0c0)
// is its word, for shifts by 2, 5, 10 and 13. A block of activations is the value with which a sum starts, -4 * sum(x),
// and 16 words, in the order of Q4_0.
#ifndef TP_ARMV7EM_OWN_H
#define TP_ARMV7EM_OWN_H

#include "../../thumb2_tp3.h"
#include "simd.h"

#define PAIR_WORDS (19)

// Puts 32 activations for TP2 or TPT. scale: of their group if they are its last ones, else 0.
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

// clang-format off

// s0 and s1 hold the sums of groups, as integers; s2 and s3 those of the rows; s5 the end of x.
#define OWN_BEGIN(zero) \
    "movs " zero ", #0\n" \
    "vmov s0, s1, " zero ", " zero "\n" \
    "vmov s2, s3, " zero ", " zero "\n"

// After a block. scale: register of its last word.
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

// clang-format on

// What all pairs of rows (TP2, TPT) or fours of rows (TP3) share. Assembly knows the order of the members, and changes
// the first and the third.
typedef struct {
    float *y;
    const float *end; // of y
    const uint8_t *w; // a pair, or four rows
    size_t size; // its bytes
    const uint32_t *x;
    size_t to_blocks; // bytes from the start of w to its blocks
    const uint32_t *x_end;
    float times; // factor of the results of pairs
} own_rows_t;

// clang-format off

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

// TP2 and TPT: all pairs of rows up to the end of y.
//   r0 scales; r1 blocks; r2 x; r3 mask; r4 own_rows_t; r5 to r8 activations; r9 r10 weights; r11 sum; r12 first row
//   lr second row, times 2^14; s6 times
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

// TP3: all fours of rows up to the end of y.
//   r1 weights of the third row; r2 x; r3 mask; r4 to r7 activations; r8 r9 weights; r0 r11 r12 lr dot products
//   s0 to s3 sums of groups; s4 to s7 sums of the rows; s8 to s11 their factors; s12 end of x; [sp] own_rows_t
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
        TP3_8(ADD, "r2", "r0") TP3_8(ADD, "r2", "r0")
        // twice: the flags tell the turn, and nothing above sets them
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

// clang-format on

static void own_token(const tp_product_t *p, float *y, const uint32_t *x, const uint32_t *x_end) {
    tp_own_t own = tp_own(p->type, p->cols);
    // assembly doubles the products, as TP2 needs it
    float times = p->type == TP_TPT ? 0.5f : 1.0f;
    own_rows_t rows = { y, y + p->rows, p->w, own.size, x, own.blocks, x_end, times };
    (p->type == TP_TP3 ? tp3_rows : pair_rows)(&rows);
}

#endif
