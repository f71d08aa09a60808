// For 32-bit cores without SIMD: all of a variant but the rows. The file of an instruction set
// defines TP_ROWS and TP_ALIGNED, includes this and defines tp_rows.
//
// Q4_0: one multiplication takes two products. With two weights in the halves of a word, w and W
// (0 to 15: their offset of 8 stays), and X * 65536 + x as the activations' word,
//   (w + W * 65536) * (X * 65536 + x) = w * x + (w * X + W * x) * 65536, modulo 2^32:
// so the activations lie crosswise. The upper half gathers the sum of the block, from which no more
// than 16 bits are wanted; the lower half gathers 16 products that mean nothing, which with 0x8000
// added to begin with stay between 0 and 65535 and never reach the upper one.
//
// Activations of a token: its scale, then for each block of Q4_0 the word to begin with,
// -8 * sum(x) * 65536 + 0x8000, 16 words in the order in which masks and shifts by 0, 4, 8, 12 bring
// out the weights, and a word for its shift. For Q8_0 the variant says what comes before that word.
//
// Blocks of Q4_0 are 18 bytes: of two, the second's weights lie on multiples of 4, the first's do
// not. Cores that cannot read words elsewhere (TP_ALIGNED) read the words around: the first block's
// inner twelve bytes are three words, and its first two bytes and last two make one.
#ifndef TP_SCALAR_H
#define TP_SCALAR_H

#include "fixed_products.h"

// What one token has to do with TP_ROWS times groups rows, stride bytes apart. The order of members is
// known to assembly, which may change them.
typedef struct {
    int32_t *sums;      // of each row
    const uint8_t *w;
    size_t stride;
    const uint32_t *x;  // of the first block
    const uint32_t *end;
    uint32_t groups;
} tp_rows_t;

// pairs: whether blocks are to be read as TP_ALIGNED wants it. shift: the greatest of a block.
static void tp_rows(uint32_t type, int pairs, uint32_t shift, tp_rows_t *rows);

// 32 values of Q8_0 as TP_Q8_WORDS words.
static void tp_put_q8_0(uint32_t *to, const int8_t *q);

static inline uint32_t block_words(uint32_t type) {
    return type == TP_Q4_0 ? 18 : TP_Q8_WORDS + 1;
}

static inline int in_pairs(uint32_t cols) {
    return TP_ALIGNED && cols % (2 * TP_BLOCK) == 0;
}

size_t tp_isa_x_bytes(uint32_t type, uint32_t cols) {
    return type == TP_Q4_0 || type == TP_Q8_0 ? (1 + block_words(type) * (cols / TP_BLOCK)) * 4 : 0;
}

void tp_isa_put(uint32_t type, void *x, uint32_t cols, uint32_t n, uint32_t t, uint32_t b,
    const int8_t *q, tp_scale_t scale) {
    (void)n;
    uint32_t *to = (uint32_t *)x + t * (tp_isa_x_bytes(type, cols) / 4) + 1 + b * block_words(type);
    to[block_words(type) - 1] = (uint32_t)scale << 8; // see set_shifts
    if (type == TP_Q8_0) {
        tp_put_q8_0(to, q);
        return;
    }
    int32_t sum = 0;
    for (uint32_t j = 0; j < TP_BLOCK / 2; j += 4) {
        // the bytes of a word, and of the one that is made of both ends
        uint32_t at = j, next = 2;
        if (in_pairs(cols) && b % 2 == 0) {
            at = j == 0 ? 0 : j - 2;
            next = j == 0 ? 14 : 2;
        }
        static const uint8_t order[4] = { 0, 16, 1, 17 };
        for (uint32_t k = 0; k < 4; ++k) {
            int32_t low = q[at + order[k]], high = q[at + order[k] + next];
            to[1 + j + k] = ((uint32_t)low << 16) + (uint32_t)high;
            sum += low + high;
        }
    }
    to[0] = ((uint32_t)(-8 * sum) << 16) + 0x8000u;
}

// A block's word for its shift holds the halvings in its second byte, and in its first what they and
// t of this product add up to; its sign says that it is the last. Returns the greatest shift.
static uint32_t set_shifts(uint32_t *x, uint32_t words, const uint32_t *end, uint32_t t) {
    uint32_t greatest = 0;
    for (x += words - 1; x < end; x += words) {
        uint32_t shift = t + (*x >> 8 & 0xff);
        *x = (*x & 0xff00u) | shift | (x + 1 == end ? 0x80000000u : 0);
        greatest = shift > greatest ? shift : greatest;
    }
    return greatest;
}

void tp_isa_matmul(const tp_product_t *p) {
    size_t stride = tp_row_bytes(p->type, p->cols);
    uint32_t words = tp_isa_x_bytes(p->type, p->cols) / 4;
    uint32_t *x = (uint32_t *)(uintptr_t)p->x; // set_shifts writes what is for it alone
    float *y = p->y;
    int pairs = in_pairs(p->cols);
    for (uint32_t t = 0; t < p->n; ++t, y += p->rows, x += words) {
        tp_row_scale_t scale = tp_row_scale(p, x);
        uint32_t shift = set_shifts(x + 1, block_words(p->type), x + words, scale.t);
        int32_t *sums = (int32_t *)(void *)y;
        tp_rows_t rows = { sums, p->w, stride, x + 1, x + words, p->rows / TP_ROWS };
        if (rows.groups > 0) {
            tp_rows(p->type, pairs, shift, &rows);
        }
        for (uint32_t r = p->rows / TP_ROWS * TP_ROWS; r < p->rows; ++r) {
            int32_t same[TP_ROWS]; // one row as all of a group
            tp_rows_t row = { same, p->w + r * stride, 0, x + 1, x + words, 1 };
            tp_rows(p->type, pairs, shift, &row);
            sums[r] = same[0];
        }
        tp_rows_to_floats(p, y, sums, scale);
    }
}

#endif
