// MVE's float instructions take subnormal numbers for 0, in or out, and set a bit of FPSCR if they do.
#ifndef TP_MVE_H
#define TP_MVE_H

#include <arm_mve.h>
#include <stdint.h>

#define TP_SUBNORMAL_BITS (0x88u) // input denormal, underflow

static inline void forget_subnormals(void) {
    uint32_t status;
    __asm volatile ("vmrs %0, fpscr\n bic %0, %0, #0x88\n vmsr fpscr, %0" : "=r" (status) : : "memory");
}

// Of what was stored since.
static inline int were_subnormals(void) {
    uint32_t status;
    __asm volatile ("vmrs %0, fpscr" : "=r" (status) : : "memory");
    return (status & TP_SUBNORMAL_BITS) != 0;
}

// Of what led to values that are not stored yet: the compiler must not move it behind this.
static inline int were_subnormals_in(float32x4_t *v) {
    uint32_t status;
    __asm volatile ("vmrs %0, fpscr" : "=r" (status), "+w" (*v) : : "memory");
    return (status & TP_SUBNORMAL_BITS) != 0;
}

static inline int were_subnormals_in2(float32x4_t *a, float32x4_t *b) {
    uint32_t status;
    __asm volatile ("vmrs %0, fpscr" : "=r" (status), "+w" (*a), "+w" (*b) : : "memory");
    return (status & TP_SUBNORMAL_BITS) != 0;
}

static inline int were_subnormals_in_float(float *v) {
    uint32_t status;
    __asm volatile ("vmrs %0, fpscr" : "=r" (status), "+t" (*v) : : "memory");
    return (status & TP_SUBNORMAL_BITS) != 0;
}

#endif
