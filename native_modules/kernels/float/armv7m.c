// Armv7-M (Cortex-M3): AND with a shifted operand and MLA, two weights at a time; see nofpu.h.
#include "../isa.h"

#if defined(TP_ISA_ARMV7M)

const char tp_kernels_variant[] = "armv7m";

#define TP_ROWS (2)
#include "nofpu.h"

// Naked functions hold assembly alone: the compiler does not see that it uses their parameters.
#pragma GCC diagnostic ignored "-Wunused-parameter"

// Naked, for they need the registers as a whole.
//   r0 out, r3 x, r11 blocks left, r4 r9 sums of rows 0 and 1, r5 to r8 activations, r12 lr weights.

// r1 row 0, r2 stride, r10 mask. from: the sum to add to.
#define Q4(sum, from) \
    "and lr, r10, r12\n" \
    "mla " sum ", lr, r5, " from "\n" \
    "and lr, r10, r12, lsr #4\n" \
    "mla " sum ", lr, r6, " sum "\n" \
    "and lr, r10, r12, lsr #8\n" \
    "mla " sum ", lr, r7, " sum "\n" \
    "and r12, r10, r12, lsr #12\n" \
    "mla " sum ", r12, r8, " sum "\n"

// Eight weights of two rows; row 0 comes last because r4 is what both begin with.
#define Q4_ROWS(from, step) \
    "ldr r12, [r1, r2]\n" \
    Q4("r9", from) \
    "ldr r12, [r1], " step "\n" \
    Q4("r4", "r4")

__attribute__((naked, noinline))
static void q4_0_dots(int32_t *out, const uint8_t *w, size_t stride, const uint32_t *x, uint32_t blocks) {
    __asm volatile (
        ".syntax unified\n"
        "push {r4-r11, lr}\n"
        "ldr r11, [sp, #36]\n"
        "mov r10, #0x000f000f\n"
        "adds r1, #2\n"
        "1:\n"
        "ldmia r3!, {r4-r8}\n"
        Q4_ROWS("r4", "#4")
        "ldmia r3!, {r5-r8}\n"
        Q4_ROWS("r9", "#4")
        "ldmia r3!, {r5-r8}\n"
        Q4_ROWS("r9", "#4")
        "ldmia r3!, {r5-r8}\n"
        Q4_ROWS("r9", "#6")
        "asrs r4, r4, #16\n"
        "asr r9, r9, #16\n"
        "stmia r0!, {r4, r9}\n"
        "subs r11, #1\n"
        "bne 1b\n"
        "pop {r4-r11, pc}\n"
        );
}

// r1 row 0, r2 row 1. Four weights of each.
#define Q8_ROWS(step) \
    "ldmia r3!, {r5-r8}\n" \
    "ldrsb r12, [r2], #1\n" \
    "mla r9, r12, r5, r9\n" \
    "ldrsb r12, [r1], #1\n" \
    "mla r4, r12, r5, r4\n" \
    "ldrsb r12, [r2], #1\n" \
    "mla r9, r12, r6, r9\n" \
    "ldrsb r12, [r1], #1\n" \
    "mla r4, r12, r6, r4\n" \
    "ldrsb r12, [r2], #1\n" \
    "mla r9, r12, r7, r9\n" \
    "ldrsb r12, [r1], #1\n" \
    "mla r4, r12, r7, r4\n" \
    "ldrsb r12, [r2], " step "\n" \
    "mla r9, r12, r8, r9\n" \
    "ldrsb r12, [r1], " step "\n" \
    "mla r4, r12, r8, r4\n"

__attribute__((naked, noinline))
static void q8_0_dots(int32_t *out, const uint8_t *w, size_t stride, const uint32_t *x, uint32_t blocks) {
    __asm volatile (
        ".syntax unified\n"
        "push {r4-r11, lr}\n"
        "ldr r11, [sp, #36]\n"
        "adds r1, #2\n"
        "adds r2, r2, r1\n"
        "1:\n"
        "movs r4, #0\n"
        "mov r9, #0\n"
        Q8_ROWS("#1")
        Q8_ROWS("#1")
        Q8_ROWS("#1")
        Q8_ROWS("#1")
        Q8_ROWS("#1")
        Q8_ROWS("#1")
        Q8_ROWS("#1")
        Q8_ROWS("#3")
        "stmia r0!, {r4, r9}\n"
        "subs r11, #1\n"
        "bne 1b\n"
        "pop {r4-r11, pc}\n"
        );
}

static void tp_dots(uint32_t type, int32_t *out, const uint8_t *w, size_t stride, const uint32_t *x,
    uint32_t blocks) {
    if (type == TP_Q4_0) {
        q4_0_dots(out, w, stride, x, blocks);
    } else {
        q8_0_dots(out, w, stride, x, blocks);
    }
}

#endif
