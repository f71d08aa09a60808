// Any 32-bit core without FPU that has no variant of its own (Xtensa): the method of scalar.h in C.
#include "../isa.h"

#if defined(TP_PATH_FIXED) && defined(TP_ISA_SCALAR)

const char tp_kernels_variant[] = "scalar";

#define TP_ROWS(type) (tp_is_own(type) ? 4 : 2)
#define TP_Q4_K_ROWS (2)
#define TP_ALIGNED (1)
#define TP_LESS (0)
#define TP_PAIRS (TP_PAIRS_TWO_MASKS)
#define TP_Q8_WORDS (1 + TP_BLOCK) // the value with which a sum starts, and words: not every core can load signed bytes
#include "scalar.h"

// Compilers load early and add late, and then have too few registers. So each type has a function of its own (ROWS),
// and a sum is finished before the next weights are loaded (DONE).
#define ROWS static __attribute__((noinline)) void
#define DONE(a, b) __asm volatile("" : "+r"(a), "+r"(b) : : "memory")

// The upper of two bytes is taken by a shift. The lower one is taken with all bits above it; the activation of the
// upper one corrects that. The lower one is also 128 too great, which the first word corrects.
static void tp_put_q8_0(uint32_t *to, const int8_t *q) {
    int32_t sum = 0;
    for (uint32_t j = 0; j < TP_BLOCK; j += 2) {
        to[1 + j] = (uint32_t)q[j];
        to[2 + j] = (uint32_t)(q[j + 1] - 256 * q[j]);
        sum += q[j];
    }
    to[0] = (uint32_t)(-128 * sum);
}

// clang-format off
// Eight products of Q4_0 of two rows.
#define Q4_0_8(v, w, x, s, t) \
    _Pragma("GCC unroll 4") \
    for (uint32_t i = 0; i < 4; ++i, v >>= 4, w >>= 4) { \
        s += (v & 0x000f000fu) * x[i]; \
        t += (w & 0x000f000fu) * x[i]; \
        DONE(s, t); \
    }
// clang-format on

// A block of two rows. first: whether its first and last halfword make one word.
static inline __attribute__((always_inline)) const uint32_t *q4_0_block(const uint8_t *a, const uint8_t *b, int pairs,
    int first, const uint32_t *x, int32_t *sums) {
    uint32_t s = *x, t = *x++;
    uint32_t d = *(const uint16_t *)(const void *)a, e = *(const uint16_t *)(const void *)b;
    const uint8_t *end = a + (first ? 16 : 18);
    a += 2;
    b += 2;
    if (first) {
        const uint16_t *ends = (const uint16_t *)(const void *)a, *next = (const uint16_t *)(const void *)b;
        uint32_t v = ends[0] | (uint32_t)ends[7] << 16, w = next[0] | (uint32_t)next[7] << 16;
        Q4_0_8(v, w, x, s, t)
        a += 2;
        b += 2;
        x += 4;
    }
    #pragma GCC unroll 1
    for (; a < end; a += 4, b += 4, x += 4) {
        uint32_t v = pairs ? load_aligned(a) : load_word(a), w = pairs ? load_aligned(b) : load_word(b);
        Q4_0_8(v, w, x, s, t)
    }
    sums[0] = tp_add_scaled(sums[0], upper(s), d, *x & 0xff);
    sums[1] = tp_add_scaled(sums[1], upper(t), e, *x & 0xff);
    return x + 1;
}

ROWS q4_0_pairs(const uint8_t *a, const uint8_t *b, const tp_rows_t *rows, int32_t *sums) {
    for (const uint32_t *x = rows->x; x < rows->end; a += 36, b += 36) {
        x = q4_0_block(a, b, 1, 1, x, sums);
        x = q4_0_block(a + 18, b + 18, 1, 0, x, sums);
    }
}

ROWS q4_0_blocks(const uint8_t *a, const uint8_t *b, const tp_rows_t *rows, int32_t *sums) {
    for (const uint32_t *x = rows->x; x < rows->end; a += 18, b += 18) {
        x = q4_0_block(a, b, 0, 0, x, sums);
    }
}

ROWS q8_0_rows(const uint8_t *a, const uint8_t *b, const tp_rows_t *rows, int32_t *sums) {
    for (const uint32_t *x = rows->x; x < rows->end;) {
        uint32_t s = *x, t = *x++, d = *(const uint16_t *)(const void *)a, e = *(const uint16_t *)(const void *)b;
        a += 2;
        b += 2;
        #pragma GCC unroll 1
        for (const uint8_t *end = a + TP_BLOCK; a < end; a += 8, b += 8) {
            #pragma GCC unroll 4
            for (uint32_t i = 0; i < 8; i += 2, x += 2) {
                int32_t v = *(const int16_t *)(const void *)(a + i), w = *(const int16_t *)(const void *)(b + i);
                DONE(v, w); // else the compiler extends the sign after the exclusive or
                v ^= 0x80;
                w ^= 0x80;
                s += (uint32_t)v * x[0];
                t += (uint32_t)w * x[0];
                DONE(s, t);
                s += (uint32_t)(v >> 8) * x[1];
                t += (uint32_t)(w >> 8) * x[1];
                DONE(s, t);
            }
        }
        sums[0] = tp_add_scaled(sums[0], (int32_t)s, d, *x & 0xff);
        sums[1] = tp_add_scaled(sums[1], (int32_t)t, e, *x++ & 0xff);
    }
}

static void tp_rows(uint32_t type, int pairs, uint32_t shift, tp_rows_t *rows) {
    (void)shift;
    const uint8_t *w = rows->w;
    int32_t *sums = rows->sums;
    for (uint32_t i = 0; i < rows->groups; ++i, w += 2 * rows->stride, sums += 2) {
        sums[0] = sums[1] = 0;
        (type == TP_Q8_0 ? q8_0_rows : pairs ? q4_0_pairs : q4_0_blocks)(w, w + rows->stride, rows, sums);
    }
}

// Adds the dot products a and b of two rows to their groups, multiplied with their scales.
static inline __attribute__((always_inline)) void pair_scales(int32_t *group, uint32_t a, uint32_t b,
    const uint8_t *scales) {
    int32_t both = *(const int16_t *)(const void *)scales;
    group[0] += upper(a) * (int8_t)both;
    group[1] += upper(b) * (both >> 8);
}

// Two pairs of rows. w, scales: of the first pair.
ROWS pair_rows(const uint8_t *w, const uint8_t *scales, const tp_rows_t *rows, int32_t *sums) {
    size_t stride = rows->stride;
    int32_t group[4] = { 0, 0, 0, 0 };
    for (uint32_t i = 0; i < 4; ++i) {
        sums[i] = 0;
    }
    for (const uint32_t *x = rows->x; x + TP_PAIRS <= rows->end; x += 2, scales += 2) {
        uint32_t a = *x, b = *x, c = *x, d = *x++;
        #pragma GCC unroll 1
        for (const uint8_t *end = w + 16; w < end; w += 4) {
            uint32_t u = load_aligned(w), v = load_aligned(w + stride);
            #pragma GCC unroll 4
            for (uint32_t i = 0; i < 4; ++i, x += 2, u >>= 4, v >>= 4) {
                a += (u & 0x00030003u) * x[0];
                c += (v & 0x00030003u) * x[0];
                DONE(a, c);
                b += (u & 0x000c000cu) * x[1];
                d += (v & 0x000c000cu) * x[1];
                DONE(b, d);
            }
        }
        pair_scales(group, a, b, scales);
        pair_scales(group + 2, c, d, scales + stride);
        for (uint32_t i = 0; x[1] != 0 && i < 4; ++i) {
            sums[i] += group[i] >> (x[1] & 0xff);
            group[i] = 0;
        }
    }
}

// clang-format off
// Eight products of a row. from: bit of the first weight in w.
#define TP3_8(s, w, from) \
    _Pragma("GCC unroll 4") \
    for (uint32_t i = 0; i < 4; ++i) { \
        s += (w >> (from + i % 2 * 3 + i / 2 * 8) & 0x00070007u) * x[i]; \
        DONE(s, w); \
    }
// clang-format on

// Four rows.
ROWS tp3_rows(const uint8_t *block, const tp_rows_t *rows, int32_t *sums) {
    int32_t group[4] = { 0, 0, 0, 0 };
    for (uint32_t i = 0; i < 4; ++i) {
        sums[i] = 0;
    }
    for (const uint32_t *x = rows->x; x + 18 <= rows->end; ++x, block += TP_TP3_BYTES - 16) {
        uint32_t a = *x, b = *x, c = *x, d = *x++;
        #pragma GCC unroll 1
        for (const uint8_t *end = block + 16; block < end; block += 4, x += 4) {
            uint32_t t = load_aligned(block + 4), u = load_aligned(block + 20), v = load_aligned(block + 36);
            TP3_8(a, t, 0)
            TP3_8(b, u, 0)
            TP3_8(c, v, 0)
            v = (t & 0xc0c0c0c0u) >> 4 | (u & 0xc0c0c0c0u) >> 2 | (v & 0xc0c0c0c0u);
            TP3_8(d, v, 2)
        }
        pair_scales(group, a, b, block - 16);
        pair_scales(group + 2, c, d, block - 14);
        for (uint32_t i = 0; x[0] != 0 && i < 4; ++i) {
            sums[i] += group[i] >> (x[0] & 0xff);
            group[i] = 0;
        }
    }
}

static void tp_own_rows(uint32_t type, tp_rows_t *rows) {
    const uint8_t *w = rows->w, *scales = rows->scales;
    int32_t *sums = rows->sums;
    size_t step = type == TP_TP3 ? rows->stride : 2 * rows->stride;
    for (uint32_t i = 0; i < rows->groups; ++i, w += step, scales += step, sums += 4) {
        if (type == TP_TP3) {
            tp3_rows(w, rows, sums);
        } else {
            pair_rows(w, scales, rows, sums);
        }
    }
}

ROWS q4_k_products(uint32_t *sums, const uint8_t *w, size_t stride, const uint32_t *x) {
    const uint8_t *next = w + stride;
    for (uint32_t i = 0; i < 4; ++i, sums += 4) {
        uint32_t first = x[0], second = x[1], a = first, b = second, c = first, d = second;
        x += 2;
        #pragma GCC unroll 1
        for (uint32_t j = 0; j < 32; j += 4, w += 4, next += 4, x += 4) {
            uint32_t v = load_aligned(w), u = load_aligned(next), mask = 0x000f000fu;
            #pragma GCC unroll 2
            for (uint32_t k = 0; k < 4; k += 2, v >>= 8, u >>= 8) {
                a += (v & mask) * x[k];
                c += (u & mask) * x[k];
                DONE(a, c);
                b += (v >> 4 & mask) * x[k + 1];
                d += (u >> 4 & mask) * x[k + 1];
                DONE(b, d);
            }
        }
        sums[0] = a;
        sums[1] = b;
        sums[2] = c;
        sums[3] = d;
    }
}

#endif
