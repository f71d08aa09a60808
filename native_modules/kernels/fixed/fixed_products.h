// What all matrix products of the fixed-point path share.
#ifndef TP_FIXED_PRODUCTS_H
#define TP_FIXED_PRODUCTS_H

#include "../isa.h"
#include "fixed.h"

// Bits that the sum over a block of 256, up to 27 of them, loses before it meets 11 bits of a scale.
static inline uint32_t tp_drop(const tp_format_t *format) {
    return format->parts == 1 ? 0 : 7;
}

// How the sum over a row becomes a float: sum * s * 2^e.
typedef struct {
    tp_factor_t s;
    int32_t e;
    uint32_t t; // an fp16 scale with exponent e_b is shifted right by t - e_b
} tp_row_scale_t;

// x: of one token; its first word is its scale.
static inline tp_row_scale_t tp_row_scale(const tp_product_t *p, const void *x) {
    const tp_format_t *format = tp_format(p->type);
    // A block adds less than 2^30, of 256 values less than 2^31 + 2^25: room for all of a row.
    uint32_t blocks = p->cols / TP_BLOCK / format->parts, room = format->parts == 1 ? 0 : 2;
    while (1u << room < blocks * (format->parts == 1 ? 1 : 4)) {
        ++room;
    }
    tp_row_scale_t scale;
    scale.t = p->top + (room == 0 ? 0 : room - 1);
    scale.s = tp_factor(*(const uint32_t *)x);
    scale.e = (int32_t)(scale.t + tp_drop(format)) - 25;
    return scale;
}

// y[i] = tp_times(sums[i], scale.s, scale.e); sums may be y itself.
static inline void tp_rows_to_floats(float *y, const int32_t *sums, uint32_t rows, tp_row_scale_t scale) {
    int32_t e = scale.s.e + scale.e + 127 + 31 + 16;
    if (scale.s.m == 0 || e < 34 || e > 254) { // zero, or at the ends of what a float holds
        for (uint32_t i = 0; i < rows; ++i) {
            y[i] = tp_times(sums[i], scale.s, scale.e);
        }
        return;
    }
    for (uint32_t i = 0; i < rows; ++i) {
        int32_t v = sums[i];
        if (v == 0) {
            y[i] = 0.0f;
            continue;
        }
        int32_t sign = v >> 31;
        uint32_t size = (uint32_t)((v ^ sign) - sign), z = tp_clz(size);
        uint32_t p = ((size << z) >> 16) * scale.s.m;
        if (p < 1u << 31) {
            p <<= 1;
            ++z;
        }
        // the leading bit of p adds one to the exponent
        y[i] = tp_from_bits(((uint32_t)sign & 0x80000000u) + (((uint32_t)e - 1 - z) << 23) + (p >> 8));
    }
}

// sum + dot * d in units of 2^(t - 25); d: fp16, shift: t and the halvings of the activations.
static inline int32_t tp_add_scaled(int32_t sum, int32_t dot, uint32_t d, uint32_t shift) {
    uint32_t e = d >> 10 & 31, m = d & 1023;
    if (e == 0) {
        e = 1;
    } else {
        m |= 1024;
    }
    shift -= e;
    int32_t v = dot * (int32_t)m;
    return sum + ((d >> 15 ? -v : v) >> (shift > 31 ? 31 : shift));
}

#endif
