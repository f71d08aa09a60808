// Numbers of the fixed-point path. Values are floats between operators and integers within them, so that the inner
// loops have no float arithmetic. Factors have 16 bits, so that one 32-bit multiplication is enough. docs/kernels.md
// states the errors.
#ifndef TP_FIXED_H
#define TP_FIXED_H

#include "../tp_math.h"

// m * 2^e, with m from 2^15 to 2^16 - 1, or 0.
typedef struct {
    uint32_t m;
    int32_t e;
} tp_factor_t;

// The number of leading zeros of x, which is not 0.
static inline uint32_t tp_clz(uint32_t x) {
    #if defined(__ARM_FEATURE_CLZ) || defined(__x86_64__)
    return (uint32_t)__builtin_clz(x);
    #else
    uint32_t n = 0;
    if (x < 1u << 16) {
        n += 16;
        x <<= 16;
    }
    if (x < 1u << 24) {
        n += 8;
        x <<= 8;
    }
    if (x < 1u << 28) {
        n += 4;
        x <<= 4;
    }
    if (x < 1u << 30) {
        n += 2;
        x <<= 2;
    }
    return n + (x < 1u << 31);
    #endif
}

// The number of the highest bit of x, 0 to 31, which is likely to be near guess. x is not 0.
static inline uint32_t tp_highest_bit(uint32_t x, uint32_t guess) {
    #if defined(__ARM_FEATURE_CLZ) || defined(__x86_64__)
    (void)guess;
    return 31 - tp_clz(x);
    #else
    uint32_t rest = x >> guess;
    while (rest == 0) {
        rest = x >> --guess;
    }
    while (rest > 1) {
        rest >>= 1;
        ++guess;
    }
    return guess;
    #endif
}

// Shifts m so that its highest bit is bit 31, and adjusts e so that m * 2^e stays the same. zeros: the most leading
// zeros that m can have.
static inline uint32_t tp_raise(uint32_t m, uint32_t zeros, int32_t *e) {
    #if defined(__ARM_FEATURE_CLZ) || defined(__x86_64__)
    zeros = tp_clz(m);
    *e -= (int32_t)zeros;
    return m << zeros;
    #else
    for (; zeros > 0 && m < 1u << 31; --zeros) {
        m <<= 1;
        --*e;
    }
    return m;
    #endif
}

// Shifts m so that its highest bit is bit 23, and adjusts e so that m * 2^e stays the same. m is not 0, and usually
// great.
static inline uint32_t tp_mantissa(uint32_t m, int32_t *e) {
    #if defined(__ARM_FEATURE_CLZ) || defined(__x86_64__)
    uint32_t zeros = tp_clz(m);
    *e += 8 - (int32_t)zeros;
    return m << zeros >> 8;
    #else
    // the shift to the right by the upper five bits of m: 8 - leading zeros
    // clang-format off
    static const uint8_t right[32] = {
        3, 4, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7, 7, 7, 7, 7, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8,
    };
    // clang-format on
    for (; m >> 27 == 0; m <<= 5) {
        *e -= 5;
    }
    *e += right[m >> 27];
    return m >> right[m >> 27];
    #endif
}

// The magnitude of a float, given by its bits, with 16 bits of mantissa. Subnormal numbers count as 0.
static inline tp_factor_t tp_factor(uint32_t bits) {
    uint32_t e = bits >> 23 & 255;
    tp_factor_t f = { e == 0 ? 0 : (bits & 0x7fffffu) >> 8 | 0x8000u, (int32_t)e - 127 - 15 };
    return f;
}

// The float sign * m * 2^e, rounded towards 0. sign: in bit 31; m: at least 2^31. Too small becomes 0, too great
// becomes the greatest float.
static inline float tp_pack(uint32_t sign, uint32_t m, int32_t e) {
    e += 127 + 31;
    if (e <= 0) {
        return 0.0f;
    }
    if (e >= 255) {
        return tp_from_bits((sign & 0x80000000u) | 0x7f7fffffu);
    }
    return tp_from_bits((sign & 0x80000000u) | (uint32_t)e << 23 | (m >> 8 & 0x7fffffu));
}

// v * 2^e as a float
static inline float tp_float(int32_t v, int32_t e) {
    if (v == 0) {
        return 0.0f;
    }
    uint32_t size = v < 0 ? 0u - (uint32_t)v : (uint32_t)v;
    uint32_t z = tp_clz(size);
    return tp_pack((uint32_t)v, size << z, e - (int32_t)z);
}

// sign * a * b * 2^e as a float. sign: in bit 31; a, b: of 14 to 16 bits.
static inline float tp_product(uint32_t sign, uint32_t a, uint32_t b, int32_t e) {
    uint32_t p = a * b;
    if (p == 0) {
        return 0.0f;
    }
    while (p < 1u << 31) {
        p <<= 1;
        --e;
    }
    return tp_pack(sign, p, e);
}

// v * f * 2^e as a float, with a relative error below 2^-14.
static inline float tp_times(int32_t v, tp_factor_t f, int32_t e) {
    if (v == 0 || f.m == 0) {
        return 0.0f;
    }
    uint32_t size = v < 0 ? 0u - (uint32_t)v : (uint32_t)v;
    uint32_t z = tp_clz(size);
    return tp_product((uint32_t)v, (size << z) >> 16, f.m, e + f.e + 16 - (int32_t)z);
}

// A float, given by its bits, as a multiple of 2^e, rounded. e must be so great that it fits 30 bits. Subnormal numbers
// count as 0.
static inline int32_t tp_fix(uint32_t bits, int32_t e) {
    uint32_t m = (bits & 0x7fffffu) | 0x800000u, exponent = bits >> 23 & 255;
    int32_t shift = e + 150 - (int32_t)exponent;
    if (shift > 24 || exponent == 0) {
        return 0;
    }
    if (shift > 0) {
        m = (m + (1u << (shift - 1))) >> shift;
    } else {
        m <<= -shift;
    }
    return bits >> 31 ? -(int32_t)m : (int32_t)m;
}

// Returns the greatest magnitude of n floats, as the bits of a float.
uint32_t tp_greatest(const float *x, uint32_t n);

// The e with which tp_fix makes an integer of at most 2^bits from a float of this magnitude. size: bits of the float.
static inline int32_t tp_fix_exponent(uint32_t size, int32_t bits) {
    return (int32_t)(size >> 23) - 126 - bits;
}

// 2^-(f / 2^16) * 2^16 for f below 2^16, with an error below 4e-5 * 2^16.
static inline uint32_t tp_exp2_fraction(uint32_t f) {
    int32_t p = 448;
    p = -3487 + (p * (int32_t)f >> 16);
    p = 15691 + (p * (int32_t)f >> 16);
    p = -45420 + (p * (int32_t)f >> 16);
    // 65536 + p * f does not fit in 32 bits for f near 1
    p = 65536 + (p * (int32_t)(f >> 1) >> 15);
    return (uint32_t)(p > 65535 ? 65535 : p);
}

// The scale for rounding floats to int8: r / 2^24 is 127 / max, for mantissas of 16 bits.
typedef struct {
    uint32_t max; // bits of a float
    uint32_t r;
} tp_int8_scale_t;

// Returns the scale of n floats. Infinite and NaN count as the greatest float; if all are below 2^-87, they become 0.
tp_int8_scale_t tp_int8_scale(const float *x, uint32_t n);

// to[n] = x[n] * 127 / max * 2^k, rounded half away from 0. |x| * 2^k must not be above max.
void tp_to_int8(int8_t *to, const float *x, uint32_t n, tp_int8_scale_t scale, int32_t k);

// How often max can be halved and still be at least size, at most 15 times. Both are bits of floats.
static inline int32_t tp_halvings(uint32_t max, uint32_t size) {
    if (size < 0x800000u || max == 0) {
        return 0;
    }
    int32_t k = (int32_t)(max >> 23) - (int32_t)(size >> 23) - ((size & 0x7fffffu) > (max & 0x7fffffu));
    return k < 0 ? 0 : k > 15 ? 15 : k;
}

#endif
