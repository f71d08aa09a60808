// For 32-bit cores without FPU and SIMD: all of a variant but the integer dot products. The file of
// an instruction set defines TP_ROWS, includes this and defines tp_dots.
//
// Q4_0: one multiplication takes two products. With two weights in the halves of a word, w and W
// (0 to 15: their offset of 8 stays), and X * 65536 + x as the activations' word,
//   (w + W * 65536) * (X * 65536 + x) = w * x + (w * X + W * x) * 65536, modulo 2^32:
// so the activations lie crosswise. The upper half gathers the sum of the block, from which no more
// than 16 bits are wanted; the lower half gathers 16 products that mean nothing, which with 0x8000
// added to begin with stay between 0 and 65535 and never reach the upper one.
//
// Activations of a token: for each block of 32 the word to begin with, -8 * sum(x) * 65536 + 0x8000,
// and 16 words in the order in which masks and shifts by 0, 4, 8, 12 bring out the weights; for
// Q8_0 32 words of one value each; after all blocks their scales, float.
//
// The float sums are made with integers, to the same bits: two rounded products and a rounded sum
// a block cost a third of what the compiler's library takes for them.
#ifndef TP_NOFPU_H
#define TP_NOFPU_H

#include "../isa.h"
#include "../tp_math.h"

// A finite number m * 2^e, |m| from 2^23 to 2^24 (both may occur), or 0.
typedef struct {
    int32_t m;
    int32_t e;
} tp_num;

static inline uint32_t tp_clz(uint32_t x) {
    #if defined(__ARM_FEATURE_CLZ)
    return (uint32_t)__builtin_clz(x);
    #else
    // x is below 2^31 and not 0
    uint32_t n = 1;
    if (x < 1u << 15) {
        n += 16;
        x <<= 16;
    }
    if (x < 1u << 23) {
        n += 8;
        x <<= 8;
    }
    if (x < 1u << 27) {
        n += 4;
        x <<= 4;
    }
    if (x < 1u << 29) {
        n += 2;
        x <<= 2;
    }
    return n + (x < 1u << 30);
    #endif
}

// Rounds hi + lo / 2^32 to the nearest integer, ties to even.
static inline uint32_t tp_round(uint32_t hi, uint32_t lo) {
    uint32_t up = lo + 0x7fffffffu + (hi & 1);
    return hi + (up < lo);
}

// Scales between these limits, whose products and sums stay within the normal floats.
static inline int tp_scale_is_easy(float scale) {
    uint32_t e = tp_to_bits(scale) >> 23;
    return tp_to_bits(scale) == 0 || (e >= 127 - 60 && e <= 127 + 60);
}

// One step of the sum for one row: *sum += (dw * da) * dot. h: dw as fp16; da: easy, as float bits;
// where it is 0, dot is too.
// Returns 0 if dw is infinite or no number.
static inline int tp_add_block(tp_num *sum, uint32_t h, uint32_t da, int32_t dot) {
    uint32_t ew = h >> 10 & 31;
    uint32_t mw = h << 21 | 0x80000000u;
    if (ew - 1 >= 30) {
        if (ew != 0) {
            return 0;
        }
        mw = (h & 1023) << 21; // subnormal: 2^-14 times a fraction
        if (mw == 0) {
            return 1;
        }
        uint32_t shift = tp_clz(mw >> 1) - 1;
        mw <<= shift;
        ew = 1 - shift;
    }
    if (dot == 0) {
        return 1;
    }
    // d = dw * da
    uint64_t product = (uint64_t)mw * ((da & 0x7fffffu) | 0x800000u);
    uint32_t hi = (uint32_t)(product >> 32), lo = (uint32_t)product;
    int32_t e = (int32_t)(ew + (da >> 23));
    if (hi < 0x800000u) {
        hi = hi << 1 | lo >> 31;
        lo <<= 1;
        --e;
    }
    uint32_t d = tp_round(hi, lo);
    // v = d * dot
    uint32_t negative = (uint32_t)(dot >> 31);
    uint32_t size = ((uint32_t)dot ^ negative) - negative;
    uint32_t shift = tp_clz(size);
    product = (uint64_t)(size << shift) * d;
    hi = (uint32_t)(product >> 32);
    lo = (uint32_t)product;
    e -= (int32_t)shift;
    if (hi < 0x800000u) {
        hi = hi << 1 | lo >> 31;
        lo <<= 1;
        --e;
    }
    int32_t minus = (int32_t)(h << 16 ^ (uint32_t)dot) >> 31;
    int32_t v = ((int32_t)tp_round(hi, lo) ^ minus) - minus;
    // sum + v: both with five more bits, the smaller one's tail gathered in its last bit
    int32_t big = sum->m, small = v, distance = sum->e - e;
    if (distance < 0) {
        distance = -distance;
        big = v;
        small = sum->m;
        sum->e = e;
    }
    if (big == 0 || distance > 26) {
        if (big == 0) {
            sum->e = e;
            big = v;
        }
        sum->m = big;
        return 1;
    }
    big *= 32;
    small *= 32;
    int32_t shifted = small >> distance;
    shifted |= (int32_t)((uint32_t)shifted << distance) != small;
    big += shifted;
    uint32_t magnitude = (uint32_t)(big ^ big >> 31);
    int32_t drop = 5 + (magnitude >= 1u << 29);
    if (magnitude < 1u << 28) {
        if (magnitude == 0) {
            sum->m = 0;
            return 1;
        }
        drop = 8 - (int32_t)tp_clz(magnitude);
    }
    if (drop > 0) {
        big = (big + (1 << (drop - 1)) - 1 + (big >> drop & 1)) >> drop;
    } else {
        big = (int32_t)((uint32_t)big << -drop);
    }
    sum->e += drop - 5;
    sum->m = big;
    return 1;
}

static inline float tp_num_to_float(tp_num x) {
    if (x.m == 0) {
        return 0.0f;
    }
    uint32_t sign = (uint32_t)x.m & 0x80000000u;
    uint32_t m = (uint32_t)(x.m < 0 ? -x.m : x.m);
    return tp_from_bits(sign | (((uint32_t)(x.e + 18) << 23) + (m - 0x800000u)));
}

// Dot products of TP_ROWS rows, stride bytes apart, with one token: out[block][row]. w: of row 0.
__attribute__((noinline))
static void tp_dots(uint32_t type, int32_t *out, const uint8_t *w, size_t stride, const uint32_t *x,
    uint32_t blocks);

#define TP_CHUNK (32) // blocks whose dot products wait on the stack

static inline size_t tp_x_words(uint32_t type) {
    return type == TP_Q4_0 ? 17 : 32;
}

size_t tp_isa_x_bytes(uint32_t type, uint32_t cols) {
    return type == TP_Q4_0 || type == TP_Q8_0 ? (tp_x_words(type) + 1) * 4 * (cols / TP_BLOCK) : 0;
}

void tp_isa_put(uint32_t type, void *x, uint32_t cols, uint32_t n, uint32_t t, uint32_t b,
    const int8_t *q, tp_scale_t scale) {
    (void)n;
    uint32_t *token = (uint32_t *)x + t * (tp_isa_x_bytes(type, cols) / 4);
    uint32_t *to = token + b * tp_x_words(type);
    ((float *)token)[cols / TP_BLOCK * tp_x_words(type) + b] = scale;
    // A scale of 0 can come with values (127 for what is no number). Without them the dot product
    // is 0, which tp_add_block looks for in any case.
    int32_t keep = tp_to_bits(scale) != 0 ? -1 : 0;
    if (type == TP_Q8_0) {
        for (uint32_t j = 0; j < TP_BLOCK; ++j) {
            to[j] = (uint32_t)(q[j] & keep);
        }
        return;
    }
    int32_t sum = 0;
    for (uint32_t j = 0; j < TP_BLOCK / 2; j += 4) {
        static const uint8_t order[4] = { 0, 16, 1, 17 };
        for (uint32_t k = 0; k < 4; ++k) {
            int32_t low = q[j + order[k]] & keep, high = q[j + order[k] + 2] & keep;
            to[1 + j + k] = ((uint32_t)low << 16) + (uint32_t)high;
            sum += low + high;
        }
    }
    to[0] = ((uint32_t)(-8 * sum) << 16) + 0x8000u;
}

// One row by the compiler's own float, for what tp_add_block does not take.
__attribute__((noinline))
static float tp_slow_row(uint32_t type, const uint8_t *w, const uint32_t *x, uint32_t blocks) {
    size_t block_bytes = tp_row_bytes(type, TP_BLOCK);
    const float *scales = (const float *)(x + blocks * tp_x_words(type));
    int32_t dots[TP_ROWS];
    float sum = 0.0f;
    for (uint32_t b = 0; b < blocks; ++b, w += block_bytes, x += tp_x_words(type)) {
        tp_dots(type, dots, w, 0, x, 1);
        sum += tp_from_f16(tp_load_u16(w)) * scales[b] * (float)dots[0];
    }
    return sum;
}

// TP_ROWS rows: y[0..TP_ROWS - 1]. Returns 0 if a scale of the weights is infinite or no number.
static int tp_rows(uint32_t type, float *y, const uint8_t *w, size_t stride, const uint32_t *x,
    uint32_t blocks) {
    size_t block_bytes = tp_row_bytes(type, TP_BLOCK);
    const uint32_t *scales = x + blocks * tp_x_words(type);
    int32_t dots[TP_CHUNK * TP_ROWS];
    tp_num sums[TP_ROWS];
    for (uint32_t r = 0; r < TP_ROWS; ++r) {
        sums[r].m = 0;
        sums[r].e = 0;
    }
    while (blocks > 0) {
        uint32_t count = blocks < TP_CHUNK ? blocks : TP_CHUNK;
        tp_dots(type, dots, w, stride, x, count);
        for (uint32_t r = 0; r < TP_ROWS; ++r) {
            const uint8_t *scale = w + r * stride;
            tp_num sum = sums[r];
            for (uint32_t b = 0; b < count; ++b, scale += block_bytes) {
                if (!tp_add_block(&sum, *(const uint16_t *)scale, scales[b], dots[b * TP_ROWS + r])) {
                    return 0;
                }
            }
            sums[r] = sum;
        }
        blocks -= count;
        x += count * tp_x_words(type);
        scales += count;
        w += count * block_bytes;
    }
    for (uint32_t r = 0; r < TP_ROWS; ++r) {
        y[r] = tp_num_to_float(sums[r]);
    }
    return 1;
}

void tp_isa_matmul(const tp_product_t *p) {
    uint32_t type = p->type, rows = p->rows, cols = p->cols, n = p->n;
    const uint8_t *w = p->w;
    float *y = p->y;
    size_t stride = tp_row_bytes(type, cols);
    uint32_t blocks = cols / TP_BLOCK;
    const uint32_t *from = p->x;
    for (; n > 0; --n, y += rows, from += tp_isa_x_bytes(type, cols) / 4) {
        const float *scales = (const float *)(from + blocks * tp_x_words(type));
        int easy = 1;
        for (uint32_t b = 0; b < blocks; ++b) {
            easy &= tp_scale_is_easy(scales[b]);
        }
        for (uint32_t r = 0; r < rows; r += TP_ROWS) {
            // the last rows may be done twice
            uint32_t at = rows < TP_ROWS || r < rows - TP_ROWS ? r : rows - TP_ROWS;
            const uint8_t *row = w + at * stride;
            if (rows < TP_ROWS || !easy || !tp_rows(type, y + at, row, stride, from, blocks)) {
                for (uint32_t i = at; i < rows && i < at + TP_ROWS; ++i, row += stride) {
                    y[i] = tp_slow_row(type, row, from, blocks);
                }
            }
        }
    }
}

#endif
