// Which kernels this build has. A variant for an instruction set is one file that defines the four
// functions below, and one line here. Its results equal those of the portable kernels bit for bit:
// per block of 32 an exact integer dot product, then sum += (dw * da) * (float)dot, block after
// block, rounded after each step.
#ifndef TP_ISA_H
#define TP_ISA_H

#include "types.h"

#define TP_PATH_FLOAT (1)

#if defined(TP_ONLY_PORTABLE)
#define TP_ISA_PORTABLE (1)
#elif defined(__ARM_FEATURE_DSP) && defined(__ARM_FP) && defined(__thumb2__)
#define TP_ISA_ARMV7EM (1)
#elif defined(__AVX2__) && defined(__F16C__)
#define TP_ISA_AVX2 (1)
#elif defined(__thumb2__)
#define TP_ISA_ARMV7M (1)
#elif defined(__riscv_mul) && __riscv_xlen == 32 && !defined(__riscv_flen)
#define TP_ISA_RV32 (1)
#else
#define TP_ISA_PORTABLE (1)
#endif

// Cores whose float arithmetic is a library: integers in its place, where they give the same bits.
#if (defined(__arm__) && !defined(__ARM_FP)) || (defined(__riscv) && !defined(__riscv_flen))
#define TP_SOFT_FLOAT (1)
#endif

typedef float tp_scale_t;

// Bytes of one token's activations for this type of weights; 0 if the variant has no kernel for it
// and leaves it to the portable one.
size_t tp_isa_x_bytes(uint32_t type, uint32_t cols);

// Puts 32 quantized values and the scale of their group where the products look for them: block b
// of token t of n, cols values each.
void tp_isa_put(uint32_t type, void *x, uint32_t cols, uint32_t n, uint32_t t, uint32_t b,
    const int8_t *values, tp_scale_t scale);

// As tp_matmul, for types that tp_isa_x_bytes knows.
void tp_isa_matmul(const tp_product_t *p);

// As tp_isa_x_bytes and tp_isa_put for the portable kernels, which are always there.
size_t tp_portable_x_bytes(uint32_t cols);
void tp_portable_put(void *x, uint32_t cols, uint32_t t, uint32_t b, const int8_t *values, tp_scale_t scale);

#endif
