// Matrix products in portable C: the reference whose bits every other variant must give. It is in every build, for the
// types that a variant leaves out, and to test the variant against.
//
// The exact integer dot product of each block is multiplied with the 11 bits of the block's fp16 scale, shifted to the
// exponent T that all blocks of the matrix share, and added to a sum of 32 bits. Each row's sum becomes one float. T is
// chosen so that the sum cannot overflow.
#include "../portable.h"
#include "fixed_products.h"

#if defined(TP_PATH_FIXED)

#define SIGN (1u << 31)

// sum * s * factor by the compiler's floats, for rare cases. factor: the bits of a float.
static __attribute__((noinline)) float rare_to_float(int32_t sum, uint32_t factor, tp_factor_t s) {
    return (float)sum * tp_from_bits(((uint32_t)(s.e + 142) << 23) + (s.m << 17 >> 9)) * tp_from_bits(factor);
}

// For our own types: sum * s * the factor of the row. At most 18 bits of the sum are multiplied with 14 bits of s *
// factor, so that one multiplication and one search for the highest bit are enough. s is not 0.
static __attribute__((noinline)) void own_to_floats(const tp_product_t *p, float *y, tp_factor_t s) {
    // in s * factor: the product of its leading bit, and half a unit, less what would not fit
    uint32_t more = (s.m << 15) + 0x1fffe;
    // The exponent of a result, less 1, is that of the factor, plus base, plus -31 to 16 by the sum. For factors of
    // count exponents, from first on, it stays between 0 and 253.
    int32_t base = s.e + 18 - 15 + 31 - 1;
    int32_t count = base > 30 ? 0 : base < -17 ? 224 + base : 207;
    uint32_t first = (uint32_t)(31 - base) << 23, span = (uint32_t)count << 23;
    // all first rows of those stored together, then all second ones, and so on: their factors are stored together
    uint32_t together = 1u << tp_together(p->type);
    size_t step = tp_own(p->type, p->cols).size;
    float *end = y + p->rows;
    for (uint32_t row = 0; row < together; ++row) {
        const uint8_t *w = p->w + 4 * row;
        for (float *to = y + row; to < end; to += together, w += step) {
            int32_t sum = *(const int32_t *)(const void *)to;
            uint32_t factor = *(const uint32_t *)(const void *)w, above = factor - first, size = (uint32_t)sum;
            if (above >= span) {
                *to = rare_to_float(sum, factor, s);
                continue;
            }
            int32_t exponent = (int32_t)(above >> 23);
            if (sum <= 0) {
                if (sum == 0) {
                    *to = 0.0f;
                    continue;
                }
                size = 0u - size;
                exponent += 256; // the sign
            }
            for (; size >> 18 != 0; size >>= 4) {
                exponent += 4;
            }
            uint32_t m = tp_mantissa(size * (((factor << 9 >> 17) * s.m + more) >> 18), &exponent);
            // the leading bit adds one to the exponent
            *to = tp_from_bits(((uint32_t)(exponent + 31 - 8) << 23) + m);
        }
    }
}

void tp_rows_to_floats(const tp_product_t *p, float *y, tp_row_scale_t scale) {
    const int32_t *sums = (const int32_t *)(const void *)y;
    uint32_t rows = p->rows;
    if (tp_format(p->type)->bytes == 0 && scale.s.m != 0) {
        own_to_floats(p, y, scale.s);
        return;
    }
    int32_t e = scale.s.e + scale.e + 127 + 31 + 16;
    if (scale.s.m == 0 || e < 34 || e > 254) { // zero, or near the limits of a float
        for (uint32_t i = 0; i < rows; ++i) {
            y[i] = rare_to_float(sums[i], (uint32_t)(scale.e + 127) << 23, scale.s);
        }
        return;
    }
    // the leading bit of a mantissa adds one to the exponent
    uint32_t base = (uint32_t)(e - 32) << 23, factor = scale.s.m, top = 20;
    for (float *end = y + rows; y < end; ++y) {
        int32_t v = *(const int32_t *)(const void *)y;
        if (v == 0) {
            *y = 0.0f;
            continue;
        }
        uint32_t size = (uint32_t)v, bits = base;
        if (v < 0) {
            size = 0u - size;
            bits += SIGN;
        }
        top = tp_highest_bit(size, top);
        int32_t exponent = (int32_t)top;
        uint32_t m = tp_raise(((size << (31 - top)) >> 16) * factor, 1, &exponent);
        *y = tp_from_bits(bits + ((uint32_t)exponent << 23) + (m >> 8));
    }
}

#define Q_AT (4) // offset of the int8 values of a token, after its scale; then the halvings follow, one byte a block

size_t tp_portable_activation_bytes(uint32_t cols) {
    return Q_AT + cols + ((cols / TP_BLOCK + 3) & ~3u);
}

void tp_portable_put(void *x, uint32_t cols, uint32_t t, uint32_t b, const int8_t *values, tp_scale_t k) {
    int8_t *q = (int8_t *)x + t * tp_portable_activation_bytes(cols) + Q_AT;
    for (uint32_t j = 0; j < TP_BLOCK; ++j) {
        q[b * TP_BLOCK + j] = values[j];
    }
    q[cols + b] = (int8_t)k;
}

// The sum over a row. q: activations of a token; t: as in tp_row_scale_t.
static int32_t dot_blocks(const tp_product_t *p, uint32_t row, const int8_t *q, uint32_t t) {
    const tp_format_t *format = tp_format(p->type);
    const int8_t *halvings = q + p->cols;
    uint32_t blocks = p->cols / TP_BLOCK;
    int32_t sum = 0;
    for (uint32_t b = 0; b < blocks;) {
        uint32_t shift = (uint32_t)halvings[b], end = b + format->parts < blocks ? b + format->parts : blocks;
        int32_t dots, mins;
        tp_part_t part;
        q = tp_sum_blocks(p, format, row, &b, end, q, &dots, &mins, &part);
        if (format->bytes == 0) {
            sum += dots >> shift;
            continue;
        }
        sum = tp_add_scaled(sum, tp_cut(dots, format->over), part.d, t + shift);
        if (format->m_at != TP_NONE) {
            sum = tp_add_scaled(sum, tp_cut(mins, format->over), part.m, t + shift);
        }
    }
    return sum;
}

// F32 and F16, with the compiler's floats: exact, and slow without an FPU.
static float dot_floats(uint32_t type, const uint8_t *w, const float *x, uint32_t cols) {
    float sum = 0.0f;
    for (uint32_t i = 0; i < cols; ++i) {
        sum += (type == TP_F16 ? tp_from_f16(tp_load_u16(w + 2 * i)) : ((const float *)w)[i]) * x[i];
    }
    return sum;
}

void tp_matmul_portable(const tp_product_t *p) {
    size_t x_bytes = tp_format(p->type) == NULL ? (size_t)p->cols * 4 : tp_portable_activation_bytes(p->cols);
    const uint8_t *xt = p->x;
    float *y = p->y;
    for (uint32_t t = 0; t < p->n; ++t, xt += x_bytes, y += p->rows) {
        if (tp_format(p->type) == NULL) {
            const uint8_t *w = p->w;
            for (uint32_t r = 0; r < p->rows; ++r, w += tp_row_bytes(p->type, p->cols)) {
                y[r] = dot_floats(p->type, w, (const float *)(const void *)xt, p->cols);
            }
            continue;
        }
        tp_row_scale_t scale = tp_row_scale(p, xt);
        int32_t *sums = (int32_t *)(void *)y;
        for (uint32_t r = 0; r < p->rows; ++r) {
            sums[r] = dot_blocks(p, r, (const int8_t *)xt + Q_AT, scale.t);
        }
        tp_rows_to_floats(p, y, scale);
    }
}

#endif
