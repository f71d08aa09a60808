#include "strings.h"

#include "../kernels/kernels.h"

#if defined(__ARM_FEATURE_UNALIGNED) || defined(__x86_64__)
#define U32 inline __attribute__((always_inline)) // one instruction, but the compiler does not count it as small
#else
#define U32 __attribute__((noinline))
#endif

// A little-endian number of 32 bits at any address.
static U32 uint32_t u32(const uint8_t *p) {
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

int32_t tp_strings_walk(const uint8_t *data, size_t len, size_t *offset, uint32_t count, const uint8_t *text,
    size_t text_len) {
    size_t left = *offset > len ? 0 : len - *offset;
    const uint8_t *p = data + len - left;
    *offset = TP_OUTSIDE;
    for (uint32_t i = 0; i < count; ++i) {
        if (left < 8) {
            return -1;
        }
        uint32_t size = u32(p), high = u32(p + 4), n = 0;
        p += 8;
        left -= 8;
        if (high != 0 || size > left) {
            return -1;
        }
        if (size == text_len) {
            while (n < size && p[n] == text[n]) {
                ++n;
            }
            if (n == size) {
                return i;
            }
        }
        p += size;
        left -= size;
    }
    *offset = len - left;
    return -1;
}

int32_t tp_strings_find(const uint8_t *data, size_t len, const uint32_t *steps, uint32_t count, size_t index,
    const uint8_t *text, size_t text_len) {
    if (index > len || (len - index) / 4 < count) {
        return -1;
    }
    uint32_t numbers = 0, first = 0, end = count;
    while (numbers < count - 1) {
        numbers = numbers << 1 | 1;
    }
    uint32_t wanted = tp_crc32(0, text, text_len) & ~numbers;
    while (first < end) {
        uint32_t middle = (first + end) / 2;
        if (u32(data + index + 4 * middle) < wanted) {
            first = middle + 1;
        } else {
            end = middle;
        }
    }
    for (; first < count; ++first) {
        uint32_t i = u32(data + index + 4 * first) ^ wanted;
        if (i >= count) {
            break;
        }
        size_t at = steps[i / TP_STRINGS_STEP];
        tp_strings_walk(data, len, &at, i % TP_STRINGS_STEP, NULL, TP_OUTSIDE);
        if (tp_strings_walk(data, len, &at, 1, text, text_len) == 0) {
            return i;
        }
    }
    return -1;
}
