// A set-associative cache with LRU replacement. It keeps addresses only, no data.
#ifndef TP_CACHE_H
#define TP_CACHE_H

#include <stdbool.h>
#include <stdint.h>

// The lines of a set are in order of use, most recent first.
typedef struct {
    uint32_t ways;
    uint32_t set_mask;
    uint32_t line_shift;
    uint32_t *lines;
} tp_cache_t;

// Allocates a cache; returns false unless bytes, ways and line are powers of two that fit together.
bool tp_cache_init(tp_cache_t *cache, uint32_t bytes, uint32_t ways, uint32_t line);

bool tp_cache_miss(tp_cache_t *cache, uint32_t line, uint32_t *set);

// Accesses a line (its address >> line_shift); returns whether it missed.
static inline bool tp_cache_use(tp_cache_t *cache, uint32_t line) {
    uint32_t *set = cache->lines + (line & cache->set_mask) * cache->ways;
    return set[0] != line && tp_cache_miss(cache, line, set);
}

#endif
