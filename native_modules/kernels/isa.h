// Which kernels this build has: a path, and on it a variant for the instruction set.
//
// On the float path a product sums, block after block, (dw * da) * (float)dot, rounded after each
// step. On the fixed-point path, for cores whose float arithmetic is a library, it sums integers
// (fixed/portable.c). Each path gives the same bits on all cores.
//
// A variant is one file that defines the three functions below and tp_kernels_variant, and one line
// here. Its results equal those of the path's portable kernels bit for bit.
#ifndef TP_ISA_H
#define TP_ISA_H

#include "types.h"

#if !defined(TP_PATH_FLOAT) && !defined(TP_PATH_FIXED)
#if (defined(__arm__) && !defined(__ARM_FP)) || (defined(__riscv) && !defined(__riscv_flen)) \
    || defined(__XTENSA_SOFT_FLOAT__)
#define TP_PATH_FIXED (1)
#else
#define TP_PATH_FLOAT (1)
#endif
#endif

#if defined(TP_PATH_FIXED)
typedef int32_t tp_scale_t; // how often the token's scale is halved

#if defined(TP_ONLY_PORTABLE)
#define TP_ISA_PORTABLE (1)
#elif defined(__thumb2__)
#define TP_ISA_ARMV7M (1)
#elif defined(__thumb__)
#define TP_ISA_ARMV6M (1)
#elif defined(__riscv_mul) && __riscv_xlen == 32
#define TP_ISA_RV32 (1)
#else
#define TP_ISA_SCALAR (1)
#endif

#else
typedef float tp_scale_t;

#if defined(TP_ONLY_PORTABLE)
#define TP_ISA_PORTABLE (1)
#elif defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 2)
#define TP_ISA_MVE (1)
#elif defined(__ARM_FEATURE_DSP) && defined(__ARM_FP) && defined(__thumb2__)
#define TP_ISA_ARMV7EM (1)
#elif defined(__AVX2__) && defined(__F16C__)
#define TP_ISA_AVX2 (1)
#else
#define TP_ISA_PORTABLE (1)
#endif

#endif

// Bytes of one token's activations for this type of weights; 0 if the variant has no kernel for it
// and leaves it to the portable one.
size_t tp_isa_activation_bytes(uint32_t type, uint32_t cols);

// Puts 32 quantized values and the scale of their group where the products look for them: block b
// of token t of n, cols values each.
void tp_isa_put(uint32_t type, void *x, uint32_t cols, uint32_t n, uint32_t t, uint32_t b,
    const int8_t *values, tp_scale_t scale);

// As tp_matmul, for types that tp_isa_activation_bytes knows.
void tp_isa_matmul(const tp_product_t *p);

// As tp_isa_activation_bytes and tp_isa_put for the portable kernels, which are always there.
size_t tp_portable_activation_bytes(uint32_t cols);
void tp_portable_put(void *x, uint32_t cols, uint32_t t, uint32_t b, const int8_t *values, tp_scale_t scale);

#endif
