// The operators with MVE. Each value goes through the same roundings as in ops.c, in the same order.
//
// MVE's float instructions take subnormal numbers for 0, and say so in FPSCR. So values are stored only
// if they say nothing; else scalars do the same once more. NaN stay NaN, but may be others.
#include "plain.h"

#if defined(TP_PATH_FLOAT) && defined(TP_ISA_MVE)

#include <arm_mve.h>

#include "../tp_math.h"
#include "int8_run.h"
#include "mve.h"

void tp_rmsnorm(float *y, const float *x, const float *w, uint32_t cols, float eps) {
    if (cols % 4 != 0) {
        tp_plain_rmsnorm(y, x, w, cols, eps);
        return;
    }
    float sum = 0.0f;
    #pragma GCC unroll 4
    for (uint32_t i = 0; i < cols; ++i) {
        sum += x[i] * x[i];
    }
    float scale = tp_rsqrt(sum / (float)(int32_t)cols + eps);
    for (uint32_t i = 0; i < cols; i += 4) {
        forget_subnormals();
        float32x4_t v = vmulq_f32(vmulq_n_f32(vld1q_f32(x + i), scale), vld1q_f32(w + i));
        if (were_subnormals_in(&v)) {
            for (uint32_t j = i; j < i + 4; ++j) {
                y[j] = x[j] * scale * w[j];
            }
        } else {
            vst1q_f32(y + i, v);
        }
    }
}

// tp_exp of four.
static inline float32x4_t exp4(float32x4_t x) {
    mve_pred16_t low = vcmpleq_n_f32(x, -87.0f);
    x = vdupq_m_n_f32(x, 88.0f, vcmpgtq_n_f32(x, 88.0f));
    x = vdupq_m_n_f32(x, 0.0f, low); // so that nothing is subnormal
    uint32x4_t sign = vandq_u32(vreinterpretq_u32_f32(x), vdupq_n_u32(0x80000000u));
    float32x4_t half = vreinterpretq_f32_u32(vorrq_n_u32(sign, 0x3f000000u));
    int32x4_t k = vcvtq_s32_f32(vaddq_f32(vmulq_n_f32(x, 1.44269504f), half));
    float32x4_t kf = vcvtq_f32_s32(k);
    float32x4_t r = vaddq_f32(vsubq_f32(x, vmulq_n_f32(kf, 0.693359375f)), vmulq_n_f32(kf, 2.12194440e-4f));
    float32x4_t p = vaddq_n_f32(vmulq_n_f32(r, 1.0f / 720.0f), 1.0f / 120.0f);
    p = vaddq_n_f32(vmulq_f32(p, r), 1.0f / 24.0f);
    p = vaddq_n_f32(vmulq_f32(p, r), 1.0f / 6.0f);
    p = vaddq_n_f32(vmulq_f32(p, r), 0.5f);
    p = vaddq_n_f32(vmulq_f32(p, r), 1.0f);
    p = vaddq_n_f32(vmulq_f32(p, r), 1.0f);
    int32x4_t power = vshlq_n_s32(vaddq_n_s32(k, 127), 23);
    return vdupq_m_n_f32(vmulq_f32(p, vreinterpretq_f32_s32(power)), 0.0f, low);
}

// gate / (1 + e) * up; there is no division of vectors.
static inline float32x4_t gated(float32x4_t gate, float32x4_t e, float32x4_t up) {
    float32x4_t d = vaddq_n_f32(e, 1.0f);
    float32x4_t v = vdupq_n_f32(vgetq_lane_f32(gate, 0) / vgetq_lane_f32(d, 0));
    v = vsetq_lane_f32(vgetq_lane_f32(gate, 1) / vgetq_lane_f32(d, 1), v, 1);
    v = vsetq_lane_f32(vgetq_lane_f32(gate, 2) / vgetq_lane_f32(d, 2), v, 2);
    v = vsetq_lane_f32(vgetq_lane_f32(gate, 3) / vgetq_lane_f32(d, 3), v, 3);
    return vmulq_f32(v, up);
}

void tp_swiglu(float *y, const float *gate, const float *up, uint32_t n) {
    uint32_t i = 0;
    forget_subnormals();
    for (; i + 4 <= n; i += 4) {
        float32x4_t g = vld1q_f32(gate + i);
        float32x4_t v = gated(g, exp4(vnegq_f32(g)), vld1q_f32(up + i));
        if (were_subnormals_in(&v)) {
            for (uint32_t j = i; j < i + 4; ++j) {
                y[j] = gate[j] / (1.0f + tp_exp(-gate[j])) * up[j];
            }
            forget_subnormals();
        } else {
            vst1q_f32(y + i, v);
        }
    }
    for (; i < n; ++i) {
        y[i] = gate[i] / (1.0f + tp_exp(-gate[i])) * up[i];
    }
}

static inline float geglu_z(float g) {
    return g * (1.59576912f + 0.0713548163f * (g * g));
}

void tp_geglu(float *y, const float *gate, const float *up, uint32_t n) {
    uint32_t i = 0;
    forget_subnormals();
    for (; i + 4 <= n; i += 4) {
        float32x4_t g = vld1q_f32(gate + i);
        float32x4_t z = vaddq_n_f32(vmulq_n_f32(vmulq_f32(g, g), 0.0713548163f), 1.59576912f);
        float32x4_t v = gated(g, exp4(vnegq_f32(vmulq_f32(g, z))), vld1q_f32(up + i));
        if (were_subnormals_in(&v)) {
            for (uint32_t j = i; j < i + 4; ++j) {
                y[j] = gate[j] / (1.0f + tp_exp(-geglu_z(gate[j]))) * up[j];
            }
            forget_subnormals();
        } else {
            vst1q_f32(y + i, v);
        }
    }
    for (; i < n; ++i) {
        y[i] = gate[i] / (1.0f + tp_exp(-geglu_z(gate[i]))) * up[i];
    }
}

void tp_add(float *y, const float *x, uint32_t n) {
    uint32_t i = 0;
    forget_subnormals();
    for (; i + 4 <= n; i += 4) {
        float32x4_t v = vaddq_f32(vld1q_f32(y + i), vld1q_f32(x + i));
        if (were_subnormals_in(&v)) {
            for (uint32_t j = i; j < i + 4; ++j) {
                y[j] += x[j];
            }
            forget_subnormals();
        } else {
            vst1q_f32(y + i, v);
        }
    }
    for (; i < n; ++i) {
        y[i] += x[i];
    }
}

float tp_int8_run(int8_t *values, const float *x, uint32_t count) {
    uint32x4_t most = vdupq_n_u32(0);
    const uint32_t *bits = (const uint32_t *)(const void *)x;
    for (uint32_t j = 0; j < count / 4; ++j) {
        most = vmaxq_u32(most, vshlq_n_u32(vld1q_u32(bits + 4 * j), 1));
    }
    uint32_t max = vmaxvq_u32(0, most) >> 1;
    if (count % 4 != 0 || max - 0x0f000000u >= 0x70000000u - 0x0f000000u) {
        return tp_plain_int8_run(values, x, count);
    }
    float d = tp_from_bits(max) / 127.0f;
    float inverse = 1.0f / d;
    // What is subnormal becomes 0 in any case.
    uint32x4_t top = vdupq_n_u32(0x80000000u);
    for (uint32_t j = 0; j < count / 4; ++j) {
        float32x4_t v = vld1q_f32(x + 4 * j);
        float32x4_t half = vreinterpretq_f32_u32(vorrq_n_u32(vandq_u32(vreinterpretq_u32_f32(v), top), 0x3f000000u));
        vstrbq_s32(values + 4 * j, vcvtq_s32_f32(vaddq_f32(vmulq_n_f32(v, inverse), half)));
    }
    return d;
}

// Floats are ordered as their bits are, but for the sign. A NaN is below all.
static inline int32x4_t order(const float *x) {
    int32x4_t bits = vld1q_s32((const int32_t *)(const void *)x), size = vandq_s32(bits, vdupq_n_s32(0x7fffffff));
    int32x4_t v = vnegq_m_s32(size, size, vcmpltq_n_s32(bits, 0));
    return vdupq_m_n_s32(v, INT32_MIN, vcmpgtq_n_s32(size, 0x7f800000));
}

uint32_t tp_argmax(const float *x, uint32_t n) {
    int32x4_t greatest = vdupq_n_s32(INT32_MIN);
    uint32x4_t at = vidupq_n_u32(0, 1), best = at;
    uint32_t i = 0;
    for (; i + 4 <= n; i += 4) {
        int32x4_t v = order(x + i);
        mve_pred16_t more = vcmpgtq_s32(v, greatest);
        greatest = vpselq_s32(v, greatest, more);
        best = vpselq_u32(at, best, more);
        at = vaddq_n_u32(at, 4);
    }
    if (i < n) {
        float rest[4];
        for (uint32_t j = 0; j < 4; ++j) {
            rest[j] = i + j < n ? x[i + j] : tp_from_bits(0x7fc00000u);
        }
        int32x4_t v = order(rest);
        mve_pred16_t more = vcmpgtq_s32(v, greatest);
        greatest = vpselq_s32(v, greatest, more);
        best = vpselq_u32(at, best, more);
    }
    int32_t value = vmaxvq_s32(INT32_MIN, greatest);
    return vminvq_u32(UINT32_MAX, vpselq_u32(best, vdupq_n_u32(UINT32_MAX), vcmpeqq_n_s32(greatest, value)));
}

// Products of a query with keys of F32, stride words apart, times scale, four at a time; returns the
// greatest. count: 4 at most in lanes that p has.
static inline float32x4_t scores4(const float *q, const float *k, uint32x4_t at, uint32_t head_dim, float scale,
    mve_pred16_t lanes) {
    float32x4_t dot = vdupq_n_f32(0.0f);
    #pragma GCC unroll 8
    for (uint32_t i = 0; i < head_dim; ++i) {
        float32x4_t v = vldrwq_gather_shifted_offset_z_f32(k + i, at, lanes);
        dot = vaddq_f32(dot, vmulq_n_f32(v, q[i]));
    }
    return vmulq_n_f32(dot, scale);
}

static void head_f32(float *y, const float *q, const float *k, const float *v, float *scores, uint32_t stride,
    uint32_t head_dim, uint32_t length) {
    float scale = tp_rsqrt((float)(int32_t)head_dim);
    uint32x4_t at = vmulq_n_u32(vidupq_n_u32(0, 1), stride);
    forget_subnormals();
    for (uint32_t t = 0; t < length; t += 4) {
        mve_pred16_t lanes = vctp32q(length - t);
        vstrwq_p_f32(scores + t, scores4(q, k + t * stride, at, head_dim, scale, lanes), lanes);
    }
    if (were_subnormals()) {
        for (uint32_t t = 0; t < length; ++t) {
            float dot = 0.0f;
            for (uint32_t i = 0; i < head_dim; ++i) {
                dot += q[i] * k[t * stride + i];
            }
            scores[t] = dot * scale;
        }
    }
    float max = scores[0];
    for (uint32_t t = 1; t < length; ++t) {
        max = scores[t] > max ? scores[t] : max;
    }
    float sum = 0.0f;
    forget_subnormals();
    for (uint32_t t = 0; t < length; t += 4) {
        mve_pred16_t lanes = vctp32q(length - t);
        float32x4_t s = vldrwq_z_f32(scores + t, lanes);
        s = exp4(vsubq_x_f32(s, vdupq_n_f32(max), lanes));
        uint32_t end = t + 4 < length ? t + 4 : length;
        if (were_subnormals_in(&s)) {
            for (uint32_t j = t; j < end; ++j) {
                scores[j] = tp_exp(scores[j] - max);
            }
            forget_subnormals();
        } else {
            vstrwq_p_f32(scores + t, s, lanes);
        }
        for (uint32_t j = t; j < end; ++j) {
            sum += scores[j];
        }
    }
    float inverse = 1.0f / sum;
    for (uint32_t i = 0; i < head_dim; i += 16) {
        float32x4_t y0 = vdupq_n_f32(0.0f), y1 = y0, y2 = y0, y3 = y0;
        const float *from = v + i;
        for (uint32_t t = 0; t < length; ++t, from += stride) {
            float p = scores[t] * inverse;
            y0 = vaddq_f32(y0, vmulq_n_f32(vld1q_f32(from), p));
            y1 = vaddq_f32(y1, vmulq_n_f32(vld1q_f32(from + 4), p));
            y2 = vaddq_f32(y2, vmulq_n_f32(vld1q_f32(from + 8), p));
            y3 = vaddq_f32(y3, vmulq_n_f32(vld1q_f32(from + 12), p));
        }
        vst1q_f32(y + i, y0);
        vst1q_f32(y + i + 4, y1);
        vst1q_f32(y + i + 8, y2);
        vst1q_f32(y + i + 12, y3);
    }
    if (were_subnormals()) {
        for (uint32_t i = 0; i < head_dim; ++i) {
            y[i] = 0.0f;
            for (uint32_t t = 0; t < length; ++t) {
                y[i] += scores[t] * inverse * v[t * stride + i];
            }
        }
    }
}

void tp_attention(uint32_t type, float *y, const float *q, const uint8_t *k, const uint8_t *v, float *scratch,
    uint32_t heads, uint32_t kv_heads, uint32_t head_dim, uint32_t length) {
    if (type != TP_F32 || head_dim % 16 != 0) {
        tp_plain_attention(type, y, q, k, v, scratch, heads, kv_heads, head_dim, length);
        return;
    }
    uint32_t group = heads / kv_heads;
    for (uint32_t h = 0; h < heads; ++h, q += head_dim, y += head_dim) {
        size_t at = h / group * head_dim;
        head_f32(y, q, (const float *)(const void *)k + at, (const float *)(const void *)v + at, scratch,
            kv_heads * head_dim, head_dim, length);
    }
}

#endif
