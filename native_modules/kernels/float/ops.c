// The operators that are not matrix products.
#include "../kernels.h"

#include "../tp_math.h"

void tp_rmsnorm(float *y, const float *x, const float *w, uint32_t cols, float eps) {
    float sum = 0.0f;
    for (uint32_t i = 0; i < cols; ++i) {
        sum += x[i] * x[i];
    }
    float scale = tp_rsqrt(sum / (float)(int32_t)cols + eps);
    for (uint32_t i = 0; i < cols; ++i) {
        y[i] = x[i] * scale * w[i];
    }
}

void tp_rope_freqs(float *freqs, uint32_t dims, float base, float scale) {
    float log_base = tp_log(base);
    for (uint32_t i = 0; i < dims / 2; ++i) {
        float exponent = (float)(int32_t)(2 * i) / (float)(int32_t)dims;
        freqs[i] = tp_exp(-exponent * log_base) / scale;
    }
}

void tp_rope_table(float *table, const float *freqs, uint32_t dims, uint32_t pos) {
    for (uint32_t i = 0; i < dims / 2; ++i) {
        tp_cos_sin((float)(int32_t)pos * freqs[i], table + 2 * i, table + 2 * i + 1);
    }
}

void tp_rope(float *x, const float *table, uint32_t heads, uint32_t head_dim, uint32_t dims) {
    for (uint32_t h = 0; h < heads; ++h, x += head_dim) {
        for (uint32_t i = 0; i < dims; i += 2) {
            float a = x[i], b = x[i + 1];
            x[i] = a * table[i] - b * table[i + 1];
            x[i + 1] = a * table[i + 1] + b * table[i];
        }
    }
}

void tp_attention(float *y, const float *q, const float *k, const float *v, float *scores,
    uint32_t heads, uint32_t kv_heads, uint32_t head_dim, uint32_t length) {
    float scale = tp_rsqrt((float)(int32_t)head_dim);
    size_t stride = (size_t)kv_heads * head_dim;
    uint32_t group = heads / kv_heads; // query heads that share one key and value head
    for (uint32_t h = 0; h < heads; ++h, q += head_dim, y += head_dim) {
        const float *kh = k + (size_t)(h / group) * head_dim;
        const float *vh = v + (size_t)(h / group) * head_dim;
        float max = 0.0f;
        for (uint32_t t = 0; t < length; ++t, kh += stride) {
            float dot = 0.0f;
            for (uint32_t i = 0; i < head_dim; ++i) {
                dot += q[i] * kh[i];
            }
            dot *= scale;
            scores[t] = dot;
            if (t == 0 || dot > max) {
                max = dot;
            }
        }
        float sum = 0.0f;
        for (uint32_t t = 0; t < length; ++t) {
            scores[t] = tp_exp(scores[t] - max);
            sum += scores[t];
        }
        float inverse = 1.0f / sum;
        for (uint32_t i = 0; i < head_dim; ++i) {
            y[i] = 0.0f;
        }
        for (uint32_t t = 0; t < length; ++t, vh += stride) {
            float p = scores[t] * inverse;
            for (uint32_t i = 0; i < head_dim; ++i) {
                y[i] += p * vh[i];
            }
        }
    }
}

void tp_add(float *y, const float *x, uint32_t n) {
    for (uint32_t i = 0; i < n; ++i) {
        y[i] += x[i];
    }
}

void tp_swiglu(float *y, const float *gate, const float *up, uint32_t n) {
    for (uint32_t i = 0; i < n; ++i) {
        y[i] = gate[i] / (1.0f + tp_exp(-gate[i])) * up[i];
    }
}

uint32_t tp_argmax(const float *x, uint32_t n) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; ++i) {
        if (x[i] > x[best] || x[best] != x[best]) {
            best = i;
        }
    }
    return best;
}

uint32_t tp_sample(float *x, uint32_t n, float temperature, float coin) {
    float max = x[tp_argmax(x, n)];
    float sum = 0.0f;
    for (uint32_t i = 0; i < n; ++i) {
        x[i] = tp_exp((x[i] - max) / temperature);
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

uint32_t tp_crc32(uint32_t crc, const uint8_t *data, size_t len) {
    // Four bits at a time: a table of 16 words instead of 256.
    static const uint32_t table[16] = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
        0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
    };
    crc = ~crc;
    while (len--) {
        crc ^= *data++;
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return ~crc;
}
