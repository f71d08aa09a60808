// Stands in for the boot ROM of an RP2040 in a simulator, since the chip's own may not be passed on.
//
// Holds what the Pico SDK looks up there (RP2040 datasheet, 2.8.2 and 2.8.3): bits, memory, flash and
// single-precision arithmetic. Flash is memory in the simulator. The arithmetic is the compiler's, so
// its cycles are not those of the chip's ROM. Starts what lies in flash without its second stage.
#include <stddef.h>
#include <stdint.h>

#define XIP_BASE ((uint8_t *)0x10000000)
#define VECTORS ((volatile uint32_t *)0x10000100)
#define VTOR (*(volatile uint32_t *)0xe000ed08)
#define WATCHDOG_CTRL (*(volatile uint32_t *)0x40058000)
#define WATCHDOG_TRIGGER (0x80000000)

__attribute__((noreturn)) void reset(void) {
    VTOR = (uint32_t)(uintptr_t)VECTORS;
    __asm volatile("msr msp, %0\n bx %1" : : "r"(VECTORS[0]), "r"(VECTORS[1]));
    __builtin_unreachable();
}

__attribute__((noreturn)) void start_again(void) {
    WATCHDOG_CTRL = WATCHDOG_TRIGGER;
    for (;;) {
    }
}

// Pairs of a code and an address, up to a code of 0.
uint32_t lookup(const uint16_t *table, uint32_t code) {
    for (; table[0] != 0; table += 2) {
        if (table[0] == code) {
            return table[1];
        }
    }
    return 0;
}

uint32_t count_ones(uint32_t x) {
    uint32_t n = 0;
    for (; x != 0; x &= x - 1) {
        ++n;
    }
    return n;
}

uint32_t reversed(uint32_t x) {
    uint32_t y = 0;
    for (uint32_t i = 0; i < 32; ++i) {
        y = y << 1 | (x >> i & 1);
    }
    return y;
}

uint32_t leading_zeros(uint32_t x) {
    uint32_t n = 32;
    for (; x != 0; x >>= 1) {
        --n;
    }
    return n;
}

uint32_t trailing_zeros(uint32_t x) {
    return x == 0 ? 32 : 31 - leading_zeros(x & -x);
}

void *memset(void *to, int value, size_t n) {
    volatile uint8_t *p = to;
    while (n--) {
        *p++ = value;
    }
    return to;
}

void *memcpy(void *to, const void *from, size_t n) {
    volatile uint8_t *p = to;
    const uint8_t *q = from;
    while (n--) {
        *p++ = *q++;
    }
    return to;
}

void nothing(void) {
}

void erase(uint32_t offset, size_t n) {
    memset(XIP_BASE + offset, 0xff, n);
}

void program(uint32_t offset, const uint8_t *data, size_t n) {
    for (size_t i = 0; i < n; ++i) {
        ((volatile uint8_t *)XIP_BASE)[offset + i] &= data[i];
    }
}

// Conversions of the ROM round towards minus infinity; n is the number of bits behind the point.
static float scaled(float x, int n) {
    for (; n > 0; --n) {
        x *= 2;
    }
    for (; n < 0; ++n) {
        x /= 2;
    }
    return x;
}

int32_t to_int(float x) {
    if (!(x < 2147483648.f)) {
        return INT32_MAX;
    }
    if (x < -2147483648.f) {
        return INT32_MIN;
    }
    int32_t i = (int32_t)x;
    return (float)i > x ? i - 1 : i;
}

uint32_t to_unsigned(float x) {
    return x > 0 ? x < 4294967296.f ? (uint32_t)x : UINT32_MAX : 0;
}

int64_t to_long(float x) {
    if (!(x < 9223372036854775808.f)) {
        return INT64_MAX;
    }
    if (x < -9223372036854775808.f) {
        return INT64_MIN;
    }
    int64_t i = (int64_t)x;
    return (float)i > x ? i - 1 : i;
}

uint64_t to_unsigned_long(float x) {
    return x > 0 ? x < 18446744073709551616.f ? (uint64_t)x : UINT64_MAX : 0;
}

int32_t to_fixed(float x, int n) {
    return to_int(scaled(x, n));
}

uint32_t to_unsigned_fixed(float x, int n) {
    return to_unsigned(scaled(x, n));
}

float from_fixed(int32_t x, int n) {
    return scaled((float)x, -n);
}

float from_unsigned_fixed(uint32_t x, int n) {
    return scaled((float)x, -n);
}

// clang-format off
__asm (
    ".section .rom, \"a\"\n"
    ".word 0x20042000, reset + 1, trap + 1, trap + 1\n"
    ".byte 'M', 'u', 1, 3\n"
    ".hword functions, data, lookup + 1, 0\n"
    "functions:\n"
    ".hword 'P' | '3' << 8, count_ones + 1, 'R' | '3' << 8, reversed + 1\n"
    ".hword 'L' | '3' << 8, leading_zeros + 1, 'T' | '3' << 8, trailing_zeros + 1\n"
    ".hword 'M' | 'S' << 8, memset + 1, 'S' | '4' << 8, memset + 1\n"
    ".hword 'M' | 'C' << 8, memcpy + 1, 'C' | '4' << 8, memcpy + 1\n"
    ".hword 'I' | 'F' << 8, nothing + 1, 'E' | 'X' << 8, nothing + 1\n"
    ".hword 'R' | 'E' << 8, erase + 1, 'R' | 'P' << 8, program + 1\n"
    ".hword 'F' | 'C' << 8, nothing + 1, 'C' | 'X' << 8, nothing + 1\n"
    ".hword 'U' | 'B' << 8, start_again + 1, 0\n"
    "data:\n"
    ".hword 'C' | 'R' << 8, about, 'S' | 'F' << 8, floats, 0\n"
    "about: .asciz \"stand-in\"\n"
    ".balign 4\n"
    "floats:\n" // RP2040 datasheet, 2.8.3.2.2
    ".word __aeabi_fadd, __aeabi_fsub, __aeabi_fmul, __aeabi_fdiv\n"
    ".word trap + 1, trap + 1, trap + 1, to_int + 1\n" // compare, square root
    ".word to_fixed + 1, to_unsigned + 1, to_unsigned_fixed + 1, __aeabi_i2f\n"
    ".word from_fixed + 1, __aeabi_ui2f, from_unsigned_fixed + 1, trap + 1\n"
    ".rept 6\n .word trap + 1\n .endr\n" // trigonometry, powers: MicroPython has its own
    ".word trap + 1, __aeabi_l2f, trap + 1, __aeabi_ul2f\n"
    ".word trap + 1, to_long + 1, trap + 1, to_unsigned_long + 1\n"
    ".word trap + 1, __aeabi_f2d\n"
    ".text\n"
    ".thumb_func\n"
    "trap: bkpt 0\n"
    "b trap\n");
// clang-format on
