// Matrix products on quantized weights: what is common to all variants of the dot product.
#include "kernels.h"

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

void tp_matmul(uint32_t type, float *y, const uint8_t *w, const void *x, uint32_t rows,
    uint32_t cols, uint32_t n) {
    size_t row_bytes = tp_row_bytes(type, cols);
    size_t x_bytes = type == TP_F32 || type == TP_F16 ? (size_t)cols * 4 : tp_q8_bytes(cols);
    for (uint32_t r = 0; r < rows; ++r) {
        // A row is read once from slow storage and used for all tokens while it is near.
        const uint8_t *xt = x;
        for (uint32_t t = 0; t < n; ++t) {
            y[(size_t)t * rows + r] = tp_dot(type, w, xt, cols);
            xt += x_bytes;
        }
        w += row_bytes;
    }
}

static inline uint32_t load_u16(const uint8_t *p) {
    return p[0] | (uint32_t)p[1] << 8;
}

void tp_dequantize_row(uint32_t type, float *y, const uint8_t *w, uint32_t cols) {
    if (type == TP_F32) {
        const float *f = (const float *)w;
        for (uint32_t i = 0; i < cols; ++i) {
            y[i] = f[i];
        }
    } else if (type == TP_F16) {
        for (uint32_t i = 0; i < cols; ++i) {
            y[i] = tp_from_f16(load_u16(w + 2 * i));
        }
    } else if (type == TP_Q8_0) {
        for (uint32_t b = 0; b < cols; b += TP_BLOCK, w += 34) {
            float d = tp_from_f16(load_u16(w));
            for (uint32_t j = 0; j < TP_BLOCK; ++j) {
                y[b + j] = d * (float)(int8_t)w[2 + j];
            }
        }
    } else if (type == TP_Q4_0) {
        for (uint32_t b = 0; b < cols; b += TP_BLOCK, w += 18) {
            float d = tp_from_f16(load_u16(w));
            for (uint32_t j = 0; j < TP_BLOCK / 2; ++j) {
                y[b + j] = d * (float)((int32_t)(w[2 + j] & 15) - 8);
                y[b + j + 16] = d * (float)((int32_t)(w[2 + j] >> 4) - 8);
            }
        }
    }
}

void tp_quantize_q8(uint8_t *q, const float *x, uint32_t cols) {
    int8_t *values = (int8_t *)q;
    float *scales = (float *)(q + cols);
    for (uint32_t b = 0; b < cols; b += TP_BLOCK) {
        float max = 0.0f;
        for (uint32_t j = 0; j < TP_BLOCK; ++j) {
            float a = x[b + j] < 0.0f ? -x[b + j] : x[b + j];
            max = a > max ? a : max;
        }
        float d = max / 127.0f;
        float inverse = d > 0.0f ? 1.0f / d : 0.0f;
        for (uint32_t j = 0; j < TP_BLOCK; ++j) {
            float v = x[b + j] * inverse;
            v += v < 0.0f ? -0.5f : 0.5f;
            // Written so that NaN is caught too: its conversion to an integer is undefined.
            if (!(v < 127.5f)) {
                v = 127.0f;
            }
            if (v < -127.5f) {
                v = -127.0f;
            }
            values[b + j] = (int8_t)(int32_t)v;
        }
        *scales++ = d;
    }
}
