// The class of each character of a text: letter, number, space or other.
#ifndef TP_UNICODE_CLASS_H
#define TP_UNICODE_CLASS_H

#include <stddef.h>
#include <stdint.h>

// Replaces each byte of text (UTF-8) by the class of its character, 0 to 3. table: runs of characters of one class,
// from U+0000 on; each is 4 * length + class, in bytes of seven bits, the highest ones first, all but the last byte of
// a run with 128 added. The last run has no end.
void tp_unicode_class(uint8_t *text, size_t len, const uint8_t *table, size_t table_len);

#endif
