// Reading a counter by address or by instruction, so that it works without a HAL.
#ifndef TP_COUNTERS_H
#define TP_COUNTERS_H

#include <stdint.h>

enum {
    TP_COUNTER_NONE = 0,
    TP_COUNTER_UP = 1,      // memory-mapped, counts up: DWT CYCCNT, a timer
    TP_COUNTER_DOWN = 2,    // memory-mapped, counts down: SysTick
    TP_COUNTER_INSTRET = 3, // RISC-V CSR
    TP_COUNTER_CYCLE = 4,   // RISC-V CSR
    TP_COUNTER_CCOUNT = 5,  // Xtensa special register
    TP_COUNTER_CLOCK = 6,   // monotonic clock of the operating system, nanoseconds
};

// Low 32 bits of the counter; 0 where this build cannot read that kind.
uint32_t tp_counter_read(uint32_t kind, uintptr_t address);

// Runs a loop of a known number of instructions (two a turn on Arm and RISC-V), so that a
// counter can be checked and its rate found.
void tp_counter_spin(uint32_t turns);

#endif
