// Which kernels this build has: a path, and on that path a variant for the instruction set.
//
// On the float path a product sums (dw * da) * (float)dot block after block, rounded after each step: dw and da are the
// scales of weights and activations, dot is the integer dot product. On the fixed-point path, for cores whose float
// arithmetic is a library, it sums integers (fixed/portable.c). Each path gives the same bits on all cores.
//
// A variant is a file that defines the three functions tp_isa_* below and tp_kernels_variant, and a line here. The
// build lists take all files of this folder, and those of other variants compile to nothing. Its results must have the
// bits of the path's portable kernels (tests/native/test_variants.py). Types that it does not know are left to these.
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
typedef int32_t tp_scale_t; // of a group of activations: how often the token's scale is halved

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
typedef float tp_scale_t; // of a group of activations

#if defined(TP_ONLY_PORTABLE)
#define TP_ISA_PORTABLE (1)
#elif defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 2)
#define TP_ISA_MVE (1)
#define TP_OWN_OPERATORS (1) // float/mve_ops.c
#elif defined(__ARM_FEATURE_DSP) && defined(__ARM_FP) && defined(__thumb2__)
#define TP_ISA_ARMV7EM (1)
#elif defined(__AVX2__) && defined(__F16C__)
#define TP_ISA_AVX2 (1)
#else
#define TP_ISA_PORTABLE (1)
#endif

#endif

// Returns the bytes of one token's activations, cols values, for weights of this type; 0 if the variant has no kernel
// for the type and leaves it to the portable one.
size_t tp_isa_activation_bytes(uint32_t type, uint32_t cols);

// Stores 32 quantized activations and the scale of their group where tp_isa_matmul reads them: block b of token t. x
// holds n tokens of cols values.
void tp_isa_put(uint32_t type, void *x, uint32_t cols, uint32_t n, uint32_t t, uint32_t b, const int8_t *values,
    tp_scale_t scale);

// As tp_matmul, for the types that tp_isa_activation_bytes knows.
void tp_isa_matmul(const tp_product_t *p);

// The same as tp_isa_activation_bytes and tp_isa_put for the portable kernels, which are in every build.
size_t tp_portable_activation_bytes(uint32_t cols);
void tp_portable_put(void *x, uint32_t cols, uint32_t t, uint32_t b, const int8_t *values, tp_scale_t scale);

#endif
