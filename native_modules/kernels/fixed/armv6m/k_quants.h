// Part of armv6m.c: Q4_K, two rows at a time.
#ifndef TP_ARMV6M_K_QUANTS_H
#define TP_ARMV6M_K_QUANTS_H

#include "frame.h"

// clang-format off

#define Q4_K_8 \
    "ldr r6, [sp, #4]\n" \
    "ldr r6, [r1, r6]\n" \
    "ldmia r1!, {r5}\n" \
    XX PAIR_A(RIGHT_0, "r2") PAIR_B(RIGHT_4, "r4") XX PAIR_A(RIGHT_8, "r2") PAIR_B(RIGHT_12, "r4")

// Q4_K, two rows, a block of 256 columns (see q4_k_products in k_quants.h).
//   r0 x; r1 first row; r2 r4 activations; r3 mask; r5 r6 weights; r8 to r11 sums; r12 where the sums go
//   [sp] turns left; [sp, #4] stride
__attribute__((naked, noinline))
static void q4_k_products(uint32_t *sums, const uint8_t *w, size_t stride, const uint32_t *x) {
    __asm volatile (
        PUSH
        "sub sp, #8\n"
        "str r2, [sp, #4]\n"
        "mov r12, r0\n"
        "mov r0, r3\n"
        "movs r3, #4\n"
        "str r3, [sp]\n"
        "movs r3, #15\n"
        "lsls r4, r3, #16\n"
        "orrs r3, r4\n"
        "1:\n"
        "ldmia r0!, {r4, r5}\n"
        "mov r8, r4\n"
        "mov r9, r5\n"
        "mov r10, r4\n"
        "mov r11, r5\n"
        Q4_K_8 Q4_K_8 Q4_K_8 Q4_K_8 Q4_K_8 Q4_K_8 Q4_K_8 Q4_K_8
        "mov r4, r8\n"
        "mov r5, r9\n"
        "mov r6, r10\n"
        "mov r7, r11\n"
        "push {r0}\n"
        "mov r0, r12\n"
        "stmia r0!, {r4-r7}\n"
        "mov r12, r0\n"
        "pop {r0}\n"
        "ldr r4, [sp]\n"
        "subs r4, #1\n"
        "str r4, [sp]\n"
        FAR("eq", "1b")
        "add sp, #8\n"
        POP
        );
}

// clang-format on

#endif
