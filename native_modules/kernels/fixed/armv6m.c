// Armv6-M (Cortex-M0, M0+): shift, AND, MUL and ADD, two weights at a time. Eight registers do all the work, the others
// hold sums. scalar.h has the method; the products of each group of types are in armv6m/.
#include "../isa.h"

#if defined(TP_PATH_FIXED) && defined(TP_ISA_ARMV6M)

const char tp_kernels_variant[] = "armv6m";

#define TP_ROWS(type) ((type) == TP_Q4_0 ? 2 : 4)
#define TP_Q4_K_ROWS (2)
#define TP_ALIGNED (1)
#define TP_LESS (1)
#define TP_PAIRS (TP_PAIRS_BOTH_WAYS)
#define TP_Q8_WORDS (TP_BLOCK / 4) // bytes as they are
#include "scalar.h"

static void tp_put_q8_0(uint32_t *to, const int8_t *q) {
    for (uint32_t j = 0; j < TP_BLOCK; ++j) {
        ((int8_t *)to)[j] = q[j];
    }
}

// The compiler does not see that assembly uses the parameters of naked functions.
#pragma GCC diagnostic ignored "-Wunused-parameter"

#include "armv6m/q4_q8.h"
#include "armv6m/own.h"
#include "armv6m/k_quants.h"
#include "scalar_rows.h"

#endif
