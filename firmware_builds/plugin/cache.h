// A set-associative cache that replaces what was used longest ago. It holds no data.
#ifndef TP_CACHE_H
#define TP_CACHE_H

#include <stdbool.h>
#include <stdint.h>

// Lines of a set lie in the order of their use, the latest first.
typedef struct {
    uint32_t ways;
    uint32_t set_mask;
    uint32_t line_shift;
    uint32_t *lines;
} tp_cache_t;

// Makes a cache of bytes in lines; false if these are no powers of two that fit.
bool tp_cache_init(tp_cache_t *cache, uint32_t bytes, uint32_t ways, uint32_t line);

bool tp_cache_miss(tp_cache_t *cache, uint32_t line, uint32_t *set);

// Uses a line, given by its address >> line_shift; whether it had to be fetched.
static inline bool tp_cache_use(tp_cache_t *cache, uint32_t line) {
    uint32_t *set = cache->lines + (line & cache->set_mask) * cache->ways;
    return set[0] != line && tp_cache_miss(cache, line, set);
}

#endif
