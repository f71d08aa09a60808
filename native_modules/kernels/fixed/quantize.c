// Activations to int8, and the choice between the variant's products and the portable ones.
//
// A token has one scale, S = max|x| / 127, and each group k, how often S is halved there (0 to 15):
// so the greatest of a group becomes 64 to 127, and a product needs but a shift where the float path
// multiplies. An activation is off by no more than 0.51 * S / 2^k.
#include "../isa.h"

#if defined(TP_PATH_FIXED)

#include "fixed.h"

const char tp_kernels_path[6] = "fixed";

size_t tp_x_bytes(uint32_t type, uint32_t cols) {
    size_t own = tp_isa_x_bytes(type, cols);
    return own != 0 ? own : tp_portable_x_bytes(cols);
}

void tp_matmul(const tp_product_t *p) {
    if (tp_isa_x_bytes(p->type, p->cols) != 0) {
        tp_isa_matmul(p);
    } else {
        tp_matmul_portable(p);
    }
}

void tp_quantize(uint32_t type, uint8_t *q, const float *x, uint32_t cols, uint32_t n, int portable) {
    portable |= tp_isa_x_bytes(type, cols) == 0;
    size_t x_bytes = portable ? tp_portable_x_bytes(cols) : tp_isa_x_bytes(type, cols);
    uint32_t group = tp_group(type);
    int8_t values[TP_BLOCK];
    for (uint32_t t = 0; t < n; ++t) {
        tp_int8_scale_t scale = tp_int8_scale(tp_greatest(x, cols));
        *(float *)(void *)(q + t * x_bytes) = tp_int8_unit(scale);
        for (uint32_t i = 0; i < cols;) {
            uint32_t end = group < cols - i ? i + group : cols;
            int32_t k = tp_halvings(scale.max, tp_greatest(x, end - i));
            for (; i < end; i += TP_BLOCK, x += TP_BLOCK) {
                tp_to_int8(values, x, TP_BLOCK, scale, k);
                if (portable) {
                    tp_portable_put(q, cols, t, i / TP_BLOCK, values, k);
                } else {
                    tp_isa_put(type, q, cols, n, t, i / TP_BLOCK, values, k);
                }
            }
        }
    }
}

#endif
