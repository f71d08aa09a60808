// The operators that are not matrix products, with integers. Error bounds: docs/kernels.md.
#include "../isa.h"

#if defined(TP_PATH_FIXED)

#include "fixed.h"

void tp_rmsnorm(float *y, const float *x, const float *w, uint32_t cols, float eps) {
    int32_t e = tp_fix_exponent(tp_greatest(x, cols), 15);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < cols; ++i) {
        int32_t v = tp_fix(tp_to_bits(x[i]), e);
        sum += (uint32_t)(v * v);
    }
    // a few float operations a vector are allowed: their results are the same on all cores
    int32_t shift = 0;
    while (sum >> shift >= 1u << 24) {
        ++shift;
    }
    float mean = tp_float((int32_t)(sum >> shift), shift + 2 * e) / (float)(int32_t)cols;
    tp_factor_t scale = tp_factor(tp_to_bits(tp_rsqrt(mean + eps)));
    for (uint32_t i = 0; i < cols; ++i) {
        uint32_t a = tp_to_bits(x[i]), b = tp_to_bits(w[i]);
        tp_factor_t fa = tp_factor(a), fb = tp_factor(b);
        y[i] = tp_product(a ^ b, fa.m * scale.m >> 16, fb.m, fa.e + scale.e + fb.e + 16);
    }
}

// A frequency is the part of a turn that each position adds, in 2^-32. So an angle is a product modulo 2^32, which is
// exact at any position.
void tp_rope_freqs(float *freqs, uint32_t dims, float base, float scale, const float *factors) {
    float log_base = tp_log(base);
    for (uint32_t i = 0; i < dims / 2; ++i) {
        float exponent = (float)(int32_t)(2 * i) / (float)(int32_t)dims;
        float divisor = factors == NULL ? scale : scale * factors[i];
        float turns = tp_exp(-exponent * log_base) / divisor * 683565275.6f; // 2^32 / (2 pi)
        while (turns >= 4294967296.0f) {
            turns -= 4294967296.0f;
        }
        ((uint32_t *)(void *)freqs)[i] = (uint32_t)turns;
    }
}

// cos and sin of an angle, times 2^15, with an error below 2^-14. angle: 2^32 is a turn.
static void cos_sin(uint32_t angle, int32_t *cos_out, int32_t *sin_out) {
    uint32_t quarter = (angle + (1u << 29)) >> 30;
    int32_t x = (int32_t)(angle - (quarter << 30) + (1u << 13)) >> 14; // quarters of a turn, times 2^16
    int32_t z = x * x >> 16;
    int32_t s = (102944 + ((-42323 + (5109 * z >> 16)) * z >> 16)) / 2 * x >> 16;
    int32_t c = (65536 + ((-80852 + ((16620 + (-1337 * z >> 16)) * z >> 16)) * z >> 16)) / 2;
    *cos_out = quarter & 1 ? -s : c;
    *sin_out = quarter & 1 ? c : s;
    if (quarter & 2) {
        *cos_out = -*cos_out;
        *sin_out = -*sin_out;
    }
}

void tp_rope_table(float *table, const float *freqs, uint32_t dims, uint32_t pos) {
    int32_t *out = (int32_t *)(void *)table;
    for (uint32_t i = 0; i < dims / 2; ++i) {
        cos_sin(pos * ((const uint32_t *)(const void *)freqs)[i], out + 2 * i, out + 2 * i + 1);
    }
}

void tp_rope(float *x, const float *table, uint32_t heads, uint32_t head_dim, uint32_t dims, uint32_t apart) {
    uint32_t step = apart == 1 ? 2 : 1;
    for (uint32_t h = 0; h < heads; ++h, x += head_dim) {
        const int32_t *t = (const int32_t *)(const void *)table;
        float *p = x;
        for (uint32_t i = 0; i < dims; i += 2, t += 2, p += step) {
            uint32_t u = tp_to_bits(p[0]), v = tp_to_bits(p[apart]);
            uint32_t size = u & 0x7fffffffu, other = v & 0x7fffffffu;
            int32_t e = tp_fix_exponent(size > other ? size : other, 15);
            int32_t a = tp_fix(u, e), b = tp_fix(v, e);
            p[0] = tp_float(a * t[0] - b * t[1], e - 15);
            p[apart] = tp_float(a * t[1] + b * t[0], e - 15);
        }
    }
}

size_t tp_kv_bytes(uint32_t type, uint32_t head_dim) {
    return type == TP_Q8_0 ? 4 + ((head_dim + 3) & ~3u) : 0;
}

void tp_kv_store(uint32_t type, uint8_t *kv, const float *x, uint32_t heads, uint32_t head_dim) {
    for (uint32_t h = 0; h < heads; ++h, x += head_dim, kv += tp_kv_bytes(type, head_dim)) {
        tp_int8_scale_t scale = tp_int8_scale(x, head_dim);
        *(float *)(void *)kv = tp_from_bits(scale.max) / 127.0f;
        tp_to_int8((int8_t *)kv + 4, x, head_dim, scale, 0);
    }
}

// 2^-(a / 2^16) * 2^20, rounded down
static inline uint32_t exp2_20(uint32_t a) {
    return a >> 16 > 20 ? 0 : tp_exp2_fraction(a & 0xffff) << 4 >> (a >> 16);
}

// v * f * 2^e, rounded down, limited to +-2^29.
static inline int32_t scale_to(int32_t v, tp_factor_t f, int32_t e) {
    int32_t p = (v >> 16) * (int32_t)f.m + (int32_t)(((uint32_t)v & 0xffff) * f.m >> 16);
    e += f.e + 16;
    if (e <= 0) {
        return e < -31 ? p >> 31 : p >> -e;
    }
    int32_t limit = 1 << 29;
    if (e > 29 || p > limit >> e || p < -(limit >> e)) {
        return p > 0 ? limit : p < 0 ? -limit : 0;
    }
    return (int32_t)((uint32_t)p << e);
}

// The scores q . k of each position, in log2 units times 2^16, and the greatest of them in *max. q: multiples of 2^e.
static void scores_of(int32_t *scores, int32_t *max, const int32_t *q, int32_t e, const uint8_t *k, size_t stride,
    uint32_t head_dim, uint32_t length) {
    *max = INT32_MIN;
    for (uint32_t t = 0; t < length; ++t, k += stride) {
        const int8_t *values = (const int8_t *)k + 4;
        int32_t dot = 0;
        for (uint32_t i = 0; i < head_dim; ++i) {
            dot += q[i] * values[i];
        }
        scores[t] = scale_to(dot, tp_factor(*(const uint32_t *)(const void *)k), e + 16);
        *max = scores[t] > *max ? scores[t] : *max;
    }
}

// tanh(a / 2^17 * ln 2) * 2^15
static uint32_t tanh_15(uint32_t a) {
    uint32_t t = a >> 16 > 15 ? 0 : tp_exp2_fraction(a & 0xffff) >> (a >> 16);
    return ((65536u - t) << 15) / (65536u + t);
}

// Limits scores as tp_softcap does, and returns the greatest of them.
TP_COLD static int32_t cap_scores(int32_t *scores, float cap, uint32_t length) {
    tp_factor_t turn = tp_factor(tp_to_bits(2.0f / cap)), size = tp_factor(tp_to_bits(cap * 1.44269504f));
    int32_t max = INT32_MIN;
    for (uint32_t t = 0; t < length; ++t) {
        int32_t s = scores[t];
        uint32_t a = (uint32_t)scale_to(s < 0 ? -s : s, turn, 0);
        int32_t capped = scale_to((int32_t)(tanh_15(a) << 14), size, -13);
        scores[t] = s < 0 ? -capped : capped;
        max = scores[t] > max ? scores[t] : max;
    }
    return max;
}

void tp_softcap(float *x, float cap, uint32_t n) {
    tp_factor_t turn = tp_factor(tp_to_bits(2.88539008f / cap)), size = tp_factor(tp_to_bits(cap));
    for (uint32_t i = 0; i < n; ++i) {
        uint32_t bits = tp_to_bits(x[i]);
        tp_factor_t f = tp_factor(bits);
        int32_t tanh = (int32_t)tanh_15((uint32_t)scale_to((int32_t)(f.m << 13), turn, f.e + 3));
        x[i] = tp_times(bits >> 31 ? -tanh : tanh, size, -15);
    }
}

void tp_attention(uint32_t type, float *y, const float *q, const uint8_t *k, const uint8_t *v, float *scratch,
    uint32_t heads, uint32_t kv_heads, uint32_t head_dim, uint32_t length, float cap) {
    size_t head_bytes = tp_kv_bytes(type, head_dim);
    size_t stride = kv_heads * head_bytes;
    uint32_t group = heads / kv_heads; // query heads that share one key and value head
    tp_factor_t to_log2 = tp_factor(tp_to_bits(tp_rsqrt((float)(int32_t)head_dim) * 1.44269504f));
    int32_t *scores = (int32_t *)(void *)scratch;
    for (uint32_t h = 0; h < heads; ++h, q += head_dim, y += head_dim) {
        const uint8_t *kh = k + h / group * head_bytes;
        const uint8_t *vh = v + h / group * head_bytes;
        // y holds integers until its floats are known: first q, times the factor that gives scores in log2 units
        int32_t *ints = (int32_t *)(void *)y;
        int32_t e = tp_fix_exponent(tp_greatest(q, head_dim), 15);
        for (uint32_t i = 0; i < head_dim; ++i) {
            ints[i] = tp_fix(tp_to_bits(q[i]), e) * (int32_t)to_log2.m >> 16;
        }
        int32_t max;
        scores_of(scores, &max, ints, e + to_log2.e + 16, kh, stride, head_dim, length);
        if (cap != 0.0f) {
            max = cap_scores(scores, cap, length);
        }
        // softmax with 16 bits below the greatest, and the greatest scale of the values
        uint32_t sum = 0, greatest = 0;
        const uint8_t *vt = vh;
        for (uint32_t t = 0; t < length; ++t, vt += stride) {
            uint32_t p = (exp2_20((uint32_t)(max - scores[t])) + 8) >> 4;
            scores[t] = (int32_t)p;
            sum += p;
            uint32_t scale = *(const uint32_t *)(const void *)vt;
            greatest = scale > greatest ? scale : greatest;
        }
        // weights of the values times their scales, whose sum is at most 2^24
        int32_t ev = tp_fix_exponent(greatest, 15);
        int32_t drop = 32 - (int32_t)tp_clz(sum) - 9;
        for (uint32_t i = 0; i < head_dim; ++i) {
            ints[i] = 0;
        }
        vt = vh;
        for (uint32_t t = 0; t < length; ++t, vt += stride) {
            uint32_t scale = (uint32_t)tp_fix(*(const uint32_t *)(const void *)vt, ev);
            int32_t weight = (int32_t)((uint32_t)scores[t] * scale >> drop);
            const int8_t *values = (const int8_t *)vt + 4;
            for (uint32_t i = 0; weight != 0 && i < head_dim; ++i) {
                ints[i] += weight * values[i];
            }
        }
        uint32_t z = tp_clz(sum);
        tp_factor_t inverse = { 0x7fffffffu / (sum << z >> 16), -31 - 16 + (int32_t)z };
        for (uint32_t i = 0; i < head_dim; ++i) {
            y[i] = tp_times(ints[i], inverse, ev + drop);
        }
    }
}

void tp_add(float *y, const float *x, uint32_t n) {
    for (uint32_t i = 0; i < n; ++i) {
        uint32_t a = tp_to_bits(y[i]), b = tp_to_bits(x[i]);
        if ((b & 0x7fffffffu) > (a & 0x7fffffffu)) {
            uint32_t c = a;
            a = b;
            b = c;
        }
        // 28 bits of the greater one
        int32_t e = (int32_t)(a >> 23 & 255) - 154;
        y[i] = tp_float(tp_fix(a, e) + tp_fix(b, e), e);
    }
}

// value * sigmoid(z) * up; value and up are bits of floats. |z| = a / 2^16 * ln 2, or above 32 if far; z has the sign
// of value.
static inline float gated(uint32_t value, uint32_t up, uint32_t a, int far) {
    tp_factor_t fv = tp_factor(value), fu = tp_factor(up);
    int32_t e = fv.e + fu.e;
    uint32_t sigmoid = 65535; // times 2^-16
    if (!far) {
        // t = 2^-(a / 2^16) is m / 2^(16 + halved)
        uint32_t m = tp_exp2_fraction(a & 0xffff), halved = a >> 16;
        // 1 / (1 + t) by Newton's method, from (48 - 32 d) / 17 for d = (1 + t) / 2
        uint32_t d = (65536u + (m >> (halved > 31 ? 31 : halved))) >> 1;
        int32_t r = 92521 - (int32_t)(61681u * d >> 16);
        r += r * (65536 - (int32_t)((uint32_t)r * d >> 15)) >> 16;
        r += r * (65536 - (int32_t)((uint32_t)r * d >> 15)) >> 16;
        sigmoid = r > 65535 ? 65535 : (uint32_t)r;
        if (value >> 31) {
            sigmoid = sigmoid * m >> 16;
            e -= (int32_t)halved;
        }
    } else if (value >> 31) {
        sigmoid = 0;
    }
    return tp_product(value ^ up, fv.m * sigmoid >> 16, fu.m, e);
}

// Both gated operators.
static void glu(int is_gelu, float *y, const float *gate, const float *up, uint32_t n) {
    for (uint32_t i = 0; i < n; ++i) {
        uint32_t g = tp_to_bits(gate[i]), a = 0;
        tp_factor_t f = tp_factor(g);
        // gelu from 4 on: the argument of the sigmoid is above 10 ln 2
        int far = f.e >= (is_gelu ? 2 : 5) - 15;
        if (!far && is_gelu) {
            // in units of 2^-12; kernels.h has the factors
            uint32_t x = (uint32_t)tp_fix(g & 0x7fffffffu, -12), square = x * x >> 12;
            uint32_t z = x * (6536 + (square * 292 >> 12)) >> 12;
            a = z * 5909u >> 8; // 16 / ln 2
        } else if (!far) {
            a = f.m * 47274u >> (f.e < -32 ? 31 : -1 - f.e); // 47274 / 2^15 = 1 / ln 2
        }
        y[i] = gated(g, tp_to_bits(up[i]), a, far);
    }
}

void tp_swiglu(float *y, const float *gate, const float *up, uint32_t n) {
    glu(0, y, gate, up, n);
}

void tp_geglu(float *y, const float *gate, const float *up, uint32_t n) {
    glu(1, y, gate, up, n);
}

uint32_t tp_sample(float *x, uint32_t n, float temperature, float coin) {
    float max = x[tp_argmax(x, n)];
    float scale = 94548.1953f / temperature; // 2^16 / ln 2
    uint32_t *p = (uint32_t *)(void *)x;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; ++i) {
        float a = (max - x[i]) * scale;
        p[i] = exp2_20(a < 1e9f ? (uint32_t)a : 1000000000u);
        sum += p[i];
    }
    uint64_t left = sum * (uint32_t)(coin * 16777216.0f) >> 24;
    for (uint32_t i = 0; i < n; ++i) {
        if (left < p[i]) {
            return i;
        }
        left -= p[i];
    }
    return n - 1;
}

#endif
