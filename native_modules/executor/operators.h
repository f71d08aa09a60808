// The operators of a plan, one line each: OPERATOR(name, number). Include this file with OPERATOR defined.
//
// What else a new operator takes is in docs/kernels.md, "Adding to them".
//
// Shapes: n tokens, row after row. dst, a, b, rows, cols and p0 to p4 are the words of a record (executor.h).

// clang-format off

// dst[n][cols] = row tokens[t] of b[rows][cols]
OPERATOR(EMBED, 1)

// dst[n][rows][cols] = rmsnorm of each row of a, times b[cols]; p0: eps, float bits
OPERATOR(RMSNORM, 2)

// dst = a[n][cols], quantized for MATMULs with weights of the same type and the same n; p2: bytes of a token of dst
OPERATOR(QUANTIZE, 3)

// dst[n][rows] = a[n][cols] . b[rows][cols]; p2: bytes of a token of a; p3: tp_scan of b
OPERATOR(MATMUL, 4)

// dst[n][cols] = pairs of cos and sin for the positions of the tokens; b: cols / 2 frequencies
OPERATOR(ROPE_TABLE, 5)

// Rotates dst[n][rows][cols] in place by the table a[n][p0].
OPERATOR(ROPE, 6)

// dst[n][rows][cols] = attention of the queries a over the keys b and the values p0, both caches of the given type;
// p1: scratch; p2: key/value heads; p3: window in positions, 0 for all positions; p4: cap of the scores, float bits
OPERATOR(ATTENTION, 7)

// dst[n][cols] += a[n][cols]
OPERATOR(ADD, 8)

// dst[n][cols] = silu(a) * b
OPERATOR(SWIGLU, 9)

// ctl[TP_CTL_NEXT] = index of the greatest value of a[cols]
OPERATOR(ARGMAX, 10)

// Position pos + t of dst, a cache of the given type, = a[t][rows][cols].
OPERATOR(KV_STORE, 11)

// dst[n][cols] = gelu(a) * b
OPERATOR(GEGLU, 12)

// dst[n][cols] += b[cols]
OPERATOR(BIAS, 13)

// dst[n][cols] *= p0, float bits
OPERATOR(SCALE, 14)

// dst[cols] = p0 tanh(dst / p0); p0: float bits
OPERATOR(SOFTCAP, 15)
