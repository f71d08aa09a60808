// The formats of weights: how values are stored in a matrix, and what they mean. All of it is integers and the same on
// both paths (see isa.h). docs/kernels.md draws the layouts; weight_types.h lists the types.
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

// Whether the type is one of our own that stores rows in pairs.
static inline int tp_is_pair(uint32_t type) {
    return TP_HAS_OWN && (type == TP_TP2 || type == TP_TPT);
}

// Whether the type is one of our own.
static inline int tp_is_own(uint32_t type) {
    return TP_HAS_OWN && (type == TP_TP2 || type == TP_TP3 || type == TP_TPT);
}

// How many rows of the type are stored together, as a power of 2.
static inline uint32_t tp_together(uint32_t type) {
    return type == TP_TP3 ? 2 : (uint32_t)tp_is_pair(type);
}

// Whether the type is a K-quant for which variants have kernels.
static inline int tp_is_k(uint32_t type) {
    return TP_HAS_K && (type == TP_Q4_K || type == TP_Q6_K);
}

#define TP_NONE (0xff)
#define TP_MAX_GROUP (256) // activations that share a scale, at most

// A line of weight_types.h, which explains the members.
typedef struct {
    uint8_t type;
    uint8_t parts;
    uint8_t bytes;
    uint8_t d_at;
    uint8_t m_at;
    uint8_t over;
} tp_format_t;

#define TP_Q4_K_OVER (5)
#define TP_Q6_K_OVER (7)

// Returns the format of a type; NULL for F32, F16 and unknown types.
const tp_format_t *tp_format(uint32_t type);

// 32 neighbouring values of a row: each is d * scale * q + m * min. Both halves of 16 have a scale and a min.
typedef struct {
    int8_t q[TP_BLOCK];
    int16_t scale[2];
    int16_t min[2];
    uint16_t d; // fp16
    uint16_t m; // fp16
} tp_part_t;

// Decodes 32 values of a row, from 32 * index on. w: the matrix; row: number of the row; cols: values of a row.
void tp_decode(const tp_format_t *format, const uint8_t *w, uint32_t row, uint32_t cols, uint32_t index,
    tp_part_t *out);

// Returns the factor of all values of a row, as the bits of a float; 1 for types of GGUF.
uint32_t tp_row_factor(const tp_format_t *format, const uint8_t *w, uint32_t row, uint32_t cols);

// A little-endian number of 16 bits at any address.
static inline uint32_t tp_load_u16(const uint8_t *p) {
    return p[0] | (uint32_t)p[1] << 8;
}

// Offsets in bytes of the parts of the rows stored together: two for TP2 and TPT, four for TP3. They start with the
// float scales of the rows. For TP2 and TPT the int8 scales of the blocks follow, of both rows alternately, then the
// blocks; for TP3 the blocks, each of which starts with its int8 scales.
#define TP_TP3_BYTES (52) // of a block of four rows, with its scales

typedef struct {
    size_t scales;
    size_t blocks;
    size_t size; // of the rows stored together
} tp_own_t;

tp_own_t tp_own(uint32_t type, uint32_t cols);

#endif
