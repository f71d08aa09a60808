// Float functions that the compiler calls, smaller than those of its library, for native modules of rv32imc (see
// small.h).
#include "kernels/fixed/fixed.h"

int __gtsf2(float a, float b);
int tp_ltsf2(float a, float b);
float tp_addsf3(float a, float b);
float tp_subsf3(float a, float b);
float tp_floatsisf(int32_t v);

#define SIGN (1u << 31)
#define INFINITE (0x7f800000u)

// Less than 0 if a < b.
int tp_ltsf2(float a, float b) {
    return -__gtsf2(b, a);
}

// The float nearest to m * 2^(e - 157), ties to even. m is not 0; its lowest bit also stands for all bits that were
// below.
static float pack(uint32_t sign, int32_t e, uint32_t m) {
    if (m >> 31 != 0) {
        m = m >> 1 | (m & 1);
        ++e;
    } else if (m >> 30 == 0) {
        int32_t left = (int32_t)tp_clz(m) - 1;
        left = left < e - 1 ? left : e - 1; // else subnormal
        m <<= left;
        e -= left;
    }
    // the leading bit adds 1 to the exponent
    uint32_t bits = ((uint32_t)(e - 1) << 23) + (m >> 7);
    bits += ((m & 127) + (bits & 1)) > 64;
    return tp_from_bits(sign | (bits < INFINITE ? bits : INFINITE));
}

float tp_floatsisf(int32_t v) {
    uint32_t bits = (uint32_t)v, sign = bits & SIGN;
    return v == 0 ? 0.0f : pack(sign, 157, sign ? 0u - bits : bits);
}

// The mantissa of a float, with its leading bit at bit 30. *e: its exponent field, 1 if it is subnormal.
static inline __attribute__((always_inline)) uint32_t unpack(uint32_t bits, int32_t *e) {
    uint32_t m = bits << 9 >> 2;
    *e = (int32_t)(bits << 1 >> 24);
    if (*e != 0) {
        return m | 1u << 30;
    }
    *e = 1;
    return m;
}

float tp_addsf3(float first, float second) {
    uint32_t a = tp_to_bits(first), b = tp_to_bits(second);
    if ((b & ~SIGN) > (a & ~SIGN)) {
        uint32_t c = a;
        a = b;
        b = c;
    }
    if ((a & ~SIGN) >= INFINITE) {
        return tp_from_bits((a & ~SIGN) > INFINITE || (a ^ b) == SIGN ? 0x7fc00000u : a);
    }
    int32_t e, less;
    uint32_t m = unpack(a, &e), n = unpack(b, &less);
    less = e - less;
    if (less != 0) {
        less = less > 31 ? 31 : less;
        n = n >> less | (n << (32 - less) != 0);
    }
    m = (a ^ b) & SIGN ? m - n : m + n;
    return m == 0 ? tp_from_bits(a & b & SIGN) : pack(a & SIGN, e, m);
}

float tp_subsf3(float a, float b) {
    return tp_addsf3(a, tp_from_bits(tp_to_bits(b) ^ SIGN));
}
