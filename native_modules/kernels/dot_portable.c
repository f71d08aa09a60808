// Dot products in portable C: the reference that every other variant equals bit for bit.
// A variant for an instruction set is another file that defines the same two symbols.
#include "kernels.h"

#include "tp_math.h"

const char tp_kernels_variant[] = "portable";

static inline uint32_t load_u16(const uint8_t *p) {
    return p[0] | (uint32_t)p[1] << 8;
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

float tp_dot(uint32_t type, const uint8_t *w, const void *x, uint32_t cols) {
    if (type == TP_Q4_0) {
        return dot_q4_0(w, x, cols);
    }
    if (type == TP_Q8_0) {
        return dot_q8_0(w, x, cols);
    }
    if (type == TP_F16) {
        return dot_f16(w, x, cols);
    }
    return dot_f32((const float *)w, x, cols);
}
