// Arrays of strings of GGUF (u64 length, then bytes) where they lie: RAM holds where each TP_STRINGS_STEP-th begins.
#ifndef TP_STRINGS_H
#define TP_STRINGS_H

#include <stddef.h>
#include <stdint.h>

#define TP_OUTSIDE ((size_t)-1)
#define TP_STRINGS_STEP (256)

// Which of count strings that begin at *offset is the first equal to text; -1 if none is, and *offset is then behind
// them, TP_OUTSIDE if they leave data[0..len). No string has TP_OUTSIDE bytes.
int32_t tp_strings_walk(const uint8_t *data, size_t len, size_t *offset, uint32_t count,
    const uint8_t *text, size_t text_len);

// The same by an index: one u32 a string at data + index, of which the low bits, as many as count - 1 has, are a
// string's number, the others those of its CRC-32; sorted. steps: offsets of strings 0, TP_STRINGS_STEP, ….
int32_t tp_strings_find(const uint8_t *data, size_t len, const uint32_t *steps, uint32_t count, size_t index,
    const uint8_t *text, size_t text_len);

#endif
