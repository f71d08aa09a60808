// Matrix products in portable C: the reference that every other variant equals bit for bit. It is
// in every build, for the types that a variant leaves out and to hold the variant against.
//
// Of each block an exact integer dot product, times the 11 bits of its fp16 scale, shifted to the
// exponent T that the row's blocks share, added to a sum of 32 bits; one float a row. T is such that
// the sum cannot overflow.
#include "fixed_products.h"

#if defined(TP_PATH_FIXED)

#define Q_AT (4) // where a token's int8 values begin, after its scale; then the halvings, one a block

size_t tp_portable_x_bytes(uint32_t cols) {
    return Q_AT + cols + ((cols / TP_BLOCK + 3) & ~3u);
}

void tp_portable_put(void *x, uint32_t cols, uint32_t t, uint32_t b, const int8_t *values, tp_scale_t k) {
    int8_t *q = (int8_t *)x + t * tp_portable_x_bytes(cols) + Q_AT;
    for (uint32_t j = 0; j < TP_BLOCK; ++j) {
        q[b * TP_BLOCK + j] = values[j];
    }
    q[cols + b] = (int8_t)k;
}

static int32_t dot_blocks(const tp_format_t *format, const uint8_t *w, const int8_t *q, uint32_t cols, uint32_t t) {
    const int8_t *halvings = q + cols;
    int32_t sum = 0;
    for (uint32_t b = 0; b < cols; b += TP_BLOCK * format->parts) {
        int32_t dots = 0, mins = 0;
        for (uint32_t part = 0; part < format->parts; ++part) {
            tp_part_t p;
            tp_decode(format->type, w, part, &p);
            for (uint32_t half = 0; half < 2; ++half) {
                int32_t dot = 0, total = 0;
                for (uint32_t j = half * 16; j < half * 16 + 16; ++j, ++q) {
                    dot += p.q[j] * *q;
                    total += *q;
                }
                dots += p.scale[half] * dot;
                mins += p.min[half] * total;
            }
        }
        uint32_t shift = t + (uint32_t)*halvings;
        halvings += format->parts;
        uint32_t drop = tp_drop(format);
        sum = tp_add_scaled(sum, dots >> drop, tp_load_u16(w + format->d_at), shift);
        if (format->m_at != TP_NONE) {
            sum = tp_add_scaled(sum, mins >> drop, tp_load_u16(w + format->m_at), shift);
        }
        w += format->bytes;
    }
    return sum;
}

// Floats are the compiler's own: exact, and slow without an FPU.
static float dot_floats(uint32_t type, const uint8_t *w, const float *x, uint32_t cols) {
    float sum = 0.0f;
    for (uint32_t i = 0; i < cols; ++i) {
        sum += (type == TP_F16 ? tp_from_f16(tp_load_u16(w + 2 * i)) : ((const float *)w)[i]) * x[i];
    }
    return sum;
}

void tp_matmul_portable(const tp_product_t *p) {
    const tp_format_t *format = tp_format(p->type);
    size_t row_bytes = tp_row_bytes(p->type, p->cols);
    size_t x_bytes = format == NULL ? (size_t)p->cols * 4 : tp_portable_x_bytes(p->cols);
    const uint8_t *xt = p->x;
    float *y = p->y;
    for (uint32_t t = 0; t < p->n; ++t, xt += x_bytes, y += p->rows) {
        const uint8_t *w = p->w;
        if (format == NULL) {
            for (uint32_t r = 0; r < p->rows; ++r, w += row_bytes) {
                y[r] = dot_floats(p->type, w, (const float *)(const void *)xt, p->cols);
            }
            continue;
        }
        tp_row_scale_t scale = tp_row_scale(p, xt);
        int32_t *sums = (int32_t *)(void *)y;
        for (uint32_t r = 0; r < p->rows; ++r, w += row_bytes) {
            sums[r] = dot_blocks(format, w, (const int8_t *)xt + Q_AT, p->cols, scale.t);
        }
        tp_rows_to_floats(y, sums, p->rows, scale);
    }
}

#if defined(TP_ISA_PORTABLE)

const char tp_kernels_variant[] = "portable";

size_t tp_isa_x_bytes(uint32_t type, uint32_t cols) {
    (void)type;
    (void)cols;
    return 0;
}

void tp_isa_put(uint32_t type, void *x, uint32_t cols, uint32_t n, uint32_t t, uint32_t b,
    const int8_t *values, tp_scale_t scale) {
    (void)type;
    (void)n;
    tp_portable_put(x, cols, t, b, values, scale);
}

void tp_isa_matmul(const tp_product_t *p) {
    tp_matmul_portable(p);
}

#endif

#endif
