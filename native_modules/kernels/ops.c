// Operators that are the same on both paths.
#include "float/plain.h"

#include "tp_math.h"

// A number with the order of the floats: bits of floats are ordered as the floats are, apart from the sign. NaN is
// below all others.
static inline int32_t order(float x) {
    int32_t bits = (int32_t)tp_to_bits(x);
    if ((bits & 0x7fffffff) > 0x7f800000) {
        return INT32_MIN;
    }
    return bits >= 0 ? bits : -(bits & 0x7fffffff);
}

uint32_t PLAIN(argmax)(const float *x, uint32_t n) {
    uint32_t best = 0;
    int32_t greatest = order(x[0]);
    for (uint32_t i = 1; i < n; ++i) {
        int32_t value = order(x[i]);
        if (value > greatest) {
            greatest = value;
            best = i;
        }
    }
    return best;
}

void tp_scale(float *x, float factor, uint32_t n) {
    for (uint32_t i = 0; i < n; ++i) {
        x[i] *= factor;
    }
}

uint32_t tp_crc32(uint32_t crc, const uint8_t *data, size_t len) {
    // Four bits at a time: a table of 16 words instead of 256.
    // clang-format off
    static const uint32_t table[16] = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
        0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
    };
    // clang-format on
    crc = ~crc;
    while (len--) {
        crc ^= *data++;
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return ~crc;
}
