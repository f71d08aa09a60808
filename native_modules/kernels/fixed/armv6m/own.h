// Part of armv6m.c: our own types, TP2 and TPT in two pairs of rows, TP3 in four rows.
#ifndef TP_ARMV6M_OWN_H
#define TP_ARMV6M_OWN_H

#include "frame.h"

// clang-format off

// TP2 and TPT, two pairs of rows.
//   r0 x; r1 blocks of the first pair; r2 r4 activations; r3 mask; r5 r6 weights
//   r8 to r11 dot products; r12 lr sums of groups of the second pair
// The stack within a row:
//   0 and 4     sums of groups of the first pair
//   8 to 20     sums of the rows
//   24 and 28   what is added to r1 / 8 for the scales of each pair, which advance by 2 bytes as blocks do by 16
//   32 and 36   what is added to 24 and 28, and to r1, for the next two pairs
//   40, 44      stride, x
//   48, 52      where the sums of the rows go, and the end of them
// Between rows the first 24 bytes are not there.
#define PAIR_WORDS \
    "ldr r6, [sp, #40]\n" \
    "ldr r6, [r1, r6]\n" \
    "ldmia r1!, {r5}\n"
#define PAIR_LAST(x, add) \
    "ands r5, r3\n" \
    "ands r6, r3\n" \
    "muls r5, " x ", r5\n" \
    "muls r6, " x ", r6\n" \
    "add r9, r5\n" \
    add
// Sixteen columns. r4 holds the first activations; at the end it holds those after the last.
#define PAIR_16(add) \
    PAIR_WORDS \
    PAIR_A(LEFT_2, "r4") PAIR_B(RIGHT_12, "r4") \
    XX PAIR_A(RIGHT_2, "r2") PAIR_A(RIGHT_6, "r4") \
    XX PAIR_B(RIGHT_4, "r2") PAIR_A(RIGHT_10, "r4") \
    XX PAIR_B(RIGHT_8, "r2") PAIR_LAST("r4", "add r11, r6\n") \
    PAIR_WORDS \
    XX PAIR_A(LEFT_2, "r2") PAIR_B(RIGHT_12, "r2") PAIR_A(RIGHT_2, "r4") \
    XX PAIR_A(RIGHT_6, "r2") PAIR_B(RIGHT_4, "r4") \
    XX PAIR_A(RIGHT_10, "r2") PAIR_B(RIGHT_8, "r4") \
    XX PAIR_LAST("r2", add)

// Adds the sum of a group, in value, to that of its row.
#define OWN_GROUP(value, at) \
    "ldr r6, [sp, #" at "]\n" \
    "asrs " value ", r7\n" \
    "adds r6, " value "\n" \
    "str r6, [sp, #" at "]\n"

__attribute__((naked, noinline))
static void pair_rows(tp_rows_t *rows) {
    __asm volatile (
        PUSH
        "ldr r1, [r0, #4]\n"
        "ldr r2, [r0, #8]\n"
        "ldr r4, [r0, #24]\n"
        // twice the stride, less a pair's blocks: which is all of it but 8 bytes and the scales
        "subs r7, r1, r4\n"
        "adds r7, #8\n"
        "adds r7, r7, r2\n"
        "lsrs r3, r1, #3\n"
        "subs r4, r4, r3\n"
        "subs r4, #2\n"
        "adds r5, r4, r2\n"
        "lsls r6, r2, #1\n"
        "lsrs r3, r2, #2\n"
        "subs r6, r6, r3\n"
        "sub sp, #32\n"
        "mov r3, sp\n"
        "stmia r3!, {r4-r7}\n"
        "ldr r4, [r0, #12]\n"
        "ldr r5, [r0]\n"
        "ldr r6, [r0, #20]\n"
        "lsls r6, r6, #4\n"
        "adds r6, r6, r5\n"
        "stmia r3!, {r2, r4-r6}\n"
        "movs r3, #12\n"
        "lsls r4, r3, #16\n"
        "orrs r3, r4\n"
        "0:\n"
        "ldr r0, [sp, #20]\n"
        "movs r4, #0\n"
        "movs r5, #0\n"
        "mov r12, r4\n"
        "mov lr, r4\n"
        "push {r4, r5}\npush {r4, r5}\npush {r4, r5}\n"
        "1:\n"
        XX
        "mov r8, r2\n"
        "mov r9, r2\n"
        "mov r10, r2\n"
        "mov r11, r2\n"
        PAIR_16("add r11, r6\n")
        PAIR_16("add r6, r11\n")
        "lsrs r2, r1, #3\n"
        "ldr r7, [sp, #28]\n"
        "ldrsh r7, [r7, r2]\n"
        "asrs r6, r6, #16\n"
        "asrs r5, r7, #8\n"
        "muls r6, r5, r6\n"
        "add lr, r6\n"
        "mov r6, r10\n"
        "asrs r6, r6, #16\n"
        "sxtb r7, r7\n"
        "muls r6, r7, r6\n"
        "add r12, r6\n"
        "ldr r7, [sp, #24]\n"
        "ldrsh r7, [r7, r2]\n"
        "mov r5, r8\n"
        "asrs r5, r5, #16\n"
        "sxtb r6, r7\n"
        "muls r5, r6, r5\n"
        "mov r6, r9\n"
        "asrs r6, r6, #16\n"
        "asrs r7, r7, #8\n"
        "muls r6, r7, r6\n"
        "pop {r2, r7}\n"
        "adds r2, r2, r5\n"
        "adds r5, r7, r6\n"
        "cmp r4, #0\n"
        "bne 6f\n"
        "push {r2, r5}\n"
        "b 1b\n"
        // adds the sums of a group to those of the rows
        "6:\n"
        "bmi 6f\n"
        "asrs r2, r4\n"
        "asrs r5, r4\n"
        "pop {r6, r7}\n"
        "adds r2, r2, r6\n"
        "adds r5, r5, r7\n"
        "mov r6, r12\n"
        "mov r7, lr\n"
        "asrs r6, r4\n"
        "asrs r7, r4\n"
        "pop {r4}\n"
        "adds r6, r6, r4\n"
        "pop {r4}\n"
        "adds r7, r7, r4\n"
        "push {r2, r5, r6, r7}\n"
        "movs r4, #0\n"
        "movs r5, #0\n"
        "mov r12, r4\n"
        "mov lr, r4\n"
        "push {r4, r5}\n"
        "b 1b\n"
        // the same of the last group
        "6:\n"
        "mov r6, r12\n"
        "mov r7, lr\n"
        "asrs r2, r4\n"
        "asrs r5, r4\n"
        "asrs r6, r4\n"
        "asrs r7, r4\n"
        "pop {r0, r4}\n"
        "adds r2, r2, r0\n"
        "adds r5, r5, r4\n"
        "pop {r0, r4}\n"
        "adds r6, r6, r0\n"
        "adds r7, r7, r4\n"
        "ldr r0, [sp, #24]\n"
        "ldr r4, [sp, #28]\n"
        "stmia r0!, {r2, r5, r6, r7}\n"
        "str r0, [sp, #24]\n"
        "cmp r0, r4\n"
        "beq 6f\n"
        "pop {r4-r7}\n"
        "adds r4, r4, r6\n"
        "adds r5, r5, r6\n"
        "adds r1, r1, r7\n"
        "push {r4-r7}\n"
        "b 0b\n"
        "6:\n"
        "add sp, #32\n"
        POP
        );
}

// TP3, four rows.
//   r0 x; r1 w; r3 mask; r2 r4 activations; r2 r5 r6 weights; r8 to r11 dot products; r12 end of the columns
//   lr mask of the fourth row's bits; [sp] sums of groups; [sp, #16] sums of the rows; [sp, #32] tp_rows_t
#define TP3_SCALE(scale, dot) \
    "mov r7, " dot "\n" \
    "asrs r7, r7, #16\n" \
    "muls " scale ", r7, " scale "\n"
#define TP3_2(shift) X shift("r2", "r8", "r4") shift("r5", "r9", "r4") shift("r6", "r10", "r4")

__attribute__((naked, noinline))
static void tp3_rows(tp_rows_t *rows) {
    __asm volatile (
        PUSH
        "sub sp, #36\n"
        "str r0, [sp, #32]\n"
        "ldr r1, [r0, #4]\n"
        "movs r3, #0xc0\n"
        "lsls r4, r3, #8\n"
        "orrs r3, r4\n"
        "lsls r4, r3, #16\n"
        "orrs r3, r4\n"
        "mov lr, r3\n"
        "movs r3, #7\n"
        "lsls r4, r3, #16\n"
        "orrs r3, r4\n"
        "0:\n"
        "ldr r0, [sp, #32]\n"
        "ldr r0, [r0, #12]\n"
        "movs r4, #0\n"
        "str r4, [sp]\nstr r4, [sp, #4]\nstr r4, [sp, #8]\nstr r4, [sp, #12]\n"
        "str r4, [sp, #16]\nstr r4, [sp, #20]\nstr r4, [sp, #24]\nstr r4, [sp, #28]\n"
        "1:\n"
        X
        "mov r8, r4\n"
        "mov r9, r4\n"
        "mov r10, r4\n"
        "mov r11, r4\n"
        "movs r4, #16\n"
        "add r4, r1\n"
        "mov r12, r4\n"
        "2:\n"
        "ldr r2, [r1, #4]\n"
        "ldr r5, [r1, #20]\n"
        "ldr r6, [r1, #36]\n"
        TP3_2(RIGHT_0) TP3_2(RIGHT_3) TP3_2(RIGHT_8) TP3_2(RIGHT_11)
        // the fourth row's word
        "mov r4, lr\n"
        "ands r2, r4\n"
        "ands r5, r4\n"
        "ands r6, r4\n"
        "lsrs r2, r2, #2\n"
        "orrs r5, r2\n"
        "lsrs r5, r5, #2\n"
        "orrs r6, r5\n"
        "subs r0, #16\n"
        XX RIGHT_2("r6", "r11", "r2") RIGHT_5("r6", "r11", "r4")
        XX RIGHT_10("r6", "r11", "r2") RIGHT_13("r6", "r11", "r4")
        "adds r1, #4\n"
        "cmp r1, r12\n"
        "bne 2b\n"
        // scales
        "subs r1, #16\n"
        "ldr r6, [r1]\n"
        "adds r1, #52\n"
        "sxtb r2, r6\n"
        "asrs r6, r6, #8\n"
        "sxtb r4, r6\n"
        "asrs r6, r6, #8\n"
        "sxtb r5, r6\n"
        "asrs r6, r6, #8\n"
        TP3_SCALE("r2", "r8") TP3_SCALE("r4", "r9") TP3_SCALE("r5", "r10") TP3_SCALE("r6", "r11")
        "mov r8, r3\n"
        "pop {r3, r7}\n"
        "adds r2, r2, r3\n"
        "adds r4, r4, r7\n"
        "pop {r3, r7}\n"
        "adds r5, r5, r3\n"
        "adds r6, r6, r7\n"
        "push {r2, r4, r5, r6}\n"
        "mov r3, r8\n"
        "ldmia r0!, {r7}\n"
        "cmp r7, #0\n"
        FAR("ne", "1b")
        "mov r8, r6\n"
        OWN_GROUP("r2", "16") OWN_GROUP("r4", "20") OWN_GROUP("r5", "24")
        "mov r5, r8\n"
        OWN_GROUP("r5", "28")
        "movs r4, #0\n"
        "str r4, [sp]\nstr r4, [sp, #4]\nstr r4, [sp, #8]\nstr r4, [sp, #12]\n"
        "cmp r7, #0\n"
        FAR("le", "1b")
        "add r7, sp, #16\n"
        "ldmia r7!, {r2, r4, r5, r6}\n"
        "ldr r0, [sp, #32]\n"
        "ldr r7, [r0]\n"
        "stmia r7!, {r2, r4, r5, r6}\n"
        "str r7, [r0]\n"
        "adds r1, #16\n"
        "ldr r4, [r0, #20]\n"
        "subs r4, #1\n"
        "str r4, [r0, #20]\n"
        FAR("eq", "0b")
        "add sp, #36\n"
        POP
        );
}

// clang-format on

#endif
