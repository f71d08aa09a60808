// Rounding floats to int8, for activations and for the KV cache.
#ifndef TP_INT8_RUN_H
#define TP_INT8_RUN_H

#include <stdint.h>

// Rounds count floats to int8, half away from 0, and returns their scale, max|x| / 127.
float tp_int8_run(int8_t *values, const float *x, uint32_t count);

#endif
