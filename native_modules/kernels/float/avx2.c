// Matrix products for x86-64 with AVX2 and F16C, and VNNI if the compiler may use it. Eight rows are computed at once,
// so that their sums over blocks, which must stay in order, are the lanes of one vector. Activations have the layout of
// the portable kernels.
#include "../isa.h"

#if defined(TP_ISA_AVX2)

#include <immintrin.h>

#define ROWS 8

const char tp_kernels_variant[] = "avx2";

static inline __m256i load(const void *p) {
    return _mm256_loadu_si256((const __m256i *)p);
}

// Lane r of the result is the sum of the eight lanes of v[r].
static inline __m256i sum_lanes(const __m256i *v) {
    __m256i a = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
    __m256i b = _mm256_hadd_epi32(_mm256_hadd_epi32(v[4], v[5]), _mm256_hadd_epi32(v[6], v[7]));
    return _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31));
}

// Products of unsigned with signed bytes; each 32-bit lane is the sum of four neighbours. Without VNNI two neighbours
// are added in 16 bits, which hold 2 * 128 * 127.
static inline __m256i dot4(__m256i u, __m256i s) {
    #if defined(__AVX512VNNI__) && defined(__AVX512VL__)
    return _mm256_dpbusd_epi32(_mm256_setzero_si256(), u, s);
    #else
    return _mm256_madd_epi16(_mm256_maddubs_epi16(u, s), _mm256_set1_epi16(1));
    #endif
}

// The fp16 scales of eight rows, times the scale of the activations.
static inline __m256 scales(const uint8_t *w, size_t stride, float d) {
    __m128i h = _mm_cvtsi32_si128((int)tp_load_u16(w));
    h = _mm_insert_epi16(h, (int)tp_load_u16(w + stride), 1);
    h = _mm_insert_epi16(h, (int)tp_load_u16(w + 2 * stride), 2);
    h = _mm_insert_epi16(h, (int)tp_load_u16(w + 3 * stride), 3);
    h = _mm_insert_epi16(h, (int)tp_load_u16(w + 4 * stride), 4);
    h = _mm_insert_epi16(h, (int)tp_load_u16(w + 5 * stride), 5);
    h = _mm_insert_epi16(h, (int)tp_load_u16(w + 6 * stride), 6);
    h = _mm_insert_epi16(h, (int)tp_load_u16(w + 7 * stride), 7);
    return _mm256_mul_ps(_mm256_cvtph_ps(h), _mm256_set1_ps(d));
}

static void rows_q8_0(float *y, const uint8_t *w, size_t stride, const int8_t *q, uint32_t cols) {
    const float *d = (const float *)(q + cols);
    __m256 sum = _mm256_setzero_ps();
    for (uint32_t b = 0; b < cols; b += TP_BLOCK, w += 34, q += TP_BLOCK) {
        __m256i x = load(q);
        __m256i v[ROWS];
        for (size_t r = 0; r < ROWS; ++r) {
            __m256i k = load(w + 2 + r * stride);
            v[r] = dot4(_mm256_abs_epi8(k), _mm256_sign_epi8(x, k));
        }
        __m256 dot = _mm256_cvtepi32_ps(sum_lanes(v));
        sum = _mm256_add_ps(sum, _mm256_mul_ps(scales(w, stride, *d++), dot));
    }
    _mm256_storeu_ps(y, sum);
}

static void rows_q4_0(float *y, const uint8_t *w, size_t stride, const int8_t *q, uint32_t cols) {
    const float *d = (const float *)(q + cols);
    const __m256i low = _mm256_set1_epi8(15), eight = _mm256_set1_epi8(8);
    __m256 sum = _mm256_setzero_ps();
    for (uint32_t b = 0; b < cols; b += TP_BLOCK, w += 18, q += TP_BLOCK) {
        __m256i x = load(q);
        __m256i excess = dot4(eight, x); // weights are stored with 8 added
        __m256i v[ROWS];
        for (size_t r = 0; r < ROWS; ++r) {
            __m128i k = _mm_loadu_si128((const __m128i *)(w + 2 + r * stride));
            __m256i u = _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(k, 4), k), low);
            v[r] = _mm256_sub_epi32(dot4(u, x), excess);
        }
        __m256 dot = _mm256_cvtepi32_ps(sum_lanes(v));
        sum = _mm256_add_ps(sum, _mm256_mul_ps(scales(w, stride, *d++), dot));
    }
    _mm256_storeu_ps(y, sum);
}

size_t tp_isa_activation_bytes(uint32_t type, uint32_t cols) {
    return type == TP_Q8_0 || type == TP_Q4_0 ? tp_portable_activation_bytes(cols) : 0;
}

void tp_isa_put(uint32_t type, void *x, uint32_t cols, uint32_t n, uint32_t t, uint32_t b, const int8_t *values,
    tp_scale_t scale) {
    (void)type;
    (void)n;
    tp_portable_put(x, cols, t, b, values, scale);
}

void tp_isa_matmul(const tp_product_t *p) {
    size_t stride = tp_row_bytes(p->type, p->cols);
    size_t x_bytes = tp_portable_activation_bytes(p->cols);
    const uint8_t *w = p->w;
    uint32_t r = 0;
    for (; r + ROWS <= p->rows; r += ROWS, w += ROWS * stride) {
        for (uint32_t t = 0; t < p->n; ++t) {
            const int8_t *q = (const int8_t *)p->x + t * x_bytes;
            float *y = p->y + (size_t)t * p->rows + r;
            if (p->type == TP_Q8_0) {
                rows_q8_0(y, w, stride, q, p->cols);
            } else {
                rows_q4_0(y, w, stride, q, p->cols);
            }
        }
    }
    for (uint32_t t = 0; t < p->n && r < p->rows; ++t) {
        tp_product_t rest = *p;
        rest.rows = p->rows - r;
        rest.n = 1;
        rest.y = p->y + (size_t)t * p->rows + r;
        rest.w = w;
        rest.x = (const uint8_t *)p->x + t * x_bytes;
        tp_matmul_portable(&rest);
    }
}

#endif
