#include "cache.h"

#include <stdlib.h>
#include <string.h>

static bool is_power(uint32_t n) {
    return n != 0 && (n & (n - 1)) == 0;
}

bool tp_cache_init(tp_cache_t *cache, uint32_t bytes, uint32_t ways, uint32_t line) {
    if (!is_power(bytes) || !is_power(ways) || !is_power(line) || line < 4 || bytes / line < ways) {
        return false;
    }
    cache->ways = ways;
    cache->set_mask = bytes / line / ways - 1;
    cache->line_shift = (uint32_t)__builtin_ctz(line);
    size_t size = bytes / line * sizeof(uint32_t);
    cache->lines = malloc(size);
    if (cache->lines == NULL) {
        return false;
    }
    memset(cache->lines, 0xff, size); // no address has this line
    return true;
}

bool tp_cache_miss(tp_cache_t *cache, uint32_t line, uint32_t *set) {
    uint32_t way = 1;
    while (way < cache->ways && set[way] != line) {
        ++way;
    }
    bool miss = way >= cache->ways;
    memmove(set + 1, set, (miss ? cache->ways - 1 : way) * sizeof(uint32_t));
    set[0] = line;
    return miss;
}
