// The operators that are not matrix products, with floats.
#include "../isa.h"

#if defined(TP_PATH_FLOAT)

#include "../tp_math.h"
#include "int8_run.h"
#include "plain.h"

void PLAIN(rmsnorm)(float *y, const float *x, const float *w, uint32_t cols, float eps) {
    float sum = 0.0f;
    for (uint32_t i = 0; i < cols; ++i) {
        sum += x[i] * x[i];
    }
    float scale = tp_rsqrt(sum / (float)(int32_t)cols + eps);
    for (uint32_t i = 0; i < cols; ++i) {
        y[i] = x[i] * scale * w[i];
    }
}

// Not inlined, where speed matters less than size.
TP_COLD __attribute__((noinline)) static float cold_exp(float x) {
    return tp_exp(x);
}

void tp_rope_freqs(float *freqs, uint32_t dims, float base, float scale, const float *factors) {
    float log_base = tp_log(base);
    for (uint32_t i = 0; i < dims / 2; ++i) {
        float exponent = (float)(int32_t)(2 * i) / (float)(int32_t)dims;
        freqs[i] = cold_exp(-exponent * log_base) / (factors == NULL ? scale : scale * factors[i]);
    }
}

void tp_rope_table(float *table, const float *freqs, uint32_t dims, uint32_t pos) {
    for (uint32_t i = 0; i < dims / 2; ++i) {
        tp_cos_sin((float)(int32_t)pos * freqs[i], table + 2 * i, table + 2 * i + 1);
    }
}

void PLAIN(rope)(float *x, const float *table, uint32_t heads, uint32_t head_dim, uint32_t dims, uint32_t apart) {
    uint32_t step = apart == 1 ? 2 : 1;
    for (uint32_t h = 0; h < heads; ++h, x += head_dim) {
        float *p = x;
        for (uint32_t i = 0; i < dims; i += 2, p += step) {
            float a = p[0], b = p[apart];
            p[0] = a * table[i] - b * table[i + 1];
            p[apart] = a * table[i + 1] + b * table[i];
        }
    }
}

// Value i of a head in a cache, without the scale of int8.
static inline float kv_value(uint32_t type, const uint8_t *kv, uint32_t i) {
    if (type == TP_F16) {
        return tp_from_f16(((const uint16_t *)(const void *)kv)[i]);
    }
    return type == TP_Q8_0 ? (float)((const int8_t *)kv)[4 + i] : ((const float *)(const void *)kv)[i];
}

// The scale of a head in a cache.
static inline float kv_scale(uint32_t type, const uint8_t *kv) {
    return type == TP_Q8_0 ? *(const float *)(const void *)kv : 1.0f;
}

size_t tp_kv_bytes(uint32_t type, uint32_t head_dim) {
    switch (type) {
        case TP_F32:
            return (size_t)head_dim * 4;
        case TP_F16:
            return (size_t)head_dim * 2;
        case TP_Q8_0:
            return 4 + ((head_dim + 3) & ~3u);
        default:
            return 0;
    }
}

void tp_kv_store(uint32_t type, uint8_t *kv, const float *x, uint32_t heads, uint32_t head_dim) {
    for (uint32_t h = 0; h < heads; ++h, x += head_dim, kv += tp_kv_bytes(type, head_dim)) {
        if (type == TP_Q8_0) {
            *(float *)(void *)kv = tp_int8_run((int8_t *)kv + 4, x, head_dim);
            continue;
        }
        for (uint32_t i = 0; i < head_dim; ++i) {
            if (type == TP_F16) {
                ((uint16_t *)(void *)kv)[i] = tp_to_f16(x[i]);
            } else {
                ((float *)(void *)kv)[i] = x[i];
            }
        }
    }
}

// As tp_softcap; returns the greatest value.
TP_COLD __attribute__((noinline)) static float softcap(float *x, float cap, uint32_t n) {
    float max = 0.0f;
    for (uint32_t i = 0; i < n; ++i) {
        float t = cold_exp(x[i] * (-2.0f / cap));
        x[i] = cap * ((1.0f - t) / (1.0f + t));
        if (i == 0 || x[i] > max) {
            max = x[i];
        }
    }
    return max;
}

void tp_softcap(float *x, float cap, uint32_t n) {
    softcap(x, cap, n);
}

// Replaces scores by e^(score - max), and returns 1 / their sum. Not inlined, because there are three copies of
// attention.
static __attribute__((noinline)) float softmax(float *scores, float max, uint32_t n) {
    float sum = 0.0f;
    for (uint32_t t = 0; t < n; ++t) {
        scores[t] = tp_exp_to_88(scores[t] - max);
        sum += scores[t];
    }
    return 1.0f / sum;
}

// Inlined once for each type of cache.
static inline __attribute__((always_inline)) void attention(uint32_t type, float *y, const float *q, const uint8_t *k,
    const uint8_t *v, float *scores, uint32_t heads, uint32_t kv_heads, uint32_t head_dim, uint32_t length, float cap) {
    float scale = tp_rsqrt((float)(int32_t)head_dim);
    size_t head_bytes = tp_kv_bytes(type, head_dim), stride = kv_heads * head_bytes;
    uint32_t group = heads / kv_heads; // query heads that share one key and value head
    for (uint32_t h = 0; h < heads; ++h, q += head_dim, y += head_dim) {
        const uint8_t *kh = k + h / group * head_bytes;
        const uint8_t *vh = v + h / group * head_bytes;
        float max = 0.0f;
        for (uint32_t t = 0; t < length; ++t, kh += stride) {
            float dot = 0.0f;
            #pragma GCC unroll 8
            for (uint32_t i = 0; i < head_dim; ++i) {
                dot += q[i] * kv_value(type, kh, i);
            }
            dot *= type == TP_Q8_0 ? scale * kv_scale(type, kh) : scale;
            scores[t] = dot;
            if (t == 0 || dot > max) {
                max = dot;
            }
        }
        if (cap != 0.0f) {
            max = softcap(scores, cap, length);
        }
        float inverse = softmax(scores, max, length);
        for (uint32_t i = 0; i < head_dim; ++i) {
            y[i] = 0.0f;
        }
        for (uint32_t t = 0; t < length; ++t, vh += stride) {
            float p = scores[t] * inverse;
            if (type == TP_Q8_0) {
                p *= kv_scale(type, vh);
            }
            #pragma GCC unroll 8
            for (uint32_t i = 0; i < head_dim; ++i) {
                y[i] += p * kv_value(type, vh, i);
            }
        }
    }
}

void PLAIN(attention)(uint32_t type, float *y, const float *q, const uint8_t *k, const uint8_t *v, float *scratch,
    uint32_t heads, uint32_t kv_heads, uint32_t head_dim, uint32_t length, float cap) {
    if (type == TP_F16) {
        attention(TP_F16, y, q, k, v, scratch, heads, kv_heads, head_dim, length, cap);
    } else if (type == TP_Q8_0) {
        attention(TP_Q8_0, y, q, k, v, scratch, heads, kv_heads, head_dim, length, cap);
    } else {
        attention(TP_F32, y, q, k, v, scratch, heads, kv_heads, head_dim, length, cap);
    }
}

void PLAIN(add)(float *y, const float *x, uint32_t n) {
    for (uint32_t i = 0; i < n; ++i) {
        y[i] += x[i];
    }
}

void PLAIN(swiglu)(float *y, const float *gate, const float *up, uint32_t n) {
    for (uint32_t i = 0; i < n; ++i) {
        y[i] = gate[i] / (1.0f + tp_exp(-gate[i])) * up[i];
    }
}

void PLAIN(geglu)(float *y, const float *gate, const float *up, uint32_t n) {
    for (uint32_t i = 0; i < n; ++i) {
        float z = gate[i] * (1.59576912f + 0.0713548163f * (gate[i] * gate[i]));
        y[i] = gate[i] / (1.0f + tp_exp(-z)) * up[i];
    }
}

uint32_t tp_sample(float *x, uint32_t n, float temperature, float coin) {
    float max = x[tp_argmax(x, n)];
    float sum = 0.0f;
    for (uint32_t i = 0; i < n; ++i) {
        x[i] = cold_exp((x[i] - max) / temperature);
        sum += x[i];
    }
    float left = coin * sum;
    for (uint32_t i = 0; i < n; ++i) {
        left -= x[i];
        if (left < 0.0f) {
            return i;
        }
    }
    return n - 1;
}

#endif
