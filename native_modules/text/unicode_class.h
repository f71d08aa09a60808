// What each character of a text is: a letter, a number, a space or another.
#ifndef TP_UNICODE_CLASS_H
#define TP_UNICODE_CLASS_H

#include <stddef.h>
#include <stdint.h>

// Writes over each byte of text (UTF-8) the kind of its character. table: runs of characters, from U+0000 on, each as
// four times its length plus its kind, seven bits a byte, the highest first, the last below 128; the last run has no end.
void tp_unicode_class(uint8_t *text, size_t len, const uint8_t *table, size_t table_len);

#endif
