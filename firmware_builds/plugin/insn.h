// One instruction of the guest: its class, and its cycles on a core.
#ifndef TP_INSN_H
#define TP_INSN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The order is that of CLASSES in the host's qemu_counters.py.
enum {
    // clang-format off
    TP_ALU, TP_MUL, TP_LOAD, TP_STORE, TP_BRANCH, TP_FLOAT, TP_SIMD, TP_OTHER,
    // clang-format on
    TP_CLASSES,
};

typedef enum { TP_M0, TP_M3, TP_M4, TP_M7, TP_M33, TP_M55, TP_RV32 } tp_core_t;

// cycles: without wait states, and with the branch not taken; refill: cycles that a taken branch adds.
typedef struct {
    uint8_t kind;
    uint8_t size;        // in bytes
    uint8_t mark;        // number of the mark (marks.h), 0 for none
    bool conditional;    // a branch that may fall through
    uint8_t cycles;
    uint8_t refill;
    bool single;         // a load or store of one register, which may overlap with the next one
    uint8_t shadow;      // Arm: how many following instructions are conditional (IT)
    uint32_t loads;      // core registers that it loads
    uint32_t base;       // core registers that form its address
    uint32_t reads;      // registers s0 to s31 that a float instruction reads
    uint32_t writes;
} tp_insn_t;

void tp_decode_thumb(tp_insn_t *insn, const uint8_t *code, size_t size, tp_core_t core);
void tp_decode_rv32(tp_insn_t *insn, const uint8_t *code, size_t size);

// Marks a branch as conditional where its own encoding does not show it.
static inline void tp_make_conditional(tp_insn_t *insn) {
    if (insn->kind == TP_BRANCH && !insn->conditional) {
        insn->conditional = true;
        insn->refill = (uint8_t)(insn->cycles - 1);
        insn->cycles = 1;
    }
}

// Adjusts the cycles of insn for directly following last.
void tp_overlap_thumb(tp_insn_t *insn, const tp_insn_t *last, tp_core_t core);

#endif
