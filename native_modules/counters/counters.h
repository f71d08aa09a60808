// Reads a counter by its address or by an instruction, so that it works without a HAL.
#ifndef TP_COUNTERS_H
#define TP_COUNTERS_H

#include <stdint.h>

// Kinds of counters.
enum {
    TP_COUNTER_NONE = 0,
    TP_COUNTER_UP = 1, // memory-mapped, counts up: DWT CYCCNT, a timer
    TP_COUNTER_DOWN = 2, // memory-mapped, 24 bits, counts down: SysTick
    TP_COUNTER_REGISTER = 3, // read by tp_register_read; its number is in the address
    TP_COUNTER_CCOUNT = 5, // Xtensa special register
    // Clock of the operating system, in nanoseconds. Address 0: monotonic clock; address 1: processor time of the
    // process.
    TP_COUNTER_CLOCK = 6,
    // A 25 MHz counter of an emulator in which each instruction takes 64 ns (QEMU -icount shift=6). After i
    // instructions it shows phase + floor(8 i / 5), which gives i exactly. Bits 8 to 10 of the kind are the phase, 0 to
    // 7, which counters.py finds.
    TP_COUNTER_ICOUNT = 7,
    // RP2040: the 24 bits of SysTick, which counts cycles, extended to 32 bits by the microsecond timer, which runs
    // from the same crystal. Bits 8 and up of the kind are the clock in MHz. The address is a phase that keeps the two
    // in step, which counters.py finds.
    TP_COUNTER_RP2040 = 8,
    // x86: the time-stamp counter, shifted right by bits 8 and up of the kind.
    TP_COUNTER_TSC = 9,
};

// Returns the counts from before to now of a counter that wraps at modulus (0: at 2^32).
static inline uint32_t tp_counter_between(uint32_t before, uint32_t now, uint32_t modulus) {
    return now >= before ? now - before : now - before + modulus;
}

// Returns the low 32 bits of a counter; 0 if this build cannot read that kind.
uint32_t tp_counter_read(uint32_t kind, uintptr_t address);

#if defined(__riscv) || (defined(__XTENSA__) && defined(__XTENSA_WINDOWED_ABI__))
// Registers that are not in memory: on RISC-V the CSRs that counters need, on Xtensa the external registers (ERI).
#define TP_REGISTERS (1)
uint32_t tp_register_read(uint32_t number); // 0 for any other register
void tp_register_write(uint32_t number, uint32_t value);
#endif

// Runs a loop with a known number of instructions, two a turn on Arm and RISC-V, to check a counter and to find its
// rate.
void tp_counter_spin(uint32_t turns);

#define TP_SWEEP (64) // bytes that a step of tp_sweep reads

// Reads steps * TP_SWEEP bytes with the widest loads of the core. from: a multiple of four.
void tp_sweep(const uint8_t *from, uint32_t steps);

#endif
