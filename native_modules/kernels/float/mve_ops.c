// The operators with MVE. Each value has the same roundings as in ops.c, in the same order.
//
// MVE's float instructions treat subnormal numbers as 0, and set a bit of FPSCR. So values are stored only if the bit
// is not set; else scalars compute them again. NaN stays NaN, with other bits perhaps.
#include "plain.h"

#if defined(TP_PATH_FLOAT) && defined(TP_ISA_MVE)

#include <arm_mve.h>

#include "../tp_math.h"
#include "int8_run.h"
#include "mve/subnormals.h"

// sum + the four values, added one after the other. q0 is s0 to s3.
static inline float add4(float sum, float32x4_t v) {
    register float32x4_t x __asm("q0") = v;
    // clang-format off
    __asm ("vadd.f32 %0, %0, s0\n"
        "vadd.f32 %0, %0, s1\n"
        "vadd.f32 %0, %0, s2\n"
        "vadd.f32 %0, %0, s3\n" : "+&t" (sum) : "w" (x));
    // clang-format on
    return sum;
}

void tp_rmsnorm(float *y, const float *x, const float *w, uint32_t cols, float eps) {
    if (cols % 8 != 0) {
        tp_plain_rmsnorm(y, x, w, cols, eps);
        return;
    }
    float sum = 0.0f;
    forget_subnormals();
    for (uint32_t i = 0; i < cols; i += 4) {
        float32x4_t v = vld1q_f32(x + i);
        sum = add4(sum, vmulq_f32(v, v));
    }
    if (were_subnormals_in_float(&sum)) {
        sum = 0.0f;
        for (uint32_t i = 0; i < cols; ++i) {
            sum += x[i] * x[i];
        }
    }
    float scale = tp_rsqrt(sum / (float)(int32_t)cols + eps);
    forget_subnormals();
    for (const float *end = x + cols; x < end; x += 8, w += 8, y += 8) {
        float32x4_t v0 = vmulq_f32(vmulq_n_f32(vld1q_f32(x), scale), vld1q_f32(w));
        float32x4_t v1 = vmulq_f32(vmulq_n_f32(vld1q_f32(x + 4), scale), vld1q_f32(w + 4));
        if (were_subnormals_in2(&v0, &v1)) {
            for (uint32_t j = 0; j < 8; ++j) {
                y[j] = x[j] * scale * w[j];
            }
            forget_subnormals();
        } else {
            vst1q_f32(y, v0);
            vst1q_f32(y + 4, v1);
        }
    }
}

void tp_rope(float *x, const float *table, uint32_t heads, uint32_t head_dim, uint32_t dims, uint32_t apart) {
    int neighbours = apart == 1;
    forget_subnormals();
    for (uint32_t h = 0; h < heads; ++h, x += head_dim) {
        uint32_t i = 0;
        float *p = x;
        for (; i + 8 <= dims; i += 8, p += neighbours ? 8 : 4) {
            float32x4x2_t v, turn = vld2q_f32(table + i), to;
            if (neighbours) {
                v = vld2q_f32(p);
            } else {
                v.val[0] = vld1q_f32(p);
                v.val[1] = vld1q_f32(p + apart);
            }
            to.val[0] = vsubq_f32(vmulq_f32(v.val[0], turn.val[0]), vmulq_f32(v.val[1], turn.val[1]));
            to.val[1] = vaddq_f32(vmulq_f32(v.val[0], turn.val[1]), vmulq_f32(v.val[1], turn.val[0]));
            if (were_subnormals_in2(&to.val[0], &to.val[1])) {
                tp_plain_rope(p, table + i, 1, 8, 8, apart);
                forget_subnormals();
            } else if (neighbours) {
                vst2q_f32(p, to);
            } else {
                vst1q_f32(p, to.val[0]);
                vst1q_f32(p + apart, to.val[1]);
            }
        }
        if (i < dims) {
            tp_plain_rope(p, table + i, 1, dims - i, dims - i, apart);
        }
    }
}

// tp_exp of four values, none above 88. Values not above -87 may set the bit of FPSCR.
static inline float32x4_t exp4(float32x4_t x) {
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
    p = vmulq_f32(p, vreinterpretq_f32_s32(power));
    return vdupq_m_n_f32(p, 0.0f, vcmpgeq_f32(vdupq_n_f32(-87.0f), x)); // false for NaN, unlike <=
}

// a / b. There is no vector division; q0 and q1 are s0 to s7.
static inline float32x4_t divide(float32x4_t a, float32x4_t b) {
    register float32x4_t x __asm("q0") = a;
    register float32x4_t y __asm("q1") = b;
    // clang-format off
    __asm ("vdiv.f32 s0, s0, s4\n"
        "vdiv.f32 s1, s1, s5\n"
        "vdiv.f32 s2, s2, s6\n"
        "vdiv.f32 s3, s3, s7\n" : "+w" (x) : "w" (y));
    // clang-format on
    return x;
}

// gate / (1 + exp(x)) * up
static inline float32x4_t gated(float32x4_t gate, float32x4_t x, float32x4_t up) {
    float32x4_t e = exp4(vminnmq_f32(x, vdupq_n_f32(88.0f)));
    return vmulq_f32(divide(gate, vaddq_n_f32(e, 1.0f)), up);
}

static inline float32x4_t geglu_z(float32x4_t g) {
    return vmulq_f32(g, vaddq_n_f32(vmulq_n_f32(vmulq_f32(g, g), 0.0713548163f), 1.59576912f));
}

// Inlined once for each of the two.
static inline __attribute__((always_inline)) void glu(int is_gelu, float *y, const float *gate, const float *up,
    uint32_t n, void (*plain)(float *, const float *, const float *, uint32_t)) {
    forget_subnormals();
    for (; n >= 8; n -= 8, y += 8, gate += 8, up += 8) {
        float32x4_t g0 = vld1q_f32(gate), g1 = vld1q_f32(gate + 4);
        float32x4_t v0 = gated(g0, vnegq_f32(is_gelu ? geglu_z(g0) : g0), vld1q_f32(up));
        float32x4_t v1 = gated(g1, vnegq_f32(is_gelu ? geglu_z(g1) : g1), vld1q_f32(up + 4));
        if (were_subnormals_in2(&v0, &v1)) {
            plain(y, gate, up, 8);
            forget_subnormals();
        } else {
            vst1q_f32(y, v0);
            vst1q_f32(y + 4, v1);
        }
    }
    plain(y, gate, up, n);
}

void tp_swiglu(float *y, const float *gate, const float *up, uint32_t n) {
    glu(0, y, gate, up, n, tp_plain_swiglu);
}

void tp_geglu(float *y, const float *gate, const float *up, uint32_t n) {
    glu(1, y, gate, up, n, tp_plain_geglu);
}

void tp_add(float *y, const float *x, uint32_t n) {
    forget_subnormals();
    for (; n >= 8; n -= 8, y += 8, x += 8) {
        float32x4_t v0 = vaddq_f32(vld1q_f32(y), vld1q_f32(x));
        float32x4_t v1 = vaddq_f32(vld1q_f32(y + 4), vld1q_f32(x + 4));
        if (were_subnormals_in2(&v0, &v1)) {
            tp_plain_add(y, x, 8);
            forget_subnormals();
        } else {
            vst1q_f32(y, v0);
            vst1q_f32(y + 4, v1);
        }
    }
    tp_plain_add(y, x, n);
}

float tp_int8_run(int8_t *values, const float *x, uint32_t count) {
    uint32x4_t most = vdupq_n_u32(0);
    for (uint32_t j = 0; j < count / 4; ++j) {
        most = vmaxq_u32(most, vshlq_n_u32(vreinterpretq_u32_f32(vld1q_f32(x + 4 * j)), 1));
    }
    uint32_t max = vmaxvq_u32(0, most) >> 1;
    if (count % 4 != 0 || max - 0x0f000000u >= 0x70000000u - 0x0f000000u) {
        return tp_plain_int8_run(values, x, count);
    }
    float d = tp_from_bits(max) / 127.0f;
    float inverse = 1.0f / d;
    // subnormal numbers become 0 in any case
    uint32x4_t top = vdupq_n_u32(0x80000000u);
    for (uint32_t j = 0; j < count / 4; ++j) {
        float32x4_t v = vld1q_f32(x + 4 * j);
        float32x4_t half = vreinterpretq_f32_u32(vorrq_n_u32(vandq_u32(vreinterpretq_u32_f32(v), top), 0x3f000000u));
        vstrbq_s32(values + 4 * j, vcvtq_s32_f32(vaddq_f32(vmulq_n_f32(v, inverse), half)));
    }
    return d;
}

uint32_t tp_argmax(const float *x, uint32_t n) {
    float32x4_t greatest = vdupq_n_f32(-__builtin_inff());
    uint32x4_t at = vidupq_n_u32(0, 1), best = at;
    forget_subnormals();
    for (uint32_t i = 0; i < n / 4; ++i) {
        float32x4_t v = vld1q_f32(x + 4 * i);
        mve_pred16_t more = vcmpgtq_f32(v, greatest);
        greatest = vpselq_f32(v, greatest, more);
        best = vpselq_u32(at, best, more);
        at = vaddq_n_u32(at, 4);
    }
    float values[4];
    uint32_t indices[4];
    vst1q_f32(values, greatest);
    vst1q_u32(indices, best);
    // NaN are not below negative infinity here
    if (n < 4 || were_subnormals() || values[0] < -0x1p127f) {
        return tp_plain_argmax(x, n);
    }
    float value = values[0];
    uint32_t index = indices[0];
    for (uint32_t i = 1; i < 4; ++i) {
        if (values[i] > value || (values[i] == value && indices[i] < index)) {
            value = values[i];
            index = indices[i];
        }
    }
    for (uint32_t i = n / 4 * 4; i < n; ++i) {
        if (x[i] > value) {
            value = x[i];
            index = i;
        }
    }
    return index;
}

// Four floats from fp16 in the lower halves of words. The instruction is VCVTB.F32.F16 q2, q2, for which the assembler
// of binutils 2.40 encodes other registers.
static inline float32x4_t from_f16(uint32x4_t h) {
    register uint32x4_t v __asm("q2") = h;
    __asm(".inst.w 0xfe3f4e05\n" : "+w"(v));
    return vreinterpretq_f32_u32(v);
}

// Four values of a cache, one of each of four positions. kv: of a head, for int8 after the scale; at: offsets in bytes.
static inline __attribute__((always_inline)) float32x4_t across(uint32_t type, const uint8_t *kv, uint32x4_t at) {
    if (type == TP_F16) {
        return from_f16(vldrhq_gather_offset_u32((const uint16_t *)(const void *)kv, at));
    }
    if (type == TP_Q8_0) {
        return vcvtq_f32_s32(vldrbq_gather_offset_s32((const int8_t *)kv, at));
    }
    return vldrwq_gather_offset_f32((const float *)(const void *)kv, at);
}

// Four neighbouring values of one position.
static inline __attribute__((always_inline)) float32x4_t along(uint32_t type, const uint8_t *kv) {
    if (type == TP_F16) {
        return from_f16(vldrhq_u32((const uint16_t *)(const void *)kv));
    }
    return type == TP_Q8_0 ? vcvtq_f32_s32(vldrbq_s32((const int8_t *)kv)) : vld1q_f32((const float *)(const void *)kv);
}

// One value.
static inline __attribute__((always_inline)) float one(uint32_t type, const uint8_t *kv, uint32_t i) {
    if (type == TP_F16) {
        return tp_from_f16(((const uint16_t *)(const void *)kv)[i]);
    }
    return type == TP_Q8_0 ? (float)((const int8_t *)kv)[i] : ((const float *)(const void *)kv)[i];
}

// The scale of a head at one position.
static inline __attribute__((always_inline)) float scale_of(uint32_t type, const uint8_t *kv) {
    return type == TP_Q8_0 ? *(const float *)(const void *)(kv - 4) : 1.0f;
}

// The product of a value of q with that of four keys; the offset must be a constant.
#define ADD(j) dot = vaddq_f32(dot, vmulq_n_f32(vldrwq_gather_base_f32(from, 4 * (j)), q[i + (j)]));

// One head; inlined once for each type of cache. Positions are stride bytes apart.
static inline __attribute__((always_inline)) void head(uint32_t type, float *y, const float *q, const uint8_t *k,
    const uint8_t *v, float *scores, uint32_t stride, uint32_t head_dim, uint32_t length) {
    float scale = tp_rsqrt((float)(int32_t)head_dim);
    uint32_t bytes = type == TP_F32 ? 4 : type == TP_F16 ? 2 : 1;
    uint32x4_t at = vmulq_n_u32(vidupq_n_u32(0, 1), stride);
    float32x4_t most = vdupq_n_f32(-__builtin_inff());
    forget_subnormals();
    // four positions at a time; the last one stands in for those after it
    for (uint32_t t = 0; t < length; t += 4) {
        const uint8_t *some = k + t * stride;
        uint32x4_t from = vminq_u32(at, vdupq_n_u32((length - 1 - t) * stride));
        float32x4_t dot = vdupq_n_f32(0.0f);
        if (type == TP_F32) {
            from = vaddq_n_u32(from, (uint32_t)(uintptr_t)some);
            for (uint32_t i = 0; i < head_dim; i += 16) {
                // clang-format off
                ADD(0) ADD(1) ADD(2) ADD(3) ADD(4) ADD(5) ADD(6) ADD(7)
                ADD(8) ADD(9) ADD(10) ADD(11) ADD(12) ADD(13) ADD(14) ADD(15)
                from = vaddq_n_u32(from, 64);
                // clang-format on
            }
            dot = vmulq_n_f32(dot, scale);
        } else {
            #pragma GCC unroll 8
            for (uint32_t i = 0; i < head_dim; ++i) {
                dot = vaddq_f32(dot, vmulq_n_f32(across(type, some + i * bytes, from), q[i]));
            }
            if (type == TP_Q8_0) {
                dot = vmulq_f32(dot, vmulq_n_f32(across(TP_F32, some - 4, from), scale));
            } else {
                dot = vmulq_n_f32(dot, scale);
            }
        }
        most = vmaxnmq_f32(most, dot);
        vstrwq_p_f32(scores + t, dot, vctp32q(length - t));
    }
    float max = vmaxnmvq_f32(-__builtin_inff(), most);
    if (were_subnormals()) {
        for (uint32_t t = 0; t < length; ++t) {
            const uint8_t *some = k + t * stride;
            float dot = 0.0f;
            for (uint32_t i = 0; i < head_dim; ++i) {
                dot += q[i] * one(type, some, i);
            }
            scores[t] = dot * (type == TP_Q8_0 ? scale * scale_of(type, some) : scale);
            max = t == 0 || scores[t] > max ? scores[t] : max;
        }
    }
    float sum = 0.0f;
    forget_subnormals();
    for (uint32_t t = 0; t < length; t += 4) {
        mve_pred16_t lanes = vctp32q(length - t);
        float32x4_t s = exp4(vsubq_f32(vldrwq_z_f32(scores + t, lanes), vdupq_n_f32(max)));
        if (were_subnormals_in(&s)) {
            float few[4] = { 0.0f, 0.0f, 0.0f, 0.0f };
            for (uint32_t j = 0; j < 4 && t + j < length; ++j) {
                few[j] = tp_exp(scores[t + j] - max);
            }
            s = vld1q_f32(few);
            forget_subnormals();
        }
        s = vpselq_f32(s, vdupq_n_f32(0.0f), lanes);
        vstrwq_p_f32(scores + t, s, lanes);
        sum = add4(sum, s);
    }
    float inverse = 1.0f / sum;
    for (uint32_t i = 0; i < head_dim; i += 16) {
        float32x4_t y0 = vdupq_n_f32(0.0f), y1 = y0, y2 = y0, y3 = y0;
        const uint8_t *from = v;
        for (uint32_t t = 0; t < length; ++t, from += stride) {
            const uint8_t *some = from + i * bytes;
            float p = scores[t] * inverse;
            if (type == TP_Q8_0) {
                p *= scale_of(type, from);
            }
            y0 = vaddq_f32(y0, vmulq_n_f32(along(type, some), p));
            y1 = vaddq_f32(y1, vmulq_n_f32(along(type, some + 4 * bytes), p));
            y2 = vaddq_f32(y2, vmulq_n_f32(along(type, some + 8 * bytes), p));
            y3 = vaddq_f32(y3, vmulq_n_f32(along(type, some + 12 * bytes), p));
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
                const uint8_t *some = v + t * stride;
                float p = scores[t] * inverse;
                if (type == TP_Q8_0) {
                    p *= scale_of(type, some);
                }
                y[i] += p * one(type, some, i);
            }
        }
    }
}

void tp_attention(uint32_t type, float *y, const float *q, const uint8_t *k, const uint8_t *v, float *scratch,
    uint32_t heads, uint32_t kv_heads, uint32_t head_dim, uint32_t length, float cap) {
    if (head_dim % 16 != 0 || cap != 0.0f) {
        tp_plain_attention(type, y, q, k, v, scratch, heads, kv_heads, head_dim, length, cap);
        return;
    }
    uint32_t group = heads / kv_heads, bytes = (uint32_t)tp_kv_bytes(type, head_dim), stride = kv_heads * bytes;
    for (uint32_t h = 0; h < heads; ++h, q += head_dim, y += head_dim) {
        size_t at = h / group * bytes;
        if (type == TP_F16) {
            head(TP_F16, y, q, k + at, v + at, scratch, stride, head_dim, length);
        } else if (type == TP_Q8_0) {
            head(TP_Q8_0, y, q, k + at + 4, v + at + 4, scratch, stride, head_dim, length);
        } else {
            head(TP_F32, y, q, k + at, v + at, scratch, stride, head_dim, length);
        }
    }
}

#endif
