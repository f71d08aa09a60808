// Armv7-M (Cortex-M3): AND with a shifted operand and MLA, two weights at a time. scalar.h has the method.
//
// Q8_0: SMLAL makes two products at once. The first and the last byte of a word are 24 bits apart (0xff0000ff), as
// are the two others after a rotation by 16: they make w + 2^24 * W. With x * 2^24 + X as the activations' word,
//   (w + 2^24 * W) * (x * 2^24 + X) = w * X + (w * x + W * X) * 2^24 + W * x * 2^48.
// Bits 24 to 47 of the 64-bit sum of a block are the dot product. Below is a sum of 16 products, which needs 20 bits;
// above it is nothing of use. W is signed as it is; w becomes w + 128 (0 to 255) when its top bit is inverted. That is
// corrected by the value with which the sum starts: -128 * sum(x) * 2^24, plus 2^23 so that what is below stays
// positive.
#include "../isa.h"

#if defined(TP_PATH_FIXED) && defined(TP_ISA_ARMV7M)

const char tp_kernels_variant[] = "armv7m";

#define TP_ROWS(type) ((type) == TP_TP3 ? 4 : 2)
#define TP_Q4_K_ROWS (2)
#define TP_ALIGNED (0)
#define TP_LESS (0)
#define TP_PAIRS (TP_PAIRS_ROTATED)
#define TP_Q8_WORDS (18) // the value with which a sum starts, and 16 pairs
#include "scalar.h"
#include "../thumb2_tp3.h"

static void tp_put_q8_0(uint32_t *to, const int8_t *q) {
    int32_t sum = 0;
    for (uint32_t j = 0; j < TP_BLOCK; j += 4, q += 4) {
        *(to + 2 + j / 2) = ((uint32_t)q[0] << 24) + (uint32_t)q[3];
        *(to + 3 + j / 2) = ((uint32_t)q[2] << 24) + (uint32_t)q[1];
        sum += q[0] + q[2];
    }
    int64_t begin = (int64_t)(-128 * sum) * (1 << 24) + (1 << 23);
    to[0] = (uint32_t)begin;
    to[1] = (uint32_t)(begin >> 32);
}

// The compiler does not see that assembly uses the parameters of naked functions. They are naked, because they need all
// registers.
#pragma GCC diagnostic ignored "-Wunused-parameter"

// clang-format off

// Q4_0 and Q8_0, two rows.
//   r0 x; r1 r2 rows 0 and 1; r3 mask; r10 r11 sums of the rows; [sp] tp_rows_t
//   Q4_0: r4 r9 dot products of rows 0 and 1; r5 to r8 activations; r12 lr weights
//   Q8_0: r4 r5 and r6 r7 dot products; r8 r9 activations; r12 lr weights
#define ENTER \
    ".syntax unified\n" \
    "push {r0, r4-r11, lr}\n" \
    "ldr r5, [r0, #20]\n" \
    "ldr r1, [r0, #4]\n" \
    "str r5, [r0, #4]\n" /* groups left */ \
    "ldmia r0, {r4-r7}\n" \
    "adds r1, #2\n" \
    "adds r2, r1, r6\n" \
    "0:\n" \
    "mov r0, r7\n" \
    "mov r10, #0\n" \
    "mov r11, #0\n"

#define LEAVE \
    "ldr r0, [sp]\n" \
    "ldmia r0, {r4-r7}\n" \
    "stmia r4!, {r10, r11}\n" \
    "subs r5, #1\n" \
    "strd r4, r5, [r0]\n" \
    "mov r1, r2\n" \
    "add r2, r2, r6\n" \
    "bne 0b\n" \
    "pop {r0, r4-r11, pc}\n" \
    SPECIAL("r4", "r7", "2", "3") \
    SPECIAL("r9", "r8", "4", "5")

// sum += dot * scale, shifted right by r5 minus the scale's exponent; sets the flags by it. r12 is 1024, apart
// from the bits of the last mantissa. dot: register of the dot product; bring: instruction that brings it to bit 0.
#define SCALE(dot, bring, scale, sum, special, back) \
    bring \
    "asrs r6, " scale ", #10\n" \
    "ble " special "f\n" \
    back "1:\n" \
    "bfi r12, " scale ", #0, #10\n" \
    "mul lr, r12, " dot "\n" \
    back "2:\n" \
    "subs r6, r5, r6\n" \
    "asr lr, lr, r6\n" \
    "add " sum ", " sum ", lr\n"

// A scale that is negative, or has exponent 0: then it has no leading bit, and counts as one with exponent 1.
#define SPECIAL(dot, scale, here, back) \
    here ":\n" \
    "beq " here "2f\n" \
    "rsb " dot ", " dot ", #0\n" \
    "adds r6, #32\n" \
    "bne " back "1b\n" \
    here "2:\n" \
    "ubfx lr, " scale ", #0, #10\n" \
    "mul lr, lr, " dot "\n" \
    "movs r6, #1\n" \
    "b " back "2b\n"

#define Q4(sum, from) \
    "and lr, r3, r12\n" \
    "mla " sum ", lr, r5, " from "\n" \
    "and lr, r3, r12, lsr #4\n" \
    "mla " sum ", lr, r6, " sum "\n" \
    "and lr, r3, r12, lsr #8\n" \
    "mla " sum ", lr, r7, " sum "\n" \
    "and r12, r3, r12, lsr #12\n" \
    "mla " sum ", r12, r8, " sum "\n"

// Eight weights of two rows. Row 0 comes last, because r4 holds the value with which both sums start.
#define Q4_ROWS(from, step) \
    "ldr r12, [r2], " step "\n" \
    Q4("r9", from) \
    "ldr r12, [r1], " step "\n" \
    Q4("r4", "r4")

__attribute__((naked, noinline))
static void q4_0_rows(tp_rows_t *rows) {
    __asm volatile (
        ENTER
        "mov r3, #0x000f000f\n"
        "1:\n"
        "ldmia r0!, {r4-r8}\n"
        Q4_ROWS("r4", "#4")
        "ldmia r0!, {r5-r8}\n"
        Q4_ROWS("r9", "#4")
        "ldmia r0!, {r5-r8}\n"
        Q4_ROWS("r9", "#4")
        "ldmia r0!, {r5-r8}\n"
        Q4_ROWS("r9", "#6")
        "ldr r5, [r0], #4\n"
        "ldrsh r7, [r1, #-20]\n"
        "ldrsh r8, [r2, #-20]\n"
        "mov r12, #1024\n"
        SCALE("r4", "asr r4, r4, #16\n", "r7", "r10", "2", "3")
        SCALE("r9", "asr r9, r9, #16\n", "r8", "r11", "4", "5")
        "bpl 1b\n"
        LEAVE
        );
}

#define Q8(lo, hi) \
    "eor r12, r12, #0x00800080\n" \
    "and lr, r3, r12\n" \
    "smlal " lo ", " hi ", lr, r8\n" \
    "and lr, r3, r12, ror #16\n" \
    "smlal " lo ", " hi ", lr, r9\n"

// Four weights of two rows.
#define Q8_ROWS(step) \
    "ldmia r0!, {r8, r9}\n" \
    "ldr r12, [r1], " step "\n" \
    Q8("r4", "r5") \
    "ldr r12, [r2], " step "\n" \
    Q8("r6", "r7")

__attribute__((naked, noinline))
static void q8_0_rows(tp_rows_t *rows) {
    __asm volatile (
        ENTER
        "mov r3, #0xff000000\n"
        "orr r3, r3, #0xff\n"
        "1:\n"
        "ldrd r6, r7, [r0]\n"
        "ldmia r0!, {r4, r5}\n"
        Q8_ROWS("#4") Q8_ROWS("#4") Q8_ROWS("#4") Q8_ROWS("#4")
        Q8_ROWS("#4") Q8_ROWS("#4") Q8_ROWS("#4") Q8_ROWS("#6")
        // bits 24 to 47
        "lsl r8, r5, #16\n"
        "orr r4, r8, r4, lsr #16\n"
        "lsl r8, r7, #16\n"
        "orr r9, r8, r6, lsr #16\n"
        "ldr r5, [r0], #4\n"
        "ldrsh r7, [r1, #-36]\n"
        "ldrsh r8, [r2, #-36]\n"
        "mov r12, #1024\n"
        SCALE("r4", "asr r4, r4, #8\n", "r7", "r10", "2", "3")
        SCALE("r9", "asr r9, r9, #8\n", "r8", "r11", "4", "5")
        "bpl 1b\n"
        LEAVE
        );
}

// Eight columns of a pair of rows. from: register to which the first product of the second row is added.
#define PAIR_8(from) \
    "ldmia r0!, {r4-r7}\n" \
    "ldr r12, [r1], #4\n" \
    "and lr, r3, r12, ror #12\n" \
    "mla r9, lr, r4, " from "\n" \
    "and lr, r3, r12, ror #30\n" \
    "mla r8, lr, r4, r8\n" \
    "and lr, r3, r12, ror #16\n" \
    "mla r9, lr, r5, r9\n" \
    "and lr, r3, r12, ror #2\n" \
    "mla r8, lr, r5, r8\n" \
    "and lr, r3, r12, ror #20\n" \
    "mla r9, lr, r6, r9\n" \
    "and lr, r3, r12, ror #6\n" \
    "mla r8, lr, r6, r8\n" \
    "and lr, r3, r12, ror #24\n" \
    "mla r9, lr, r7, r9\n" \
    "and lr, r3, r12, ror #10\n" \
    "mla r8, lr, r7, r8\n"

// TP2 and TPT, a pair of rows.
//   r0 x; r1 blocks; r2 scales; r3 mask; r4 to r7 activations; r8 r9 dot products of rows 0 and 1
//   r10 r11 sums of groups; r12 lr weights
// The word with which the sums of a block start is loaded together with the end of the block before. The stack holds x
// after the first such word, where the sums of the rows go, the way from the start of a pair to its blocks, the end of
// the sums, and that first word. The end of a pair is the start of the next one.
__attribute__((naked, noinline))
static void pair_rows(tp_rows_t *rows) {
    __asm volatile (
        ".syntax unified\n"
        "push {r0, r4-r11, lr}\n"
        "ldr r7, [r0, #20]\n"
        "ldmia r0, {r4-r6}\n"
        "ldr r2, [r0, #24]\n"
        "ldr r0, [r0, #12]\n"
        "mov r1, r5\n"
        "subs r5, r5, r2\n"
        "ldr r8, [r0], #4\n"
        "adds r5, #8\n"
        "add r7, r4, r7, lsl #3\n"
        "push {r0, r4, r5, r7, r8}\n"
        "mov r3, #0x000c000c\n"
        "mov r10, #0\n"
        "mov r11, #0\n"
        "0:\n"
        "strd r10, r11, [r4]\n"
        "1:\n"
        PAIR_8("r8") PAIR_8("r9") PAIR_8("r9") PAIR_8("r9")
        "asr r4, r8, #16\n"
        "asr r9, r9, #16\n"
        "ldrsb r5, [r2], #1\n"
        "ldrsb r6, [r2], #1\n"
        "ldmia r0!, {r7, r8}\n"
        "mla r10, r4, r5, r10\n"
        "mla r11, r9, r6, r11\n"
        "cmp r7, #0\n"
        "beq 1b\n"
        "ldr r4, [sp, #4]\n"
        "asr r10, r10, r7\n"
        "ldrd r5, r6, [r4]\n"
        "asr r11, r11, r7\n"
        "add r5, r5, r10\n"
        "add r6, r6, r11\n"
        "mov r10, #0\n"
        "mov r11, #0\n"
        "strd r5, r6, [r4]\n"
        "bgt 1b\n"
        "ldmia sp, {r0, r4, r5, r7, r8}\n"
        "add r2, r1, #8\n"
        "adds r1, r1, r5\n"
        "adds r4, #8\n"
        "str r4, [sp, #4]\n"
        "cmp r4, r7\n"
        "bne 0b\n"
        "add sp, #20\n"
        "pop {r0, r4-r11, pc}\n"
        );
}

#define MLA(w, x, sum) "mla " sum ", " w ", " x ", " sum "\n"

// TP3, four rows.
//   r0 x; r1 weights of the third row; r3 mask; r4 to r7 activations; r8 r9 weights; r2 r11 r12 lr dot products
//   [sp] sums of groups; [sp, #16] sums of the rows; [sp, #32] tp_rows_t
__attribute__((naked, noinline))
static void tp3_rows(tp_rows_t *rows) {
    __asm volatile (
        ".syntax unified\n"
        "push {r0, r4-r11, lr}\n"
        "sub sp, #32\n"
        "ldr r1, [r0, #4]\n"
        "mov r3, #0x00070007\n"
        "add r1, r1, #36\n"
        "0:\n"
        "ldr r0, [sp, #32]\n"
        "mov r4, #0\n"
        "mov r5, #0\n"
        "ldr r0, [r0, #12]\n"
        "strd r4, r5, [sp]\n"
        "strd r4, r5, [sp, #8]\n"
        "strd r4, r5, [sp, #16]\n"
        "strd r4, r5, [sp, #24]\n"
        "1:\n"
        "ldr r2, [r0], #4\n"
        "mov r11, r2\n"
        "mov r12, r2\n"
        "mov lr, r2\n"
        "cmp r3, r3\n"
        "2:\n"
        TP3_8(MLA, "r0", "r2") TP3_8(MLA, "r0", "r2")
        // twice: the flags tell the turn, and nothing above sets them
        "bne 3f\n"
        "cmp r3, #0\n"
        "b 2b\n"
        "3:\n"
        "ldrsb r4, [r1, #-52]\n"
        "ldrsb r5, [r1, #-51]\n"
        "ldrsb r6, [r1, #-50]\n"
        "ldrsb r7, [r1, #-49]\n"
        "ldrd r8, r9, [sp]\n"
        "asr r2, r2, #16\n"
        "asr r11, r11, #16\n"
        "asr r12, r12, #16\n"
        "asr lr, lr, #16\n"
        "mla r2, r2, r4, r8\n"
        "mla r11, r11, r5, r9\n"
        "ldrd r8, r9, [sp, #8]\n"
        "ldr r4, [r0], #4\n"
        "adds r1, #36\n"
        "mla r12, r12, r6, r8\n"
        "mla lr, lr, r7, r9\n"
        "strd r2, r11, [sp]\n"
        "strd r12, lr, [sp, #8]\n"
        "cmp r4, #0\n"
        "beq 1b\n"
        "add r10, sp, #16\n"
        "ldmia r10, {r5-r8}\n"
        "asr r2, r2, r4\n"
        "asr r11, r11, r4\n"
        "asr r12, r12, r4\n"
        "asr lr, lr, r4\n"
        "add r5, r5, r2\n"
        "add r6, r6, r11\n"
        "add r7, r7, r12\n"
        "add r8, r8, lr\n"
        "stmia r10, {r5-r8}\n"
        "mov r2, #0\n"
        "mov r4, #0\n"
        "strd r2, r4, [sp]\n"
        "strd r2, r4, [sp, #8]\n"
        "bgt 1b\n"
        "ldr r0, [sp, #32]\n"
        "ldr r2, [r0]\n"
        "ldr r4, [r0, #20]\n"
        "stmia r2!, {r5-r8}\n"
        "add r1, r1, #16\n"
        "str r2, [r0]\n"
        "subs r4, #1\n"
        "str r4, [r0, #20]\n"
        "bne 0b\n"
        "add sp, #32\n"
        "pop {r0, r4-r11, pc}\n"
        );
}

#define Q4_K_WORD(row, a, b) \
    "ldr r12, [" row "], #4\n" \
    "and lr, r0, r12\n" \
    "mla " a ", lr, r4, " a "\n" \
    "and lr, r0, r12, lsr #4\n" \
    "mla " b ", lr, r5, " b "\n" \
    "and lr, r0, r12, lsr #8\n" \
    "mla " a ", lr, r6, " a "\n" \
    "and lr, r0, r12, lsr #12\n" \
    "mla " b ", lr, r7, " b "\n"
#define Q4_K_8 \
    "ldmia r3!, {r4-r7}\n" \
    Q4_K_WORD("r1", "r8", "r9") \
    Q4_K_WORD("r2", "r10", "r11")

// Q4_K, two rows, a block of 256 columns (see q4_k_products in k_quants.h).
//   r0 mask; r1 r2 rows; r3 x; r4 to r7 activations; r8 to r11 sums; r12 lr weights
//   [sp] where the sums go; [sp, #4] turns left
__attribute__((naked, noinline))
static void q4_k_products(uint32_t *sums, const uint8_t *w, size_t stride, const uint32_t *x) {
    __asm volatile (
        ".syntax unified\n"
        "push {r2-r11, lr}\n"
        "movs r4, #4\n"
        "strd r0, r4, [sp]\n"
        "add r2, r1\n"
        "mov r0, #0x000f000f\n"
        "1:\n"
        "ldmia r3!, {r8, r9}\n"
        "mov r10, r8\n"
        "mov r11, r9\n"
        Q4_K_8 Q4_K_8 Q4_K_8 Q4_K_8 Q4_K_8 Q4_K_8 Q4_K_8 Q4_K_8
        "ldrd r4, r5, [sp]\n"
        "stmia r4!, {r8-r11}\n"
        "subs r5, #1\n"
        "strd r4, r5, [sp]\n"
        "bne 1b\n"
        "pop {r2-r11, pc}\n"
        );
}

// clang-format on

#include "scalar_rows.h"

#endif
