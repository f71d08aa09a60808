// On cores that have more, the products of armv7em.c for the types that the core's own file leaves out.
#ifndef TP_ARMV7EM_H
#define TP_ARMV7EM_H

#include "../isa.h"

#if defined(TP_ISA_MVE)
#define ARMV7EM(name) tp_armv7em_ ## name

size_t tp_armv7em_x_bytes(uint32_t type, uint32_t cols);
void tp_armv7em_put(uint32_t type, void *x, uint32_t cols, uint32_t n, uint32_t t, uint32_t b,
    const int8_t *values, tp_scale_t scale);
void tp_armv7em_matmul(const tp_product_t *p);
#else
#define ARMV7EM(name) tp_isa_ ## name
#endif

#endif
