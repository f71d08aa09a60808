// One instruction of the guest: what class it is of, and what it costs on a core.
#ifndef TP_INSN_H
#define TP_INSN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The order is that of the host's names (counters.py).
enum {
    // clang-format off
    TP_ALU, TP_MUL, TP_LOAD, TP_STORE, TP_BRANCH, TP_FLOAT, TP_SIMD, TP_OTHER,
    // clang-format on
    TP_CLASSES,
};

typedef enum { TP_M0, TP_M3, TP_M4, TP_M7, TP_M33, TP_M55, TP_RV32 } tp_core_t;

// cycles: with memory that never waits, and without the branch being taken; refill: what that adds.
typedef struct {
    uint8_t kind;
    uint8_t size;        // in bytes
    uint8_t mark;        // of marks.h, 0 for none
    bool conditional;    // a branch that may fall through
    uint8_t cycles;
    uint8_t refill;
    bool single;         // a load or store of one register, which may overlap with the next one
    uint8_t shadow;      // Arm: how many instructions behind it are conditional (IT)
    uint32_t loads;      // core registers that come from memory
    uint32_t base;       // core registers that make its address
    uint32_t reads;      // of a float instruction, registers s0 to s31
    uint32_t writes;
} tp_insn_t;

void tp_decode_thumb(tp_insn_t *insn, const uint8_t *code, size_t size, tp_core_t core);
void tp_decode_rv32(tp_insn_t *insn, const uint8_t *code, size_t size);

// Of a branch: that it depends on a condition which its own code does not tell.
static inline void tp_make_conditional(tp_insn_t *insn) {
    if (insn->kind == TP_BRANCH && !insn->conditional) {
        insn->conditional = true;
        insn->refill = (uint8_t)(insn->cycles - 1);
        insn->cycles = 1;
    }
}

// Takes off, or adds, what follows from insn coming directly behind last.
void tp_overlap_thumb(tp_insn_t *insn, const tp_insn_t *last, tp_core_t core);

#endif
