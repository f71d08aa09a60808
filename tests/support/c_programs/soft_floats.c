// The float arithmetic of native_modules/runtime.c against the host's. Prints how many sums and conversions differ.
#include <stdio.h>

#include "runtime.c"

int __gtsf2(float a, float b) {
    return a > b;
}

static uint64_t state = 88172645463325252u;

static uint32_t draw(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state * 2685821657736338717u >> 32);
}

// Any float; often near another one, subnormal, or at an end.
static float pick(uint32_t near) {
    static const uint32_t ends[] = { 0, 1, 0x7fffff, 0x800000, 0x7f7fffff, 0x7f800000, 0x7f800001, 0x7fc00000 };
    uint32_t v = draw();
    switch (draw() % 8) {
        case 0:
            return tp_from_bits(ends[v & 7] | (v & SIGN));
        case 1:
            return tp_from_bits(v & 0x80ffffffu);
        case 2:
            return tp_from_bits((v & 0x80ffffffu) | 0x7f000000u);
        case 3:
            return tp_from_bits(near ^ (v & 0x8000000fu));
        case 4:
        case 5:
            return tp_from_bits((v & 0x80ffffffu) | (near & 0x7f000000u));
        default:
            return tp_from_bits(v);
    }
}

static int differ(float got, float want) {
    return want != want ? tp_to_bits(got) != 0x7fc00000u : tp_to_bits(got) != tp_to_bits(want);
}

int main(void) {
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < 1000000; ++i) {
        float a = pick(draw()), b = pick(tp_to_bits(a));
        int32_t v = (int32_t)(draw() ^ SIGN) >> draw() % 32;
        wrong += differ(tp_addsf3(a, b), a + b) + differ(tp_subsf3(a, b), a - b) + differ(tp_floatsisf(v), (float)v);
    }
    printf("%u\n", wrong);
    return 0;
}
