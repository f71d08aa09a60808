// Part of armv6m.c: Q4_0, two rows at a time, and Q8_0, four rows at a time.
#ifndef TP_ARMV6M_Q4_Q8_H
#define TP_ARMV6M_Q4_Q8_H

#include "frame.h"

// clang-format off

// Q4_0, two rows.
//   r0 x; r1 r2 rows; r3 mask; r4 activations; r5 r6 weights; r8 r9 dot products; r10 r11 sums of the rows
//   lr tp_rows_t
#define Q4_ENTER \
    PUSH \
    "mov lr, r0\n" \
    "ldr r1, [r0, #4]\n" \
    "ldr r2, [r0, #8]\n" \
    "adds r2, r1, r2\n" \
    "movs r3, #15\n" \
    "lsls r4, r3, #16\n" \
    "orrs r3, r4\n" \
    "0:\n" \
    "mov r0, lr\n" \
    "ldr r0, [r0, #12]\n" \
    "movs r4, #0\n" \
    "mov r10, r4\n" \
    "mov r11, r4\n" \
    "1:\n"

// The end of a block that may be the last one. w: bytes by which the rows move on.
#define Q4_LEAVE(w) \
    "ldmia r0!, {r7}\n" \
    "adds r1, #" w "\n" \
    "adds r2, #" w "\n" \
    "cmp r7, #0\n" \
    "blt 6f\n" \
    "b 1b\n" \
    "6:\n" \
    "mov r7, lr\n" \
    "ldr r4, [r7]\n" \
    "mov r5, r10\n" \
    "mov r6, r11\n" \
    "stmia r4!, {r5, r6}\n" \
    "str r4, [r7]\n" \
    "ldr r5, [r7, #8]\n" \
    "mov r1, r2\n" \
    "adds r2, r2, r5\n" \
    "ldr r4, [r7, #20]\n" \
    "subs r4, #1\n" \
    "str r4, [r7, #20]\n" \
    "beq 6f\n" \
    "b 0b\n" \
    "6:\n" \
    POP

#define Q4_PAIRS(first, second) \
    "ldmia r0!, {r4}\n" \
    first \
    "ands r7, r3\n" \
    "muls r7, r4, r7\n" \
    "add r8, r7\n" \
    second \
    "ands r7, r3\n" \
    "muls r7, r4, r7\n" \
    "add r9, r7\n"

// Eight weights of both rows. LOAD loads a word of weights, at: bytes from the start of the
// block, in one of three ways:
//   WHOLE   the word is aligned
//   ENDS    the word is made of the first and the last halfword of the block
//   HALVES  the word is made of two halfwords
#define Q4_ROWS(LOAD, at) \
    LOAD("r5", "r1", at) \
    LOAD("r6", "r2", at) \
    Q4_PAIRS("movs r7, r5\n", "movs r7, r6\n") \
    Q4_PAIRS("lsrs r7, r5, #4\n", "lsrs r7, r6, #4\n") \
    Q4_PAIRS("lsrs r7, r5, #8\n", "lsrs r7, r6, #8\n") \
    Q4_PAIRS("lsrs r7, r5, #12\n", "lsrs r7, r6, #12\n")

#define WHOLE(to, row, at) "ldr " to ", [" row ", #" at "]\n"
#define ENDS(to, row, at) \
    "ldrh " to ", [" row ", #2]\n" \
    "ldrh r7, [" row ", #16]\n" \
    "lsls r7, r7, #16\n" \
    "orrs " to ", r7\n"
#define HALVES(to, row, at) \
    "ldrh " to ", [" row ", #" at "]\n" \
    "ldrh r7, [" row ", #2+" at "]\n" \
    "lsls r7, r7, #16\n" \
    "orrs " to ", r7\n"

#define Q4_BEGIN \
    "ldmia r0!, {r4}\n" \
    "mov r8, r4\n" \
    "mov r9, r4\n"

// scale = fp16 scale * dot product, in the row's units. scale: register of the fp16, sign-extended; value: register of
// the dot product; e, t: free registers; bring: loads the block's shift, less 1, into shift.
#define SCALE(scale, value, e, t, bring, shift) \
    "asrs " e ", " scale ", #10\n" \
    "bgt 4f\n" \
    "beq 3f\n" \
    "rsbs " value ", " value ", #0\n" \
    "subs " e ", #1\n" \
    "lsls " t ", " e ", #10\n" \
    "subs " scale ", " scale ", " t "\n" \
    "adds " e ", #32\n" \
    "bpl 5f\n" \
    "lsls " scale ", " scale ", #22\n" \
    "lsrs " scale ", " scale ", #22\n" \
    "3:\n" \
    "movs " e ", #0\n" \
    "b 5f\n" \
    "4:\n" \
    "subs " e ", #1\n" \
    "lsls " t ", " e ", #10\n" \
    "subs " scale ", " scale ", " t "\n" \
    "5:\n" \
    "muls " scale ", " value ", " scale "\n" \
    bring \
    "subs " e ", " shift ", " e "\n" \
    "asrs " scale ", " e "\n"

#define Q4_SCALE(row, dot, sum) \
    "ldrsh r4, [" row ", r7]\n" \
    "mov r7, " dot "\n" \
    "asrs r7, r7, #16\n" \
    SCALE("r4", "r7", "r5", "r6", "ldr r6, [r0]\n", "r6") \
    "add " sum ", r4\n"

#define Q4_SCALES(at) \
    "movs r7, #" at "\n" \
    Q4_SCALE("r1", "r8", "r10") \
    "movs r7, #" at "\n" \
    Q4_SCALE("r2", "r9", "r11")

__attribute__((naked, noinline))
static void q4_0_pairs(tp_rows_t *rows) {
    __asm volatile (
        Q4_ENTER
        Q4_BEGIN
        Q4_ROWS(ENDS, "0") Q4_ROWS(WHOLE, "4") Q4_ROWS(WHOLE, "8") Q4_ROWS(WHOLE, "12")
        Q4_SCALES("0")
        "adds r0, #4\n"
        Q4_BEGIN
        Q4_ROWS(WHOLE, "20") Q4_ROWS(WHOLE, "24") Q4_ROWS(WHOLE, "28") Q4_ROWS(WHOLE, "32")
        Q4_SCALES("18")
        Q4_LEAVE("36")
        );
}

__attribute__((naked, noinline))
static void q4_0_rows(tp_rows_t *rows) {
    __asm volatile (
        Q4_ENTER
        Q4_BEGIN
        Q4_ROWS(HALVES, "2") Q4_ROWS(HALVES, "6") Q4_ROWS(HALVES, "10") Q4_ROWS(HALVES, "14")
        Q4_SCALES("0")
        Q4_LEAVE("18")
        );
}

// Q8_0, four rows.
//   r0 offset in the rows and in x; r1 x; r2 to r5 rows; r6 activation; r8 to r11 dot products
//   at the end of a block: r12 x; lr offset
//   [sp] sums of the rows; [sp, #16] rows; [sp, #32] tp_rows_t
#define Q8_ROW(row, add) \
    "ldrsb r7, [" row ", r0]\n" \
    "muls r7, r6, r7\n" \
    add ", r7\n"
#define Q8_COLUMN(add) \
    "ldrsb r6, [r1, r0]\n" \
    Q8_ROW("r2", add " r8") \
    Q8_ROW("r3", add " r9") \
    Q8_ROW("r4", add " r10") \
    Q8_ROW("r5", add " r11") \
    "adds r0, #1\n"
#define Q8_4 Q8_COLUMN("add") Q8_COLUMN("add") Q8_COLUMN("add") Q8_COLUMN("add")

// r0: free; r1: the shift of the block.
#define Q8_SCALE(scale, dot) \
    "mov r7, " dot "\n" \
    SCALE(scale, "r7", "r6", "r0", "", "r1")

__attribute__((naked, noinline))
static void q8_0_rows(tp_rows_t *rows) {
    __asm volatile (
        PUSH
        "ldr r2, [r0, #4]\n"
        "ldr r5, [r0, #8]\n"
        "adds r3, r2, r5\n"
        "adds r4, r3, r5\n"
        "adds r5, r4, r5\n"
        "0:\n"
        "push {r0}\n"
        "push {r2-r5}\n"
        "ldr r1, [r0, #12]\n"
        "movs r6, #0\n"
        "sub sp, #16\n"
        "str r6, [sp]\nstr r6, [sp, #4]\nstr r6, [sp, #8]\nstr r6, [sp, #12]\n"
        "subs r1, #2\n"
        "movs r0, #2\n"
        "1:\n"
        Q8_COLUMN("mov")
        Q8_COLUMN("add") Q8_COLUMN("add") Q8_COLUMN("add")
        Q8_4 Q8_4 Q8_4 Q8_4 Q8_4 Q8_4 Q8_4
        "mov r12, r1\n"
        "mov lr, r0\n"
        "ldr r1, [r1, r0]\n"
        "subs r0, #34\n"
        "ldrsh r2, [r2, r0]\n"
        "ldrsh r3, [r3, r0]\n"
        "ldrsh r4, [r4, r0]\n"
        "ldrsh r5, [r5, r0]\n"
        Q8_SCALE("r2", "r8")
        Q8_SCALE("r3", "r9")
        Q8_SCALE("r4", "r10")
        Q8_SCALE("r5", "r11")
        "mov r8, r1\n"
        "pop {r0, r1, r6, r7}\n"
        "adds r2, r2, r0\n"
        "adds r3, r3, r1\n"
        "adds r4, r4, r6\n"
        "adds r5, r5, r7\n"
        "push {r2-r5}\n"
        "add r7, sp, #16\n"
        "ldmia r7!, {r2-r5}\n"
        "mov r1, r12\n"
        "mov r0, lr\n"
        "adds r1, #2\n"
        "mov r6, r8\n"
        "adds r0, #2\n"
        "cmp r6, #0\n"
        "blt 6f\n"
        "b 1b\n"
        "6:\n"
        // the next rows start at the end of the last one
        "subs r0, #2\n"
        "adds r5, r5, r0\n"
        "mov r12, r5\n"
        "pop {r4-r7}\n"
        "add sp, #16\n"
        "pop {r0}\n"
        "ldr r1, [r0]\n"
        "stmia r1!, {r4-r7}\n"
        "str r1, [r0]\n"
        "ldr r6, [r0, #8]\n"
        "mov r2, r12\n"
        "adds r3, r2, r6\n"
        "adds r4, r3, r6\n"
        "adds r5, r4, r6\n"
        "ldr r6, [r0, #20]\n"
        "subs r6, #1\n"
        "str r6, [r0, #20]\n"
        "beq 6f\n"
        "b 0b\n"
        "6:\n"
        POP
        );
}

// clang-format on

#endif
