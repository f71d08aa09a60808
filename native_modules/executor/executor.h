// Runs a slice of a plan: a flat table of operator records, each of twelve 32-bit words.
// device/tinyprof/plan.py writes the plan; it is the same words on every target.
#ifndef TP_EXECUTOR_H
#define TP_EXECUTOR_H

#include "../kernels/kernels.h"

#define TP_OP_WORDS 12

// Words of a record. An operand is region << 30 | byte offset.
enum {
    TP_W_OP = 0, // operator | tensor type << 8 | flags << 16
    TP_W_DST = 1, // operand
    TP_W_A = 2, // operand
    TP_W_B = 3, // operand, usually weights
    TP_W_ROWS = 4,
    TP_W_COLS = 5,
    TP_W_P0 = 6, // parameters of the operator
    TP_W_P1 = 7,
    TP_W_P2 = 8,
    TP_W_P3 = 9,
    TP_W_TAG = 10, // for the reader of a profile: layer << 8 | role
    TP_W_P4 = 11,
};

enum tp_operator {
    #define OPERATOR(name, number) TP_OP_##name = number,
    #include "operators.h"
    #undef OPERATOR
};

enum {
    TP_FLAG_LAST = 1, // reads the last of the n tokens of a, writes one token of dst
    TP_FLAG_AT_POS = 2, // dst is a cache: token t goes to row pos + t; RMSNORM: a is dst
    TP_FLAG_ONE = 4, // one token, whatever n is
    TP_FLAG_PORTABLE = TP_PORTABLE, // QUANTIZE and MATMUL: the reference kernel and its layout, for tests
    TP_FLAG_HALVES = 16, // ROPE: the values of a pair are p0 / 2 apart instead of neighbours
    TP_FLAG_INT16 = TP_INT16, // QUANTIZE and MATMUL: 16-bit activations as two int8; dst of MATMUL holds 2 n tokens
};

enum { TP_REGION_ARENA = 0, TP_REGION_KV = 1, TP_REGION_WEIGHTS = 2, TP_REGIONS = 4 };

// Words of the control block, which MicroPython fills before each run and reads after it.
enum {
    TP_CTL_POS = 0, // position of the first token
    TP_CTL_N = 1, // tokens in this run
    TP_CTL_COUNTER = 2, // kind of counter, see counters.h
    TP_CTL_ADDRESS = 3, // address of the counter
    TP_CTL_MODULUS = 4, // where the counter wraps, 0 for 2^32
    TP_CTL_NEXT = 5, // written by ARGMAX
    TP_CTL_TOKENS = 6, // the tokens' ids, from here on
};

// Runs count records of plan. If acc is not NULL, adds the counts spent in record i of the slice to acc[i].
// Returns 0, or 1 + the index of the record with an unknown operator or a token outside b.
uint32_t tp_run(const uint32_t *plan, uint32_t count, uint32_t *ctl, uint8_t *const *regions, uint64_t *acc);

#endif
