// Matrix products in portable C: the reference that every variant equals bit for bit.
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

size_t tp_ref_input_bytes(uint32_t type, uint32_t cols) {
    if (type == TP_F32 || type == TP_F16) {
        return (size_t)cols * sizeof(float);
    }
    return cols + cols / TP_BLOCK * sizeof(float);
}

float tp_quantize_block(int8_t *q, const float *x) {
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
        q[j] = (int8_t)(int32_t)v;
    }
    return d;
}

void tp_ref_quantize(uint32_t type, uint8_t *q, const float *x, uint32_t cols) {
    (void)type;
    float *scales = (float *)(q + cols);
    for (uint32_t b = 0; b < cols; b += TP_BLOCK) {
        *scales++ = tp_quantize_block((int8_t *)q + b, x + b);
    }
}

// Four partial sums, so that cores with a pipelined or a vector FPU are not held up.
static float dot_f32(const float *w, const float *x, uint32_t cols) {
    float s0 = 0.0f, s1 = 0.0f, s2 = 0.0f, s3 = 0.0f;
    uint32_t i = 0;
    for (; i + 4 <= cols; i += 4) {
        s0 += w[i] * x[i];
        s1 += w[i + 1] * x[i + 1];
        s2 += w[i + 2] * x[i + 2];
        s3 += w[i + 3] * x[i + 3];
    }
    for (; i < cols; ++i) {
        s0 += w[i] * x[i];
    }
    return (s0 + s1) + (s2 + s3);
}

static float dot_f16(const uint8_t *w, const float *x, uint32_t cols) {
    float s0 = 0.0f, s1 = 0.0f, s2 = 0.0f, s3 = 0.0f;
    uint32_t i = 0;
    for (; i + 4 <= cols; i += 4, w += 8) {
        s0 += tp_from_f16(load_u16(w)) * x[i];
        s1 += tp_from_f16(load_u16(w + 2)) * x[i + 1];
        s2 += tp_from_f16(load_u16(w + 4)) * x[i + 2];
        s3 += tp_from_f16(load_u16(w + 6)) * x[i + 3];
    }
    for (; i < cols; ++i, w += 2) {
        s0 += tp_from_f16(load_u16(w)) * x[i];
    }
    return (s0 + s1) + (s2 + s3);
}

static float dot_q8_0(const uint8_t *w, const int8_t *q, uint32_t cols) {
    const float *scales = (const float *)(q + cols);
    float sum = 0.0f;
    for (uint32_t b = 0; b < cols; b += TP_BLOCK) {
        float d = tp_from_f16(load_u16(w)) * *scales++;
        const int8_t *values = (const int8_t *)w + 2;
        int32_t acc = 0;
        for (uint32_t j = 0; j < TP_BLOCK; ++j) {
            acc += values[j] * q[j];
        }
        sum += d * (float)acc;
        w += 34;
        q += TP_BLOCK;
    }
    return sum;
}

static float dot_q4_0(const uint8_t *w, const int8_t *q, uint32_t cols) {
    const float *scales = (const float *)(q + cols);
    float sum = 0.0f;
    for (uint32_t b = 0; b < cols; b += TP_BLOCK) {
        float d = tp_from_f16(load_u16(w)) * *scales++;
        w += 2;
        int32_t acc = 0;
        for (uint32_t j = 0; j < TP_BLOCK / 2; ++j) {
            acc += ((int32_t)(w[j] & 15) - 8) * q[j];
            acc += ((int32_t)(w[j] >> 4) - 8) * q[j + 16];
        }
        sum += d * (float)acc;
        w += 16;
        q += TP_BLOCK;
    }
    return sum;
}

static float dot(uint32_t type, const uint8_t *w, const void *x, uint32_t cols) {
    switch (type) {
        case TP_Q4_0:
            return dot_q4_0(w, x, cols);
        case TP_Q8_0:
            return dot_q8_0(w, x, cols);
        case TP_F16:
            return dot_f16(w, x, cols);
        default:
            return dot_f32((const float *)w, x, cols);
    }
}

void tp_ref_matmul(uint32_t type, float *y, const uint8_t *w, const uint8_t *x, uint32_t rows,
    uint32_t cols, uint32_t n) {
    size_t row_bytes = tp_row_bytes(type, cols);
    size_t x_bytes = tp_ref_input_bytes(type, cols);
    for (uint32_t r = 0; r < rows; ++r, w += row_bytes) {
        // A row is read once from slow storage and used for all tokens while it is near.
        for (uint32_t t = 0; t < n; ++t) {
            y[(size_t)t * rows + r] = dot(type, w, x + t * x_bytes, cols);
        }
    }
}

#if TP_VARIANT == TP_VARIANT_PORTABLE

const char tp_kernels_variant[] = "portable";

size_t tp_input_bytes(uint32_t type, uint32_t cols) {
    return tp_ref_input_bytes(type, cols);
}

void tp_quantize(uint32_t type, uint8_t *q, const float *x, uint32_t cols) {
    tp_ref_quantize(type, q, x, cols);
}

void tp_matmul(uint32_t type, float *y, const uint8_t *w, const uint8_t *x, uint32_t rows,
    uint32_t cols, uint32_t n) {
    tp_ref_matmul(type, y, w, x, rows, cols, n);
}

#endif
