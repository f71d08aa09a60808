// What the portable matrix products of both paths share: the integers.
#ifndef TP_PORTABLE_H
#define TP_PORTABLE_H

#include "types.h"

// Sums over the neighbouring blocks of a row from *block up to end, which share one scale of the activations, and sets
// *block to end. q: int8 activations from the first block on. Returns the activations after the last block.
//   dots   scale * weight * activation
//   mins   minimum * activation
//   part   the last block; its d and m hold for all of them
static inline __attribute__((always_inline)) const int8_t *tp_sum_blocks(const tp_product_t *p,
    const tp_format_t *format, uint32_t row, uint32_t *block, uint32_t end, const int8_t *q, int32_t *dots,
    int32_t *mins, tp_part_t *part) {
    *dots = *mins = 0;
    do {
        tp_decode(format, p->w, row, p->cols, *block, part);
        for (uint32_t half = 0; half < 2; ++half) {
            int32_t dot = 0, total = 0;
            for (uint32_t j = half * 16; j < half * 16 + 16; ++j, ++q) {
                dot += part->q[j] * *q;
                total += *q;
            }
            *dots += part->scale[half] * dot;
            *mins += part->min[half] * total;
        }
    } while (++*block < end);
    return q;
}

#endif
