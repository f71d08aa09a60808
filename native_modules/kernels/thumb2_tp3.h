// The weights of TP3 in Thumb-2 assembly, for armv7m.c and float/armv7em.c.
#ifndef TP_THUMB2_TP3_H
#define TP_THUMB2_TP3_H

// clang-format off

// Eight columns of a row. w: its word; from: bit of the first weight; sum: its dot product. MAC(w, x, sum): instruction
// that adds two products to sum. r3 mask, r4 to r7 activations, r10 weights.
#define TP3_ROW(MAC, sum, w, from) \
    "and r10, r3, " w ", lsr #" from "\n" \
    MAC("r10", "r4", sum) \
    "and r10, r3, " w ", lsr #3+" from "\n" \
    MAC("r10", "r5", sum) \
    "and r10, r3, " w ", lsr #8+" from "\n" \
    MAC("r10", "r6", sum) \
    "and r10, r3, " w ", lsr #11+" from "\n" \
    MAC("r10", "r7", sum)

// Eight columns of four rows. x: pointer to activations; sum: dot product of the first row. r1 third row's weights,
// r8 r9 weights, r11 r12 lr dot products of the others. The bits that three rows leave make the word of the fourth.
#define TP3_8(MAC, x, sum) \
    "ldmia " x "!, {r4-r7}\n" \
    "ldr r8, [r1, #-32]\n" \
    TP3_ROW(MAC, sum, "r8", "0") \
    "and r9, r8, #0xc0c0c0c0\n" \
    "ldr r8, [r1, #-16]\n" \
    TP3_ROW(MAC, "r11", "r8", "0") \
    "and r8, r8, #0xc0c0c0c0\n" \
    "orr r9, r8, r9, lsr #2\n" \
    "ldr r8, [r1], #4\n" \
    TP3_ROW(MAC, "r12", "r8", "0") \
    "and r8, r8, #0xc0c0c0c0\n" \
    "orr r9, r8, r9, lsr #2\n" \
    TP3_ROW(MAC, "lr", "r9", "2")

// clang-format on

#endif
