// The operators in C. A variant with operators of its own (TP_OWN_OPERATORS in isa.h) falls back on them, under the
// names tp_plain_*; elsewhere they are the operators.
#ifndef TP_PLAIN_H
#define TP_PLAIN_H

#include "../isa.h"

#if defined(TP_OWN_OPERATORS)
#define PLAIN(name) tp_plain_##name

void tp_plain_rmsnorm(float *y, const float *x, const float *w, uint32_t cols, float eps);
void tp_plain_rope(float *x, const float *table, uint32_t heads, uint32_t head_dim, uint32_t dims, uint32_t apart);
void tp_plain_add(float *y, const float *x, uint32_t n);
void tp_plain_swiglu(float *y, const float *gate, const float *up, uint32_t n);
void tp_plain_geglu(float *y, const float *gate, const float *up, uint32_t n);
uint32_t tp_plain_argmax(const float *x, uint32_t n);
void tp_plain_attention(uint32_t type, float *y, const float *q, const uint8_t *k, const uint8_t *v, float *scratch,
    uint32_t heads, uint32_t kv_heads, uint32_t head_dim, uint32_t length, float cap);
float tp_plain_int8_run(int8_t *values, const float *x, uint32_t count);
#else
#define PLAIN(name) tp_##name
#endif

#endif
