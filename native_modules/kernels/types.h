// The formats of weights: how values lie in a matrix and what they mean. Everything here is integers
// and the same on both paths (see isa.h); docs/kernels.md draws the layouts.
#ifndef TP_TYPES_H
#define TP_TYPES_H

#include "kernels.h"

// Groups of types; a build can leave out all but the first.
#define TP_HAS_ALWAYS (1)
#if defined(TP_WITHOUT_LEGACY)
#define TP_HAS_LEGACY (0)
#else
#define TP_HAS_LEGACY (1)
#endif
#if defined(TP_WITHOUT_K)
#define TP_HAS_K (0)
#else
#define TP_HAS_K (1)
#endif
#if defined(TP_WITHOUT_TQ)
#define TP_HAS_TQ (0)
#else
#define TP_HAS_TQ (1)
#endif
#if defined(TP_WITHOUT_OWN)
#define TP_HAS_OWN (0)
#else
#define TP_HAS_OWN (1)
#endif

// Our own types that keep rows in pairs; all our own; how many rows of a type lie together, as a power of 2;
// the K-quants that variants have products for.
static inline int tp_is_pair(uint32_t type) {
    return TP_HAS_OWN && (type == TP_TP2 || type == TP_TPT);
}

static inline int tp_is_own(uint32_t type) {
    return TP_HAS_OWN && (type == TP_TP2 || type == TP_TP3 || type == TP_TPT);
}

static inline uint32_t tp_together(uint32_t type) {
    return type == TP_TP3 ? 2 : (uint32_t)tp_is_pair(type);
}

static inline int tp_is_k(uint32_t type) {
    return TP_HAS_K && (type == TP_Q4_K || type == TP_Q6_K);
}

#define TP_NONE (0xff)
#define TP_MAX_GROUP (256) // activations that share a scale, at most

// A row is a run of blocks of 32 * parts values and bytes bytes each. Rows of our own types, bytes 0,
// have a scale of their own and blocks of 32, which meet activations in groups of parts.
typedef struct {
    uint8_t type;
    uint8_t parts;
    uint8_t bytes;
    uint8_t d_at; // where in a block the fp16 lies that its values are multiplied with
    uint8_t m_at; // ... and the one of what is added to them; TP_NONE where there is none
    uint8_t over; // bits beyond 20 that the integer sum over a block can have
} tp_format_t;

#define TP_Q4_K_OVER (5)
#define TP_Q6_K_OVER (7)

// NULL for F32, F16 and what is unknown.
const tp_format_t *tp_format(uint32_t type);

// 32 neighbouring values of a row: d * scale * q + m * min, halves of 16 with their own scale and min.
typedef struct {
    int8_t q[TP_BLOCK];
    int16_t scale[2];
    int16_t min[2];
    uint16_t d; // fp16
    uint16_t m;
} tp_part_t;

// Values 32 * index and on of row number row of w.
void tp_decode(const tp_format_t *format, const uint8_t *w, uint32_t row, uint32_t cols, uint32_t index,
    tp_part_t *out);

// What all values of a row are multiplied with besides, as the bits of a float.
uint32_t tp_row_factor(const tp_format_t *format, const uint8_t *w, uint32_t row, uint32_t cols);

static inline uint32_t tp_load_u16(const uint8_t *p) {
    return p[0] | (uint32_t)p[1] << 8;
}

// Where the parts of a pair of rows of TP2 or TPT lie, or of four rows of TP3: floats of one scale a row;
// int8 scales of the blocks (of both rows in turn), then the blocks. TP3: blocks, which begin with their
// scales. In bytes.
#define TP_TP3_BYTES (52) // of a block of four rows, with its scales

typedef struct {
    size_t scales;
    size_t blocks;
    size_t size;
} tp_own_t;

tp_own_t tp_own(uint32_t type, uint32_t cols);

#endif
