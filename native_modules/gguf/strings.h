// Walking GGUF's arrays of strings (u64 length, then bytes) where they lie: a vocabulary needs
// no index in RAM, and MicroPython would take hundreds of instructions a string.
#ifndef TP_STRINGS_H
#define TP_STRINGS_H

#include <stddef.h>
#include <stdint.h>

#define TP_NOT_FOUND ((size_t)-1)

// Offset after count strings that begin at offset; TP_NOT_FOUND if they leave data[0..len).
size_t tp_strings_skip(const uint8_t *data, size_t len, size_t offset, uint32_t count);

// Index of the first of count strings equal to text; TP_NOT_FOUND if none is.
size_t tp_strings_find(const uint8_t *data, size_t len, size_t offset, uint32_t count,
    const uint8_t *text, size_t text_len);

#endif
