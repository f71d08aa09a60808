// Armv7-M (Cortex-M3): AND with a shifted operand and MLA, two weights at a time; see scalar.h.
//
// Q8_0: SMLAL takes two products at once. Of the bytes of a word the first and the last, 24 bits
// apart (0xff0000ff), or the two others after a rotation by 16, make w + 2^24 * W, and x * 2^24 + X
// the activations' word:
//   (w + 2^24 * W) * (x * 2^24 + X) = w * X + (w * x + W * X) * 2^24 + W * x * 2^48.
// Of a block's sum, 64 bits, bits 24 to 47 are the dot product: below it a sum of 16 products that
// needs 20 bits, above it what is of no interest. W is signed as it lies; w is made w + 128 (0 to 255)
// by turning its top bit, which is taken off in what the sum begins with: -128 * sum(x) * 2^24, and
// 2^23 so that what lies below stays above 0.
#include "../isa.h"

#if defined(TP_PATH_FIXED) && defined(TP_ISA_ARMV7M)

const char tp_kernels_variant[] = "armv7m";

#define TP_ROWS (2)
#define TP_ALIGNED (0)
#define TP_Q8_WORDS (18) // what a sum begins with, and 16 pairs
#include "scalar.h"

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

// Naked functions hold assembly alone: the compiler does not see that it uses their parameters.
#pragma GCC diagnostic ignored "-Wunused-parameter"

// Naked, for they need the registers as a whole.
//   r0 x, r1 r2 rows 0 and 1, r3 mask, r10 r11 sums of rows; [sp] tp_rows_t.
//   Q4_0: r4 r9 dot products of rows 0 and 1, r5 to r8 activations, r12 lr weights.
//   Q8_0: r4 r5, r6 r7 dot products, r8 r9 activations, r12 lr weights.
#define ENTER \
    ".syntax unified\n" \
    "push {r0, r4-r11, lr}\n" \
    "ldr r1, [r0, #4]\n" \
    "ldr r2, [r0, #8]\n" \
    "adds r1, #2\n" \
    "adds r2, r2, r1\n" \
    "0:\n" \
    "ldr r0, [r0, #12]\n" \
    "mov r10, #0\n" \
    "mov r11, #0\n"

#define LEAVE \
    "ldr r0, [sp]\n" \
    "ldr r4, [r0]\n" \
    "ldr r5, [r0, #20]\n" \
    "ldr r6, [r0, #8]\n" \
    "stmia r4!, {r10, r11}\n" \
    "subs r5, #1\n" \
    "str r4, [r0]\n" \
    "str r5, [r0, #20]\n" \
    "mov r1, r2\n" \
    "add r2, r2, r6\n" \
    "bne 0b\n" \
    "pop {r0, r4-r11, pc}\n" \
    SUBNORMAL("2", "3") \
    SUBNORMAL("4", "5")

// sum += dot * scale, halved r5 - its exponent times, flags by that difference. r12 is 1024 but for
// the bits of the last mantissa. dot: where the dot product is, bring: what brings it there.
#define SCALE(dot, bring, scale, sum, subnormal, back) \
    "ubfx r6, " scale ", #10, #5\n" \
    "bfi r12, " scale ", #0, #10\n" \
    bring \
    "eor lr, r12, " scale ", asr #31\n" \
    "cbz r6, " subnormal "f\n" \
    back ":\n" \
    "sub lr, lr, " scale ", asr #31\n" \
    "mul lr, lr, " dot "\n" \
    "subs r6, r5, r6\n" \
    "asr lr, lr, r6\n" \
    "add " sum ", " sum ", lr\n"

// A scale of exponent 0 has no leading bit and counts as one of exponent 1.
#define SUBNORMAL(here, back) \
    here ":\n" \
    "eor lr, lr, #1024\n" \
    "movs r6, #1\n" \
    "b " back "b\n"

#define Q4(sum, from) \
    "and lr, r3, r12\n" \
    "mla " sum ", lr, r5, " from "\n" \
    "and lr, r3, r12, lsr #4\n" \
    "mla " sum ", lr, r6, " sum "\n" \
    "and lr, r3, r12, lsr #8\n" \
    "mla " sum ", lr, r7, " sum "\n" \
    "and r12, r3, r12, lsr #12\n" \
    "mla " sum ", r12, r8, " sum "\n"

// Eight weights of two rows; row 0 comes last because r4 is what both begin with.
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

static void tp_rows(uint32_t type, int pairs, uint32_t shift, tp_rows_t *rows) {
    (void)pairs;
    (void)shift;
    if (type == TP_Q4_0) {
        q4_0_rows(rows);
    } else {
        q8_0_rows(rows);
    }
}

#endif
