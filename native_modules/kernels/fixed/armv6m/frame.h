// Part of armv6m.c: what the assembly of all types shares. The functions are naked, because they need all registers.
#ifndef TP_ARMV6M_FRAME_H
#define TP_ARMV6M_FRAME_H

// clang-format off

// Saves r4 to r11 and lr; restores them and returns.
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

// A conditional branch back to a place that may be too far for one instruction.
#define FAR(otherwise, to) "b" otherwise " 7f\nb " to "\n7:\n"

// Loads the next activation, or the next two.
#define X "ldmia r0!, {r4}\n"
#define XX "ldmia r0!, {r2, r4}\n"

// A word of weights, shifted so that the mask in r3 leaves two of them; adds their products with x to sum. Uses r7.
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

// The same for a word of each of two rows, in r5 and r6: the weights of the first sums, of the second ones.
#define PAIR_A(shift, x) shift("r5", "r8", x) shift("r6", "r10", x)
#define PAIR_B(shift, x) shift("r5", "r9", x) shift("r6", "r11", x)

// clang-format on

#endif
