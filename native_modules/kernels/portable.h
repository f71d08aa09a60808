// What the portable matrix products of both paths share: the integers.
#ifndef TP_PORTABLE_H
#define TP_PORTABLE_H

#include "types.h"

// Sums over neighbouring blocks of 32 columns of one row.
typedef struct {
    int32_t dots; // scale * weight * activation
    int32_t mins; // minimum * activation
    tp_part_t part; // the last of the blocks; its d and m hold for all of them
} tp_sums_t;

// The sums over the blocks from first up to end, which share one scale of the activations. q: int8 activations from
// the first block on. Returns the activations after the last block.
static inline __attribute__((always_inline)) const int8_t *tp_sum_blocks(tp_sums_t *sums, const tp_product_t *p,
    const tp_format_t *format, uint32_t row, uint32_t first, uint32_t end, const int8_t *q) {
    sums->dots = sums->mins = 0;
    do {
        tp_decode(format, p->w, row, p->cols, first, &sums->part);
        for (uint32_t half = 0; half < 2; ++half) {
            int32_t dot = 0, total = 0;
            for (uint32_t j = half * 16; j < half * 16 + 16; ++j, ++q) {
                dot += sums->part.q[j] * *q;
                total += *q;
            }
            sums->dots += sums->part.scale[half] * dot;
            sums->mins += sums->part.min[half] * total;
        }
    } while (++first < end);
    return q;
}

#endif
