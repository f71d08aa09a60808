// Part of armv7em.c: Q4_K, two rows with one token or with pairs of tokens, and Q6_K, one row with one token.
#ifndef TP_ARMV7EM_K_QUANTS_H
#define TP_ARMV7EM_K_QUANTS_H

#include "../../tp_math.h"
#include "simd.h"
#include "tiles.h"

// Words of a block of 256 activations.
static inline uint32_t k_words(uint32_t type) {
    return type == TP_Q4_K ? 128 + 1 + 4 + 1 : 128 + 8 + 1;
}

// Puts 32 activations into a block of 256, x: those from 32 * b on, of token i of group interleaved tokens.
static void put_k(uint32_t type, uint32_t *x, uint32_t group, uint32_t i, uint32_t b, const int8_t *q, float scale) {
    // Q4_K: blocks b and b + 1 alternate. Q6_K: each four columns are followed by those 64, 32 and 96 columns further
    // on.
    uint32_t apart = type == TP_Q4_K ? 2 * group : 1;
    uint32_t *to = x + (type == TP_Q4_K ? b / 2 * 32 * group + 2 * i + b % 2 : b / 4 * 64 + b % 2 * 4 + b / 2 % 2 * 2);
    int32_t sum[2] = { 0, 0 };
    for (uint32_t j = 0; j < TP_BLOCK; j += 4, to += type == TP_Q4_K ? 4 * group : 8) {
        uint32_t word = load((const uint8_t *)q + j), even = sxtb16(word), odd = sxtb16_8(word);
        to[0] = even;
        to[apart] = odd;
        sum[j / 16] = smlad(even, 0x00010001, smlad(odd, 0x00010001, sum[j / 16]));
    }
    if (type == TP_Q4_K) {
        // minima come out of a word as bytes 0 and 2, then 1 and 3
        x += 128 * group;
        int16_t *sums = (int16_t *)(void *)(x + group + b / 4 * 2 * group + 2 * i + b % 2);
        sums[b / 2 % 2] = (int16_t)(sum[0] + sum[1]);
        *(float *)(x + i) = *(float *)(x + 5 * group + i) = scale;
    } else {
        int16_t *sums = (int16_t *)(void *)(x + 128);
        sums[b / 2 * 4 + b % 2] = (int16_t)sum[0];
        sums[b / 2 * 4 + 2 + b % 2] = (int16_t)sum[1];
        *(float *)(x + 136) = scale;
    }
}

// clang-format off

// Pairs of tokens with an unpacked block of 256 of two rows. It counts as two blocks: the products, then those of the
// minima with the sums of the activations. Each starts with its number of bytes in w. s11: the end of it.
__attribute__((naked, noinline))
static void q4_k_tokens2(float *y, const uint32_t *w, const void *x, job_t *job) {
    __asm volatile (
        TILES_ENTER
        "ldr r3, [r1], #4\n"
        "movs r4, #0\n"
        "movs r5, #0\n"
        "adds r3, r3, r1\n"
        "movs r6, #0\n"
        "movs r7, #0\n"
        "vmov s11, r3\n"
        "3:\n"
        TILE("r6", "r7") TILE("r6", "r7")
        "vmov r12, s11\n"
        "cmp r1, r12\n"
        "bne 3b\n"
        TILES_LEAVE
        );
}

// clang-format on

// The scales of a block as bytes, and its minima as pairs.
static inline void q4_k_scales(const uint8_t *block, uint32_t *scales, uint32_t *mins) {
    uint32_t s = load(block + 4), m = load(block + 8), high = load(block + 12);
    scales[0] = s & 0x3f3f3f3fu;
    scales[1] = (high & 0x0f0f0f0fu) | (s >> 6 & 0x03030303u) << 4;
    uint32_t low = m & 0x3f3f3f3fu;
    high = (high >> 4 & 0x0f0f0f0fu) | (m >> 6 & 0x03030303u) << 4;
    mins[0] = uxtb16(low);
    mins[1] = uxtb16_8(low);
    mins[2] = uxtb16(high);
    mins[3] = uxtb16_8(high);
}

// clang-format off

// The values of a block of a row times their scales, which fit 10 bits: then only the sum over the block needs a scale.
// Writes two words at a time, and leaves room for two of the other row. scales: eight bytes, at a multiple of 8, which
// tells where they end.
//   r0 out; r1 w; r2 scales; r3 mask; r4 r5 two scales; r6 weights; r7 to r10 pairs; r11 turns left
__attribute__((naked, noinline))
static void q4_k_multiply(uint32_t *out, const uint8_t *w, const uint64_t *scales) {
    __asm volatile (
        ".syntax unified\n"
        "push {r4-r11, lr}\n"
        "mov r3, #0x000f000f\n"
        "1:\n"
        "ldrb r4, [r2], #1\n"
        "ldrb r5, [r2], #1\n"
        "mov r11, #8\n"
        "2:\n"
        "ldr r6, [r1], #4\n"
        "and r7, r3, r6\n"
        "and r8, r3, r6, lsr #4\n"
        "and r9, r3, r6, lsr #8\n"
        "and r10, r3, r6, lsr #12\n"
        "mul r7, r7, r4\n"
        "mul r8, r8, r5\n"
        "mul r9, r9, r4\n"
        "mul r10, r10, r5\n"
        "strd r7, r8, [r0], #16\n"
        "strd r9, r10, [r0], #16\n"
        "subs r11, #1\n"
        "bne 2b\n"
        "lsls r12, r2, #29\n"
        "bne 1b\n"
        "pop {r4-r11, pc}\n"
        );
}

// clang-format on

// Unpacks a block of one of two rows for q4_k_tokens2.
static void q4_k_unpack(uint32_t *out, const uint8_t *block, uint32_t row) {
    uint64_t scales;
    uint32_t mins[4], d = load(block);
    q4_k_scales(block, (uint32_t *)&scales, mins);
    *out++ = 1024;
    q4_k_multiply(out + 2 * row, block + 16, &scales);
    out += 256;
    ((float *)out)[row] = tp_from_f16(d & 0xffff);
    out += 2;
    *out++ = 32;
    for (uint32_t k = 0; k < 4; ++k) {
        out[k / 2 * 4 + 2 * row + k % 2] = mins[k];
    }
    ((float *)out)[8 + row] = -tp_from_f16(d >> 16);
}

// clang-format off

#define Q4_K_WORD(row, a, b, FIRST) \
    "ldr r12, [" row "], #4\n" \
    "and lr, r3, r12\n" \
    FIRST("lr", "r4", a) \
    "and lr, r3, r12, lsr #4\n" \
    FIRST("lr", "r5", b) \
    "and lr, r3, r12, lsr #8\n" \
    ADD("lr", "r6", a) \
    "and lr, r3, r12, lsr #12\n" \
    ADD("lr", "r7", b)
#define Q4_K_8(FIRST) \
    "ldmia r2!, {r4-r7}\n" \
    Q4_K_WORD("r1", "r8", "r9", FIRST) \
    Q4_K_WORD("r0", "r10", "r11", FIRST)

// A block of 256 of two rows: sums[0..1], of scales times dot products. scales: eight bytes of each row, at a multiple
// of 8, which tells where they end.
//   r0 r1 rows 1 and 0; r2 x; r3 mask; r4 to r7 activations; r8 r9 and r10 r11 dot products; r12 lr weights; s0 s1 sums
__attribute__((naked, noinline))
static void q4_k_rows(int32_t *sums, const uint8_t *w0, const uint32_t *x, const uint8_t *w1,
    const uint8_t *scales) {
    __asm volatile (
        ".syntax unified\n"
        "push {r0, r4-r11, lr}\n"
        "mov r0, r3\n"
        "movs r4, #0\n"
        "ldr lr, [sp, #40]\n"
        "vmov s0, s1, r4, r4\n"
        "vmov s2, lr\n"
        "mov r3, #0x000f000f\n"
        "1:\n"
        Q4_K_8(SET) Q4_K_8(ADD) Q4_K_8(ADD) Q4_K_8(ADD)
        Q4_K_8(ADD) Q4_K_8(ADD) Q4_K_8(ADD) Q4_K_8(ADD)
        "vmov r12, lr, s0, s1\n"
        "vmov r4, s2\n"
        "ldrb r6, [r4, #8]\n"
        "ldrb r7, [r4, #9]\n"
        "mla lr, r10, r6, lr\n"
        "ldrb r6, [r4], #1\n"
        "mla lr, r11, r7, lr\n"
        "ldrb r7, [r4], #1\n"
        "mla r12, r8, r6, r12\n"
        "mla r12, r9, r7, r12\n"
        "lsls r5, r4, #29\n"
        "vmov s2, r4\n"
        "vmov s0, s1, r12, lr\n"
        "bne 1b\n"
        "pop {r0}\n"
        "vstmia r0, {s0, s1}\n"
        "pop {r4-r11, pc}\n"
        );
}

// clang-format on

// The minima times the sums of the activations.
static inline int32_t q4_k_mins(const uint32_t *mins, const uint32_t *sums) {
    int32_t sum = smlad(mins[0], sums[0], 0);
    sum = smlad(mins[1], sums[1], sum);
    sum = smlad(mins[2], sums[2], sum);
    return smlad(mins[3], sums[3], sum);
}

// y + d * da * dots - dmin * da * mins, rounded after each step. da: scale of the activations.
static inline float q4_k_add(float y, const uint8_t *block, float da, int32_t dots, int32_t mins) {
    float scales = tp_from_bits(load(block)), d, dmin;
    __asm("vcvtb.f32.f16 %0, %1" : "=t"(d) : "t"(scales));
    __asm("vcvtt.f32.f16 %0, %1" : "=t"(dmin) : "t"(scales));
    __asm("vmla.f32 %0, %1, %2" : "+t"(y) : "t"(d * da), "t"((float)dots));
    __asm("vmls.f32 %0, %1, %2" : "+t"(y) : "t"(dmin * da), "t"((float)mins));
    return y;
}

static void q4_k_token(const tp_product_t *p, float *y, const uint32_t *x, const uint32_t *x_end) {
    size_t stride = tp_row_bytes(TP_Q4_K, p->cols);
    const uint8_t *w = p->w;
    for (uint32_t r = 0; r < p->rows; r += 2, w += 2 * stride, y += 2) {
        size_t next = r + 1 < p->rows ? stride : 0;
        const uint8_t *block = w;
        float sum0 = 0.0f, sum1 = 0.0f;
        for (const uint32_t *at = x; at < x_end; at += k_words(TP_Q4_K), block += 144) {
            uint64_t scales[2];
            uint32_t mins[4];
            int32_t dots[2];
            q4_k_scales(block, (uint32_t *)&scales[0], mins);
            int32_t mins0 = q4_k_mins(mins, at + 129);
            __asm volatile("" : : : "memory"); // what is loaded before this is spilled to the stack
            q4_k_scales(block + next, (uint32_t *)&scales[1], mins);
            int32_t mins1 = q4_k_mins(mins, at + 129);
            float da = tp_from_bits(at[128]);
            q4_k_rows(dots, block + 16, at, block + next + 16, (const uint8_t *)scales);
            sum0 = q4_k_add(sum0, block, da, dots[0], mins0);
            sum1 = q4_k_add(sum1, block + next, da, dots[1], mins1);
        }
        y[0] = sum0;
        if (next == 0) {
            ++y;
            break;
        }
        y[1] = sum1;
    }
}

// clang-format off

// Four values of Q6_K. r5 and r6 hold their low and high bits; join: instructions that put them together.
#define Q6_K_4(take, bits, join, sum, FIRST) \
    "and r5, r3, #" take "\n" \
    "and r6, r4, #" bits "\n" \
    "ldrd r7, r8, [r1], #8\n" \
    join \
    "uxtb16 r6, r5\n" \
    FIRST("r6", "r7", sum) \
    "uxtb16 r5, r5, ror #8\n" \
    ADD("r5", "r8", sum)
// Four columns, and those 64, 32 and 96 further on. at: offset of the low and high bits.
#define Q6_K_16(at, FIRST) \
    "ldr r4, [r2, #" at "]\n" \
    "ldr r3, [r0, #" at "]\n" \
    Q6_K_4("0x0f0f0f0f", "0x03030303", "orr r5, r5, r6, lsl #4\n", "r9", FIRST) \
    Q6_K_4("0xf0f0f0f0", "0x30303030", "orr r5, r6, r5, lsr #4\n", "r11", FIRST) \
    "ldr r3, [r0, #32+" at "]\n" \
    Q6_K_4("0x0f0f0f0f", "0x0c0c0c0c", "orr r5, r5, r6, lsl #2\n", "r10", FIRST) \
    Q6_K_4("0xf0f0f0f0", "0xc0c0c0c0", "lsr r6, r6, #2\norr r5, r6, r5, lsr #4\n", "r12", FIRST)

// A block of 256 of a row, with values from 0 to 63: the sum of scales times dot products.
//   r0 low bits; r1 x; r2 high bits; r3 r4 weights; r7 r8 activations; r9 to r12 dot products; lr scales
//   [sp] turns left; [sp, #4] sum
__attribute__((naked, noinline))
static int32_t q6_k_block(const uint8_t *w, const uint32_t *x) {
    __asm volatile (
        ".syntax unified\n"
        "push {r2-r11, lr}\n"
        "add r2, r0, #128\n"
        "add lr, r0, #192\n"
        "movs r3, #4\n"
        "movs r4, #0\n"
        "strd r3, r4, [sp]\n"
        "1:\n"
        Q6_K_16("0", SET) Q6_K_16("4", ADD) Q6_K_16("8", ADD) Q6_K_16("12", ADD)
        "ldrd r3, r4, [sp]\n"
        "ldrsb r5, [lr, #2]\n"
        "ldrsb r6, [lr, #4]\n"
        "ldrsb r7, [lr, #6]\n"
        "ldrsb r8, [lr], #1\n"
        "mla r4, r10, r5, r4\n"
        "mla r4, r11, r6, r4\n"
        "mla r4, r12, r7, r4\n"
        "mla r4, r9, r8, r4\n"
        "adds r0, #16\n"
        "adds r2, #16\n"
        "cmp r3, #3\n"
        "itt eq\n"
        "addeq r0, #32\n"
        "addeq lr, #6\n"
        "subs r3, #1\n"
        "strd r3, r4, [sp]\n"
        "bne 1b\n"
        "mov r0, r4\n"
        "pop {r2-r11, pc}\n"
        );
}

// clang-format on

static float q6_k_row(const uint8_t *block, const uint32_t *x, const uint32_t *end) {
    float y = 0.0f;
    for (; x < end; x += k_words(TP_Q6_K), block += 210) {
        int32_t sum = 0; // for 32, which is subtracted from each value
        for (uint32_t i = 0; i < 8; i += 2) {
            uint32_t s = load(block + 192 + 2 * i);
            sum = smlad(sxtb16(s), x[128 + i], sum);
            sum = smlad(sxtb16_8(s), x[129 + i], sum);
        }
        float d = tp_from_f16(tp_load_u16(block + 208)) * tp_from_bits(x[136]);
        y += d * (float)(q6_k_block(block, x) - 32 * sum);
    }
    return y;
}

static void q6_k_token(const tp_product_t *p, float *y, const uint32_t *x, const uint32_t *x_end) {
    size_t stride = tp_row_bytes(TP_Q6_K, p->cols);
    for (uint32_t r = 0; r < p->rows; ++r) {
        *y++ = q6_k_row(p->w + r * stride, x, x_end);
    }
}

#endif
