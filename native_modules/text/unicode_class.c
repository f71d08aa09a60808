#include "unicode_class.h"

void tp_unicode_class(uint8_t *text, size_t len, const uint8_t *table, size_t table_len) {
    const uint8_t *stop = text + len, *last = table + table_len;
    uint32_t begin = 0, end = 0; // of the run with the last character
    uint8_t kind = 0;
    for (; text < stop; ++text) {
        uint32_t character = *text;
        if ((character & 0xC0) != 0x80) {
            uint32_t bits = 0x7F;
            for (const uint8_t *next = text + 1; next < stop && (*next & 0xC0) == 0x80; ++next) {
                character = character << 6 | (*next & 0x3F);
                bits = bits == 0x7F ? 0x7FF : bits << 5 | 0x1F;
            }
            character &= bits;
            if (character < begin || character >= end) {
                const uint8_t *entry = table;
                end = 0;
                do {
                    uint32_t run = 0;
                    do {
                        run = run << 7 | (*entry & 0x7F);
                    } while (*entry++ >= 0x80 && entry < last);
                    kind = run & 3;
                    begin = end;
                    end = entry < last ? begin + (run >> 2) : UINT32_MAX;
                } while (character >= end);
            }
        }
        *text = kind;
    }
}
