// What all matrix products of the fixed-point path share: how integer sums are scaled.
#ifndef TP_FIXED_PRODUCTS_H
#define TP_FIXED_PRODUCTS_H

#include "../isa.h"
#include "fixed.h"

// The sum over a block, rounded to the 20 bits that it may have when it is multiplied with the 11 bits of a scale.
static inline int32_t tp_cut(int32_t sum, uint32_t over) {
    return (sum + (1 << over >> 1)) >> over;
}

// How the sum over a row becomes a float, sum * s * 2^e.
typedef struct {
    tp_factor_t s;
    int32_t e;
    uint32_t t; // a product with an fp16 scale of exponent e_b is shifted right by t - e_b
} tp_row_scale_t;

// x: activations of one token; the first word is their scale.
static inline tp_row_scale_t tp_row_scale(const tp_product_t *p, const void *x) {
    const tp_format_t *format = tp_format(p->type);
    // A block adds less than 2^30, one of 256 values less than 2^31 + 2^26: makes room for all blocks of a row.
    // Our own types add at most 2^24 a group, and need no room.
    uint32_t blocks = p->cols / TP_BLOCK / format->parts, room = format->parts == 1 ? 0 : 2;
    while (1u << room < blocks * (format->parts == 1 ? 1 : 4)) {
        ++room;
    }
    tp_row_scale_t scale;
    scale.t = p->top + (room == 0 ? 0 : room - 1);
    scale.s = tp_factor(*(const uint32_t *)x);
    scale.e = (int32_t)(scale.t + format->over) - 25;
    return scale;
}

// Replaces the integer sums in y[rows] by floats, sum * scale.s * 2^scale.e; for our own types sum * scale.s * the
// factor of the row.
void tp_rows_to_floats(const tp_product_t *p, float *y, tp_row_scale_t scale);

// v >> n, for n up to 255
static inline int32_t tp_shift(int32_t v, uint32_t n) {
    #if defined(__thumb__)
    __asm(".syntax unified\n\tasrs %0, %0, %1" : "+l"(v) : "l"(n) : "cc");
    return v;
    #else
    return v >> (n > 31 ? 31 : n);
    #endif
}

// sum + dot * d, in units of 2^(t - 25). d: fp16; shift: t + the halvings of the activations.
static inline int32_t tp_add_scaled(int32_t sum, int32_t dot, uint32_t d, uint32_t shift) {
    int32_t m = (int16_t)d;
    if (m < 0) {
        m &= 0x7fff;
        dot = -dot;
    }
    uint32_t e = (uint32_t)m >> 10;
    if (e != 0) { // else the exponent counts as 1, and there is no leading bit
        m -= (int32_t)(--e << 10);
    }
    return sum + tp_shift(dot * m, shift - 1 - e);
}

#endif
