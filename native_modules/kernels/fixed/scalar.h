// For 32-bit cores without SIMD: everything of a variant but the products of the rows.
//
// A variant defines, before it includes this file:
//   TP_ROWS(type)   rows at a time, at most TP_MOST_ROWS; TP_Q4_K_ROWS: the same for Q4_K
//   TP_ALIGNED      1 if words must be read at multiples of 4
//   TP_LESS         what is subtracted from the shifts of blocks, 0 or 1
//   TP_PAIRS        how activations for TP2 and TPT are laid out, see below
//   TP_Q8_WORDS     words of a block of activations for Q8_0, without the word for its shift
// and after it the functions declared below.
//
// Q4_0. One multiplication makes two products. With two weights in the halves of a word, w and W (0 to 15: their
// offset of 8 is not subtracted), and X * 65536 + x as the activations' word,
//   (w + W * 65536) * (X * 65536 + x) = w * x + (w * X + W * x) * 65536, modulo 2^32.
// So the activations are stored crosswise. The upper half gathers the sum of the block, of which no more than 16 bits
// are wanted. The lower half gathers 16 products that are of no use; with 0x8000 added at the start they stay between
// 0 and 65535, so they never carry into the upper half.
//
// The activations of a token are its scale, then for each block of Q4_0: the word with which its sum starts,
// -8 * sum(x) * 65536 + 0x8000; 16 words in the order in which masks and shifts by 0, 4, 8 and 12 give the weights;
// a word for its shift. For Q8_0 the variant chooses what comes before that last word.
//
// Blocks of Q4_0 have 18 bytes. Of two neighbouring blocks the second one's weights are at multiples of 4, the first
// one's are not. A core that needs aligned words (TP_ALIGNED) reads the words around: the inner twelve bytes of the
// first block are three words, and its first two and last two bytes make a fourth.
//
// TP3. Masks of 0x00070007 give the weights of a word of eight columns, after shifts by 0, 3, 8 and 11. The two bits
// that are left at the top of each byte belong to the fourth row: from the words of the other three rows,
//   (a & 0xc0c0c0c0) >> 4 | (b & 0xc0c0c0c0) >> 2 | (c & 0xc0c0c0c0)
// is its word, for shifts by 2, 5, 10 and 13.
//
// TP2 and TPT. Masks of 0x000c000c give four times a code of either row, for columns i and i + 4 of a word of eight:
// of row a after a shift by 4 i - 2, of row b after a rotation by 16 + 4 (i - 1), for i = 0 by 12. A variant chooses:
//   TP_PAIRS_ROTATED     the core can rotate
//   TP_PAIRS_BOTH_WAYS   it cannot: for i = 1 to 3 it takes b's halves in the wrong order, and multiplies them with
//                        activations in the other order
//   TP_PAIRS_TWO_MASKS   shifts are instructions of their own: two masks follow each shift by 4, 0x00030003 for a code
//                        of row a, whose activations are stored four times as great, and 0x000c000c for one of row b.
//                        Each row has activations of its own. One more word holds the way from the block to its scales.
// The dot product becomes twice (TP2) or four times (TPT) as great; the shift at the end of the group corrects that.
//
// The last word of a block of our own types is 0 within a group, else 0x100 + the shift; the sign bit marks the last
// block of the row.
#ifndef TP_SCALAR_H
#define TP_SCALAR_H

#include "fixed_products.h"

#define TP_MOST_ROWS (8)

// Values of TP_PAIRS: the words of a block of activations.
#define TP_PAIRS_ROTATED (18)
#define TP_PAIRS_BOTH_WAYS (30)
#define TP_PAIRS_TWO_MASKS (35)

// The products of one token with groups * TP_ROWS rows. Assembly knows the order of the members, and may change them.
typedef struct {
    int32_t *sums; // one for each row
    const uint8_t *w; // the first row; for our own types its blocks
    size_t stride; // bytes from row to row; for our own types from pair to pair, or from four rows to the next four
    const uint32_t *x; // activations of the first block
    const uint32_t *end; // of the activations
    uint32_t groups;
    const uint8_t *scales; // of our own types
} tp_rows_t;

// The products of Q4_0 and Q8_0; of our own types. pairs: whether blocks of Q4_0 are read two by two, as TP_ALIGNED
// wants it. shift: the greatest shift of a block. Variants in assembly include scalar_rows.h for both.
static void tp_rows(uint32_t type, int pairs, uint32_t shift, tp_rows_t *rows);
static void tp_own_rows(uint32_t type, tp_rows_t *rows);

// Puts 32 activations for Q8_0 into TP_Q8_WORDS words.
static void tp_put_q8_0(uint32_t *to, const int8_t *q);

static inline uint32_t crosswise(int32_t x, int32_t y) {
    return ((uint32_t)x << 16) + (uint32_t)y;
}

#include "k_quants.h"

// Words of a block of 32 activations.
static inline uint32_t block_words(uint32_t type) {
    return type == TP_Q8_0 ? TP_Q8_WORDS + 1 : tp_is_pair(type) ? TP_PAIRS : 18;
}

// Whether blocks of Q4_0 are read two by two.
static inline int in_pairs(uint32_t cols) {
    return TP_ALIGNED && cols % (2 * TP_BLOCK) == 0;
}

size_t tp_isa_activation_bytes(uint32_t type, uint32_t cols) {
    if (tp_is_k(type)) {
        return (1 + cols / 256 * k_words(type)) * 4;
    }
    int known = type == TP_Q4_0 || type == TP_Q8_0 || tp_is_own(type);
    // for our own types a word after the last block may be read, and is not used
    return known ? (1 + block_words(type) * (cols / TP_BLOCK) + (uint32_t)tp_is_own(type)) * 4 : 0;
}

// Puts 32 activations for TP2 or TPT.
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
            *to++ = crosswise(q[at + 2], q[at - 2]); // for i = 1, whose weights need no shift
        }
    }
}

void tp_isa_put(uint32_t type, void *x, uint32_t cols, uint32_t n, uint32_t t, uint32_t b, const int8_t *q,
    tp_scale_t scale) {
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
        to[block_words(type) - 1] = (uint32_t)scale << 8; // set_shifts adds the rest
    }
    if (tp_is_pair(type)) {
        put_pair(type, to, q);
        if (TP_PAIRS == TP_PAIRS_TWO_MASKS) {
            // the way from the block to its scales
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
        // offsets of the bytes of a word, also of the one that is made of both ends of the block
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

// Sets the words for the shifts of a token's blocks, and returns the greatest shift. Such a word holds the halvings of
// the block in its second byte, and in its first byte the sum of halvings and t of this product; its sign bit marks the
// last block.
static uint32_t set_shifts(uint32_t *x, uint32_t words, const uint32_t *end, uint32_t t) {
    uint32_t greatest = 0;
    for (x += words - 1; x < end; x += words) {
        uint32_t shift = t + (*x >> 8 & 0xff);
        *x = (*x & 0xff00u) | (shift - TP_LESS) | (x + 1 == end ? 0x80000000u : 0);
        greatest = shift > greatest ? shift : greatest;
    }
    return greatest;
}

// All products of a token. sums: one for each row.
static void token(const tp_product_t *p, uint32_t *x, uint32_t t, int32_t *sums) {
    uint32_t type = p->type, cols = p->cols, unit = 1u << tp_together(type); // rows stored together
    uint32_t words = tp_isa_activation_bytes(type, cols) / 4;
    uint32_t together = TP_ROWS(type);
    size_t stride = unit * tp_row_bytes(type, cols);
    tp_own_t own = { 0, 0, 0 };
    uint32_t shift = 0;
    if (tp_is_own(type)) {
        own = tp_own(type, cols);
    } else {
        shift = set_shifts(x + 1, block_words(type), x + words, t); // nothing else reads these words
    }
    int pairs = in_pairs(cols);
    for (uint32_t r = 0; r < p->rows;) {
        if (p->rows - r < together && p->rows >= together) {
            r = p->rows - together; // computes some of the last rows twice
        }
        const uint8_t *w = p->w + (r >> tp_together(type)) * stride;
        int32_t same[TP_MOST_ROWS]; // fewer rows than a group: the same row several times
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
