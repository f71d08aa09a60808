// Thumb, with the timings of Arm's manuals: Cortex-M0+ TRM table 3-1, Cortex-M3 and M4 TRM tables 3-1
// and 7-1 (FPU). docs/counters.md lists the choices where the manuals give a range, and the
// assumptions for cores without published timings.
#include "insn.h"

#define PC (15)

static void set(tp_insn_t *insn, int kind, int cycles) {
    insn->kind = (uint8_t)kind;
    insn->cycles = (uint8_t)cycles;
}

static int ones(uint32_t bits) {
    return __builtin_popcount(bits);
}

/******************************************************************************/
// Timings

// Cycles that a branch takes beyond the first. indirect: its target comes from a register or memory.
static int refill(tp_core_t core, bool indirect) {
    switch (core) {
        case TP_M0:
            return 1;
        case TP_M7:
        case TP_M55:
            return indirect ? 2 : 0; // predicted
        default:
            return indirect ? 2 : 1;
    }
}

static void branch(tp_insn_t *insn, tp_core_t core, bool indirect) {
    set(insn, TP_BRANCH, 1 + refill(core, indirect));
}

static void branch_if(tp_insn_t *insn, tp_core_t core) {
    set(insn, TP_BRANCH, 1);
    insn->conditional = true;
    insn->refill = (uint8_t)refill(core, false);
}

// A load or store of one register.
static void transfer(tp_insn_t *insn, tp_core_t core, bool load, uint32_t target, uint32_t base) {
    if (load && target == PC) {
        set(insn, TP_BRANCH, 2 + refill(core, true));
        return;
    }
    set(insn, load ? TP_LOAD : TP_STORE, core == TP_M7 || core == TP_M55 ? 1 : 2);
    insn->single = true;
    insn->loads = load ? 1u << target : 0;
    insn->base = base;
}

// Loads and stores of several words.
static void transfers(tp_insn_t *insn, tp_core_t core, bool load, int count, bool to_pc) {
    bool wide = core == TP_M7 || core == TP_M55; // 64 bits a cycle
    int cycles = wide ? (count + 1) / 2 : 1 + count;
    set(insn, load ? TP_LOAD : TP_STORE, cycles);
    if (to_pc) {
        set(insn, TP_BRANCH, cycles + (core == TP_M0 ? 2 : refill(core, true)));
    }
}

static void multiply(tp_insn_t *insn, tp_core_t core, int on_m3) {
    set(insn, TP_MUL, core == TP_M3 ? on_m3 : 1);
}

void tp_overlap_thumb(tp_insn_t *insn, const tp_insn_t *last, tp_core_t core) {
    if (core == TP_M0) {
        return;
    }
    if (core == TP_M7 || core == TP_M55) {
        return;
    }
    if (insn->single && last->single && (last->loads & insn->base) == 0 && insn->cycles > 1) {
        --insn->cycles; // address of the one, data of the other
    }
    if ((insn->reads & last->writes) != 0) {
        ++insn->cycles;
    }
}

/******************************************************************************/
// 16 bits

static void decode_registers(tp_insn_t *insn, uint32_t code, tp_core_t core) {
    uint32_t rd = (code & 7) | (code >> 4 & 8), rm = code >> 3 & 15;
    set(insn, TP_ALU, 1);
    switch (code >> 8 & 3) {
        case 0:
        case 2:
            if (rd == PC) {
                branch(insn, core, true);
            } else if ((code >> 8 & 3) == 2 && rd == rm && rd != 0 && rd != 8 && rd < 13) {
                insn->mark = (uint8_t)rd;
            }
            break;
        case 3:
            branch(insn, core, true);
            break;
    }
}

static void decode_misc(tp_insn_t *insn, uint32_t code, tp_core_t core) {
    set(insn, TP_ALU, 1);
    switch (code >> 8 & 15) {
        case 1:
        case 3:
        case 9:
        case 11:
            branch_if(insn, core); // CBZ
            break;
        case 4:
        case 5:
            transfers(insn, core, false, ones(code & 0x1ff), false);
            break;
        case 12:
        case 13:
            transfers(insn, core, true, ones(code & 0x1ff), (code & 0x100) != 0);
            break;
        case 6:
        case 14:
            set(insn, TP_OTHER, 1);
            break;
        case 15:
            set(insn, TP_OTHER, 1);
            if ((code & 15) != 0) {
                insn->shadow = (uint8_t)(4 - __builtin_ctz(code & 15)); // IT
            }
            break;
    }
}

static void decode_16(tp_insn_t *insn, uint32_t code, tp_core_t core) {
    uint32_t low = code & 7, middle = 1u << (code >> 3 & 7);
    switch (code >> 12) {
        case 4:
            if (code >> 11 == 9) { // LDR literal
                transfer(insn, core, true, code >> 8 & 7, 0);
            } else if (code >> 10 == 17) {
                decode_registers(insn, code, core);
            } else if ((code >> 6 & 15) == 13) {
                multiply(insn, core, 1);
            } else {
                set(insn, TP_ALU, 1);
            }
            break;
        case 5:
            transfer(insn, core, (code >> 9 & 7) >= 3, low, middle | 1u << (code >> 6 & 7));
            break;
        case 6:
        case 7:
        case 8:
            transfer(insn, core, (code & 0x800) != 0, low, middle);
            break;
        case 9:
            transfer(insn, core, (code & 0x800) != 0, code >> 8 & 7, 1u << 13);
            break;
        case 11:
            decode_misc(insn, code, core);
            break;
        case 12:
            transfers(insn, core, (code & 0x800) != 0, ones(code & 0xff), false);
            break;
        case 13:
            if ((code >> 8 & 15) >= 14) {
                set(insn, TP_OTHER, 1);
            } else {
                branch_if(insn, core);
            }
            break;
        case 14:
            branch(insn, core, false);
            break;
        default:
            set(insn, TP_ALU, 1);
    }
    // A store to a fixed offset writes its data during the next instruction's cycle.
    bool fixed = code >> 12 != 5;
    if (core >= TP_M3 && insn->kind == TP_STORE && insn->single && fixed) {
        insn->cycles = 1;
    }
}

/******************************************************************************/
// 32 bits

static uint32_t single_bit(uint32_t number) {
    return 1u << (number & 31);
}

static void decode_float(tp_insn_t *insn, uint32_t first, uint32_t second, tp_core_t core) {
    bool is_double = (second & 0x100) != 0;
    uint32_t d = (second >> 12 & 15) << 1 | (first >> 6 & 1);
    uint32_t n = (first & 15) << 1 | (second >> 7 & 1);
    uint32_t m = (second & 15) << 1 | (second >> 5 & 1);
    set(insn, TP_FLOAT, 1);
    if ((second & 0x10) != 0) { // moves between the register files
        insn->reads = (first & 0x10) != 0 && !is_double ? single_bit(n) : 0;
        return;
    }
    bool fused = false;
    if ((first & 0xff00) == 0xee00) {
        switch (first >> 4 & 11) {
            case 0:
            case 1:
            case 9:
            case 10:
                fused = true;
                insn->cycles = core >= TP_M7 ? 1 : 3;
                break;
            case 8:
                insn->cycles = 14;
                break;
            case 11:
                if ((first & 15) == 1 && (second & 0xc0) == 0xc0) { // VSQRT
                    insn->cycles = 14;
                }
                n = m;
                break;
        }
    }
    if (!is_double) {
        insn->writes = single_bit(d);
        insn->reads = single_bit(n) | single_bit(m) | (fused ? single_bit(d) : 0);
        if ((first >> 4 & 11) == 11 && (first & 14) == 4) { // VCMP
            insn->reads = single_bit(d) | single_bit(m);
            insn->writes = 0;
        }
    }
}

static void decode_coprocessor(tp_insn_t *insn, uint32_t first, uint32_t second, tp_core_t core) {
    uint32_t number = second >> 8 & 15;
    bool load = (first & 0x10) != 0;
    if ((first & 0xef00) == 0xef00 || number < 10 || number > 11) { // MVE
        bool memory = (first & 0xee00) == 0xec00 && number >= 14;
        set(insn, memory ? (load ? TP_LOAD : TP_STORE) : TP_SIMD, 2); // two beats a cycle
    } else if ((first & 0xffe0) == 0xec40) {
        set(insn, TP_FLOAT, 2); // moves two registers
    } else if ((first & 0xfe00) == 0xec00) {
        uint32_t d = (second >> 12 & 15) << 1 | (first >> 6 & 1);
        int words = (first & 0xff20) == 0xed00 ? 1 + (number & 1) : (int)(second & 0xff);
        transfers(insn, core, load, words, false);
        if (words == 1) {
            insn->single = true;
            insn->base = 1u << (first & 15);
            insn->reads = load ? 0 : single_bit(d);
        }
    } else {
        decode_float(insn, first, second, core);
    }
}

static void decode_dual(tp_insn_t *insn, uint32_t first, uint32_t second, tp_core_t core) {
    bool load = (first & 0x10) != 0;
    if ((first & 0x40) == 0) {
        transfers(insn, core, load, ones(second), load && (second & 0x8000) != 0);
    } else if ((first & 0xfff0) == 0xe8d0 && (second & 0xe0) == 0) {
        set(insn, TP_BRANCH, 2 + refill(core, true)); // TBB
    } else if ((first & 0x120) != 0) {
        transfers(insn, core, load, 2, false);
    } else {
        set(insn, load ? TP_LOAD : TP_STORE, 2); // exclusive
    }
}

static void decode_branch(tp_insn_t *insn, uint32_t first, uint32_t second, tp_core_t core) {
    if ((second & 0xd000) == 0x8000) {
        if ((first >> 6 & 15) < 14) {
            branch_if(insn, core);
        } else {
            set(insn, TP_OTHER, core == TP_M0 ? 3 : 1);
        }
    } else if ((second & 0xf001) == 0xe001) { // DLS: sets a loop's counter
        set(insn, TP_ALU, 1);
    } else if ((second & 0xd001) == 0xc001) { // loops without a counter of their own
        set(insn, TP_BRANCH, 1);
        insn->conditional = true;
    } else {
        branch(insn, core, false);
        insn->cycles += core == TP_M0; // BL
    }
}

static void decode_products(tp_insn_t *insn, uint32_t first, uint32_t second, tp_core_t core) {
    uint32_t op = first >> 4 & 7, low = second >> 4 & 15;
    if ((first & 0x80) == 0) {
        if (op == 0) {
            multiply(insn, core, (second & 0xf000) == 0xf000 ? 1 : 2);
        } else {
            set(insn, TP_SIMD, 1);
        }
    } else if ((op & 5) == 1 && low == 15) {
        set(insn, TP_MUL, 7); // division: 2 to 12
    } else if (op >= 4 && low != 0 && low != 6) {
        set(insn, TP_SIMD, 1);
    } else {
        multiply(insn, core, op >= 4 ? 5 : 4); // on an M3 4 to 7, 3 to 5
    }
}

static void decode_memory(tp_insn_t *insn, uint32_t first, uint32_t second, tp_core_t core) {
    uint32_t target = second >> 12 & 15, base = first & 15;
    bool load = (first & 0x10) != 0, fixed = base == PC || (first & 0x80) != 0 || (second & 0x800) != 0;
    if (load && target == PC && (first & 0x60) != 0x40) {
        set(insn, TP_OTHER, 1); // PLD
        return;
    }
    uint32_t address = base == PC ? 0 : 1u << base;
    transfer(insn, core, load, target, fixed ? address : address | 1u << (second & 15));
    if (!load && fixed) {
        insn->cycles = 1;
    }
}

static void decode_32(tp_insn_t *insn, uint32_t first, uint32_t second, tp_core_t core) {
    set(insn, TP_ALU, 1);
    if ((first & 0xec00) == 0xec00) {
        decode_coprocessor(insn, first, second, core);
    } else if ((first & 0xfe00) == 0xe800) {
        decode_dual(insn, first, second, core);
    } else if ((first & 0xf800) == 0xf000 && (second & 0x8000) != 0) {
        decode_branch(insn, first, second, core);
    } else if ((first & 0xfe00) == 0xf800) {
        decode_memory(insn, first, second, core);
    } else if ((first & 0xff00) == 0xfb00) {
        decode_products(insn, first, second, core);
    } else if ((first & 0xff00) == 0xfa00) {
        bool parallel = (first & 0x80) != 0 && (second & 0x80) == 0;
        bool saturating = (first & 0xf0) == 0x80 || (first & 0xf0) == 0xa0;
        bool extend_pair = (first & 0x80) == 0 && (second & 0x80) != 0 && (first & 0x60) == 0x20;
        if (parallel || saturating || extend_pair) {
            insn->kind = TP_SIMD;
        }
    }
}

void tp_decode_thumb(tp_insn_t *insn, const uint8_t *code, size_t size, tp_core_t core) {
    uint32_t first = (uint32_t)code[0] | (uint32_t)code[1] << 8;
    if (size == 2) {
        decode_16(insn, first, core);
    } else {
        decode_32(insn, first, (uint32_t)code[2] | (uint32_t)code[3] << 8, core);
    }
}
