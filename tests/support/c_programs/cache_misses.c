// Prints how many of the addresses on standard input miss: cache_misses BYTES WAYS LINE
#include <stdio.h>
#include <stdlib.h>

#include "../../../firmware_builds/plugin/cache.h"

int main(int argc, char **argv) {
    tp_cache_t cache;
    unsigned int address, misses = 0;
    if (argc != 4
        || !tp_cache_init(&cache, (uint32_t)atoi(argv[1]), (uint32_t)atoi(argv[2]), (uint32_t)atoi(argv[3]))) {
        return 2;
    }
    while (scanf("%u", &address) == 1) {
        misses += tp_cache_use(&cache, address >> cache.line_shift);
    }
    printf("%u\n", misses);
    return 0;
}
