// RV32IM: shift, AND, MUL and ADD, two weights at a time, four or eight rows; see scalar.h.
#include "../isa.h"

#if defined(TP_PATH_FIXED) && defined(TP_ISA_RV32)

const char tp_kernels_variant[] = "rv32";

#define TP_ROWS(type) ((type) == TP_Q4_0 || (type) == TP_TP3 ? 4 : 8)
#define TP_Q4_K_ROWS (4)
#define TP_ALIGNED (1) // a core may trap on words elsewhere
#define TP_LESS (0)
#define TP_PAIRS (TP_PAIRS_TWO_MASKS)
#define TP_Q8_WORDS (TP_BLOCK)
#include "scalar.h"

static void tp_put_q8_0(uint32_t *to, const int8_t *q) {
    for (uint32_t j = 0; j < TP_BLOCK; ++j) {
        to[j] = (uint32_t)q[j];
    }
}

// Naked functions hold assembly alone: the compiler does not see that it uses their parameters.
#pragma GCC diagnostic ignored "-Wunused-parameter"

// Naked, for they need the registers as a whole.
// Q4_0: a0 tp_rows_t, a1 to a3 and a5 rows 0 to 3, a4 end of x, a6 x, a7 mask; t6 and s1 to s3 dot
// products, s4 to s7 sums of rows, s8 to s11 activations, s0 (there are short instructions for it) t1
// weights, t0 t2 t3 of a scale, t4 shift, t5 stride.
// These two are the compiler's own, and keep ra and s0 to s11. 0 to 24(sp) are free then.
#define SAVE \
    "call t0, __riscv_save_12\n" \
    "addi sp, sp, -16\n"
#define RETURN \
    "addi sp, sp, 16\n" \
    "tail __riscv_restore_12\n"

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

// A row's end is the next one's begin.
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

// Eight weights of a row in s0; from: what their products are added to.
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

// Three ways to a word of weights, at bytes from the begin of a block: where it lies on a multiple of
// 4; made of the halfwords at both ends of a block, read in the words around; of two halfwords.
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

// Eight weights of all rows; row 0 comes last because t6 is what all begin with.
#define Q4_ROWS(LOAD, at, from1, from2, from3) \
    LOAD("a2", at) Q4("s1", from1) \
    LOAD("a3", at) Q4("s2", from2) \
    LOAD("a5", at) Q4("s3", from3) \
    LOAD("a1", at) Q4("t6", "t6")
#define FIRST(LOAD, at) Q4_ROWS(LOAD, at, "t6", "t6", "t6")
#define NEXT(LOAD, at) Q4_ROWS(LOAD, at, "s1", "s2", "s3")

// sum += dot * scale in units of the row; scale: bytes from the begin of the row's block. dot: where
// the dot product is, shift: what brings it there.
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

// a6 to the next block, or the one after
#define STEP(x, w) \
    "addi a6, a6, " x "\n" \
    "addi a1, a1, " w "\n" \
    "addi a2, a2, " w "\n" \
    "addi a3, a3, " w "\n" \
    "addi a5, a5, " w "\n"

// A native module lies in RAM: there words that are read alike are a loop or a call, at no more than 0.25
// instructions a product.
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
static void q4_0_blocks(tp_rows_t *rows) {
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
static void q4_0_blocks(tp_rows_t *rows) {
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

// Q8_0, eight rows: a0 x, a1 activation, a2 to a7, t1 and t2 rows; s0 to s7 dot products, s8 to s11 and
// t3 to t6 sums of rows, ra shift; 4(sp) tp_rows_t.
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
// The columns of a block; STEPPED: how far that moves the rows.
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

// As SCALE; one branch sorts out all but positive scales with a leading bit. What follows it then takes a1
// and t0, and is a function in a native module.
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
        // a row's end is the next one's begin
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

// Pairs in fours: a0 x, a1 activations, a2 to a5 weights, s0 s1 t0 t1 pairs, t2 of a weight, a6 a7
// masks; t3 to t6, ra, s2 to s4 dot products; s5 to s11 and 8(sp) sums of groups; 4(sp) tp_rows_t, 12(sp)
// the last pair.
// A word is shifted by 4 three times; each time one mask brings out a code of row a, another four times
// one of row b. Activations of a are stored four times as great.
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
// The first of a block; s4 holds what all sums begin with.
#define PAIR_A_FIRST(x) \
    "lw a1, " x "(a0)\n" \
    PAIR_PIECE("a2", "a6", "t3", "s4") PAIR_PIECE("a3", "a6", "t5", "s4") \
    PAIR_PIECE("a4", "a6", "ra", "s4") PAIR_PIECE("a5", "a6", "s3", "s4")
#define PAIR_B_FIRST(x) \
    "lw a1, " x "(a0)\n" \
    PAIR_PIECE("a2", "a7", "t4", "s4") PAIR_PIECE("a3", "a7", "t6", "s4") \
    PAIR_PIECE("a4", "a7", "s2", "s4") PAIR_PIECE("a5", "a7", "s4", "s4")
#define WORDS_SHIFT "srli a2, a2, 4\nsrli a3, a3, 4\nsrli a4, a4, 4\nsrli a5, a5, 4\n"
// Eight columns; at: bytes in the blocks, x: in the activations.
#define PAIR_8(at, x, FIRST_A, FIRST_B) \
    "lw a2, " at "(s0)\nlw a3, " at "(s1)\nlw a4, " at "(t0)\nlw a5, " at "(t1)\n" \
    FIRST_A(x) FIRST_B("4+" x) WORDS_SHIFT \
    PAIR_A("8+" x) PAIR_B("12+" x) WORDS_SHIFT \
    PAIR_A("16+" x) PAIR_B("20+" x) WORDS_SHIFT \
    PAIR_A("24+" x) PAIR_B("28+" x)

// A block; STEPPED: how far that moves the pairs.
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

// Two dot products meet their scales, a1 bytes from their pair; add: what a4 is added to.
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

// The sum of a group meets that of the row.
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
        // the four pairs after these
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

// A dot product that meets its scale.
#define OWN_SCALE(dot, group) \
    "srai " dot ", " dot ", 16\n" \
    "mul t3, t3, " dot "\n" \
    "add " group ", " group ", t3\n"

// Eight columns of a row in w, at bits from, +3, +8 and +11; FIRST: the weights at from.
#define TP3_PRODUCT(sum, x) "and t3, t3, a7\nmul t3, t3, " x "\nadd " sum ", " sum ", t3\n"
#define TP3_ROW(sum, w, from, FIRST) \
    FIRST \
    "srli t3, " w ", 3+" from "\n" TP3_PRODUCT(sum, "a3") \
    "srli t3, " w ", 8+" from "\n" TP3_PRODUCT(sum, "a4") \
    "srli t3, " w ", 11+" from "\n" TP3_PRODUCT(sum, "a5")
#define TP3_AT_0(sum, w) "and t3, " w ", a7\nmul t3, t3, a2\nadd " sum ", " sum ", t3\n"

// A dot product that meets its scale; at: bytes from the end of the first row's columns.
#define TP3_SCALE(at, dot, group) \
    "lb t3, " at "(a1)\n" \
    "srai " dot ", " dot ", 16\n" \
    "mul t3, t3, " dot "\n" \
    "add " group ", " group ", t3\n"

// Rows in fours: a0 tp_rows_t, a1 w, a2 to a5 activations, a6 x, a7 mask, t0 to t2 weights, t5 where columns
// end, t6 mask of the fourth row's bits; s0 to s3 dot products, s4 to s7 sums of groups, s8 to s11 of rows.
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

// Q4_K, four rows: a0 where sums go, a1 activations, a2 to a5 weights, s0 x, s1 t0 t1 a7 rows, t2 of a
// weight, t3 mask, t4 times that are left; s2 to s9 sums.
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
// A word of each row; at: bytes in the rows, x: in the activations.
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

// In plain C, for shifts that the instruction does not take.
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

static void tp_rows(uint32_t type, int pairs, uint32_t shift, tp_rows_t *rows) {
    if (shift > 32) { // exponents are 1 or more
        plain_rows(type, pairs, rows);
    } else if (type == TP_Q8_0) {
        q8_0_rows(rows);
    } else if (pairs) {
        q4_0_pairs(rows);
    } else {
        q4_0_blocks(rows);
    }
}

static void tp_own_rows(uint32_t type, tp_rows_t *rows) {
    if (type == TP_TP3) {
        tp3_rows(rows);
    } else {
        pair_rows(rows);
    }
}

#endif
