#if defined(__unix__) && !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 199309L // clock_gettime under -std=c99
#endif

#include "counters.h"

#if defined(__unix__) && !defined(MICROPY_ENABLE_DYNRUNTIME)
#include <time.h>
#define TP_HAVE_CLOCK (1)
#endif

#if defined(__riscv)
// clang-format off

// A CSR's number is part of the instruction. Counters: minstret, mcycle, mhpmcounter3, Espressif's mpccr. Their setup:
// mcountinhibit, mhpmevent3, Espressif's mpcer. Comparing only the low bytes of the numbers takes less code.
uint32_t tp_register_read(uint32_t number) {
    uint32_t value = 0;
    #define READ(n) if ((number & 0xff) == (n & 0xff)) { \
        __asm volatile (".option push\n.option arch, +zicsr\ncsrr %0, " #n "\n.option pop" : "=r" (value)); \
    }
    READ(0xb02) else READ(0xb00) else READ(0xb03) else READ(0x7e2)
    return value;
}

void tp_register_write(uint32_t number, uint32_t value) {
    #define WRITE(n) if ((number & 0xff) == (n & 0xff)) { \
        __asm volatile (".option push\n.option arch, +zicsr\ncsrw " #n ", %0\n.option pop" : : "r" (value)); \
    }
    WRITE(0x320) else WRITE(0x323) else WRITE(0x7e0)
}

// clang-format on
#elif defined(TP_REGISTERS)
uint32_t tp_register_read(uint32_t number) {
    uint32_t value;
    __asm volatile("rer %0, %1" : "=r"(value) : "r"(number));
    return value;
}

void tp_register_write(uint32_t number, uint32_t value) {
    __asm volatile("wer %0, %1" : : "r"(value), "r"(number));
}
#endif

uint32_t tp_counter_read(uint32_t kind, uintptr_t address) {
    uint32_t value = 0;
    if (kind == TP_COUNTER_UP) {
        value = *(volatile uint32_t *)address;
    #if defined(__arm__)
    } else if ((kind & 0xff) == TP_COUNTER_ICOUNT) {
        value = *(volatile uint32_t *)address - (kind >> 8);
        value = (value >> 3) * 5 + (((value & 7) * 5 + 7) >> 3);
    } else if (kind == TP_COUNTER_DOWN) {
        value = (0u - *(volatile uint32_t *)address) & 0xffffff;
    #endif
    #if defined(__ARM_ARCH_6M__)
    } else if ((kind & 0xff) == TP_COUNTER_RP2040) {
        uint32_t cycles = 0u - *(volatile uint32_t *)0xe000e018; // SYST_CVR
        value = *(volatile uint32_t *)0x40054028 * (kind >> 8) + address; // TIMERAWL
        value += (cycles - value) & 0xffffff;
    #endif
    #if defined(TP_REGISTERS)
    } else if (kind == TP_COUNTER_REGISTER) {
        value = tp_register_read(address);
    #endif
    #if defined(__x86_64__)
    } else if ((kind & 0xff) == TP_COUNTER_TSC) {
        uint32_t low, high;
        __asm volatile("rdtsc" : "=a"(low), "=d"(high));
        value = (uint32_t)(((uint64_t)high << 32 | low) >> (kind >> 8 & 31));
    #endif
    #if defined(__XTENSA__)
    } else if (kind == TP_COUNTER_CCOUNT) {
        __asm volatile("rsr.ccount %0" : "=r"(value));
    #elif defined(TP_HAVE_CLOCK)
    } else if (kind == TP_COUNTER_CLOCK) {
        struct timespec t;
        clock_gettime(address == 0 ? CLOCK_MONOTONIC : CLOCK_PROCESS_CPUTIME_ID, &t);
        value = (uint32_t)((uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec);
    #endif
    }
    return value;
}

void tp_counter_spin(uint32_t turns) {
    #if defined(__arm__)
    __asm volatile(".syntax unified\n1: subs %0, #1\nbne 1b" : "+l"(turns) : : "cc");
    #elif defined(__riscv)
    __asm volatile("1: addi %0, %0, -1\nbnez %0, 1b" : "+r"(turns));
    #else
    for (volatile uint32_t i = turns; i != 0; --i) {
    }
    #endif
}

#if defined(__arm__) && !(defined(__ARM_FEATURE_MVE) && __ARM_FEATURE_MVE)
void tp_sweep(const uint8_t *from, uint32_t steps) {
    if (steps != 0) {
        // clang-format off
        __asm volatile (
            ".syntax unified\n1:\n"
            "ldmia %0!, {r3, r4, r5, r6}\nldmia %0!, {r3, r4, r5, r6}\n"
            "ldmia %0!, {r3, r4, r5, r6}\nldmia %0!, {r3, r4, r5, r6}\n"
            "subs %1, #1\nbne 1b"
            : "+l" (from), "+l" (steps) : : "r3", "r4", "r5", "r6", "cc", "memory");
        // clang-format on
    }
}
#else
#if defined(__arm__) || defined(__SSE2__)
#define TP_WIDE (1)
typedef uint32_t tp_widest_t __attribute__((vector_size(16), aligned(4)));
#else
typedef uint32_t tp_widest_t;
#endif

void tp_sweep(const uint8_t *from, uint32_t steps) {
    const volatile tp_widest_t *p = (const volatile tp_widest_t *)from;
    for (; steps != 0; --steps) {
        #define FOUR(i) ((void)p[i], (void)p[i + 1], (void)p[i + 2], (void)p[i + 3])
        FOUR(0);
        #if !defined(TP_WIDE)
        FOUR(4), FOUR(8), FOUR(12);
        #endif
        p += TP_SWEEP / sizeof(*p);
    }
}
#endif
