// Arrays of strings of GGUF (u64 length, then bytes), read in place. RAM holds only the offset of each
// TP_STRINGS_STEP-th string.
#ifndef TP_STRINGS_H
#define TP_STRINGS_H

#include <stddef.h>
#include <stdint.h>

// An offset that leaves the data; as text_len: matches no string.
#define TP_OUTSIDE ((size_t)-1)
#define TP_STRINGS_STEP (256)

// Returns which of the count strings from *offset on is the first one equal to text, or -1 if none is. Then *offset is
// set to the end of the strings, or to TP_OUTSIDE if they leave data[0..len).
int32_t tp_strings_walk(const uint8_t *data, size_t len, size_t *offset, uint32_t count, const uint8_t *text,
    size_t text_len);

// Returns the number of a string equal to text, or -1, with the help of an index: at data + index, one u32 for each
// string, sorted. Its low bits, as many as count - 1 has, are the number of the string; the other bits are those of the
// string's CRC-32. steps: offsets of strings 0, TP_STRINGS_STEP, 2 * TP_STRINGS_STEP and so on.
int32_t tp_strings_find(const uint8_t *data, size_t len, const uint32_t *steps, uint32_t count, size_t index,
    const uint8_t *text, size_t text_len);

#endif
