// Any 32-bit core without FPU that has no file of its own (Xtensa): scalar.h in C.
#include "../isa.h"

#if defined(TP_PATH_FIXED) && defined(TP_ISA_SCALAR)

const char tp_kernels_variant[] = "scalar";

#define TP_ROWS(type) (2)
#define TP_Q4_K_ROWS (2)
#define TP_ALIGNED (1)
#define TP_LESS (0)
#define TP_PAIRS (TP_PAIRS_ROTATED)
#define TP_Q8_WORDS (1 + TP_BLOCK) // what a sum begins with, and words: not every core loads signed bytes
#include "scalar.h"

static void tp_put_q8_0(uint32_t *to, const int8_t *q) {
    int32_t sum = 0;
    for (uint32_t j = 0; j < TP_BLOCK; ++j) {
        to[1 + j] = (uint32_t)q[j];
        sum += q[j];
    }
    to[0] = (uint32_t)(-128 * sum); // weights meet them as 0 to 255
}

static inline uint32_t ror(uint32_t x, uint32_t n) {
    return x >> n | x << (32 - n);
}

// Eight products of Q4_0.
static inline uint32_t q4_0_8(uint32_t w, const uint32_t *x) {
    return (w & 0x000f000fu) * x[0] + (w >> 4 & 0x000f000fu) * x[1] + (w >> 8 & 0x000f000fu) * x[2]
        + (w >> 12 & 0x000f000fu) * x[3];
}

static int32_t q4_0_row(const uint8_t *block, int pairs, const tp_rows_t *rows) {
    int32_t sum = 0;
    int first = pairs;
    for (const uint32_t *x = rows->x; x < rows->end; x += 18, block += 18) {
        uint32_t s = x[0];
        if (first) {
            const uint16_t *ends = (const uint16_t *)(const void *)(block + 2);
            s += q4_0_8(ends[0] | (uint32_t)ends[7] << 16, x + 1);
        } else {
            s += q4_0_8(load_word(block + 2), x + 1);
        }
        const uint8_t *w = block + (first ? 4 : 6);
        for (uint32_t j = 0; j < 12; j += 4) {
            s += q4_0_8(pairs ? load_aligned(w + j) : load_word(w + j), x + 5 + j);
        }
        sum = tp_add_scaled(sum, upper(s), *(const uint16_t *)(const void *)block, x[17] & 0xff);
        first = pairs & !first;
    }
    return sum;
}

static int32_t q8_0_row(const uint8_t *block, const tp_rows_t *rows) {
    int32_t sum = 0;
    for (const uint32_t *x = rows->x; x < rows->end; x += TP_Q8_WORDS + 1, block += 34) {
        uint32_t dot = x[0];
        const uint32_t *at = x + 1;
        for (uint32_t j = 2; j < 2 + TP_BLOCK; j += 4, at += 4) {
            uint32_t w = load_word(block + j) ^ 0x80808080u;
            dot += (w & 255) * at[0] + (w >> 8 & 255) * at[1] + (w >> 16 & 255) * at[2] + (w >> 24) * at[3];
        }
        sum = tp_add_scaled(sum, (int32_t)dot, *(const uint16_t *)(const void *)block, x[TP_Q8_WORDS] & 0xff);
    }
    return sum;
}

static void tp_rows(uint32_t type, int pairs, uint32_t shift, tp_rows_t *rows) {
    (void)shift;
    const uint8_t *w = rows->w;
    for (uint32_t r = 0; r < TP_ROWS(type) * rows->groups; ++r, w += rows->stride) {
        rows->sums[r] = type == TP_Q4_0 ? q4_0_row(w, pairs, rows) : q8_0_row(w, rows);
    }
}

static void pair_rows(const uint8_t *block, const int8_t *scales, const tp_rows_t *rows, int32_t *sums) {
    int32_t group[2] = { 0, 0 };
    sums[0] = sums[1] = 0;
    for (const uint32_t *x = rows->x; x + 18 <= rows->end; x += 18, block += 16, scales += 2) {
        uint32_t a = x[0], b = x[0];
        for (uint32_t j = 0; j < 16; j += 4) {
            uint32_t w = load_aligned(block + j);
            const uint32_t *at = x + 1 + j, mask = 0x000c000cu;
            a += (w << 2 & mask) * at[0] + (w >> 2 & mask) * at[1] + (w >> 6 & mask) * at[2] + (w >> 10 & mask) * at[3];
            b += (w >> 12 & mask) * at[0];
            w = ror(w, 16);
            b += (w & mask) * at[1] + (w >> 4 & mask) * at[2] + (w >> 8 & mask) * at[3];
        }
        group[0] += upper(a) * scales[0];
        group[1] += upper(b) * scales[1];
        if (x[17] != 0) {
            for (uint32_t i = 0; i < 2; ++i) {
                sums[i] += group[i] >> (x[17] & 0xff);
                group[i] = 0;
            }
        }
    }
}

static int32_t tp3_row(const uint8_t *block, const int8_t *scales, const tp_rows_t *rows) {
    int32_t sum = 0, group = 0;
    for (const uint32_t *x = rows->x; x + 18 <= rows->end; x += 18, block += 12) {
        uint32_t s = x[0], last = 0;
        for (uint32_t j = 0; j < 3; ++j) {
            uint32_t w = load_aligned(block + 4 * j);
            for (uint32_t k = 0; k < 5; ++k) {
                s += (w >> 3 * k & 0x00070007u) * x[1 + 5 * j + k];
            }
            last |= (w >> 15 & 0x00010001u) << j;
        }
        group += upper(s + last * x[16]) * *scales++;
        if (x[17] != 0) {
            sum += group >> (x[17] & 0xff);
            group = 0;
        }
    }
    return sum;
}

static void tp_own_rows(uint32_t type, tp_rows_t *rows) {
    for (uint32_t r = 0; r < TP_ROWS(type) * rows->groups;) {
        size_t at = (type == TP_TP3 ? r : r / 2) * rows->stride;
        const int8_t *scales = (const int8_t *)rows->scales + at;
        if (type == TP_TP3) {
            rows->sums[r++] = tp3_row(rows->w + at, scales, rows);
        } else {
            pair_rows(rows->w + at, scales, rows, rows->sums + r);
            r += 2;
        }
    }
}

static void q4_k_products(uint32_t *sums, const uint8_t *w, size_t stride, const uint32_t *x) {
    const uint8_t *next = w + stride;
    for (uint32_t i = 0; i < 4; ++i, sums += 4) {
        uint32_t first = x[0], second = x[1], a = first, b = second, c = first, d = second;
        x += 2;
        for (uint32_t j = 0; j < 32; j += 4, w += 4, next += 4, x += 4) {
            uint32_t v = load_aligned(w), u = load_aligned(next), mask = 0x000f000fu;
            a += (v & mask) * x[0] + (v >> 8 & mask) * x[2];
            b += (v >> 4 & mask) * x[1] + (v >> 12 & mask) * x[3];
            c += (u & mask) * x[0] + (u >> 8 & mask) * x[2];
            d += (u >> 4 & mask) * x[1] + (u >> 12 & mask) * x[3];
        }
        sums[0] = a;
        sums[1] = b;
        sums[2] = c;
        sums[3] = d;
    }
}

#endif
