// MVE's float instructions treat subnormal numbers as 0, as operands and as results, and then set a bit of FPSCR.
#ifndef TP_MVE_SUBNORMALS_H
#define TP_MVE_SUBNORMALS_H

#include <arm_mve.h>
#include <stdint.h>

#define TP_SUBNORMAL_BITS (0x88u) // input denormal, underflow

// Clears the bits.
static inline void forget_subnormals(void) {
    uint32_t status;
    __asm volatile("vmrs %0, fpscr\n bic %0, %0, #0x88\n vmsr fpscr, %0" : "=r"(status) : : "memory");
}

// Whether there were subnormal numbers since, in what has been stored.
static inline int were_subnormals(void) {
    uint32_t status;
    __asm volatile("vmrs %0, fpscr" : "=r"(status) : : "memory");
    return (status & TP_SUBNORMAL_BITS) != 0;
}

// Whether there were, in the computation of values that are not stored yet: the compiler must not move it after this.
static inline int were_subnormals_in(float32x4_t *v) {
    uint32_t status;
    __asm volatile("vmrs %0, fpscr" : "=r"(status), "+w"(*v) : : "memory");
    return (status & TP_SUBNORMAL_BITS) != 0;
}

static inline int were_subnormals_in2(float32x4_t *a, float32x4_t *b) {
    uint32_t status;
    __asm volatile("vmrs %0, fpscr" : "=r"(status), "+w"(*a), "+w"(*b) : : "memory");
    return (status & TP_SUBNORMAL_BITS) != 0;
}

static inline int were_subnormals_in_float(float *v) {
    uint32_t status;
    __asm volatile("vmrs %0, fpscr" : "=r"(status), "+t"(*v) : : "memory");
    return (status & TP_SUBNORMAL_BITS) != 0;
}

#endif
