// Part of rv32.c: Q4_0, four rows at a time, and Q8_0, eight rows at a time.
#ifndef TP_RV32_Q4_Q8_H
#define TP_RV32_Q4_Q8_H

#include "frame.h"

// clang-format off

// Q4_0, four rows.
//   a0 tp_rows_t; a1 a2 a3 a5 rows 0 to 3; a4 end of x; a6 x; a7 mask; t5 stride
//   s0 (short instructions can use it) and t1 weights; s8 to s11 activations
//   t6 s1 s2 s3 dot products; s4 to s7 sums of the rows; t0 t2 t3 parts of a scale; t4 shift
#define ENTER \
    SAVE \
    "lw a5, 4(a0)\n" \
    "lw t5, 8(a0)\n" \
    "lw a4, 16(a0)\n" \
    "li a7, 0x000f000f\n" \
    "0:\n" \
    "mv a1, a5\n" \
    "add a2, a1, t5\n" \
    "add a3, a2, t5\n" \
    "add a5, a3, t5\n" \
    "lw a6, 12(a0)\n" \
    "li s4, 0\nli s5, 0\nli s6, 0\nli s7, 0\n"

// The end of a row is the start of the next one.
#define LEAVE \
    "bne a6, a4, 1b\n" \
    "lw t0, 0(a0)\n" \
    "lw t1, 20(a0)\n" \
    "sw s4, 0(t0)\nsw s5, 4(t0)\nsw s6, 8(t0)\nsw s7, 12(t0)\n" \
    "addi t0, t0, 16\n" \
    "addi t1, t1, -1\n" \
    "sw t0, 0(a0)\n" \
    "sw t1, 20(a0)\n" \
    "bnez t1, 0b\n" \
    RETURN

// Eight weights of a row, in s0. from: the register to which the first product is added.
#define Q4(sum, from) \
    "and t1, s0, a7\n" \
    "mul t1, t1, s8\n" \
    "add " sum ", " from ", t1\n" \
    "srli s0, s0, 4\n" \
    "and t1, s0, a7\n" \
    "mul t1, t1, s9\n" \
    "add " sum ", " sum ", t1\n" \
    "srli s0, s0, 4\n" \
    "and t1, s0, a7\n" \
    "mul t1, t1, s10\n" \
    "add " sum ", " sum ", t1\n" \
    "srli s0, s0, 4\n" \
    "and t1, s0, a7\n" \
    "mul t1, t1, s11\n" \
    "add " sum ", " sum ", t1\n"

// Three ways to load a word of weights, at: bytes from the start of the block.
//   WHOLE   the word is aligned
//   ENDS    the word is made of the first and the last halfword of the block, from the aligned words around them
//   HALVES  the word is made of two halfwords
#define WHOLE(row, at) "lw s0, " at "(" row ")\n"
#define ENDS(row, at) \
    "lw s0, 0(" row ")\n" \
    "lw t1, 16(" row ")\n" \
    "srli s0, s0, 16\n" \
    "slli t1, t1, 16\n" \
    "or s0, s0, t1\n"
#define HALVES(row, at) \
    "lhu s0, " at "(" row ")\n" \
    "lhu t1, 2+" at "(" row ")\n" \
    "slli t1, t1, 16\n" \
    "or s0, s0, t1\n"

#define X(at) \
    "lw s8, " at "(a6)\n" \
    "lw s9, 4+" at "(a6)\n" \
    "lw s10, 8+" at "(a6)\n" \
    "lw s11, 12+" at "(a6)\n"

// Eight weights of all rows. Row 0 comes last, because t6 holds the value with which all sums start.
#define Q4_ROWS(LOAD, at, from1, from2, from3) \
    LOAD("a2", at) Q4("s1", from1) \
    LOAD("a3", at) Q4("s2", from2) \
    LOAD("a5", at) Q4("s3", from3) \
    LOAD("a1", at) Q4("t6", "t6")
#define FIRST(LOAD, at) Q4_ROWS(LOAD, at, "t6", "t6", "t6")
#define NEXT(LOAD, at) Q4_ROWS(LOAD, at, "s1", "s2", "s3")

// sum += dot * scale, in the row's units. scale: offset of the fp16 from the row's pointer; dot: register of the dot
// product; shift: instruction that brings it to bit 0.
#define SCALE(row, scale, dot, shift, sum) \
    "lh t0, " scale "(" row ")\n" \
    "srli t2, t0, 10\n" \
    "andi t3, t0, 1023\n" \
    "andi t2, t2, 31\n" \
    "beqz t2, 2f\n" \
    "ori t3, t3, 1024\n" \
    ".subsection 1\n" \
    "2:\n" \
    "li t2, 1\n" \
    "j 3f\n" \
    ".previous\n" \
    "3:\n" \
    shift \
    "mul t3, t3, " dot "\n" \
    "sub t2, t4, t2\n" \
    "bgez t0, 4f\n" \
    "neg t3, t3\n" \
    "4:\n" \
    "sra t3, t3, t2\n" \
    "add " sum ", " sum ", t3\n"

#define Q4_SCALES(scale, shift) \
    "lbu t4, " shift "(a6)\n" \
    SCALE("a1", scale, "t6", "srai t6, t6, 16\n", "s4") \
    SCALE("a2", scale, "s1", "srai s1, s1, 16\n", "s5") \
    SCALE("a3", scale, "s2", "srai s2, s2, 16\n", "s6") \
    SCALE("a5", scale, "s3", "srai s3, s3, 16\n", "s7")

// Moves x and the rows on, by this many bytes.
#define STEP(x, w) \
    "addi a6, a6, " x "\n" \
    "addi a1, a1, " w "\n" \
    "addi a2, a2, " w "\n" \
    "addi a3, a3, " w "\n" \
    "addi a5, a5, " w "\n"

// A native module is loaded into RAM, so its code is kept small: repeated parts are loops or calls, which cost at most
// 0.25 instructions a product.
#if defined(__OPTIMIZE_SIZE__)

__attribute__((naked, noinline))
static void q4_0_pairs(tp_rows_t *rows) {
    __asm volatile (
        ENTER
        "1:\n"
        "lw t6, 0(a6)\n"
        X("4") FIRST(ENDS, "0")
        "jal 5f\n"
        STEP("64", "16")
        "jal .Lq4_0_scales\n"
        STEP("8", "4")
        "lw t6, 0(a6)\n"
        X("4") FIRST(WHOLE, "0")
        "jal 5f\n"
        STEP("64", "14")
        "jal .Lq4_0_scales\n"
        STEP("8", "2")
        LEAVE
        "5:\n"
        X("20") NEXT(WHOLE, "4")
        X("36") NEXT(WHOLE, "8")
        X("52") NEXT(WHOLE, "12")
        "ret\n"
        ".Lq4_0_scales:\n"
        Q4_SCALES("-16", "4")
        "ret\n"
        );
}

__attribute__((naked, noinline))
static void q4_0_rows(tp_rows_t *rows) {
    __asm volatile (
        ENTER
        "1:\n"
        "lw t6, 0(a6)\n"
        "mv s1, t6\nmv s2, t6\nmv s3, t6\n"
        "li ra, 1\n"
        "5:\n"
        X("4") NEXT(HALVES, "2")
        X("20") NEXT(HALVES, "6")
        STEP("32", "8")
        "addi ra, ra, -1\n"
        "bgez ra, 5b\n"
        "jal .Lq4_0_scales\n"
        STEP("8", "2")
        LEAVE
        );
}

#else

__attribute__((naked, noinline))
static void q4_0_pairs(tp_rows_t *rows) {
    __asm volatile (
        ENTER
        "1:\n"
        "lw t6, 0(a6)\n"
        X("4") FIRST(ENDS, "0")
        X("20") NEXT(WHOLE, "4")
        X("36") NEXT(WHOLE, "8")
        X("52") NEXT(WHOLE, "12")
        Q4_SCALES("0", "68")
        "lw t6, 72(a6)\n"
        X("76") FIRST(WHOLE, "20")
        X("92") NEXT(WHOLE, "24")
        X("108") NEXT(WHOLE, "28")
        X("124") NEXT(WHOLE, "32")
        Q4_SCALES("18", "140")
        STEP("144", "36")
        LEAVE
        );
}

__attribute__((naked, noinline))
static void q4_0_rows(tp_rows_t *rows) {
    __asm volatile (
        ENTER
        "1:\n"
        "lw t6, 0(a6)\n"
        X("4") FIRST(HALVES, "2")
        X("20") NEXT(HALVES, "6")
        X("36") NEXT(HALVES, "10")
        X("52") NEXT(HALVES, "14")
        Q4_SCALES("0", "68")
        STEP("72", "18")
        LEAVE
        );
}

#endif

// Q8_0, eight rows.
//   a0 x; a1 activation; a2 to a7, t1 and t2 rows; s0 to s7 dot products; s8 to s11 and t3 to t6 sums of the rows
//   ra shift; 4(sp) tp_rows_t
#define Q8_EACH(DO) \
    DO("a2", "s0") DO("a3", "s1") DO("a4", "s2") DO("a5", "s3") \
    DO("a6", "s4") DO("a7", "s5") DO("t1", "s6") DO("t2", "s7")
#define Q8_COLUMN(c, DO) \
    "lw a1, 4*(" c ")(a0)\n" \
    ".set column, 2+" c "\n" \
    Q8_EACH(DO)
#define Q8_SET(row, dot) \
    "lb t0, column(" row ")\n" \
    "mul " dot ", t0, a1\n"
#define Q8_ADD(row, dot) \
    "lb t0, column(" row ")\n" \
    "mul t0, t0, a1\n" \
    "add " dot ", " dot ", t0\n"
#define Q8_4(c) Q8_COLUMN(c, Q8_ADD) Q8_COLUMN("1+" c, Q8_ADD) Q8_COLUMN("2+" c, Q8_ADD) Q8_COLUMN("3+" c, Q8_ADD)
#define Q8_STEP(row, dot) "addi " row ", " row ", 34-STEPPED\n"
#define Q8_QUARTER(row, dot) "addi " row ", " row ", 8\n"
#define Q8_ZERO(row, dot) "li " dot ", 0\n"
// The columns of a block. STEPPED: by how many bytes this has moved the rows.
#if defined(__OPTIMIZE_SIZE__)
#define Q8_COLUMNS \
    ".set STEPPED, 32\n" \
    Q8_EACH(Q8_ZERO) \
    "li ra, 3\n" \
    "5:\n" \
    Q8_4("0") Q8_4("4") \
    "addi a0, a0, 32\n" \
    Q8_EACH(Q8_QUARTER) \
    "addi ra, ra, -1\n" \
    "bgez ra, 5b\n"
#else
#define Q8_COLUMNS \
    ".set STEPPED, 0\n" \
    Q8_COLUMN("0", Q8_SET) \
    Q8_COLUMN("1", Q8_ADD) Q8_COLUMN("2", Q8_ADD) Q8_COLUMN("3", Q8_ADD) \
    Q8_4("4") Q8_4("8") Q8_4("12") Q8_4("16") Q8_4("20") Q8_4("24") Q8_4("28")
#endif

// As SCALE, with one branch that is taken only for rare scales: negative ones, and those without a leading bit. The
// code for these uses a1 and t0; in a native module it is a function.
#define Q8_RARE \
    "beqz t0, 4f\n" \
    "neg a1, a1\n" \
    "addi t0, t0, 32\n" \
    "bnez t0, 3f\n" \
    "addi a1, a1, 2047\n" \
    "addi a1, a1, 1\n" \
    "4:\n" \
    "addi a1, a1, -1024\n" \
    "li t0, 1\n"
#if defined(__OPTIMIZE_SIZE__)
#define Q8_CALL_RARE \
    "sw a0, 8(sp)\n" \
    "jal a0, 6f\n" \
    "lw a0, 8(sp)\n"
#define Q8_RARE_FUNCTION "6:\n" Q8_RARE "3:\n" "jr a0\n"
#else
#define Q8_CALL_RARE Q8_RARE
#define Q8_RARE_FUNCTION
#endif
#define Q8_SCALE(row, dot, sum) \
    "lh t0, -STEPPED(" row ")\n" \
    "andi a1, t0, 1023\n" \
    "srai t0, t0, 10\n" \
    "ori a1, a1, 1024\n" \
    "blez t0, 2f\n" \
    ".subsection 1\n" \
    "2:\n" \
    Q8_CALL_RARE \
    "j 3f\n" \
    ".previous\n" \
    "3:\n" \
    "sub t0, ra, t0\n" \
    "mul a1, a1, " dot "\n" \
    "sra a1, a1, t0\n" \
    "add " sum ", " sum ", a1\n"

__attribute__((naked, noinline))
static void q8_0_rows(tp_rows_t *rows) {
    __asm volatile (
        SAVE
        "sw a0, 4(sp)\n"
        "lw t2, 4(a0)\n"
        "0:\n"
        "lw t0, 4(sp)\n"
        "mv a2, t2\n"
        "lw a1, 8(t0)\n"
        "lw a0, 12(t0)\n"
        "add a3, a2, a1\nadd a4, a3, a1\nadd a5, a4, a1\nadd a6, a5, a1\n"
        "add a7, a6, a1\nadd t1, a7, a1\nadd t2, t1, a1\n"
        "li s8, 0\nli s9, 0\nli s10, 0\nli s11, 0\nli t3, 0\nli t4, 0\nli t5, 0\nli t6, 0\n"
        "1:\n"
        Q8_COLUMNS
        "lw ra, 128-4*STEPPED(a0)\n"
        "addi a0, a0, 132-4*STEPPED\n"
        Q8_SCALE("a2", "s0", "s8") Q8_SCALE("a3", "s1", "s9")
        Q8_SCALE("a4", "s2", "s10") Q8_SCALE("a5", "s3", "s11")
        Q8_SCALE("a6", "s4", "t3") Q8_SCALE("a7", "s5", "t4")
        Q8_SCALE("t1", "s6", "t5") Q8_SCALE("t2", "s7", "t6")
        Q8_EACH(Q8_STEP)
        "bgez ra, 1b\n"
        // the end of a row is the start of the next one
        "lw a0, 4(sp)\n"
        "lw a1, 0(a0)\n"
        "lw t0, 20(a0)\n"
        "sw s8, 0(a1)\nsw s9, 4(a1)\nsw s10, 8(a1)\nsw s11, 12(a1)\n"
        "sw t3, 16(a1)\nsw t4, 20(a1)\nsw t5, 24(a1)\nsw t6, 28(a1)\n"
        "addi a1, a1, 32\n"
        "addi t0, t0, -1\n"
        "sw a1, 0(a0)\n"
        "sw t0, 20(a0)\n"
        "bnez t0, 0b\n"
        RETURN
        Q8_RARE_FUNCTION
        );
}

// clang-format on

// The same in C, for shifts of 32 and more, which the instructions above do not take.
static void plain_rows(uint32_t type, int pairs, const tp_rows_t *rows) {
    uint32_t block_bytes = tp_row_bytes(type, TP_BLOCK);
    for (uint32_t r = 0; r < TP_ROWS(type) * rows->groups; ++r) {
        const uint8_t *block = rows->w + r * rows->stride;
        uint32_t first = (uint32_t)pairs;
        int32_t sum = 0;
        for (const uint32_t *x = rows->x; x < rows->end; x += block_words(type), block += block_bytes) {
            const uint8_t *v = block + 2;
            int32_t dot = 0;
            uint32_t s = x[0];
            for (uint32_t j = 0; j < TP_BLOCK && type == TP_Q8_0; ++j) {
                dot += (int8_t)v[j] * (int32_t)x[j];
            }
            for (uint32_t j = 0; j < TP_BLOCK / 2 && type == TP_Q4_0; j += 4) {
                uint32_t at = first && j > 0 ? j - 2 : j, next = first && j == 0 ? 14 : 2;
                uint32_t word = tp_load_u16(v + at) | tp_load_u16(v + at + next) << 16;
                for (uint32_t k = 0; k < 4; ++k) {
                    s += (word >> 4 * k & 0x000f000fu) * x[1 + j + k];
                }
                dot = (int32_t)s >> 16;
            }
            sum = tp_add_scaled(sum, dot, tp_load_u16(block), x[block_words(type) - 1] & 0xff);
            first ^= (uint32_t)pairs;
        }
        rows->sums[r] = sum;
    }
}

#endif
