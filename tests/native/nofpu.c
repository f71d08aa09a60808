// Holds what nofpu.h and quantize.c do with integers against the floats of this machine: to the bit.
#include <stdio.h>
#include <string.h>

#define TP_SOFT_FLOAT (1)
#define TP_ROWS (2)
#include "../../native_modules/kernels/types.c"
#include "../../native_modules/kernels/float/quantize.c"
#include "../../native_modules/kernels/float/nofpu.h"

#define MAX_BLOCKS (40) // more than TP_CHUNK

const char tp_kernels_variant[] = "test";

void tp_matmul_portable(const tp_product_t *p) {
    (void)p;
}

size_t tp_portable_x_bytes(uint32_t cols) {
    return cols;
}

void tp_portable_put(void *x, uint32_t cols, uint32_t t, uint32_t b, const int8_t *values, float scale) {
    (void)x, (void)cols, (void)t, (void)b, (void)values, (void)scale;
}

static uint32_t noise(void) {
    static uint64_t s = 88172645463325252u;
    s ^= s << 13;
    s ^= s >> 7;
    s ^= s << 17;
    return (uint32_t)(s >> 16);
}

static int32_t dot_of(uint32_t type, const uint8_t *w, const int8_t *q) {
    int32_t dot = 0;
    for (uint32_t j = 0; j < TP_BLOCK / 2; ++j) {
        if (type == TP_Q8_0) {
            dot += (int8_t)w[2 + 2 * j] * q[2 * j] + (int8_t)w[3 + 2 * j] * q[2 * j + 1];
        } else {
            dot += ((w[2 + j] & 15) - 8) * q[j] + ((w[2 + j] >> 4) - 8) * q[j + 16];
        }
    }
    return dot;
}

static void tp_dots(uint32_t type, int32_t *out, const uint8_t *w, size_t stride, const uint32_t *x,
    uint32_t blocks) {
    for (uint32_t i = 0; i < TP_ROWS * blocks; ++i) {
        const uint8_t *block = w + i % TP_ROWS * stride + i / TP_ROWS * tp_row_bytes(type, TP_BLOCK) + 2;
        const uint32_t *xb = x + i / TP_ROWS * tp_x_words(type);
        uint32_t sum = type == TP_Q8_0 ? 0 : *xb++;
        for (uint32_t j = 0; j < TP_BLOCK; ++j) {
            if (type == TP_Q8_0) {
                sum += (uint32_t)(int8_t)block[j] * xb[j];
            } else if (j < TP_BLOCK / 2) {
                uint32_t word;
                memcpy(&word, block + (j & ~3u), 4);
                sum += (word >> 4 * (j & 3) & 0x000f000fu) * xb[j];
            }
        }
        out[i] = type == TP_Q8_0 ? (int32_t)sum : (int32_t)sum >> 16;
    }
}

static int differ(float a, float b) {
    return memcmp(&a, &b, sizeof(a)) != 0 && (a == a || b == b);
}

// Rows of random blocks: scales alike, subnormal, often zero, sometimes infinite, sums that cancel.
static int sums_differ(void) {
    static uint8_t w[TP_ROWS * MAX_BLOCKS * 34];
    static int8_t q[MAX_BLOCKS * TP_BLOCK];
    static uint32_t x[MAX_BLOCKS * 33];
    float scales[MAX_BLOCKS], y[TP_ROWS] = { 0 };
    uint32_t type = noise() & 1 ? TP_Q8_0 : TP_Q4_0, blocks = 1 + noise() % MAX_BLOCKS;
    uint32_t mode = noise() % 6, x_mode = noise() % 4;
    size_t block_bytes = tp_row_bytes(type, TP_BLOCK);
    for (uint32_t i = 0; i < TP_ROWS * blocks * block_bytes; ++i) {
        w[i] = mode == 5 ? (noise() & 1 ? 0x7f : 0x80) : noise() & 0xff;
    }
    for (uint32_t i = 0; i < TP_ROWS * blocks; ++i) {
        uint32_t h = noise() & 0xffff;
        if (mode == 0) {
            h = (h & 0x83ff) | (10 + noise() % 6) << 10;
        } else if (mode == 1) {
            h &= 0x83ff;
        } else if (mode == 2 && noise() % 3 != 0) {
            h = 0;
        }
        if ((h & 0x7c00) == 0x7c00 && noise() % 50 != 0) {
            h &= 0xbfff;
        }
        w[i * block_bytes] = h & 0xff;
        w[i * block_bytes + 1] = h >> 8 & 0xff;
    }
    for (uint32_t b = 0; b < blocks; ++b) {
        for (uint32_t j = 0; j < TP_BLOCK; ++j) {
            q[b * TP_BLOCK + j] = (int8_t)(x_mode == 1 ? (noise() & 1 ? 127 : -127) : (int32_t)(noise() % 255) - 127);
        }
        uint32_t e = x_mode == 2 ? 67 + noise() % 121 : 118 + noise() % 6;
        scales[b] = tp_from_bits(noise() % 20 == 0 ? 0 : e << 23 | (noise() & 0x7fffff));
        if (x_mode == 3 && b % 2 != 0) { // almost the block before, with the other sign
            scales[b] = scales[b - 1];
            for (uint32_t r = 0; r < TP_ROWS; ++r) {
                uint8_t *block = w + (r * blocks + b) * block_bytes;
                memcpy(block, block - block_bytes, block_bytes);
                block[1] ^= 0x80;
                block[0] ^= noise() & 1;
            }
            memcpy(q + b * TP_BLOCK, q + (b - 1) * TP_BLOCK, TP_BLOCK);
        }
    }
    for (uint32_t b = 0; b < blocks; ++b) {
        tp_isa_put(type, x, blocks * TP_BLOCK, 1, 0, b, q + b * TP_BLOCK, scales[b]);
    }
    tp_product_t product = { type, TP_ROWS, blocks * TP_BLOCK, 1, 1, y, w, x };
    tp_isa_matmul(&product);
    int wrong = 0;
    for (uint32_t r = 0; r < TP_ROWS; ++r) {
        float sum = 0.0f;
        for (uint32_t b = 0; b < blocks; ++b) {
            const uint8_t *block = w + (r * blocks + b) * block_bytes;
            float d = tp_from_f16(tp_load_u16(block)) * scales[b];
            sum += d * (float)dot_of(type, block, q + b * TP_BLOCK);
        }
        wrong += differ(sum, y[r]);
    }
    return wrong;
}

// A block of random floats: alike, of all sizes, any bits at all, close to where rounding turns.
static int quantizing_differs(void) {
    float x[TP_BLOCK];
    int8_t ours[TP_BLOCK], plain[TP_BLOCK];
    uint32_t mode = noise() % 4;
    float max = tp_from_bits((noise() & 0x7fffff) | (20 + noise() % 210) << 23);
    for (uint32_t j = 0; j < TP_BLOCK; ++j) {
        if (mode == 0) {
            x[j] = tp_from_bits((noise() & 0x807fffff) | (100 + noise() % 30) << 23);
        } else if (mode == 1) {
            x[j] = tp_from_bits(noise());
        } else {
            float near = max / 127.0f * ((float)(int32_t)(noise() % (mode == 2 ? 127 : 2)) + 0.5f);
            x[j] = tp_from_bits((tp_to_bits(near) + noise() % 9 - 4) | (noise() & 0x80000000u));
        }
    }
    if (mode >= 2) {
        x[5] = max;
    }
    float greatest = 0.0f;
    for (uint32_t j = 0; j < TP_BLOCK; ++j) {
        float a = tp_from_bits(tp_to_bits(x[j]) & 0x7fffffffu);
        greatest = a > greatest ? a : greatest;
    }
    float d = greatest / 127.0f;
    quantize_plainly(plain, x, TP_BLOCK, d > 0.0f ? 1.0f / d : 0.0f);
    return differ(quantize_group(ours, x, TP_BLOCK), d) || memcmp(ours, plain, TP_BLOCK) != 0;
}

int main(void) {
    int sums = 0, blocks = 0;
    for (int i = 0; i < 100000; ++i) {
        sums += sums_differ();
        blocks += quantizing_differs();
    }
    printf("%d sums, %d blocks differ\n", sums, blocks);
    return sums + blocks != 0;
}
