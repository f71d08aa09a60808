// Part of rv32.c: Q4_K, four rows at a time.
#ifndef TP_RV32_K_QUANTS_H
#define TP_RV32_K_QUANTS_H

#include "frame.h"

// clang-format off

// Q4_K, four rows, a block of 256 columns (see q4_k_products in k_quants.h).
//   a0 where the sums go; a1 activations; a2 to a5 weights; s0 x; s1 t0 t1 a7 rows; t2 a weight; t3 mask
//   t4 turns left; s2 to s9 sums
#define Q4_K_ROW(w, sum) \
    "and t2, " w ", t3\n" \
    "mul t2, t2, a1\n" \
    "add " sum ", " sum ", t2\n"
#define Q4_K_A(x) \
    "lw a1, " x "(s0)\n" \
    Q4_K_ROW("a2", "s2") Q4_K_ROW("a3", "s4") Q4_K_ROW("a4", "s6") Q4_K_ROW("a5", "s8")
#define Q4_K_B(x) \
    "lw a1, " x "(s0)\n" \
    Q4_K_ROW("a2", "s3") Q4_K_ROW("a3", "s5") Q4_K_ROW("a4", "s7") Q4_K_ROW("a5", "s9")
// A word of each row. at: offset in the rows; x: offset in the activations.
#define Q4_K_8(at, x) \
    "lw a2, " at "(s1)\nlw a3, " at "(t0)\nlw a4, " at "(t1)\nlw a5, " at "(a7)\n" \
    Q4_K_A(x) WORDS_SHIFT \
    Q4_K_B("4+" x) WORDS_SHIFT \
    Q4_K_A("8+" x) WORDS_SHIFT \
    Q4_K_B("12+" x)

#define Q4_K_STEP(w, x) \
    "addi s1, s1, " w "\n" \
    "addi t0, t0, " w "\n" \
    "addi t1, t1, " w "\n" \
    "addi a7, a7, " w "\n" \
    "addi s0, s0, " x "\n"
#if defined(__OPTIMIZE_SIZE__)
#define Q4_K_64 \
    ".set STEPPED, 32\n" \
    "li t5, 3\n" \
    "5:\n" \
    Q4_K_8("0", "8") Q4_K_8("4", "24") \
    Q4_K_STEP("8", "32") \
    "addi t5, t5, -1\n" \
    "bgez t5, 5b\n"
#else
#define Q4_K_32(at, x) \
    Q4_K_8(at, x) Q4_K_8("4+" at, "16+" x) Q4_K_8("8+" at, "32+" x) Q4_K_8("12+" at, "48+" x)
#define Q4_K_64 \
    ".set STEPPED, 0\n" \
    Q4_K_32("0", "8") Q4_K_32("16", "72")
#endif

__attribute__((naked, noinline))
static void q4_k_products(uint32_t *sums, const uint8_t *w, size_t stride, const uint32_t *x) {
    __asm volatile (
        SAVE
        "mv s0, a3\n"
        "mv s1, a1\n"
        "add t0, s1, a2\n"
        "add t1, t0, a2\n"
        "add a7, t1, a2\n"
        "li t3, 0x000f000f\n"
        "li t4, 4\n"
        "1:\n"
        "lw s2, 0(s0)\n"
        "lw s3, 4(s0)\n"
        "mv s4, s2\nmv s5, s3\nmv s6, s2\nmv s7, s3\nmv s8, s2\nmv s9, s3\n"
        Q4_K_64
        "sw s2, 0(a0)\nsw s3, 4(a0)\nsw s4, 8(a0)\nsw s5, 12(a0)\n"
        "sw s6, 16(a0)\nsw s7, 20(a0)\nsw s8, 24(a0)\nsw s9, 28(a0)\n"
        "addi a0, a0, 32\n"
        Q4_K_STEP("32-STEPPED", "136-4*STEPPED")
        "addi t4, t4, -1\n"
        "bnez t4, 1b\n"
        RETURN
        );
}

// clang-format on

#endif
