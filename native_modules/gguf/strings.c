#include "strings.h"

// Reads the length of the string at *offset and moves on to its bytes; 0 if it leaves the data.
static int next_string(const uint8_t *data, size_t len, size_t *offset, size_t *size) {
    if (*offset > len || len - *offset < 8) {
        return 0;
    }
    const uint8_t *p = data + *offset;
    uint32_t low = p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
    *offset += 8;
    *size = low;
    return (p[4] | p[5] | p[6] | p[7]) == 0 && low <= len - *offset;
}

size_t tp_strings_skip(const uint8_t *data, size_t len, size_t offset, uint32_t count) {
    size_t size;
    while (count--) {
        if (!next_string(data, len, &offset, &size)) {
            return TP_NOT_FOUND;
        }
        offset += size;
    }
    return offset;
}

static int equal(const uint8_t *a, const uint8_t *b, size_t n) {
    while (n--) {
        if (*a++ != *b++) {
            return 0;
        }
    }
    return 1;
}

size_t tp_strings_find(const uint8_t *data, size_t len, size_t offset, uint32_t count,
    const uint8_t *text, size_t text_len) {
    size_t size;
    for (uint32_t i = 0; i < count; ++i) {
        if (!next_string(data, len, &offset, &size)) {
            break;
        }
        if (size == text_len && equal(data + offset, text, size)) {
            return i;
        }
        offset += size;
    }
    return TP_NOT_FOUND;
}
