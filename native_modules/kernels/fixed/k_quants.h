// Q4_K and Q6_K for 32-bit cores without SIMD: one multiplication makes two products, as in scalar.h. All of it is C,
// apart from the products of Q4_K (q4_k_products).
//
// Four masks on a word of Q4_K give pairs of weights of two blocks of 32, each with a sum of its own. In Q6_K the four
// low bits and the two high bits have sums of their own, over 16 values each.
//
// The activations of 256 columns are, for each pair of blocks of 32 (Q4_K) or block of 16 (Q6_K), the values with which
// its sums start, and the words that meet the weights; for Q4_K then -8 times the sum of each block of 32; then a word
// with the number of halvings of the scale.
#ifndef TP_K_QUANTS_H
#define TP_K_QUANTS_H

#include "fixed_products.h"

// Words of the activations of 256 columns.
static inline uint32_t k_words(uint32_t type) {
    return type == TP_Q4_K ? 4 * 34 + 8 + 1 : 16 * 9 + 1;
}

// The value with which a sum of products starts: it subtracts 8 from each weight, and keeps the lower half positive.
static inline uint32_t k_begin(const int8_t *q, uint32_t n) {
    int32_t sum = 0;
    for (uint32_t j = 0; j < n; ++j) {
        sum += q[j];
    }
    return ((uint32_t)(-8 * sum) << 16) + 0x8000u;
}

// Puts 32 activations of 256, from 32 * part on.
static void put_k(uint32_t type, uint32_t *x, uint32_t part, const int8_t *q, tp_scale_t halvings) {
    if (type == TP_Q4_K) {
        uint32_t *to = x + part / 2 * 34 + part % 2;
        to[0] = k_begin(q, TP_BLOCK);
        x[4 * 34 + part] = (uint32_t)((int32_t)to[0] >> 16);
        for (uint32_t j = 0; j < TP_BLOCK; j += 4, to += 4) {
            to[2] = crosswise(q[j], q[j + 2]);
            to[4] = crosswise(q[j + 1], q[j + 3]);
        }
    } else {
        for (uint32_t half = 0; half < 2; ++half, q += 16) {
            uint32_t *to = x + (2 * part + half) * 9;
            *to++ = k_begin(q, 16);
            for (uint32_t j = 0; j < 16; j += 4) {
                *to++ = crosswise(q[j], q[j + 2]);
                *to++ = crosswise(q[j + 1], q[j + 3]);
            }
        }
    }
    x[k_words(type) - 1] = (uint32_t)halvings;
}

// The upper half of a sum, which is the dot product.
static inline int32_t upper(uint32_t sum) {
    return (int32_t)sum >> 16;
}

// Words of Q4_K are at multiples of 4, those of Q6_K at multiples of 2.
static inline uint32_t load_aligned(const uint8_t *p) {
    return *(const uint32_t *)(const void *)p;
}

static inline uint32_t load_word(const uint8_t *p) {
    #if TP_ALIGNED
    const uint16_t *half = (const uint16_t *)(const void *)p;
    return half[0] | (uint32_t)half[1] << 16;
    #else
    uint32_t x;
    __asm("ldr %0, %1" : "=r"(x) : "m"(*(const uint32_t (*)[1])(const void *)p));
    return x;
    #endif
}

// Defined by the variant: the sums over a block of 256 of TP_Q4_K_ROWS rows, stride bytes apart. sums: for each pair of
// blocks of 32 two words of the first row, then of the next one. w: weights of the first row; x: activations of the
// block.
static void q4_k_products(uint32_t *sums, const uint8_t *w, size_t stride, const uint32_t *x);

// sum + the products of a block of 256 of a row. products: from q4_k_products, from this row's first one on. One row at
// a time, because two need more registers than there are.
static inline int32_t q4_k_add(int32_t sum, const uint8_t *block, const uint32_t *products, const uint32_t *x,
    uint32_t t) {
    uint32_t s = load_aligned(block + 4), m = load_aligned(block + 8), high = load_aligned(block + 12);
    uint32_t scales = s & 0x3f3f3f3fu, mins = m & 0x3f3f3f3fu;
    uint32_t later_scales = (high & 0x0f0f0f0fu) | (s >> 2 & 0x30303030u);
    uint32_t later_mins = (high >> 4 & 0x0f0f0f0fu) | (m >> 2 & 0x30303030u);
    int32_t dots = 0, low = 0; // low: sums of activations times minima, times 8
    x += 4 * 34;
    for (uint32_t i = 0; i < 8; ++i) {
        if (i == 4) {
            scales = later_scales;
            mins = later_mins;
        }
        int32_t first = (int32_t)x[i], product = upper(products[i / 2 * 2 * TP_Q4_K_ROWS + i % 2]);
        dots += (product - first) * (int32_t)(scales >> i % 4 * 8 & 255);
        low += first * (int32_t)(mins >> i % 4 * 8 & 255);
    }
    uint32_t d = load_aligned(block), shift = t + x[8];
    sum = tp_add_scaled(sum, tp_cut(dots, TP_Q4_K_OVER), d & 0xffff, shift);
    return tp_add_scaled(sum, tp_cut(low, TP_Q4_K_OVER + 3), d >> 16, shift);
}

static void q4_k_rows(const tp_product_t *p, const uint32_t *x, uint32_t t, int32_t *sums) {
    size_t stride = tp_row_bytes(TP_Q4_K, p->cols), step = stride;
    const uint32_t *end = x + p->cols / 256 * k_words(TP_Q4_K);
    int32_t few[TP_Q4_K_ROWS]; // fewer rows: the same row several times
    for (uint32_t r = 0; r < p->rows;) {
        int32_t *to = sums + r;
        if (p->rows < TP_Q4_K_ROWS) {
            to = few;
            step = 0;
        } else if (p->rows - r < TP_Q4_K_ROWS) {
            r = p->rows - TP_Q4_K_ROWS; // computes some of the last rows twice
            to = sums + r;
        }
        const uint8_t *block = p->w + r * stride;
        for (uint32_t k = 0; k < TP_Q4_K_ROWS; ++k) {
            to[k] = 0;
        }
        for (const uint32_t *at = x; at < end; at += k_words(TP_Q4_K), block += 144) {
            uint32_t products[8 * TP_Q4_K_ROWS];
            q4_k_products(products, block + 16, step, at);
            const uint8_t *row = block;
            for (uint32_t k = 0; k < TP_Q4_K_ROWS; ++k, row += step) {
                to[k] = q4_k_add(to[k], row, products + 2 * k, at, t);
            }
        }
        if (step == 0) {
            sums[r++] = few[0];
        } else {
            r += TP_Q4_K_ROWS;
        }
    }
}

// The dot product of 16 values of Q6_K. low, high: their low and high bits, to be shifted right.
static inline int32_t q6_k_16(const uint8_t *low, uint32_t low_shift, const uint8_t *high, uint32_t high_shift,
    const uint32_t *x) {
    uint32_t begin = *x++, a = begin, c = (uint32_t)((int32_t)(begin - 0x8000u) >> 2) + 0x8000u;
    for (uint32_t j = 0; j < 16; j += 4, x += 2) {
        uint32_t l = load_word(low + j) >> low_shift, h = load_word(high + j) >> high_shift;
        a += (l & 0x000f000fu) * x[0];
        c += (h & 0x00030003u) * x[0];
        a += (l >> 8 & 0x000f000fu) * x[1];
        c += (h >> 8 & 0x00030003u) * x[1];
    }
    return upper(a) - upper(begin) + 16 * upper(c);
}

static int32_t q6_k_row(const tp_product_t *p, const uint8_t *block, const uint32_t *x, uint32_t t) {
    int32_t sum = 0;
    for (uint32_t b = 0; b < p->cols; b += 256, block += 210, x += k_words(TP_Q6_K)) {
        const int8_t *scales = (const int8_t *)block + 192;
        int32_t dots = 0;
        for (uint32_t i = 0; i < 16; ++i) {
            // of 128 values the first and second 32 are low nibbles, the third and fourth 32 are the high nibbles of
            // the same bytes
            const uint8_t *low = block + i / 8 * 64 + i % 4 * 16, *high = block + 128 + i / 8 * 32 + i % 2 * 16;
            dots += scales[i] * q6_k_16(low, i % 8 / 4 * 4, high, i % 8 / 2 * 2, x + 9 * i);
        }
        uint32_t shift = t + x[k_words(TP_Q6_K) - 1];
        sum = tp_add_scaled(sum, tp_cut(dots, TP_Q6_K_OVER), tp_load_u16(block + 208), shift);
    }
    return sum;
}

static void q6_k_rows(const tp_product_t *p, const uint32_t *x, uint32_t t, int32_t *sums) {
    size_t stride = tp_row_bytes(TP_Q6_K, p->cols);
    for (uint32_t r = 0; r < p->rows; ++r) {
        sums[r] = q6_k_row(p, p->w + r * stride, x, t);
    }
}

#endif
