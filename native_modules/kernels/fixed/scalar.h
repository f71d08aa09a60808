// For 32-bit cores without SIMD: all of a variant but the rows. The file of an instruction set
// defines TP_ROWS (of a type, at most TP_MOST_ROWS), TP_Q4_K_ROWS, TP_ALIGNED, TP_PAIRS, TP_Q8_WORDS
// and TP_LESS (what is taken off the shifts of blocks, 0 or 1), includes this and defines tp_rows, tp_own_rows and q4_k_products.
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
//
// Our own types likewise. TP3: masks of 0x00070007 bring out the weights of a word of eight columns after
// shifts by 0, 3, 8 and 11. The two bits that are left on top of each byte are the fourth row's: of the words
// of the other three
//   (a & 0xc0c0c0c0) >> 4 | (b & 0xc0c0c0c0) >> 2 | (c & 0xc0c0c0c0)
// is its word, of shifts by 2, 5, 10 and 13. TP2 and TPT: masks of 0x000c000c bring out four times
// a code of either row, columns i and i + 4 of a word of eight: of row a after a shift by 4 i - 2, of
// row b after a rotation by 16 + 4 (i - 1), for i = 0 by 12. A core that cannot rotate (TP_PAIRS)
// takes b's halves as they lie, for i = 1 to 3 the wrong way round, and meets them with activations
// the other way round. Where shifts are instructions of their own, two masks follow each shift by 4:
// 0x00030003 brings out a code of row a, whose activations are stored four times as great, 0x000c000c
// one of row b; activations of their own for both, and a word from the block to its scales. The dot product comes out twice (TP2) or four times (TPT) as great; the shift
// at the end of the group makes up for that. A block's last word is 0 within a group, else 0x100 and
// the shift, and its sign says that it is the last of the row.
#ifndef TP_SCALAR_H
#define TP_SCALAR_H

#include "fixed_products.h"

#define TP_MOST_ROWS (8)

// How activations of TP2 and TPT lie (TP_PAIRS), as words of a block.
#define TP_PAIRS_ROTATED (18)
#define TP_PAIRS_BOTH_WAYS (30)
#define TP_PAIRS_TWO_MASKS (35)

// What one token has to do with TP_ROWS times groups rows, stride bytes apart. The order of members is
// known to assembly, which may change them.
typedef struct {
    int32_t *sums;      // of each row
    const uint8_t *w;
    size_t stride;
    const uint32_t *x;  // of the first block
    const uint32_t *end;
    uint32_t groups;
    const uint8_t *scales; // of our own types; w are blocks, and stride apart lie pairs of rows, or fours
} tp_rows_t;

// pairs: whether blocks are to be read as TP_ALIGNED wants it. shift: the greatest of a block.
static void tp_rows(uint32_t type, int pairs, uint32_t shift, tp_rows_t *rows);

static void tp_own_rows(uint32_t type, tp_rows_t *rows);

// 32 values of Q8_0 as TP_Q8_WORDS words.
static void tp_put_q8_0(uint32_t *to, const int8_t *q);

static inline uint32_t crosswise(int32_t x, int32_t y) {
    return ((uint32_t)x << 16) + (uint32_t)y;
}

#include "k_quants.h"

static inline uint32_t block_words(uint32_t type) {
    return type == TP_Q8_0 ? TP_Q8_WORDS + 1 : tp_is_pair(type) ? TP_PAIRS : 18;
}

static inline int in_pairs(uint32_t cols) {
    return TP_ALIGNED && cols % (2 * TP_BLOCK) == 0;
}

size_t tp_isa_activation_bytes(uint32_t type, uint32_t cols) {
    if (tp_is_k(type)) {
        return (1 + cols / 256 * k_words(type)) * 4;
    }
    int known = type == TP_Q4_0 || type == TP_Q8_0 || tp_is_own(type);
    // after the last block of our own types a word may be read that means nothing
    return known ? (1 + block_words(type) * (cols / TP_BLOCK) + (uint32_t)tp_is_own(type)) * 4 : 0;
}

static void put_pair(uint32_t type, uint32_t *to, const int8_t *q) {
    int32_t sum = 0;
    for (uint32_t j = 0; j < TP_BLOCK; ++j) {
        sum += q[j];
    }
    *to++ = ((uint32_t)((type == TP_TP2 ? -6 : -4) * sum) << 16) + 0x8000u;
    for (uint32_t j = 0; j < TP_BLOCK / 2; ++j) {
        uint32_t i = j % 4, at = j / 4 * 8 + i;
        uint32_t straight = crosswise(q[at], q[at + 4]);
        if (TP_PAIRS == TP_PAIRS_TWO_MASKS) {
            *to++ = 4 * straight;
            *to++ = i < 3 ? crosswise(q[at + 5], q[at + 1]) : crosswise(q[at - 3], q[at + 1]);
            continue;
        }
        *to++ = straight;
        if (TP_PAIRS == TP_PAIRS_BOTH_WAYS && i > 1) {
            *to++ = crosswise(q[at + 4], q[at]);
        }
        if (TP_PAIRS == TP_PAIRS_BOTH_WAYS && i == 3) {
            *to++ = crosswise(q[at + 2], q[at - 2]); // of i = 1, whose weights need no shift
        }
    }
}

void tp_isa_put(uint32_t type, void *x, uint32_t cols, uint32_t n, uint32_t t, uint32_t b,
    const int8_t *q, tp_scale_t scale) {
    (void)n;
    if (tp_is_k(type)) {
        uint32_t *block = (uint32_t *)x + t * (tp_isa_activation_bytes(type, cols) / 4) + 1 + b / 8 * k_words(type);
        put_k(type, block, b % 8, q, scale);
        return;
    }
    uint32_t *to = (uint32_t *)x + t * (tp_isa_activation_bytes(type, cols) / 4) + 1 + b * block_words(type);
    if (tp_is_own(type)) {
        uint32_t shift = (uint32_t)scale + (type == TP_TP2 ? 1 : type == TP_TPT ? 2 : 0);
        int last = b + 1 == cols / TP_BLOCK, end = last || (b + 1) % (TP_MAX_GROUP / TP_BLOCK) == 0;
        to[block_words(type) - 1] = end ? shift | 0x100u | (last ? 0x80000000u : 0) : 0;
    } else {
        to[block_words(type) - 1] = (uint32_t)scale << 8; // see set_shifts
    }
    if (tp_is_pair(type)) {
        put_pair(type, to, q);
        if (TP_PAIRS == TP_PAIRS_TWO_MASKS) {
            // from the block to its scales
            tp_own_t own = tp_own(type, cols);
            to[block_words(type) - 2] = (uint32_t)(own.scales + 2 * b) - (uint32_t)(own.blocks + 16 * b);
        }
        return;
    }
    if (type == TP_Q8_0) {
        tp_put_q8_0(to, q);
        return;
    }
    int32_t sum = 0;
    for (uint32_t j = 0; j < TP_BLOCK / 2; j += 4) {
        // the bytes of a word, and of the one that is made of both ends
        uint32_t at = j, next = 2;
        if (type == TP_Q4_0 && in_pairs(cols) && b % 2 == 0) {
            at = j == 0 ? 0 : j - 2;
            next = j == 0 ? 14 : 2;
        }
        static const uint8_t order[4] = { 0, 16, 1, 17 };
        for (uint32_t k = 0; k < 4; ++k) {
            int32_t low = q[at + order[k]], high = q[at + order[k] + next];
            to[1 + j + k] = crosswise(low, high);
            sum += low + high;
        }
    }
    to[0] = ((uint32_t)((type == TP_Q4_0 ? -8 : -4) * sum) << 16) + 0x8000u;
}

// A block's word for its shift holds the halvings in its second byte, and in its first what they and
// t of this product add up to; its sign says that it is the last. Returns the greatest shift.
static uint32_t set_shifts(uint32_t *x, uint32_t words, const uint32_t *end, uint32_t t) {
    uint32_t greatest = 0;
    for (x += words - 1; x < end; x += words) {
        uint32_t shift = t + (*x >> 8 & 0xff);
        *x = (*x & 0xff00u) | (shift - TP_LESS) | (x + 1 == end ? 0x80000000u : 0);
        greatest = shift > greatest ? shift : greatest;
    }
    return greatest;
}

// All of a token's products; sums: of each row.
static void token(const tp_product_t *p, uint32_t *x, uint32_t t, int32_t *sums) {
    uint32_t type = p->type, cols = p->cols, unit = 1u << tp_together(type); // rows that lie together
    uint32_t words = tp_isa_activation_bytes(type, cols) / 4;
    uint32_t together = TP_ROWS(type);
    size_t stride = unit * tp_row_bytes(type, cols);
    tp_own_t own = { 0, 0, 0 };
    uint32_t shift = 0;
    if (tp_is_own(type)) {
        own = tp_own(type, cols);
    } else {
        shift = set_shifts(x + 1, block_words(type), x + words, t); // writes what is for it alone
    }
    int pairs = in_pairs(cols);
    for (uint32_t r = 0; r < p->rows;) {
        if (p->rows - r < together && p->rows >= together) {
            r = p->rows - together; // some of the last rows are done twice
        }
        const uint8_t *w = p->w + (r >> tp_together(type)) * stride;
        int32_t same[TP_MOST_ROWS]; // few rows: one as all of a group
        uint32_t groups = (p->rows - r) / together;
        tp_rows_t rows = { sums + r, w + own.blocks, stride, x + 1, x + words, groups, w + own.scales };
        r += groups * together;
        if (groups == 0) {
            rows.sums = same;
            rows.stride = 0;
            rows.groups = 1;
        }
        if (tp_is_own(type)) {
            tp_own_rows(type, &rows);
        } else {
            tp_rows(type, pairs, shift, &rows);
        }
        for (uint32_t i = 0; groups == 0 && i < unit; ++i) {
            sums[r++] = same[i];
        }
    }
}

void tp_isa_matmul(const tp_product_t *p) {
    uint32_t words = tp_isa_activation_bytes(p->type, p->cols) / 4;
    uint32_t *x = (uint32_t *)(uintptr_t)p->x;
    float *y = p->y;
    for (uint32_t t = 0; t < p->n; ++t, y += p->rows, x += words) {
        tp_row_scale_t scale = tp_row_scale(p, x);
        int32_t *sums = (int32_t *)(void *)y;
        if (tp_is_k(p->type)) {
            (p->type == TP_Q4_K ? q4_k_rows : q6_k_rows)(p, x + 1, scale.t, sums);
        } else {
            token(p, x, scale.t, sums);
        }
        tp_rows_to_floats(p, y, scale);
    }
}

#endif
