// Armv7E-M with FPU (Cortex-M4F, M7) and Armv8-M with DSP extension (M33): SMLAD makes two products of 16 bits at once.
// The products of each group of types are in armv7em/; own.h there describes the activations for our own types.
//
// Q4_0. UXTB16 makes two lanes of 16 bits from two bytes of a block, each low + 16 * high, where low and high are two
// weights without their offset of 8. The same lanes ANDed with 15 are low alone. So the activations that meet them, x
// and X, are stored as 16 * x - X for the low lane and X for the whole lane: the sum is 16 * (low * x + high * X), four
// weights in four instructions. The sum starts with the offset of the block, -8 * 16 * sum(x). VCVT takes a binary
// point, so it removes the factor 16 at no cost. Q8_0: SXTB16, and the activations as they are.
//
// A block of 32 activations of one token is 18 words: offset, 16 words of pairs of int16 in the order in which the
// weights come out, scale (float).
//
// The blocks of two tokens are interleaved: both offsets, then for each 4 weights two words of each token, both scales.
// These tokens meet two rows, whose weights are unpacked once for all tokens, as plain numbers. There Q4_0's offset is
// -8 * sum(x), the activations are as they are, and one loop serves both types. A last token without a partner is
// stored alone.
//
// Q4_K and Q6_K. Four masks on a word of Q4_K give pairs of weights of two blocks of 32, each with a sum of its own;
// Q6_K puts six bits together in bytes. A block of 256 activations is 128 words of pairs; the sums of its blocks of 32
// (Q4_K) or 16 (Q6_K) as pairs, for what is added to all values of such a block; and the scale, for Q4_K also before
// these sums. Four and more tokens of Q4_K are interleaved in twos as above. Q6_K takes one token after the other.
//
// VMLA rounds between its product and its sum, as the portable kernel does.
#include "../isa.h"

#if defined(TP_PATH_FLOAT) && defined(TP_ISA_ARMV7EM)

#include "../tp_math.h"

const char tp_kernels_variant[] = "armv7em";

// The compiler does not see that assembly uses the parameters of naked functions. They are naked, because they use all
// registers from r0 to r12 and lr.
#pragma GCC diagnostic ignored "-Wunused-parameter"

#include "armv7em/q4_q8.h"
#include "armv7em/k_quants.h"
#include "armv7em/own.h"

size_t tp_isa_activation_bytes(uint32_t type, uint32_t cols) {
    if (tp_is_k(type)) {
        return (size_t)cols / 256 * k_words(type) * 4;
    }
    if (tp_is_pair(type)) {
        return (size_t)cols / TP_BLOCK * PAIR_WORDS * 4;
    }
    return type == TP_Q4_0 || type == TP_Q8_0 || tp_is_own(type) ? (size_t)cols / TP_BLOCK * BLOCK_BYTES : 0;
}

// How many of n tokens are interleaved in pairs. Unpacking Q4_K does not pay for fewer than four tokens.
static __attribute__((noinline)) uint32_t paired(uint32_t type, uint32_t n) {
    int pairs = type == TP_Q4_0 || type == TP_Q8_0 || (type == TP_Q4_K && n >= 4);
    return pairs ? n & ~1u : 0;
}

void tp_isa_put(uint32_t type, void *x, uint32_t cols, uint32_t n, uint32_t t, uint32_t b, const int8_t *q,
    tp_scale_t scale) {
    uint32_t group = t < paired(type, n) ? 2 : 1, i = t & (group - 1);
    if (tp_is_k(type)) {
        uint32_t *block = (uint32_t *)x + ((t - i) * (cols / 256) + b / 8 * group) * k_words(type);
        put_k(type, block, group, i, b % 8, q, scale);
        return;
    }
    if (tp_is_own(type)) {
        int last = (b + 1) % (TP_MAX_GROUP / TP_BLOCK) == 0 || b + 1 == cols / TP_BLOCK;
        scale = !last ? 0.0f : scale == 0.0f ? -0.0f : scale;
    }
    if (tp_is_pair(type)) {
        put_pair(type, (uint32_t *)x + (t * (cols / TP_BLOCK) + b) * PAIR_WORDS, q, scale);
        return;
    }
    uint32_t *block = (uint32_t *)x + (t - i) * (cols / TP_BLOCK) * BLOCK_WORDS + b * group * BLOCK_WORDS;
    uint32_t *to = block + group + 2 * i;
    uint32_t far = type == TP_Q8_0 ? 4 : 16; // offset of the fifth of eight values
    const uint8_t *from = (const uint8_t *)q;
    int32_t sum = 0;
    for (uint32_t j = 0; j < TP_BLOCK; j += 8, to += 4 * group, from += type == TP_Q8_0 ? 8 : 4) {
        uint32_t first = load(from), second = load(from + far);
        uint32_t first_0 = sxtb16(first), first_1 = sxtb16_8(first);
        uint32_t second_0 = sxtb16(second), second_1 = sxtb16_8(second);
        if (type != TP_Q8_0) {
            sum = smlad(first_0, 0x00010001, sum);
            sum = smlad(first_1, 0x00010001, sum);
            sum = smlad(second_0, 0x00010001, sum);
            sum = smlad(second_1, 0x00010001, sum);
            if (type == TP_Q4_0 && group == 1) {
                first_0 = ssub16(first_0 << 4 & 0xfff0fff0u, second_0);
                first_1 = ssub16(first_1 << 4 & 0xfff0fff0u, second_1);
            }
        }
        to[0] = first_0;
        to[1] = second_0;
        to[2 * group] = first_1;
        to[2 * group + 1] = second_1;
    }
    block[i] = (uint32_t)(type == TP_TP3 ? -4 * sum : group == 1 ? -8 * 16 * sum : -8 * sum);
    ((float *)block)[17 * group + i] = scale;
}

// Naked functions hold assembly alone: the compiler does not see that it uses their parameters.
#pragma GCC diagnostic ignored "-Wunused-parameter"

#define STRETCH (12) // blocks of two rows that are unpacked at a time, on the stack

// Two rows, stride bytes apart, with pairs of tokens. y: result of the first row and token 0; tokens are row_bytes
// apart.
static void rows_of_tokens(const tp_product_t *p, float *y, const uint8_t *w, size_t stride, const void *from,
    uint32_t row_bytes, uint32_t pairs) {
    const uint8_t *x = from;
    uint32_t unpacked[STRETCH * 34]; // more than the 270 of a block of Q4_K
    uint32_t blocks = p->cols / TP_BLOCK, most = STRETCH, bytes = 2 * BLOCK_BYTES;
    if (tp_is_k(p->type)) {
        blocks /= 8;
        most = 1;
        bytes = 2 * 4 * k_words(TP_Q4_K);
    }
    for (uint32_t b = 0; b < blocks; b += most) {
        uint32_t count = blocks - b < most ? blocks - b : most;
        job_t job = { count * bytes, b, (blocks - count) * bytes, row_bytes, pairs };
        if (tp_is_k(p->type)) {
            q4_k_unpack(unpacked, w, 0);
            q4_k_unpack(unpacked, w + stride, 1);
            w += 144;
            q4_k_tokens2(y, unpacked, x, &job);
            x += bytes;
            continue;
        }
        if (p->type == TP_Q4_0) {
            q4_0_unpack(unpacked, w, w + stride, count);
            w += STRETCH * 18;
        } else {
            q8_0_unpack(unpacked, w, w + stride, count);
            w += STRETCH * 34;
        }
        tokens2(y, unpacked, x, &job);
        x += STRETCH * 2 * BLOCK_BYTES;
    }
}

void tp_isa_matmul(const tp_product_t *p) {
    uint32_t type = p->type, rows = p->rows, pairs = paired(type, p->n) / 2;
    size_t stride = tp_row_bytes(type, p->cols), x_words = tp_isa_activation_bytes(type, p->cols) / 4;
    const uint32_t *x = p->x;
    float *y = p->y;
    for (uint32_t r = 0; pairs > 0 && rows > 1 && r < rows; r += 2) {
        uint32_t at = r < rows - 2 ? r : rows - 2; // computes some of the last rows twice
        rows_of_tokens(p, y + at, p->w + at * stride, stride, x, rows * sizeof(float), pairs);
    }
    for (uint32_t i = 0; rows == 1 && i < pairs; ++i) { // the same row twice
        float result[4];
        rows_of_tokens(p, result, p->w, 0, x + 2 * i * x_words, 2 * sizeof(float), 1);
        y[2 * i] = result[0];
        y[2 * i + 1] = result[2];
    }
    y += 2 * pairs * rows;
    x += 2 * pairs * x_words;
    for (uint32_t t = 2 * pairs; t < p->n; ++t, y += rows, x += x_words) {
        if (tp_is_own(type)) {
            own_token(p, y, x, x + x_words);
        } else if (tp_is_k(type)) {
            (type == TP_Q4_K ? q4_k_token : q6_k_token)(p, y, x, x + x_words);
        } else {
            q4_0_token(p, y, x, x + x_words);
        }
    }
}

#endif
