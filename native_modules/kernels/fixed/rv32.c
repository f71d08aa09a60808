// RV32IM without FPU: shift, AND, MUL and ADD, two weights at a time, four or eight rows at a time. scalar.h has the
// method; the products of each group of types are in rv32/.
#include "../isa.h"

#if defined(TP_PATH_FIXED) && defined(TP_ISA_RV32)

const char tp_kernels_variant[] = "rv32";

#define TP_ROWS(type) ((type) == TP_Q4_0 || (type) == TP_TP3 ? 4 : 8)
#define TP_Q4_K_ROWS (4)
#define TP_ALIGNED (1) // a core may trap on words that are not aligned
#define TP_LESS (0)
#define TP_PAIRS (TP_PAIRS_TWO_MASKS)
#define TP_Q8_WORDS (TP_BLOCK)
#define TP_MOST_SHIFT (32) // shifts of 32 and more are not an instruction; exponents are 1 or more
#include "scalar.h"

static void tp_put_q8_0(uint32_t *to, const int8_t *q) {
    for (uint32_t j = 0; j < TP_BLOCK; ++j) {
        to[j] = (uint32_t)q[j];
    }
}

// The compiler does not see that assembly uses the parameters of naked functions.
#pragma GCC diagnostic ignored "-Wunused-parameter"

#include "rv32/q4_q8.h"
#include "rv32/own.h"
#include "rv32/k_quants.h"
#include "scalar_rows.h"

#endif
