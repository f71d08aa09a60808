// Matrix products in portable C: the reference whose bits every other variant must give. It is in every build, for the
// types that a variant leaves out, and to test the variant against.
#include "../isa.h"

#if defined(TP_PATH_FLOAT)

#include "../portable.h"
#include "../tp_math.h"

// Four partial sums, so that a pipelined or a vector FPU does not wait for the last addition.
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
        s0 += tp_from_f16(tp_load_u16(w)) * x[i];
        s1 += tp_from_f16(tp_load_u16(w + 2)) * x[i + 1];
        s2 += tp_from_f16(tp_load_u16(w + 4)) * x[i + 2];
        s3 += tp_from_f16(tp_load_u16(w + 6)) * x[i + 3];
    }
    for (; i < cols; ++i, w += 2) {
        s0 += tp_from_f16(tp_load_u16(w)) * x[i];
    }
    return (s0 + s1) + (s2 + s3);
}

static float dot_q8_0(const uint8_t *w, const int8_t *q, uint32_t cols) {
    const float *scales = (const float *)(q + cols);
    float sum = 0.0f;
    for (uint32_t b = 0; b < cols; b += TP_BLOCK) {
        float d = tp_from_f16(tp_load_u16(w)) * *scales++;
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
        float d = tp_from_f16(tp_load_u16(w)) * *scales++;
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

// Any type. The integers of a group of activations are summed before they are multiplied with its scale.
static float dot_blocks(const tp_product_t *p, uint32_t row, const int8_t *q) {
    const tp_format_t *format = tp_format(p->type);
    const float *scales = (const float *)(q + p->cols);
    uint32_t blocks = p->cols / TP_BLOCK;
    float sum = 0.0f;
    for (uint32_t b = 0; b < blocks;) {
        float da = scales[b];
        uint32_t end = b + format->parts < blocks ? b + format->parts : blocks;
        int32_t dots, mins;
        tp_part_t part;
        q = tp_sum_blocks(p, format, row, &b, end, q, &dots, &mins, &part);
        sum += tp_from_f16(part.d) * da * (float)dots;
        if (format->m_at != TP_NONE) {
            sum += tp_from_f16(part.m) * da * (float)mins;
        }
    }
    return tp_from_bits(tp_row_factor(format, p->w, row, p->cols)) * sum;
}

static float dot(const tp_product_t *p, uint32_t row, const void *x) {
    const uint8_t *w = p->w + row * tp_row_bytes(p->type, p->cols);
    switch (p->type) {
        case TP_F32:
            return dot_f32((const float *)(const void *)w, x, p->cols);
        case TP_F16:
            return dot_f16(w, x, p->cols);
        case TP_Q4_0:
            return dot_q4_0(w, x, p->cols);
        case TP_Q8_0:
            return dot_q8_0(w, x, p->cols);
        default:
            return dot_blocks(p, row, x);
    }
}

size_t tp_portable_activation_bytes(uint32_t cols) {
    return cols + cols / TP_BLOCK * sizeof(float);
}

void tp_portable_put(void *x, uint32_t cols, uint32_t t, uint32_t b, const int8_t *values, float scale) {
    int8_t *q = (int8_t *)x + t * tp_portable_activation_bytes(cols);
    float *scales = (float *)(void *)(q + cols);
    for (uint32_t j = 0; j < TP_BLOCK; ++j) {
        q[b * TP_BLOCK + j] = values[j];
    }
    scales[b] = scale;
}

void tp_matmul_portable(const tp_product_t *p) {
    size_t x_bytes = tp_format(p->type) == NULL ? (size_t)p->cols * 4 : tp_portable_activation_bytes(p->cols);
    for (uint32_t r = 0; r < p->rows; ++r) {
        // a row is read once from slow memory, and used for all tokens while it is cached
        const uint8_t *xt = p->x;
        for (uint32_t t = 0; t < p->n; ++t, xt += x_bytes) {
            p->y[(size_t)t * p->rows + r] = dot(p, r, xt);
        }
    }
}

#endif
