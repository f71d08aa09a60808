// Products of each type on a core without MicroPython: whether the fast kernel gives the portable
// one's bits, the CRC of the results, and what they cost. For an ESP8266's core in QEMU (lx106), and
// on the host for the bits that it must give.
#include <stddef.h>
#include <stdint.h>

#include "types.h"

#if defined(__XTENSA__)

static int simcall(int number, int a, int b, int c) {
    register int a2 __asm("a2") = number;
    register int a3 __asm("a3") = a;
    register int a4 __asm("a4") = b;
    register int a5 __asm("a5") = c;
    __asm volatile("simcall" : "+r"(a2), "+r"(a3) : "r"(a4), "r"(a5) : "memory");
    return a2;
}

static void put(const char *text, size_t size) {
    simcall(4, 1, (int)text, (int)size);
}

static uint32_t now(void) {
    uint32_t count;
    __asm volatile("rsr %0, ccount" : "=r"(count));
    return count;
}

// Two instructions a turn.
static void spin(uint32_t turns) {
    __asm volatile("1: addi %0, %0, -1\n bnez %0, 1b" : "+r"(turns));
}

// What the compiler calls and Debian's library for this core lacks: an ESP8266 has it in its ROM.

static uint32_t divide(uint32_t a, uint32_t b, uint32_t *rest) {
    uint32_t quotient = 0, left = 0;
    for (int i = 31; i >= 0; --i) {
        left = left << 1 | (a >> i & 1);
        quotient <<= 1;
        if (left >= b) {
            left -= b;
            quotient |= 1;
        }
    }
    *rest = left;
    return quotient;
}

uint32_t __udivsi3(uint32_t a, uint32_t b);
uint32_t __udivsi3(uint32_t a, uint32_t b) {
    uint32_t rest;
    return divide(a, b, &rest);
}

uint32_t __umodsi3(uint32_t a, uint32_t b);
uint32_t __umodsi3(uint32_t a, uint32_t b) {
    uint32_t rest;
    divide(a, b, &rest);
    return rest;
}

// Quantizing divides once a token; nothing else here is float arithmetic.
float __divsf3(float a, float b);
float __divsf3(float a, float b) {
    union {
        float f;
        uint32_t u;
    } x = { a }, z = { b };
    uint32_t m = (x.u & 0x7fffffu) | 0x800000u, d = (z.u & 0x7fffffu) | 0x800000u, quotient = 0;
    int32_t e = (int32_t)(x.u >> 23 & 255) - (int32_t)(z.u >> 23 & 255) + 127;
    if (m < d) {
        m <<= 1;
        --e;
    }
    for (int i = 0; i < 25; ++i) { // one bit more than a mantissa has
        quotient <<= 1;
        if (m >= d) {
            m -= d;
            quotient |= 1;
        }
        m <<= 1;
    }
    quotient += (quotient & 1) && (m != 0 || (quotient & 2)); // to the nearest, ties to even
    x.u = ((x.u ^ z.u) & 0x80000000u) + ((uint32_t)(e - 1) << 23) + (quotient >> 1);
    return x.f;
}

static float never(void) {
    simcall(1, 3, 0, 0);
    return 0;
}
#define NEVER(name) \
    float name(float a, float b); \
    float name(float a, float b) { \
        (void)a; \
        (void)b; \
        return never(); \
    }
NEVER(__addsf3)
NEVER(__mulsf3)
float __floatsisf(int a);
float __floatsisf(int a) {
    (void)a;
    return never();
}

void *memcpy(void *to, const void *from, size_t n) {
    for (size_t i = 0; i < n; ++i) {
        ((volatile uint8_t *)to)[i] = ((const uint8_t *)from)[i];
    }
    return to;
}

void *memset(void *to, int value, size_t n) {
    for (size_t i = 0; i < n; ++i) {
        ((volatile uint8_t *)to)[i] = (uint8_t)value;
    }
    return to;
}

#else
#include <stdio.h>

static void put(const char *text, size_t size) {
    fwrite(text, 1, size, stdout);
}

static uint32_t now(void) {
    return 0;
}

static void spin(uint32_t turns) {
    (void)turns;
}
#endif

static void put_number(uint32_t value, char after) {
    char text[12];
    size_t at = sizeof(text);
    text[--at] = after;
    do {
        text[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    put(text + at, sizeof(text) - at);
}

#define ROWS (64)
#define COLS (256)

static uint32_t weights[ROWS * COLS];
static float x[COLS];
static uint32_t q[2][4 * COLS];
static float y[2][ROWS];

static uint32_t seed = 1;

static uint32_t noise(void) {
    seed = seed * 69069u + 1u;
    return seed >> 16;
}

// Random blocks with scales of fp16 near 0.01; our own types begin a row with floats.
static void fill(uint32_t type) {
    uint8_t *w = (uint8_t *)weights;
    size_t bytes = ROWS * tp_row_bytes(type, COLS);
    for (size_t i = 0; i < bytes; ++i) {
        w[i] = (uint8_t)noise();
    }
    const tp_format_t *format = tp_format(type);
    if (format->bytes == 0) {
        size_t rows = (size_t)1 << tp_together(type), size = tp_own(type, COLS).size;
        for (size_t r = 0; r < ROWS / rows; ++r) {
            for (size_t i = 0; i < rows; ++i) {
                ((float *)(void *)(w + r * size))[i] = 0.01f;
            }
        }
        return;
    }
    for (size_t at = 0; at < bytes; at += format->bytes) {
        w[at + format->d_at + 1] = 0x20;
        if (format->m_at != TP_NONE) {
            w[at + format->m_at + 1] = 0xa0;
        }
    }
}

int main(void) {
    static const uint8_t types[] = { TP_Q4_0, TP_Q8_0, TP_TP2, TP_TPT, TP_TP3, TP_Q4_K, TP_Q6_K, TP_Q5_0, TP_TQ2_0 };
    uint32_t before = now();
    spin(1000000);
    put("turns 1000000 ", 14);
    put_number(now() - before, '\n');
    for (uint32_t i = 0; i < COLS; ++i) {
        // either sign, 0.5 to 8
        ((uint32_t *)(void *)x)[i] = (noise() << 16 & 0x807f0000u) | (126u + (noise() & 3)) << 23 | noise();
    }
    for (uint32_t i = 0; i < sizeof(types); ++i) {
        uint32_t counts[2];
        fill(types[i]);
        uint32_t top = tp_scan(types[i], (const uint8_t *)weights, ROWS, COLS);
        for (int portable = 0; portable < 2; ++portable) {
            tp_quantize(types[i], (uint8_t *)q[portable], x, COLS, 1, portable ? TP_PORTABLE : 0);
            tp_product_t p = { types[i], ROWS, COLS, 1, top, y[portable], (const uint8_t *)weights, q[portable] };
            uint32_t start = now();
            (portable ? tp_matmul_portable : tp_matmul)(&p);
            counts[portable] = now() - start;
        }
        int same = 1;
        for (uint32_t r = 0; r < sizeof(y[0]); ++r) {
            same &= ((const uint8_t *)y[0])[r] == ((const uint8_t *)y[1])[r];
        }
        put_number(types[i], ' ');
        put_number((uint32_t)same, ' ');
        put_number(tp_crc32(0, (const uint8_t *)y[0], sizeof(y[0])), ' ');
        put_number(counts[0], ' ');
        put_number(counts[1], '\n');
    }
    put(tp_kernels_variant, 6);
    put("\n", 1);
    #if defined(__XTENSA__)
    simcall(1, 0, 0, 0);
    #endif
    return 0;
}
