// The formats of weights: how values lie in a row and what they mean. Everything here is integers and
// the same on both paths (see isa.h); docs/kernels.md draws the layouts.
#ifndef TP_TYPES_H
#define TP_TYPES_H

#include "kernels.h"

#define TP_NONE (0xff)
#define TP_MAX_GROUP (256) // values of the longest block

// A row is a run of blocks of 32 * parts values and bytes bytes each.
typedef struct {
    uint8_t type;
    uint8_t parts;
    uint8_t bytes;
    uint8_t d_at; // where in a block the fp16 lies that its values are multiplied with
    uint8_t m_at; // ... and the one of what is added to them; TP_NONE where there is none
} tp_format_t;

// NULL for F32, F16 and what is unknown.
const tp_format_t *tp_format(uint32_t type);

// 32 neighbouring values of a row: d * scale * q + m * min, halves of 16 with their own scale and min.
typedef struct {
    int8_t q[TP_BLOCK];
    int16_t scale[2];
    int16_t min[2];
} tp_part_t;

// Part number part, 0 to parts - 1, of a block.
void tp_decode(uint32_t type, const uint8_t *block, uint32_t part, tp_part_t *out);

static inline uint32_t tp_load_u16(const uint8_t *p) {
    return p[0] | (uint32_t)p[1] << 8;
}

#endif
