// Armv8.1-M with MVE (Cortex-M55, M85): VMLADAV adds sixteen products of bytes, or eight of halfwords, to a general
// register. The products of each group of types are in mve/.
//
// Q4_0, Q8_0 and TP3 are computed four rows at a time, so that one vector holds what belongs to a block of four rows. A
// block of 32 activations is a block_t.
//
// The other types have groups of 256 activations with one scale. First the dot products of a group with four or eight
// rows are stored; then the dot products of each row become one vector, which is multiplied with the row's scales. A
// group of activations is the values, then a tail_t or, for TP2 and TPT, a pair_tail_t.
//
// MVE's float instructions treat subnormal numbers as 0, and set a bit of FPSCR. If it is set, C computes the product
// of the token again with scalars.
#include "../isa.h"

#if defined(TP_PATH_FLOAT) && defined(TP_ISA_MVE)

const char tp_kernels_variant[] = "mve";

// The compiler does not see that assembly uses the parameters of naked functions.
#pragma GCC diagnostic ignored "-Wunused-parameter"

#include "mve/q4_q8.h"
#include "mve/own.h"
#include "mve/k_quants.h"

size_t tp_isa_activation_bytes(uint32_t type, uint32_t cols) {
    size_t blocks = cols / TP_BLOCK;
    if (is_single(type)) {
        return blocks * sizeof(block_t);
    }
    if (!tp_is_pair(type) && !tp_is_k(type)) {
        return 0;
    }
    return blocks * block_bytes(type) + (blocks + GROUP - 1) / GROUP * tail_bytes(type);
}

// Puts 32 activations for TP2 or TPT.
static void put_pair(int8_t *to, const int8_t *q) {
    static const uint8_t places[4][16] = {
        { 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30 },
        { 5, 7, 1, 3, 13, 15, 9, 11, 21, 23, 17, 19, 29, 31, 25, 27 },
        { 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31 },
        { 6, 0, 2, 4, 14, 8, 10, 12, 22, 16, 18, 20, 30, 24, 26, 28 },
    };
    for (uint32_t i = 0; i < 4; ++i, to += 16) {
        vst1q_s8(to, vldrbq_gather_offset_s8(q, vld1q_u8(places[i])));
    }
}

// Puts block i of a group of count blocks into the tail of the group. first: the first block of the group; left: blocks
// after the group; sum: of the activations of the block.
static void put_pair_tail(pair_tail_t *to, uint32_t type, uint32_t first, uint32_t i, uint32_t count, uint32_t left,
    int32_t sum, float scale) {
    if (i == 0) {
        for (uint32_t j = count; j < GROUP; ++j) {
            to->sums[j] = 0;
            to->scale_at[j] = 0;
        }
        to->scale = scale;
        to->shift = type == TP_TP2 ? -1 : -2;
        to->next = left < GROUP ? left : GROUP;
    }
    uint32_t lane = count - 1 - i;
    to->sums[lane] = (int16_t)((type == TP_TP2 ? 6 : 4) * sum);
    to->scale_at[lane] = (uint16_t)(2 * (first + i));
}

void tp_isa_put(uint32_t type, void *x, uint32_t cols, uint32_t n, uint32_t t, uint32_t b, const int8_t *q,
    tp_scale_t scale) {
    (void)n;
    uint8_t *token = (uint8_t *)x + t * tp_isa_activation_bytes(type, cols);
    int32_t half[2];
    int8x16_t low = vld1q_s8(q), high = vld1q_s8(q + 16);
    half[0] = vaddvq_s8(low);
    half[1] = vaddvq_s8(high);
    if (is_single(type)) {
        block_t *to = (block_t *)(void *)token + b;
        vst1q_s8(to->q, low);
        vst1q_s8(to->q + 16, high);
        to->add = (type == TP_Q4_0 ? -8 : type == TP_TP3 ? -4 : 0) * (half[0] + half[1]);
        to->scale = scale;
        return;
    }
    uint32_t bytes = block_bytes(type), blocks = cols / TP_BLOCK, i = b % GROUP;
    uint32_t end = b - i + GROUP < blocks ? b - i + GROUP : blocks; // of the group
    uint8_t *to = token + b * bytes + b / GROUP * tail_bytes(type);
    void *after = to + (end - b) * bytes;
    if (tp_is_pair(type)) {
        put_pair((int8_t *)to, q);
        put_pair_tail(after, type, b - i, i, end - (b - i), blocks - end, half[0] + half[1], scale);
        return;
    }
    tail_t *tail = after;
    vst1q_s8((int8_t *)to, low);
    vst1q_s8((int8_t *)to + 16, high);
    if (i == 0) {
        for (uint32_t j = 0; j < 2 * GROUP; ++j) {
            tail->sums[j] = 0;
        }
    }
    if (type == TP_Q6_K) {
        tail->sums[2 * i] = (int16_t)half[0];
        tail->sums[2 * i + 1] = (int16_t)half[1];
    } else {
        tail->sums[i] = (int16_t)(half[0] + half[1]);
    }
    tail->scale = scale;
}

void tp_isa_matmul(const tp_product_t *p) {
    if (tp_is_k(p->type)) {
        k_matmul(p);
    } else if (tp_is_pair(p->type)) {
        pair_matmul(p);
    } else if (tp_is_own(p->type)) {
        tp3_matmul(p);
    } else {
        single_matmul(p);
    }
}

#endif
