// Which of its functions a variant in assembly uses for the rows of a type (see scalar.h). It defines before, all with
// a parameter tp_rows_t *rows:
//   q4_0_rows, q8_0_rows, pair_rows (TP2 and TPT), tp3_rows
//   q4_0_pairs      with TP_ALIGNED: Q4_0 with an even number of blocks a row
//   plain_rows      with TP_MOST_SHIFT: Q4_0 and Q8_0 in C, for shifts above TP_MOST_SHIFT
#ifndef TP_SCALAR_ROWS_H
#define TP_SCALAR_ROWS_H

#include "scalar.h"

static void tp_rows(uint32_t type, int pairs, uint32_t shift, tp_rows_t *rows) {
    (void)pairs;
    (void)shift;
    // clang-format off
    #if defined(TP_MOST_SHIFT)
    if (shift > TP_MOST_SHIFT) {
        plain_rows(type, pairs, rows);
    } else
    #endif
    if (type == TP_Q8_0) {
        q8_0_rows(rows);
    #if TP_ALIGNED
    } else if (pairs) {
        q4_0_pairs(rows);
    #endif
    } else {
        q4_0_rows(rows);
    }
    // clang-format on
}

static void tp_own_rows(uint32_t type, tp_rows_t *rows) {
    if (type == TP_TP3) {
        tp3_rows(rows);
    } else {
        pair_rows(rows);
    }
}

#endif
