// Scalar functions with the same bits on every target: they use only IEEE single-precision add, subtract, multiply and
// divide, and integers, in a fixed order. Compile with -ffp-contract=off and without -ffast-math.
#ifndef TP_MATH_H
#define TP_MATH_H

#include <stdint.h>

#if defined(__ARM_FEATURE_MVE) && defined(__GNUC__)
// MVE treats subnormal floats as 0: the compiler must not vectorize by itself.
#pragma GCC optimize("no-tree-loop-vectorize", "no-tree-slp-vectorize")
#endif

static inline float tp_from_bits(uint32_t bits) {
    // clang-format off
    union { uint32_t u; float f; } v = { .u = bits };
    // clang-format on
    return v.f;
}

static inline uint32_t tp_to_bits(float x) {
    // clang-format off
    union { float f; uint32_t u; } v = { .f = x };
    // clang-format on
    return v.u;
}

// IEEE binary16 to binary32, exact.
static inline float tp_from_f16(uint32_t h) {
    #if defined(__ARM_FP) && defined(__ARM_FEATURE_DSP)
    float f = tp_from_bits(h);
    __asm("vcvtb.f32.f16 %0, %0" : "+t"(f));
    return f;
    #else
    uint32_t sign = (h & 0x8000u) << 16;
    uint32_t exponent = (h >> 10) & 31u;
    uint32_t mantissa = h & 1023u;
    if (exponent == 0) {
        float x = (float)(int32_t)mantissa * 0x1p-24f;
        return sign ? -x : x;
    }
    if (exponent == 31) {
        return tp_from_bits(sign | 0x7f800000u | mantissa << 13);
    }
    return tp_from_bits(sign | (exponent + 112u) << 23 | mantissa << 13);
    #endif
}

// IEEE binary32 to binary16, rounded to nearest, ties to even. Too great numbers become infinite.
static inline uint16_t tp_to_f16(float x) {
    uint32_t bits = tp_to_bits(x), sign = bits >> 16 & 0x8000u, size = bits & 0x7fffffffu;
    if (size > 0x7f800000u) {
        return (uint16_t)(sign | 0x7e00u);
    }
    if (size >= 0x47800000u) {
        return (uint16_t)(sign | 0x7c00u);
    }
    int32_t drop = 13;
    uint32_t m = size - 0x38000000u; // with the exponent of binary16
    if (size < 0x38800000u) { // subnormal
        drop = 126 - (int32_t)(size >> 23);
        if (drop > 24) {
            return (uint16_t)sign;
        }
        m = (size & 0x7fffffu) | 0x800000u;
    }
    m += (1u << (drop - 1)) - 1 + (m >> drop & 1);
    return (uint16_t)(sign | m >> drop);
}

// As tp_exp, for x not above 88.
static inline float tp_exp_to_88(float x) {
    if (!(x > -87.0f)) {
        return x != x ? x : 0.0f;
    }
    float scaled = x * 1.44269504f;
    int32_t k = (int32_t)(scaled + (scaled < 0.0f ? -0.5f : 0.5f));
    float kf = (float)k;
    float r = (x - kf * 0.693359375f) + kf * 2.12194440e-4f; // ln 2 in two parts
    float p = 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    return p * tp_from_bits((uint32_t)(k + 127) << 23);
}

// e^x with a relative error below 3e-7 for -87 < x <= 88. Below that range 0, above it e^88; NaN stays NaN.
static inline float tp_exp(float x) {
    return tp_exp_to_88(x > 88.0f ? 88.0f : x);
}

// ln x for normal x > 0. The error is below 2e-7, absolute near 1 and relative elsewhere.
static inline float tp_log(float x) {
    uint32_t bits = tp_to_bits(x);
    int32_t e = (int32_t)(bits >> 23) - 127;
    float m = tp_from_bits((bits & 0x7fffffu) | 0x3f800000u);
    if (m > 1.41421356f) {
        m *= 0.5f;
        e += 1;
    }
    float s = (m - 1.0f) / (m + 1.0f);
    float z = s * s;
    float p = 0.0f;
    for (int32_t i = 9; i > 0; i -= 2) {
        p = p * z + 1.0f / (float)i;
    }
    return 2.0f * s * p + (float)e * 0.69314718f;
}

// 1 / sqrt(x) for x >= 0 by Newton's method, with a relative error below 3e-7. Finite at 0.
static inline float tp_rsqrt(float x) {
    float half = 0.5f * x;
    float y = tp_from_bits(0x5f3759dfu - (tp_to_bits(x) >> 1));
    for (int i = 0; i < 4; ++i) {
        y = y * (1.5f - half * y * y);
    }
    return y;
}

// cos x and sin x with an absolute error below 2e-6 for 0 <= x <= 8192. pi/2 is subtracted in three parts; the
// polynomials are those of sinf and cosf in Cephes (S. Moshier).
static inline void tp_cos_sin(float x, float *cos_out, float *sin_out) {
    if (!(x < 65536.0f)) {
        x = 0.0f; // beyond any context; the conversion below must stay defined
    }
    int32_t k = (int32_t)(x * 0.636619772f + 0.5f);
    float kf = (float)k;
    float r = ((x - kf * 1.5703125f) - kf * 4.837512969970703125e-4f) - kf * 7.549789954891e-8f;
    float z = r * r;
    float s = ((-1.9515295891e-4f * z + 8.3321608736e-3f) * z - 1.6666654611e-1f) * z * r + r;
    float c =
        ((2.443315711809948e-5f * z - 1.388731625493765e-3f) * z + 4.166664568298827e-2f) * z * z - 0.5f * z + 1.0f;
    switch (k & 3) {
        case 0:
            *cos_out = c;
            *sin_out = s;
            break;
        case 1:
            *cos_out = -s;
            *sin_out = c;
            break;
        case 2:
            *cos_out = -c;
            *sin_out = -s;
            break;
        default:
            *cos_out = s;
            *sin_out = -c;
            break;
    }
}

#endif
