// Reading a counter by address or by instruction, so that it works without a HAL.
#ifndef TP_COUNTERS_H
#define TP_COUNTERS_H

#include <stdint.h>

enum {
    TP_COUNTER_NONE = 0,
    TP_COUNTER_UP = 1,      // memory-mapped, counts up: DWT CYCCNT, a timer
    TP_COUNTER_DOWN = 2,    // memory-mapped, 24 bits, counts down: SysTick
    TP_COUNTER_REGISTER = 3, // what tp_register_read reads; its number is in the address
    TP_COUNTER_CCOUNT = 5,  // Xtensa special register
    // Clock of the operating system, nanoseconds: at address 0 the monotonic one, at 1 the processor time of the process.
    TP_COUNTER_CLOCK = 6,
    // A 25 MHz counter of an emulator that gives each instruction 64 ns (QEMU -icount shift=6):
    // after i instructions it shows phase + floor(8 i / 5), from which i follows exactly. The
    // phase, 0 to 7, is in bits 8 to 10 of the kind; counters.py finds it.
    TP_COUNTER_ICOUNT = 7,
    // RP2040: SysTick's 24 bits of cycles, continued to 32 by the microsecond timer, which the same
    // crystal drives. The clock in MHz is in bits 8 up of the kind. The address is a phase that keeps
    // the two from passing each other; counters.py finds it.
    TP_COUNTER_RP2040 = 8,
    // x86: the time-stamp counter without its lowest bits, as many as bits 8 up of the kind say.
    TP_COUNTER_TSC = 9,
};

// Counts from before to now of a counter that wraps at modulus (0: at 2^32).
static inline uint32_t tp_counter_between(uint32_t before, uint32_t now, uint32_t modulus) {
    return now >= before ? now - before : now - before + modulus;
}

// Low 32 bits of the counter; 0 where this build cannot read that kind.
uint32_t tp_counter_read(uint32_t kind, uintptr_t address);

#if defined(__riscv) || (defined(__XTENSA__) && defined(__XTENSA_WINDOWED_ABI__))
// Registers that are not in memory: RISC-V CSRs, of those that counters need; Xtensa's external registers (ERI).
#define TP_REGISTERS (1)
uint32_t tp_register_read(uint32_t number); // 0 where it is none of these
void tp_register_write(uint32_t number, uint32_t value);
#endif

// Runs a loop of a known number of instructions (two a turn on Arm and RISC-V), so that a
// counter can be checked and its rate found.
void tp_counter_spin(uint32_t turns);

#define TP_SWEEP (64) // bytes that a step of tp_sweep reads

// Reads steps * TP_SWEEP bytes from a multiple of four on, with the widest loads that the core has.
void tp_sweep(const uint8_t *from, uint32_t steps);

#endif
