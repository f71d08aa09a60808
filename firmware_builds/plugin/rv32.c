// RV32IMAC with the timings of lowRISC's Ibex (two stages, single-cycle multiplier, branch target ALU):
// loads, stores and jumps 2, MULH 2, division 37, a taken branch 2, all else 1.
#include "insn.h"

static void set(tp_insn_t *insn, int kind, int cycles) {
    insn->kind = (uint8_t)kind;
    insn->cycles = (uint8_t)cycles;
}

static void branch_if(tp_insn_t *insn) {
    set(insn, TP_BRANCH, 1);
    insn->conditional = true;
    insn->refill = 1;
}

static void decode_16(tp_insn_t *insn, uint32_t code) {
    uint32_t quadrant = code & 3, funct = code >> 13;
    set(insn, TP_ALU, 1);
    if (quadrant == 0 && funct != 0) {
        set(insn, funct < 4 ? TP_LOAD : TP_STORE, 2);
    } else if (quadrant == 1 && (funct == 1 || funct == 5)) {
        set(insn, TP_BRANCH, 2);
    } else if (quadrant == 1 && funct >= 6) {
        branch_if(insn);
    } else if (quadrant == 2 && funct >= 1 && funct <= 3) {
        set(insn, TP_LOAD, 2);
    } else if (quadrant == 2 && funct >= 5) {
        set(insn, TP_STORE, 2);
    } else if (quadrant == 2 && funct == 4 && (code >> 2 & 31) == 0) {
        if ((code >> 7 & 31) == 0) {
            set(insn, TP_OTHER, 1); // EBREAK
        } else {
            set(insn, TP_BRANCH, 2);
        }
    }
}

void tp_decode_rv32(tp_insn_t *insn, const uint8_t *code, size_t size) {
    uint32_t word = (uint32_t)code[0] | (uint32_t)code[1] << 8;
    if (size == 2) {
        decode_16(insn, word);
        return;
    }
    word |= (uint32_t)code[2] << 16 | (uint32_t)code[3] << 24;
    uint32_t funct = word >> 12 & 7;
    set(insn, TP_ALU, 1);
    switch (word & 0x7f) {
        case 0x03:
        case 0x2f: // atomic
            set(insn, TP_LOAD, 2);
            break;
        case 0x23:
            set(insn, TP_STORE, 2);
            break;
        case 0x33:
            if (word >> 25 == 1) {
                set(insn, TP_MUL, funct >= 4 ? 37 : funct == 0 ? 1 : 2);
            }
            break;
        case 0x63:
            branch_if(insn);
            break;
        case 0x67:
        case 0x6f:
            set(insn, TP_BRANCH, 2);
            break;
        case 0x0f:
        case 0x73:
            set(insn, TP_OTHER, 1);
            break;
        case 0x13:
            if ((word & 0xfffff) == 0x02013 && word >> 20 < 13) {
                insn->mark = (uint8_t)(word >> 20); // slti x0, x0, id
            }
            break;
    }
}
