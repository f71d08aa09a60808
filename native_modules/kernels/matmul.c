// Matrix products on quantized weights: what is common to all variants of the product.
#include "isa.h"

#include "tp_math.h"

size_t tp_row_bytes(uint32_t type, uint32_t cols) {
    if (type == TP_F32) {
        return (size_t)cols * 4;
    }
    if (type == TP_F16) {
        return (size_t)cols * 2;
    }
    if (cols % TP_BLOCK != 0) {
        return 0;
    }
    if (type == TP_Q8_0) {
        return (size_t)cols / TP_BLOCK * 34;
    }
    if (type == TP_Q4_0) {
        return (size_t)cols / TP_BLOCK * 18;
    }
    return 0;
}

size_t tp_q8_bytes(uint32_t type, uint32_t cols) {
    size_t own = tp_isa_x_bytes(type, cols);
    return own != 0 ? own : tp_portable_x_bytes(cols);
}

void tp_matmul(uint32_t type, float *y, const uint8_t *w, const void *x, uint32_t rows,
    uint32_t cols, uint32_t n) {
    if (tp_isa_x_bytes(type, cols) != 0) {
        tp_isa_matmul(type, y, w, x, rows, cols, n);
    } else {
        tp_matmul_portable(type, y, w, x, rows, cols, n);
    }
}

void tp_dequantize_row(uint32_t type, float *y, const uint8_t *w, uint32_t cols) {
    if (type == TP_F32) {
        const float *f = (const float *)w;
        for (uint32_t i = 0; i < cols; ++i) {
            y[i] = f[i];
        }
    } else if (type == TP_F16) {
        for (uint32_t i = 0; i < cols; ++i) {
            y[i] = tp_from_f16(tp_load_u16(w + 2 * i));
        }
    } else if (type == TP_Q8_0) {
        for (uint32_t b = 0; b < cols; b += TP_BLOCK, w += 34) {
            float d = tp_from_f16(tp_load_u16(w));
            for (uint32_t j = 0; j < TP_BLOCK; ++j) {
                y[b + j] = d * (float)(int8_t)w[2 + j];
            }
        }
    } else if (type == TP_Q4_0) {
        for (uint32_t b = 0; b < cols; b += TP_BLOCK, w += 18) {
            float d = tp_from_f16(tp_load_u16(w));
            for (uint32_t j = 0; j < TP_BLOCK / 2; ++j) {
                y[b + j] = d * (float)((int32_t)(w[2 + j] & 15) - 8);
                y[b + j + 16] = d * (float)((int32_t)(w[2 + j] >> 4) - 8);
            }
        }
    }
}

// The definition: x / d rounded half away from 0, with all its roundings. Never fails.
static void quantize_plainly(int8_t *values, const float *x, float inverse) {
    for (uint32_t j = 0; j < TP_BLOCK; ++j) {
        float v = x[j] * inverse;
        v += v < 0.0f ? -0.5f : 0.5f;
        // Written so that NaN is caught too: its conversion to an integer is undefined.
        if (!(v < 127.5f)) {
            v = 127.0f;
        }
        if (v < -127.5f) {
            v = -127.0f;
        }
        values[j] = (int8_t)(int32_t)v;
    }
}

#if defined(TP_SOFT_FLOAT)

// What (int32_t)(x * inverse + 0.5f) gives, from the bits of x >= 0 and those of an inverse with
// which the product is below 128: p / 2^shift is the product before its rounding.
static inline int32_t scale_and_round(uint32_t x, uint32_t inverse) {
    int32_t shift = 300 - (int32_t)(inverse >> 23) - (int32_t)(x >> 23);
    if (shift > 49) {
        return 0; // below a quarter
    }
    uint64_t p = (uint64_t)((x & 0x7fffffu) | 0x800000u) * ((inverse & 0x7fffffu) | 0x800000u);
    uint32_t hi = (uint32_t)(p >> 32), lo = (uint32_t)p;
    // Half of the last of 24 places: from so far below a tie the rounded product is the tie.
    uint32_t half = hi < 0x8000u ? 1u << 22 : 1u << 23;
    uint32_t sum = lo + half;
    hi += (sum < half) + (1u << (shift - 33));
    int32_t q = (int32_t)(hi >> (shift - 32));
    if (q == 0) {
        // The float just below 0.5 and 0.5 make 1: that sum is rounded as well.
        q = p + 3 * half - 1 >= (uint64_t)1 << (shift - 1);
    }
    return q;
}

#else

static inline int32_t scale_and_round(uint32_t x, float inverse) {
    return (int32_t)(tp_from_bits(x) * inverse + 0.5f);
}

#endif

// Returns the scale of one block and writes its values.
static float quantize_block(int8_t *values, const float *x) {
    // floats without sign are ordered as their bits are
    uint32_t max = 0;
    for (uint32_t j = 0; j < TP_BLOCK; ++j) {
        uint32_t a = tp_to_bits(x[j]) & 0x7fffffffu;
        max = a > max ? a : max;
    }
    if (max - 0x0f000000u >= 0x70000000u - 0x0f000000u) {
        // Below 2^-97, above 2^97, infinite or no number (which does not count for the scale).
        float greatest = 0.0f;
        for (uint32_t j = 0; j < TP_BLOCK; ++j) {
            float a = tp_from_bits(tp_to_bits(x[j]) & 0x7fffffffu);
            greatest = a > greatest ? a : greatest;
        }
        float d = greatest / 127.0f;
        quantize_plainly(values, x, d > 0.0f ? 1.0f / d : 0.0f);
        return d;
    }
    float d = tp_from_bits(max) / 127.0f;
    #if defined(TP_SOFT_FLOAT)
    uint32_t inverse = tp_to_bits(1.0f / d);
    #else
    float inverse = 1.0f / d;
    #endif
    for (uint32_t j = 0; j < TP_BLOCK; ++j) {
        uint32_t bits = tp_to_bits(x[j]);
        int32_t sign = (int32_t)bits >> 31;
        values[j] = (int8_t)((scale_and_round(bits & 0x7fffffffu, inverse) ^ sign) - sign);
    }
    return d;
}

void tp_quantize(uint32_t type, uint8_t *q, const float *x, uint32_t cols, uint32_t n) {
    int own = tp_isa_x_bytes(type, cols) != 0;
    int8_t values[TP_BLOCK];
    for (uint32_t t = 0; t < n; ++t) {
        for (uint32_t b = 0; b < cols / TP_BLOCK; ++b, x += TP_BLOCK) {
            float d = quantize_block(values, x);
            if (own) {
                tp_isa_put(type, q, cols, n, t, b, values, d);
            } else {
                tp_portable_put(q, cols, t, b, values, d);
            }
        }
    }
}
