// Part of rv32.c: our own types, TP2 and TPT in four pairs of rows, TP3 in four rows.
#ifndef TP_RV32_OWN_H
#define TP_RV32_OWN_H

#include "frame.h"

// clang-format off

// TP2 and TPT, four pairs of rows.
//   a0 x; a1 activations; a2 to a5 weights; s0 s1 t0 t1 pairs; t2 a weight; a6 a7 masks
//   t3 to t6, ra, s2 to s4 dot products; s5 to s11 and 8(sp) sums of groups; 4(sp) tp_rows_t; 12(sp) the last pair
// A word is shifted by 4 three times. Each time one mask leaves a code of row a, and another one four times a code of
// row b. The activations for a are stored four times as great.
#define PAIR_PIECE(w, mask, sum, from) \
    "and t2, " w ", " mask "\n" \
    "mul t2, t2, a1\n" \
    "add " sum ", " from ", t2\n"
#define PAIR_A(x) \
    "lw a1, " x "(a0)\n" \
    PAIR_PIECE("a2", "a6", "t3", "t3") PAIR_PIECE("a3", "a6", "t5", "t5") \
    PAIR_PIECE("a4", "a6", "ra", "ra") PAIR_PIECE("a5", "a6", "s3", "s3")
#define PAIR_B(x) \
    "lw a1, " x "(a0)\n" \
    PAIR_PIECE("a2", "a7", "t4", "t4") PAIR_PIECE("a3", "a7", "t6", "t6") \
    PAIR_PIECE("a4", "a7", "s2", "s2") PAIR_PIECE("a5", "a7", "s4", "s4")
// The first of a block. s4 holds the value with which all sums start.
#define PAIR_A_FIRST(x) \
    "lw a1, " x "(a0)\n" \
    PAIR_PIECE("a2", "a6", "t3", "s4") PAIR_PIECE("a3", "a6", "t5", "s4") \
    PAIR_PIECE("a4", "a6", "ra", "s4") PAIR_PIECE("a5", "a6", "s3", "s4")
#define PAIR_B_FIRST(x) \
    "lw a1, " x "(a0)\n" \
    PAIR_PIECE("a2", "a7", "t4", "s4") PAIR_PIECE("a3", "a7", "t6", "s4") \
    PAIR_PIECE("a4", "a7", "s2", "s4") PAIR_PIECE("a5", "a7", "s4", "s4")
// Eight columns. at: offset in the blocks; x: offset in the activations.
#define PAIR_8(at, x, FIRST_A, FIRST_B) \
    "lw a2, " at "(s0)\nlw a3, " at "(s1)\nlw a4, " at "(t0)\nlw a5, " at "(t1)\n" \
    FIRST_A(x) FIRST_B("4+" x) WORDS_SHIFT \
    PAIR_A("8+" x) PAIR_B("12+" x) WORDS_SHIFT \
    PAIR_A("16+" x) PAIR_B("20+" x) WORDS_SHIFT \
    PAIR_A("24+" x) PAIR_B("28+" x)

// A block. STEPPED: by how many bytes this has moved the pairs.
#if defined(__OPTIMIZE_SIZE__)
#define PAIR_32 \
    ".set STEPPED, 16\n" \
    "lw s4, 0(a0)\n" \
    "addi a1, a0, 128\n" \
    "mv t3, s4\nmv t4, s4\nmv t5, s4\nmv t6, s4\nmv ra, s4\nmv s2, s4\nmv s3, s4\n" \
    "sw a1, 16(sp)\n" \
    "5:\n" \
    PAIR_8("0", "4", PAIR_A, PAIR_B) \
    PAIR_8("4", "36", PAIR_A, PAIR_B) \
    "lw a1, 16(sp)\n" \
    "addi a0, a0, 64\n" \
    "addi s0, s0, 8\naddi s1, s1, 8\naddi t0, t0, 8\naddi t1, t1, 8\n" \
    "bne a0, a1, 5b\n"
#define PAIR_STEP
#else
#define PAIR_32 \
    ".set STEPPED, 0\n" \
    "lw s4, 0(a0)\n" \
    PAIR_8("0", "4", PAIR_A_FIRST, PAIR_B_FIRST) \
    PAIR_8("4", "36", PAIR_A, PAIR_B) \
    PAIR_8("8", "68", PAIR_A, PAIR_B) \
    PAIR_8("12", "100", PAIR_A, PAIR_B)
#define PAIR_STEP "addi s0, s0, 16\naddi s1, s1, 16\naddi t0, t0, 16\naddi t1, t1, 16\n"
#endif

// Multiplies two dot products with their scales, a1 bytes from their pair. add: instructions that add a4 to its group.
#define PAIR_SCALES(pair, a, b, group, add) \
    "add a4, " pair ", a1\n" \
    "lb a3, -STEPPED(a4)\n" \
    "lb a4, 1-STEPPED(a4)\n" \
    "srai " a ", " a ", 16\n" \
    "srai " b ", " b ", 16\n" \
    "mul a3, a3, " a "\n" \
    "mul a4, a4, " b "\n" \
    "add " group ", " group ", a3\n" \
    add

// Adds the sum of a group to that of its row.
#define PAIR_GROUP(group, at) \
    "sra " group ", " group ", a1\n" \
    "lw a4, " at "(a3)\n" \
    "add a4, a4, " group "\n" \
    "sw a4, " at "(a3)\n" \
    "li " group ", 0\n"

__attribute__((naked, noinline))
static void pair_rows(tp_rows_t *rows) {
    __asm volatile (
        SAVE
        "li a6, 0x00030003\n"
        "slli a7, a6, 2\n"
        "sw a0, 4(sp)\n"
        "lw s0, 4(a0)\n"
        "j 2f\n"
        // the next four pairs
        "0:\n"
        "lw s0, 12(sp)\n"
        "add s0, s0, a1\n"
        "2:\n"
        "lw a1, 8(a0)\n"
        "lw a3, 0(a0)\n"
        "add s1, s0, a1\n"
        "add t0, s1, a1\n"
        "add t1, t0, a1\n"
        "sw t1, 12(sp)\n"
        "lw a0, 12(a0)\n"
        "li s5, 0\nli s6, 0\nli s7, 0\nli s8, 0\nli s9, 0\nli s10, 0\nli s11, 0\n"
        "sw zero, 8(sp)\n"
        "sw zero, 0(a3)\nsw zero, 4(a3)\nsw zero, 8(a3)\nsw zero, 12(a3)\n"
        "sw zero, 16(a3)\nsw zero, 20(a3)\nsw zero, 24(a3)\nsw zero, 28(a3)\n"
        "1:\n"
        PAIR_32
        "lw a1, 132-8*STEPPED(a0)\n"
        PAIR_SCALES("s0", "t3", "t4", "s5", "add s6, s6, a4\n")
        PAIR_SCALES("s1", "t5", "t6", "s7", "add s8, s8, a4\n")
        PAIR_SCALES("t0", "ra", "s2", "s9", "add s10, s10, a4\n")
        PAIR_SCALES("t1", "s3", "s4", "s11", "lw a5, 8(sp)\nadd a5, a5, a4\nsw a5, 8(sp)\n")
        "lw a1, 136-8*STEPPED(a0)\n"
        PAIR_STEP
        "addi a0, a0, 140-8*STEPPED\n"
        "beqz a1, 1b\n"
        "lw a2, 4(sp)\n"
        "lw a3, 0(a2)\n"
        PAIR_GROUP("s5", "0") PAIR_GROUP("s6", "4") PAIR_GROUP("s7", "8") PAIR_GROUP("s8", "12")
        PAIR_GROUP("s9", "16") PAIR_GROUP("s10", "20") PAIR_GROUP("s11", "24")
        "sw zero, 8(sp)\n"
        PAIR_GROUP("a5", "28")
        "bgtz a1, 1b\n"
        "addi a3, a3, 32\n"
        "sw a3, 0(a2)\n"
        "lw a3, 20(a2)\n"
        "lw a1, 8(a2)\n"
        "mv a0, a2\n"
        "addi a3, a3, -1\n"
        "sw a3, 20(a2)\n"
        "bnez a3, 0b\n"
        RETURN
        );
}

// Eight columns of a row, in w, at bits from, +3, +8 and +11. FIRST: the products at bit from.
#define TP3_PRODUCT(sum, x) "and t3, t3, a7\nmul t3, t3, " x "\nadd " sum ", " sum ", t3\n"
#define TP3_ROW(sum, w, from, FIRST) \
    FIRST \
    "srli t3, " w ", 3+" from "\n" TP3_PRODUCT(sum, "a3") \
    "srli t3, " w ", 8+" from "\n" TP3_PRODUCT(sum, "a4") \
    "srli t3, " w ", 11+" from "\n" TP3_PRODUCT(sum, "a5")
#define TP3_AT_0(sum, w) "and t3, " w ", a7\nmul t3, t3, a2\nadd " sum ", " sum ", t3\n"

// Multiplies a dot product with its scale; at: offset of the scale from the end of the first row's columns.
#define TP3_SCALE(at, dot, group) \
    "lb t3, " at "(a1)\n" \
    "srai " dot ", " dot ", 16\n" \
    "mul t3, t3, " dot "\n" \
    "add " group ", " group ", t3\n"

// TP3, four rows.
//   a0 tp_rows_t; a1 w; a2 to a5 activations; a6 x; a7 mask; t0 to t2 weights; t5 end of the columns
//   t6 mask of the fourth row's bits; s0 to s3 dot products; s4 to s7 sums of groups; s8 to s11 sums of the rows
__attribute__((naked, noinline))
static void tp3_rows(tp_rows_t *rows) {
    __asm volatile (
        SAVE
        "li a7, 0x00070007\n"
        "li t6, 0xc0c0c0c0\n"
        "lw a1, 4(a0)\n"
        "j 2f\n"
        "0:\n"
        "addi a1, a1, 16\n"
        "2:\n"
        "lw a6, 12(a0)\n"
        "li s4, 0\nli s5, 0\nli s6, 0\nli s7, 0\nli s8, 0\nli s9, 0\nli s10, 0\nli s11, 0\n"
        "1:\n"
        "lw s0, 0(a6)\n"
        "addi t5, a1, 16\n"
        "mv s1, s0\nmv s2, s0\nmv s3, s0\n"
        "3:\n"
        "lw a2, 4(a6)\nlw a3, 8(a6)\nlw a4, 12(a6)\nlw a5, 16(a6)\n"
        "lw t0, 4(a1)\nlw t1, 20(a1)\nlw t2, 36(a1)\n"
        TP3_ROW("s0", "t0", "0", TP3_AT_0("s0", "t0"))
        TP3_ROW("s1", "t1", "0", TP3_AT_0("s1", "t1"))
        TP3_ROW("s2", "t2", "0", TP3_AT_0("s2", "t2"))
        "and t0, t0, t6\n"
        "and t1, t1, t6\n"
        "and t2, t2, t6\n"
        "srli t0, t0, 2\n"
        "or t1, t1, t0\n"
        "srli t1, t1, 2\n"
        "or t2, t2, t1\n"
        TP3_ROW("s3", "t2", "2", "srli t3, t2, 2\n" TP3_PRODUCT("s3", "a2"))
        "addi a1, a1, 4\n"
        "addi a6, a6, 16\n"
        "bne a1, t5, 3b\n"
        TP3_SCALE("-16", "s0", "s4") TP3_SCALE("-15", "s1", "s5")
        TP3_SCALE("-14", "s2", "s6") TP3_SCALE("-13", "s3", "s7")
        "lw t4, 4(a6)\n"
        "addi a1, a1, 36\n"
        "addi a6, a6, 8\n"
        "beqz t4, 1b\n"
        "sra s4, s4, t4\n"
        "sra s5, s5, t4\n"
        "sra s6, s6, t4\n"
        "sra s7, s7, t4\n"
        "add s8, s8, s4\n"
        "add s9, s9, s5\n"
        "add s10, s10, s6\n"
        "add s11, s11, s7\n"
        "li s4, 0\nli s5, 0\nli s6, 0\nli s7, 0\n"
        "bgtz t4, 1b\n"
        "lw t0, 0(a0)\n"
        "lw t1, 20(a0)\n"
        "sw s8, 0(t0)\nsw s9, 4(t0)\nsw s10, 8(t0)\nsw s11, 12(t0)\n"
        "addi t0, t0, 16\n"
        "addi t1, t1, -1\n"
        "sw t0, 0(a0)\n"
        "sw t1, 20(a0)\n"
        "bnez t1, 0b\n"
        RETURN
        );
}

// clang-format on

#endif
