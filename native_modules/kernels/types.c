#include "types.h"

#include "tp_math.h"

// A type that the build leaves out repeats the number of the first one, so it is never found.
static const tp_format_t formats[] = {
    #define WEIGHT_TYPE(name, number, group, ...) { TP_HAS_##group ? TP_##name : TP_Q4_0, __VA_ARGS__ },
    #include "weight_types.h"
    #undef WEIGHT_TYPE
};

const tp_format_t *tp_format(uint32_t type) {
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); ++i) {
        if (formats[i].type == type) {
            return &formats[i];
        }
    }
    return NULL;
}

tp_own_t tp_own(uint32_t type, uint32_t cols) {
    uint32_t blocks = cols / TP_BLOCK;
    tp_own_t own;
    own.scales = (size_t)4 << tp_together(type);
    own.blocks = own.scales + (type == TP_TP3 ? 0 : (2 * blocks + 3) & ~(size_t)3);
    own.size = own.blocks + (type == TP_TP3 ? TP_TP3_BYTES : 16) * (size_t)blocks;
    return own;
}

size_t tp_row_bytes(uint32_t type, uint32_t cols) {
    if (type == TP_F32) {
        return (size_t)cols * 4;
    }
    if (type == TP_F16) {
        return (size_t)cols * 2;
    }
    const tp_format_t *format = tp_format(type);
    if (format == NULL) {
        return 0;
    }
    if (format->bytes == 0) {
        return cols % TP_BLOCK != 0 ? 0 : tp_own(type, cols).size >> tp_together(type);
    }
    uint32_t values = TP_BLOCK * format->parts;
    return cols % values != 0 ? 0 : (size_t)cols / values * format->bytes;
}

uint32_t tp_group(uint32_t type) {
    const tp_format_t *format = tp_format(type);
    return format == NULL ? TP_BLOCK : TP_BLOCK * format->parts;
}

// Two bits of value j of a part, for K-quants and TQ2_0: 32 bytes hold four parts.
static inline int32_t two_bits(const uint8_t *qs, uint32_t part, uint32_t j) {
    return qs[part / 4 * 32 + j] >> 2 * (part % 4) & 3;
}

// A ternary digit of a byte of TQ1_0, -1 to 1. The byte is a fraction of 256 to the base 3.
static inline int32_t trit(uint32_t byte, uint32_t digit) {
    static const uint8_t powers[5] = { 1, 3, 9, 27, 81 };
    return (int32_t)((byte * powers[digit] & 0xff) * 3 >> 8) - 1;
}

static void decode_tq1_0(const uint8_t *block, uint32_t part, int8_t *q) {
    for (uint32_t j = 0; j < TP_BLOCK; ++j) {
        uint32_t i = 32 * part + j;
        if (i < 160) {
            q[j] = (int8_t)trit(block[i % 32], i / 32);
        } else if (i < 240) {
            q[j] = (int8_t)trit(block[32 + i % 16], (i - 160) / 16);
        } else {
            q[j] = (int8_t)trit(block[48 + i % 4], (i - 240) / 4);
        }
    }
}

// The 6-bit scale and minimum of a part of Q4_K and Q5_K. s: twelve bytes for eight parts.
static void scale_and_min(const uint8_t *s, uint32_t part, tp_part_t *out) {
    uint32_t scale, min;
    if (part < 4) {
        scale = s[part] & 63u;
        min = s[part + 4] & 63u;
    } else {
        scale = (s[part + 4] & 15u) | (uint32_t)(s[part - 4] >> 6) << 4;
        min = (uint32_t)(s[part + 4] >> 4) | (uint32_t)(s[part] >> 6) << 4;
    }
    out->scale[0] = out->scale[1] = (int16_t)scale;
    out->min[0] = out->min[1] = (int16_t)-(int32_t)min;
}

// Decodes a part, 0 to 7, of a block of 256 values.
static void decode_256(uint32_t type, const uint8_t *block, uint32_t part, tp_part_t *out) {
    for (uint32_t half = 0; TP_HAS_K && half < 2; ++half) {
        uint32_t i = 2 * part + half;
        if (type == TP_Q2_K) {
            out->scale[half] = block[i] & 15;
            out->min[half] = (int16_t)-(block[i] >> 4);
        } else if (type == TP_Q3_K) {
            const uint8_t *s = block + 96;
            int32_t low = s[i % 8] >> 4 * (i / 8) & 15, high = s[8 + i % 4] >> 2 * (i / 4) & 3;
            out->scale[half] = (int16_t)((low | high << 4) - 32);
        } else if (type == TP_Q6_K) {
            out->scale[half] = (int8_t)block[192 + i];
        }
    }
    if (TP_HAS_K && (type == TP_Q4_K || type == TP_Q5_K)) {
        scale_and_min(block + 4, part, out);
    }
    if (TP_HAS_TQ && type == TP_TQ1_0) {
        decode_tq1_0(block, part, out->q);
        return;
    }
    for (uint32_t j = 0; j < TP_BLOCK; ++j) {
        int32_t q;
        switch (TP_HAS_K ? type : (uint32_t)TP_TQ2_0) {
            case TP_Q2_K:
                q = two_bits(block + 16, part, j);
                break;
            case TP_Q3_K:
                q = two_bits(block + 32, part, j) - (block[j] >> part & 1 ? 0 : 4);
                break;
            case TP_Q4_K:
                q = block[16 + part / 2 * 32 + j] >> 4 * (part % 2) & 15;
                break;
            case TP_Q5_K:
                q = (block[48 + part / 2 * 32 + j] >> 4 * (part % 2) & 15) | (block[16 + j] >> part & 1) << 4;
                break;
            case TP_Q6_K:
                q = block[part / 4 * 64 + part % 2 * 32 + j] >> 4 * (part % 4 / 2) & 15;
                q = (q | two_bits(block + 128, part, j) << 4) - 32;
                break;
            default: // TP_TQ2_0
                q = two_bits(block, part, j) - 1;
                break;
        }
        out->q[j] = (int8_t)q;
    }
}

// Decodes a block of 32 values.
static void decode_32(uint32_t type, const uint8_t *block, tp_part_t *out) {
    if (type == TP_Q8_0) {
        for (uint32_t j = 0; j < TP_BLOCK; ++j) {
            out->q[j] = (int8_t)block[2 + j];
        }
        return;
    }
    int five = TP_HAS_LEGACY && (type == TP_Q5_0 || type == TP_Q5_1);
    int offset = type == TP_Q4_0 ? 8 : type == TP_Q5_0 ? 16 : 0;
    if (TP_HAS_LEGACY && (type == TP_Q4_1 || type == TP_Q5_1)) {
        out->min[0] = out->min[1] = 1;
        block += 2;
    }
    uint32_t high = five ? tp_load_u16(block + 2) | tp_load_u16(block + 4) << 16 : 0;
    const uint8_t *from = block + (five ? 6 : 2);
    for (uint32_t j = 0; j < TP_BLOCK / 2; ++j) {
        out->q[j] = (int8_t)((int32_t)((from[j] & 15) | (high >> j & 1) << 4) - offset);
        out->q[j + 16] = (int8_t)((int32_t)((uint32_t)(from[j] >> 4) | (high >> (j + 16) & 1) << 4) - offset);
    }
}

// Decodes 32 values of our own types. docs/kernels.md draws their order.
static void decode_own(uint32_t type, const uint8_t *w, uint32_t row, uint32_t cols, uint32_t index, tp_part_t *out) {
    tp_own_t own = tp_own(type, cols);
    const uint8_t *at = w + (row >> tp_together(type)) * own.size;
    if (type == TP_TP3) {
        uint32_t b = row & 3;
        const uint8_t *block = at + own.blocks + TP_TP3_BYTES * (size_t)index;
        out->scale[0] = out->scale[1] = (int8_t)block[b];
        block += 4;
        for (uint32_t j = 0; j < 16; ++j) {
            // two codes; those of the fourth row are the top bits of the bytes of the other three
            uint32_t two =
                b < 3 ? block[16 * b + j] : (uint32_t)block[j] >> 6 | block[16 + j] >> 6 << 2 | block[32 + j] >> 6 << 4;
            out->q[j] = (int8_t)((int32_t)(two & 7) - 4);
            out->q[j + 16] = (int8_t)((int32_t)(two >> 3 & 7) - 4);
        }
        return;
    }
    uint32_t b = row & 1;
    out->scale[0] = out->scale[1] = (int8_t)at[own.scales + 2 * index + b];
    const uint8_t *block = at + own.blocks + 16 * (size_t)index;
    for (uint32_t j = 0; j < TP_BLOCK; ++j) {
        uint32_t nibble = b == 0 ? j % 8 : (j + 3) % 8;
        uint32_t code = block[j / 8 * 4 + nibble / 2] >> (4 * (nibble % 2) + 2 * b) & 3;
        out->q[j] = (int8_t)(type == TP_TP2 ? 2 * (int32_t)code - 3 : (int32_t)code - 1);
    }
}

void tp_decode(const tp_format_t *format, const uint8_t *w, uint32_t row, uint32_t cols, uint32_t index,
    tp_part_t *out) {
    out->scale[0] = out->scale[1] = 1;
    out->min[0] = out->min[1] = 0;
    out->d = 0x3c00; // 1
    out->m = 0;
    if (TP_HAS_OWN && format->bytes == 0) {
        decode_own(format->type, w, row, cols, index, out);
        return;
    }
    const uint8_t *block = w + row * tp_row_bytes(format->type, cols) + index / format->parts * format->bytes;
    out->d = (uint16_t)tp_load_u16(block + format->d_at);
    if (format->m_at != TP_NONE) {
        out->m = (uint16_t)tp_load_u16(block + format->m_at);
    }
    if (format->parts == 1 || !(TP_HAS_K || TP_HAS_TQ)) {
        decode_32(format->type, block, out);
    } else {
        decode_256(format->type, block, index % format->parts, out);
    }
}

uint32_t tp_row_factor(const tp_format_t *format, const uint8_t *w, uint32_t row, uint32_t cols) {
    if (format->bytes != 0) {
        return 0x3f800000; // 1
    }
    uint32_t together = tp_together(format->type), first = row >> together;
    const uint8_t *at = w + first * tp_own(format->type, cols).size + 4 * (row - (first << together));
    return tp_load_u16(at) | tp_load_u16(at + 2) << 16;
}

void tp_dequantize_row(uint32_t type, float *y, const uint8_t *w, uint32_t row, uint32_t cols) {
    if (type == TP_F32) {
        const float *f = (const float *)(const void *)w + (size_t)row * cols;
        for (uint32_t i = 0; i < cols; ++i) {
            y[i] = f[i];
        }
        return;
    }
    if (type == TP_F16) {
        w += (size_t)row * cols * 2;
        for (uint32_t i = 0; i < cols; ++i) {
            y[i] = tp_from_f16(tp_load_u16(w + 2 * i));
        }
        return;
    }
    const tp_format_t *format = tp_format(type);
    float factor = tp_from_bits(tp_row_factor(format, w, row, cols));
    for (uint32_t i = 0; i < cols; i += TP_BLOCK) {
        tp_part_t p;
        tp_decode(format, w, row, cols, i / TP_BLOCK, &p);
        for (uint32_t j = 0; j < TP_BLOCK; ++j) {
            float d = factor * tp_from_f16(p.d) * (float)p.scale[j >> 4];
            y[i + j] = d * (float)p.q[j];
            if (format->m_at != TP_NONE) {
                y[i + j] += tp_from_f16(p.m) * (float)p.min[j >> 4];
            }
        }
    }
}

// Whether an fp16 is infinite or NaN. *top: the greatest exponent field so far, raised to that of h.
static int is_bad(uint32_t h, uint32_t *top) {
    uint32_t e = h >> 10 & 31;
    *top = e > *top ? e : *top;
    return e == 31;
}

// Whether a float is infinite or NaN. w: its upper half.
static int is_bad_float(const uint8_t *w) {
    return (tp_load_u16(w) & 0x7f80u) == 0x7f80u;
}

uint32_t tp_scan(uint32_t type, const uint8_t *w, uint32_t rows, uint32_t cols) {
    uint32_t top = 1;
    int bad = 0;
    size_t bytes = rows * tp_row_bytes(type, cols);
    const tp_format_t *format = tp_format(type);
    if (type == TP_F32) {
        for (size_t i = 0; i < bytes; i += 4) {
            bad |= is_bad_float(w + i + 2);
        }
    } else if (type == TP_F16) {
        for (size_t i = 0; i < bytes; i += 2) {
            bad |= is_bad(tp_load_u16(w + i), &top);
        }
    } else if (format != NULL && format->bytes == 0) {
        for (uint32_t r = 0; r < rows; ++r) {
            bad |= (tp_row_factor(format, w, r, cols) & 0x7f800000u) == 0x7f800000u;
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
