// Runs a slice of a plan: a flat table of operator records, twelve 32-bit words each. The plan is
// written by device/tinyprof/plan.py and is the same words on every target.
#ifndef TP_EXECUTOR_H
#define TP_EXECUTOR_H

#include "../kernels/kernels.h"

#define TP_OP_WORDS 12

// Words of a record. An operand is region << 30 | byte offset.
enum {
    TP_W_OP = 0,    // operator | tensor type << 8 | flags << 16
    TP_W_DST = 1,   // operand
    TP_W_A = 2,     // operand
    TP_W_B = 3,     // operand, mostly weights
    TP_W_ROWS = 4,
    TP_W_COLS = 5,
    TP_W_P0 = 6,    // parameters of the operator
    TP_W_P1 = 7,
    TP_W_P2 = 8,
    TP_W_P3 = 9,
    TP_W_TAG = 10,  // for the reader of a profile: layer << 8 | role
    TP_W_P4 = 11,
};

enum {
    TP_OP_EMBED = 1,      // dst[n][cols] = row tokens[t] of b[rows][cols]
    TP_OP_RMSNORM = 2,    // dst[n][rows][cols] = rmsnorm of each row of a, * b[cols]; p0 = eps, float bits
    TP_OP_QUANTIZE = 3,   // dst = a[n][cols] quantized for the MATMULs of the same type and n; p2 = bytes a token
    TP_OP_MATMUL = 4,     // dst[n][rows] = a[n][cols] . b[rows][cols]; p2 = bytes of a token of a, p3 = tp_scan of b
    TP_OP_ROPE_TABLE = 5, // dst[n][cols] = cos, sin pairs at the tokens' positions; b = frequencies
    TP_OP_ROPE = 6,       // rotates dst[n][rows][cols] in place by table a[n][p0]
    TP_OP_ATTENTION = 7,  // dst[n][rows][cols] = attention of a over K b, V p0 of type; p1 scratch, p2 KV heads,
                          // p3 = of the last positions so many, 0: of all; p4 = cap of the scores, float bits
    TP_OP_ADD = 8,        // dst[n][cols] += a[n][cols]
    TP_OP_SWIGLU = 9,     // dst[n][cols] = silu(a) * b
    TP_OP_ARGMAX = 10,    // ctl[TP_CTL_NEXT] = index of the greatest of a[cols]
    TP_OP_KV_STORE = 11,  // dst, a cache of type: position pos + t = a[t][rows][cols]
    TP_OP_GEGLU = 12,     // dst[n][cols] = gelu(a) * b
    TP_OP_BIAS = 13,      // dst[n][cols] += b[cols]
    TP_OP_SCALE = 14,     // dst[n][cols] *= p0, float bits
    TP_OP_SOFTCAP = 15,   // dst[cols] = p0 tanh(dst / p0), float bits
};

enum {
    TP_FLAG_LAST = 1,   // from the last of the n tokens of a to one token of dst
    TP_FLAG_AT_POS = 2, // dst is a cache: token t goes to row pos + t; RMSNORM: a is dst
    TP_FLAG_ONE = 4,    // one token, whatever n is
    TP_FLAG_PORTABLE = TP_PORTABLE, // of QUANTIZE and MATMUL: the reference kernel and its layout, for tests
    TP_FLAG_HALVES = 16, // of ROPE: pairs lie half of p0 apart, and are not neighbours
    TP_FLAG_INT16 = TP_INT16, // of QUANTIZE and MATMUL: activations of two int8; MATMUL: dst has room for 2 n tokens
};

enum { TP_REGION_ARENA = 0, TP_REGION_KV = 1, TP_REGION_WEIGHTS = 2, TP_REGIONS = 4 };

// Words of the control block, which MicroPython fills before each run and reads after it.
enum {
    TP_CTL_POS = 0,     // position of the first token
    TP_CTL_N = 1,       // tokens in this run
    TP_CTL_COUNTER = 2, // kind, see counters.h
    TP_CTL_ADDRESS = 3,
    TP_CTL_MODULUS = 4, // where the counter wraps, 0 for 2^32
    TP_CTL_NEXT = 5,    // written by TP_OP_ARGMAX
    TP_CTL_TOKENS = 6,
};

// Runs count records of plan. Where acc is not NULL, acc[i] += counts spent in record i of the
// slice. Returns 0, or 1 + the index of a record with an unknown operator or a token outside b.
uint32_t tp_run(const uint32_t *plan, uint32_t count, uint32_t *ctl,
    uint8_t *const *regions, uint64_t *acc);

#endif
