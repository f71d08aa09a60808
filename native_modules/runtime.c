// What the compiler calls for floats, smaller than in its library: native modules for rv32imc (small.h).
#include "kernels/tp_math.h"

int __gtsf2(float a, float b);
int tp_ltsf2(float a, float b);
float tp_subsf3(float a, float b);

// Less than 0 where a < b.
int tp_ltsf2(float a, float b) {
    return -__gtsf2(b, a);
}

float tp_subsf3(float a, float b) {
    return a + tp_from_bits(tp_to_bits(b) ^ 0x80000000u);
}
