#include "types.h"

#include "tp_math.h"

static const tp_format_t formats[] = {
    { TP_Q4_0, 1, 18, 0, TP_NONE },
    { TP_Q8_0, 1, 34, 0, TP_NONE },
};

const tp_format_t *tp_format(uint32_t type) {
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); ++i) {
        if (formats[i].type == type) {
            return &formats[i];
        }
    }
    return NULL;
}

size_t tp_row_bytes(uint32_t type, uint32_t cols) {
    if (type == TP_F32) {
        return (size_t)cols * 4;
    }
    if (type == TP_F16) {
        return (size_t)cols * 2;
    }
    const tp_format_t *format = tp_format(type);
    uint32_t values = format == NULL ? 0 : TP_BLOCK * format->parts;
    return values == 0 || cols % values != 0 ? 0 : (size_t)cols / values * format->bytes;
}

uint32_t tp_group(uint32_t type) {
    const tp_format_t *format = tp_format(type);
    return format == NULL ? TP_BLOCK : TP_BLOCK * format->parts;
}

void tp_decode(uint32_t type, const uint8_t *block, uint32_t part, tp_part_t *out) {
    (void)part;
    out->scale[0] = out->scale[1] = 1;
    out->min[0] = out->min[1] = 0;
    const uint8_t *from = block + 2;
    if (type == TP_Q8_0) {
        for (uint32_t j = 0; j < TP_BLOCK; ++j) {
            out->q[j] = (int8_t)from[j];
        }
    } else if (type == TP_Q4_0) {
        for (uint32_t j = 0; j < TP_BLOCK / 2; ++j) {
            out->q[j] = (int8_t)((from[j] & 15) - 8);
            out->q[j + 16] = (int8_t)((from[j] >> 4) - 8);
        }
    }
}

void tp_dequantize_row(uint32_t type, float *y, const uint8_t *w, uint32_t row, uint32_t cols) {
    w += row * tp_row_bytes(type, cols);
    if (type == TP_F32) {
        const float *f = (const float *)w;
        for (uint32_t i = 0; i < cols; ++i) {
            y[i] = f[i];
        }
        return;
    }
    if (type == TP_F16) {
        for (uint32_t i = 0; i < cols; ++i) {
            y[i] = tp_from_f16(tp_load_u16(w + 2 * i));
        }
        return;
    }
    const tp_format_t *format = tp_format(type);
    for (uint32_t i = 0; i < cols; w += format->bytes) {
        float d = tp_from_f16(tp_load_u16(w + format->d_at));
        float m = format->m_at == TP_NONE ? 0.0f : tp_from_f16(tp_load_u16(w + format->m_at));
        for (uint32_t part = 0; part < format->parts; ++part) {
            tp_part_t p;
            tp_decode(type, w, part, &p);
            for (uint32_t j = 0; j < TP_BLOCK; ++j, ++i) {
                y[i] = d * (float)p.scale[j >> 4] * (float)p.q[j];
                if (format->m_at != TP_NONE) {
                    y[i] += m * (float)p.min[j >> 4];
                }
            }
        }
    }
}

// Whether an fp16 is infinite or no number; *top: the greatest exponent so far, as stored, from 1 on.
static int is_bad(uint32_t h, uint32_t *top) {
    uint32_t e = h >> 10 & 31;
    *top = e > *top ? e : *top;
    return e == 31;
}

uint32_t tp_scan(uint32_t type, const uint8_t *w, uint32_t rows, uint32_t cols) {
    uint32_t top = 1;
    int bad = 0;
    size_t bytes = rows * tp_row_bytes(type, cols);
    const tp_format_t *format = tp_format(type);
    if (type == TP_F32) {
        for (size_t i = 0; i < bytes; i += 4) {
            bad |= (tp_load_u16(w + i + 2) & 0x7f80u) == 0x7f80u;
        }
    } else if (type == TP_F16) {
        for (size_t i = 0; i < bytes; i += 2) {
            bad |= is_bad(tp_load_u16(w + i), &top);
        }
    } else if (format != NULL) {
        for (size_t i = 0; i < bytes; i += format->bytes) {
            bad |= is_bad(tp_load_u16(w + i + format->d_at), &top);
            if (format->m_at != TP_NONE) {
                bad |= is_bad(tp_load_u16(w + i + format->m_at), &top);
            }
        }
    }
    return bad ? 0 : top;
}
