// Quantizes activations to int8.
//
// A token has one scale, S = max|x| / 127, and each group has a number k, 0 to 15: how often S is halved in it. So the
// greatest value of a group becomes 64 to 127, and a product needs only a shift where the float path multiplies. The
// error of an activation is at most 0.51 * S / 2^k.
#include "../isa.h"

#if defined(TP_PATH_FIXED)

#include "fixed.h"

const char tp_kernels_path[6] = "fixed";

uint32_t tp_greatest(const float *x, uint32_t n) {
    uint32_t max = 0;
    for (uint32_t i = 0; i < n; ++i) {
        uint32_t a = tp_to_bits(x[i]) & 0x7fffffffu;
        max = a > max ? a : max;
    }
    return max;
}

tp_int8_scale_t tp_int8_scale(const float *x, uint32_t n) {
    uint32_t max = tp_greatest(x, n);
    max = max > 0x7f7fffffu ? 0x7f7fffffu : max < 40u << 23 ? 0 : max;
    tp_int8_scale_t scale = { max, max == 0 ? 0 : (127u << 24) / ((max & 0x7fffffu) >> 8 | 0x8000u) };
    return scale;
}

void tp_to_int8(int8_t *to, const float *x, uint32_t n, tp_int8_scale_t scale, int32_t k) {
    int32_t base = scale.r == 0 ? 300 : 24 + (int32_t)(scale.max >> 23) - k; // 300: all become 0
    for (uint32_t i = 0; i < n; ++i) {
        uint32_t bits = tp_to_bits(x[i]), size = bits & 0x7fffffffu;
        if (size > 0x7f7fffffu) {
            size = 0x7f7fffffu;
        }
        int32_t shift = base - (int32_t)(size >> 23), sign = (int32_t)bits >> 31;
        uint32_t p = ((size << 8 | 0x80000000u) >> 16) * scale.r;
        int32_t q = shift > 32 ? 0 : (int32_t)(((p >> (shift - 1)) + 1) >> 1);
        to[i] = (int8_t)((q ^ sign) - sign);
    }
}

// Replaces values by their rounding errors, x - values in 128ths of a step.
static __attribute__((noinline)) void left_over(int8_t *values, const float *x, tp_int8_scale_t scale, int32_t k) {
    int8_t fine[TP_BLOCK];
    tp_to_int8(fine, x, TP_BLOCK, scale, k + 7);
    for (uint32_t j = 0; j < TP_BLOCK; ++j) {
        values[j] = (int8_t)(fine[j] - values[j] * 128); // from -64 to 64, so 8 bits are enough
    }
}

void tp_quantize(uint32_t type, uint8_t *q, const float *x, uint32_t cols, uint32_t n, uint32_t flags) {
    int portable = flags & TP_PORTABLE || tp_isa_activation_bytes(type, cols) == 0;
    size_t x_bytes = portable ? tp_portable_activation_bytes(cols) : tp_isa_activation_bytes(type, cols);
    uint32_t group = tp_group(type), all = flags & TP_INT16 ? 2 * n : n;
    const float *first = x;
    int8_t values[TP_BLOCK];
    for (uint32_t t = 0; t < all; ++t) {
        x = t == n ? first : x;
        tp_int8_scale_t scale = tp_int8_scale(x, cols);
        *(float *)(void *)(q + t * x_bytes) = tp_from_bits(scale.max) / (t < n ? 127.0f : 127.0f * 128.0f);
        for (uint32_t i = 0; i < cols;) {
            uint32_t end = group < cols - i ? i + group : cols;
            int32_t k = tp_halvings(scale.max, tp_greatest(x, end - i));
            for (; i < end; i += TP_BLOCK, x += TP_BLOCK) {
                tp_to_int8(values, x, TP_BLOCK, scale, k);
                if (t >= n) {
                    left_over(values, x, scale, k);
                }
                if (portable) {
                    tp_portable_put(q, cols, t, i / TP_BLOCK, values, k);
                } else {
                    tp_isa_put(type, q, cols, all, t, i / TP_BLOCK, values, k);
                }
            }
        }
    }
}

#endif
