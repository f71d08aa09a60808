// Part of armv7em.c: instructions on two lanes of 16 bits, as functions and for assembly.
#ifndef TP_ARMV7EM_SIMD_H
#define TP_ARMV7EM_SIMD_H

#include "../../isa.h"

// sum + the products of both lanes
static inline int32_t smlad(uint32_t a, uint32_t b, int32_t sum) {
    __asm("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(a), "r"(b));
    return sum;
}

// Bytes 0 and 2 as two lanes of 16 bits, signed (s) or not (u); the functions with _8 take bytes 1 and 3.
static inline uint32_t sxtb16(uint32_t x) {
    uint32_t y;
    __asm("sxtb16 %0, %1" : "=r"(y) : "r"(x));
    return y;
}

static inline uint32_t sxtb16_8(uint32_t x) {
    uint32_t y;
    __asm("sxtb16 %0, %1, ror #8" : "=r"(y) : "r"(x));
    return y;
}

static inline uint32_t uxtb16(uint32_t x) {
    uint32_t y;
    __asm("uxtb16 %0, %1" : "=r"(y) : "r"(x));
    return y;
}

static inline uint32_t uxtb16_8(uint32_t x) {
    uint32_t y;
    __asm("uxtb16 %0, %1, ror #8" : "=r"(y) : "r"(x));
    return y;
}

// A word at any address.
static inline uint32_t load(const uint8_t *p) {
    uint32_t x;
    __asm("ldr %0, %1" : "=r"(x) : "m"(*(const uint32_t (*)[1])(const void *)p));
    return x;
}

// a - b in both lanes
static inline uint32_t ssub16(uint32_t a, uint32_t b) {
    uint32_t y;
    __asm("ssub16 %0, %1, %2" : "=r"(y) : "r"(a), "r"(b));
    return y;
}

// Two lanes
static inline uint32_t pair(int32_t low, int32_t high) {
    return (uint32_t)(low & 0xffff) | (uint32_t)high << 16;
}

// Adds the products of both lanes to sum, or sets sum to them.
#define ADD(spare, a, sum) "smlad " sum ", " spare ", " a ", " sum "\n"
#define SET(spare, a, sum) "smuad " sum ", " spare ", " a "\n"

#endif
