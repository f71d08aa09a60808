#ifndef TP_INT8_RUN_H
#define TP_INT8_RUN_H

#include <stdint.h>

// Writes count floats as int8, rounded half away from 0, and returns their scale, max|x| / 127.
float tp_int8_run(int8_t *values, const float *x, uint32_t count);

#endif
