// Armv6-M (Cortex-M0, M0+): shift, AND, MUL and ADD, two weights at a time; see scalar.h. Eight
// registers do all the work, the others hold what is added to.
#include "../isa.h"

#if defined(TP_PATH_FIXED) && defined(TP_ISA_ARMV6M)

const char tp_kernels_variant[] = "armv6m";

#define TP_ROWS(type) ((type) == TP_Q4_0 ? 2 : 4)
#define TP_Q4_K_ROWS (2)
#define TP_ALIGNED (1)
#define TP_LESS (1)
#define TP_PAIRS (TP_PAIRS_BOTH_WAYS)
#define TP_Q8_WORDS (TP_BLOCK / 4) // bytes as they are
#include "scalar.h"

static void tp_put_q8_0(uint32_t *to, const int8_t *q) {
    for (uint32_t j = 0; j < TP_BLOCK; ++j) {
        ((int8_t *)to)[j] = q[j];
    }
}

// Naked functions hold assembly alone: the compiler does not see that it uses their parameters.
#pragma GCC diagnostic ignored "-Wunused-parameter"

// Naked, for they need the registers as a whole.
#define PUSH \
    ".syntax unified\n" \
    "push {r4-r7, lr}\n" \
    "mov r4, r8\n" \
    "mov r5, r9\n" \
    "mov r6, r10\n" \
    "mov r7, r11\n" \
    "push {r4-r7}\n"
#define POP \
    "pop {r4-r7}\n" \
    "mov r8, r4\n" \
    "mov r9, r5\n" \
    "mov r10, r6\n" \
    "mov r11, r7\n" \
    "pop {r4-r7, pc}\n"

// Q4_0, rows in twos: r0 x, r1 r2 rows, r3 mask, r4 activations, r5 r6 weights; r8 r9 dot products,
// r10 r11 sums of rows, lr tp_rows_t.
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

// After a block that may be the last: x and rows go on by so many bytes.
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

// Eight weights of both rows. LOAD: as in rv32.c.
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

// scale (signed, becomes the result) times the dot product in value, halved as often as the exponent is
// below the shift; e, t: free registers; shift: what brings the block's shift, less 1, and where.
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
static void q4_0_blocks(tp_rows_t *rows) {
    __asm volatile (
        Q4_ENTER
        Q4_BEGIN
        Q4_ROWS(HALVES, "2") Q4_ROWS(HALVES, "6") Q4_ROWS(HALVES, "10") Q4_ROWS(HALVES, "14")
        Q4_SCALES("0")
        Q4_LEAVE("18")
        );
}

// Q8_0, four rows: r0 offset in the rows and in x, r1 x, r2 to r5 rows, r6 activation; r8 to r11 dot
// products; at a block's end r12 x and lr offset. [sp] sums of rows, [sp, #16] rows, [sp, #32] tp_rows_t.
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

// r0 t, r1 the block's shift.
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
        // from the end of the last row on
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

static void tp_rows(uint32_t type, int pairs, uint32_t shift, tp_rows_t *rows) {
    (void)shift;
    if (type == TP_Q8_0) {
        q8_0_rows(rows);
    } else if (pairs) {
        q4_0_pairs(rows);
    } else {
        q4_0_blocks(rows);
    }
}

// A branch back that may be far.
#define FAR(otherwise, to) "b" otherwise " 7f\nb " to "\n7:\n"

// Pairs in twos. Stack, within a row: 0 and 4 sums of groups of the first pair, 8 to 20 sums of rows; then, which
// between rows are 0 and on, 24 28 from an eighth of r1 to scales, which go on by 2 bytes where blocks go on by 16,
// 32 how far these go on to the next two pairs, 36 how far r1 does, 40 stride, 44 x, 48 where sums of rows go,
// 52 their end.
//   r0 x, r1 first pair, r2 r4 activations, r3 mask, r5 r6 weights; r8 to r11 dot products, r12 lr sums of
//   groups of the second pair.
#define PAIR_A(shift, x) shift("r5", "r8", x) shift("r6", "r10", x)
#define PAIR_B(shift, x) shift("r5", "r9", x) shift("r6", "r11", x)
#define LEFT_2(w, sum, x) "lsls r7, " w ", #2\n" PRODUCT(sum, x)
#define RIGHT_0(w, sum, x) "movs r7, " w "\n" PRODUCT(sum, x)
#define RIGHT_2(w, sum, x) "lsrs r7, " w ", #2\n" PRODUCT(sum, x)
#define RIGHT_3(w, sum, x) "lsrs r7, " w ", #3\n" PRODUCT(sum, x)
#define RIGHT_4(w, sum, x) "lsrs r7, " w ", #4\n" PRODUCT(sum, x)
#define RIGHT_5(w, sum, x) "lsrs r7, " w ", #5\n" PRODUCT(sum, x)
#define RIGHT_6(w, sum, x) "lsrs r7, " w ", #6\n" PRODUCT(sum, x)
#define RIGHT_8(w, sum, x) "lsrs r7, " w ", #8\n" PRODUCT(sum, x)
#define RIGHT_10(w, sum, x) "lsrs r7, " w ", #10\n" PRODUCT(sum, x)
#define RIGHT_11(w, sum, x) "lsrs r7, " w ", #11\n" PRODUCT(sum, x)
#define RIGHT_12(w, sum, x) "lsrs r7, " w ", #12\n" PRODUCT(sum, x)
#define RIGHT_13(w, sum, x) "lsrs r7, " w ", #13\n" PRODUCT(sum, x)
#define PRODUCT(sum, x) \
    "ands r7, r3\n" \
    "muls r7, " x ", r7\n" \
    "add " sum ", r7\n"
#define X "ldmia r0!, {r4}\n"
#define XX "ldmia r0!, {r2, r4}\n"

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
// Sixteen columns. The first activations are in r4; at the end those after the last are.
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

// The sum of a group in value meets that of the row.
#define OWN_GROUP(value, at) \
    "ldr r6, [sp, #" at "]\n" \
    "asrs " value ", r7\n" \
    "adds r6, " value "\n" \
    "str r6, [sp, #" at "]\n"

// To the next group of rows: r4 is tp_rows_t, r0 bytes in a group.
#define OWN_NEXT(stack) \
    "ldr r5, [r4, #4]\n" \
    "ldr r6, [r4, #24]\n" \
    "adds r5, r5, r0\n" \
    "adds r6, r6, r0\n" \
    "str r5, [r4, #4]\n" \
    "str r6, [r4, #24]\n" \
    "ldr r5, [r4, #20]\n" \
    "subs r5, #1\n" \
    "str r5, [r4, #20]\n" \
    FAR("eq", "0b") \
    "add sp, #" stack "\n" \
    POP

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
        // the sums of a group meet those of rows
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

// TP3, rows in fours. Stack: 0 sums of groups, 16 of rows, 32 tp_rows_t.
//   r0 x, r1 w, r3 mask, r2 r4 activations, r2 r5 r6 weights; r8 to r11 dot products, r12 where columns end, lr
//   mask of the fourth row's bits.
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

#define Q4_K_8 \
    "ldr r6, [sp, #4]\n" \
    "ldr r6, [r1, r6]\n" \
    "ldmia r1!, {r5}\n" \
    XX PAIR_A(RIGHT_0, "r2") PAIR_B(RIGHT_4, "r4") XX PAIR_A(RIGHT_8, "r2") PAIR_B(RIGHT_12, "r4")

// r0 x, r1 first row, r2 r4 activations, r3 mask, r5 r6 weights, r8 to r11 sums, r12 where sums go; [sp]
// times that are left, [sp, #4] stride.
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

static void tp_own_rows(uint32_t type, tp_rows_t *rows) {
    if (type == TP_TP3) {
        tp3_rows(rows);
    } else {
        pair_rows(rows);
    }
}

#endif
