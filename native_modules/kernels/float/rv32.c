// RV32IM: shift, AND, MUL and ADD, two weights at a time; see nofpu.h.
#include "../isa.h"

#if defined(TP_ISA_RV32)

const char tp_kernels_variant[] = "rv32";

#define TP_ROWS (4)
#include "nofpu.h"

// Words lie on even addresses only, and a core may trap on those that are no multiple of 4.
static inline uint32_t load_word(const uint8_t *p, int aligned) {
    const uint16_t *h = (const uint16_t *)p;
    return aligned ? *(const uint32_t *)p : h[0] | (uint32_t)h[1] << 16;
}

// In assembly, and with a fence after each turn, because the compiler left to itself begins all of
// a block's products and loads at once and keeps them on the stack.
#define FENCE() __asm volatile ("" : : : "memory")

static inline uint32_t q4_0_word(uint32_t sum, uint32_t w, uint32_t x0, uint32_t x1, uint32_t x2, uint32_t x3) {
    uint32_t t;
    __asm volatile (
        "and %1, %2, %7\nmul %1, %1, %3\nadd %0, %0, %1\n"
        "srli %1, %2, 4\nand %1, %1, %7\nmul %1, %1, %4\nadd %0, %0, %1\n"
        "srli %1, %2, 8\nand %1, %1, %7\nmul %1, %1, %5\nadd %0, %0, %1\n"
        "srli %1, %2, 12\nand %1, %1, %7\nmul %1, %1, %6\nadd %0, %0, %1\n"
        : "+&r" (sum), "=&r" (t) : "r" (w), "r" (x0), "r" (x1), "r" (x2), "r" (x3), "r" (0x000f000f));
    return sum;
}

static inline int32_t multiply_add(int32_t sum, int32_t w, int32_t x) {
    __asm volatile ("mul %1, %1, %2\nadd %0, %0, %1" : "+&r" (sum), "+r" (w) : "r" (x));
    return sum;
}

static inline void q4_0_block(int32_t *out, const uint8_t *w0, size_t stride, const uint32_t *x, int aligned) {
    const uint8_t *w1 = w0 + stride, *w2 = w1 + stride, *w3 = w2 + stride;
    uint32_t s0 = x[0], s1 = s0, s2 = s0, s3 = s0;
    ++x;
    #pragma GCC unroll 4
    for (uint32_t c = 0; c < TP_BLOCK / 2; c += 4) {
        uint32_t x0 = x[c], x1 = x[c + 1], x2 = x[c + 2], x3 = x[c + 3];
        s0 = q4_0_word(s0, load_word(w0 + c, aligned), x0, x1, x2, x3);
        s1 = q4_0_word(s1, load_word(w1 + c, aligned), x0, x1, x2, x3);
        s2 = q4_0_word(s2, load_word(w2 + c, aligned), x0, x1, x2, x3);
        s3 = q4_0_word(s3, load_word(w3 + c, aligned), x0, x1, x2, x3);
        FENCE();
    }
    out[0] = (int32_t)s0 >> 16;
    out[1] = (int32_t)s1 >> 16;
    out[2] = (int32_t)s2 >> 16;
    out[3] = (int32_t)s3 >> 16;
}

static inline void q8_0_block(int32_t *out, const uint8_t *w, size_t stride, const uint32_t *x) {
    const int8_t *w0 = (const int8_t *)w, *w1 = w0 + stride, *w2 = w1 + stride, *w3 = w2 + stride;
    int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    #pragma GCC unroll 32
    for (uint32_t j = 0; j < TP_BLOCK; ++j) {
        int32_t v = (int32_t)x[j];
        s0 = multiply_add(s0, w0[j], v);
        s1 = multiply_add(s1, w1[j], v);
        s2 = multiply_add(s2, w2[j], v);
        s3 = multiply_add(s3, w3[j], v);
        FENCE();
    }
    out[0] = s0;
    out[1] = s1;
    out[2] = s2;
    out[3] = s3;
}

static void tp_dots(uint32_t type, int32_t *out, const uint8_t *w, size_t stride, const uint32_t *x,
    uint32_t blocks) {
    w += 2;
    for (; blocks > 0; --blocks, out += 4) {
        if (type == TP_Q8_0) {
            q8_0_block(out, w, stride, x);
            w += 34;
            x += 32;
            continue;
        }
        if ((((uintptr_t)w | stride) & 3) == 0) {
            q4_0_block(out, w, stride, x, 1);
        } else {
            q4_0_block(out, w, stride, x, 0);
        }
        w += 18;
        x += 17;
    }
}

#endif
