// Quantizes activations to int8, with a float scale for each group.
#include "../isa.h"

#if defined(TP_PATH_FLOAT)

#include "../tp_math.h"
#include "int8_run.h"
#include "plain.h"

const char tp_kernels_path[6] = "float";

// Defines the rounding: values = (x - values * d) * inverse, rounded half away from 0. Takes any float.
static void quantize_plainly(int8_t *values, const float *x, uint32_t count, float inverse, float d) {
    for (uint32_t j = 0; j < count; ++j) {
        float v = (x[j] - (float)values[j] * d) * inverse;
        v += v < 0.0f ? -0.5f : 0.5f;
        // catches NaN too, whose conversion to an integer is undefined
        if (!(v < 127.5f)) {
            v = 127.0f;
        }
        if (v < -127.5f) {
            v = -127.0f;
        }
        values[j] = (int8_t)(int32_t)v;
    }
}

float PLAIN(int8_run)(int8_t *values, const float *x, uint32_t count) {
    // floats without their sign are ordered as their bits are
    uint32_t max = 0;
    #pragma GCC unroll 8
    for (uint32_t j = 0; j < count; ++j) {
        uint32_t a = tp_to_bits(x[j]) << 1;
        max = a > max ? a : max;
    }
    max >>= 1;
    if (max - 0x0f000000u >= 0x70000000u - 0x0f000000u) {
        // below 2^-97, above 2^97, infinite or NaN (which does not count for the scale)
        float greatest = 0.0f;
        for (uint32_t j = 0; j < count; ++j) {
            float a = tp_from_bits(tp_to_bits(x[j]) & 0x7fffffffu);
            greatest = a > greatest ? a : greatest;
            values[j] = 0;
        }
        float d = greatest / 127.0f;
        quantize_plainly(values, x, count, d > 0.0f ? 1.0f / d : 0.0f, 0.0f);
        return d;
    }
    float d = tp_from_bits(max) / 127.0f;
    float inverse = 1.0f / d;
    #pragma GCC unroll 8
    for (uint32_t j = 0; j < count; ++j) {
        uint32_t bits = tp_to_bits(x[j]);
        int32_t sign = (int32_t)bits >> 31;
        int32_t v = (int32_t)(tp_from_bits(bits & 0x7fffffffu) * inverse + 0.5f);
        values[j] = (int8_t)((v ^ sign) - sign);
    }
    return d;
}

void tp_quantize(uint32_t type, uint8_t *q, const float *x, uint32_t cols, uint32_t n, uint32_t flags) {
    int portable = flags & TP_PORTABLE || tp_isa_activation_bytes(type, cols) == 0;
    uint32_t group = tp_group(type), all = flags & TP_INT16 ? 2 * n : n;
    const float *first = x;
    int8_t values[TP_MAX_GROUP];
    for (uint32_t t = 0; t < all; ++t) {
        x = t == n ? first : x;
        for (uint32_t i = 0; i < cols;) {
            uint32_t count = group < cols - i ? group : cols - i;
            float d = tp_int8_run(values, x, count);
            if (t >= n) {
                quantize_plainly(values, x, count, d > 0.0f ? 128.0f / d : 0.0f, d);
                d *= 0x1p-7f;
            }
            for (uint32_t j = 0; j < count; j += TP_BLOCK, i += TP_BLOCK, x += TP_BLOCK) {
                if (portable) {
                    tp_portable_put(q, cols, t, i / TP_BLOCK, values + j, d);
                } else {
                    tp_isa_put(type, q, cols, all, t, i / TP_BLOCK, values + j, d);
                }
            }
        }
    }
}

#endif
