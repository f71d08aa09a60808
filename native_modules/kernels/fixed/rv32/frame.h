// Part of rv32.c: what the assembly of all types shares. The functions are naked, because they need all registers.
#ifndef TP_RV32_FRAME_H
#define TP_RV32_FRAME_H

// clang-format off

// Saves and restores ra and s0 to s11 by the compiler's own functions. In between, 0(sp) to 24(sp) are free.
#define SAVE \
    "call t0, __riscv_save_12\n" \
    "addi sp, sp, -16\n"
#define RETURN \
    "addi sp, sp, 16\n" \
    "tail __riscv_restore_12\n"

// Moves on to the next four bits of the words of four rows.
#define WORDS_SHIFT "srli a2, a2, 4\nsrli a3, a3, 4\nsrli a4, a4, 4\nsrli a5, a5, 4\n"

// clang-format on

#endif
