// Chooses between the variant's kernels and the portable ones, by the type of the weights.
#include "isa.h"

size_t tp_activation_bytes(uint32_t type, uint32_t cols) {
    size_t own = tp_isa_activation_bytes(type, cols);
    return own != 0 ? own : tp_portable_activation_bytes(cols);
}

void tp_matmul(const tp_product_t *p) {
    if (tp_isa_activation_bytes(p->type, p->cols) != 0) {
        tp_isa_matmul(p);
    } else {
        tp_matmul_portable(p);
    }
}

#if defined(TP_ISA_PORTABLE)

// A variant without kernels of its own.
const char tp_kernels_variant[] = "portable";

size_t tp_isa_activation_bytes(uint32_t type, uint32_t cols) {
    (void)type;
    (void)cols;
    return 0;
}

void tp_isa_put(uint32_t type, void *x, uint32_t cols, uint32_t n, uint32_t t, uint32_t b, const int8_t *values,
    tp_scale_t scale) {
    (void)type;
    (void)n;
    tp_portable_put(x, cols, t, b, values, scale);
}

void tp_isa_matmul(const tp_product_t *p) {
    tp_matmul_portable(p);
}

#endif
