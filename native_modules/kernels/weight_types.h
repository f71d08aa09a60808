// The types of weights in blocks, one line each. Include this file with WEIGHT_TYPE defined.
//
// What else a new type takes is in docs/kernels.md, "Adding to them", where the layouts are drawn too.
//
// WEIGHT_TYPE(name, number, group, parts, bytes, d_at, m_at, over):
//   number       in GGUF; those from 192 on are ours
//   group        a build with -DTP_WITHOUT_<group> leaves the type out; ALWAYS: it cannot
//   parts        a block holds 32 * parts values; our own types: the values of a group of activations
//   bytes        of a block; 0: rows have a float scale, and blocks of 32 an int8 scale (tp_own in types.h)
//   d_at, m_at   offsets in a block of its fp16 scale and fp16 minimum, TP_NONE where it has none
//   over         bits beyond 20 that the integer sum over a block can have

// clang-format off

// fp16 scale, 16 bytes; byte j holds values j (low nibble) and j + 16, each with 8 added
WEIGHT_TYPE(Q4_0,    2, ALWAYS,  1,  18,       0, TP_NONE, 0)
// fp16 scale, 32 int8
WEIGHT_TYPE(Q8_0,    8, ALWAYS,  1,  34,       0, TP_NONE, 0)
WEIGHT_TYPE(Q4_1,    3, LEGACY,  1,  20,       0,       2, 0)
WEIGHT_TYPE(Q5_0,    6, LEGACY,  1,  22,       0, TP_NONE, 0)
WEIGHT_TYPE(Q5_1,    7, LEGACY,  1,  24,       0,       2, 0)
WEIGHT_TYPE(Q2_K,   10, K,       8,  84,      80,      82, 1)
WEIGHT_TYPE(Q3_K,   11, K,       8, 110,     108, TP_NONE, 2)
WEIGHT_TYPE(Q4_K,   12, K,       8, 144,       0,       2, TP_Q4_K_OVER)
WEIGHT_TYPE(Q5_K,   13, K,       8, 176,       0,       2, 6)
WEIGHT_TYPE(Q6_K,   14, K,       8, 210,     208, TP_NONE, TP_Q6_K_OVER)
WEIGHT_TYPE(TQ1_0,  34, TQ,      8,  54,      52, TP_NONE, 0)
WEIGHT_TYPE(TQ2_0,  35, TQ,      8,  66,      64, TP_NONE, 0)
// 2 bits: -3, -1, 1, 3; rows in pairs
WEIGHT_TYPE(TP2,   192, OWN,     8,   0, TP_NONE, TP_NONE, 0)
// 3 bits: -4 to 3; rows in fours
WEIGHT_TYPE(TP3,   193, OWN,     8,   0, TP_NONE, TP_NONE, 0)
// 2 bits: -1, 0, 1; rows in pairs
WEIGHT_TYPE(TPT,   194, OWN,     8,   0, TP_NONE, TP_NONE, 0)
