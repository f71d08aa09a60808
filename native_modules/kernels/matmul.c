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

// Returns the scale of one block and writes its values.
static float quantize_block(int8_t *values, const float *x) {
    float max = 0.0f;
    for (uint32_t j = 0; j < TP_BLOCK; ++j) {
        float a = x[j] < 0.0f ? -x[j] : x[j];
        max = a > max ? a : max;
    }
    float d = max / 127.0f;
    float inverse = d > 0.0f ? 1.0f / d : 0.0f;
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
