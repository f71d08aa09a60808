// The operators of a plan. Nothing here knows of MicroPython or of transformers.
// Shapes in comments: [n][cols] is n tokens of cols values, row after row.
#ifndef TP_KERNELS_H
#define TP_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#define TP_COLD __attribute__((cold)) // as small as can be
#define TP_BLOCK (32) // values of a block of Q8_0 or Q4_0, and what all is counted in

// Tensor types, numbered as in GGUF.
enum {
    TP_F32 = 0,
    TP_F16 = 1,
    #define WEIGHT_TYPE(name, number, ...) TP_##name = number,
    #include "weight_types.h"
    #undef WEIGHT_TYPE
};

// Bytes of one row of cols values; 0 if the type is unknown or cols does not fit it. Of TP2 and TPT two
// rows lie together, of TP3 four: of them this is a half or a quarter.
size_t tp_row_bytes(uint32_t type, uint32_t cols);

// How many neighbouring activations share one scale where they meet weights of this type.
uint32_t tp_group(uint32_t type);

// Looks at all scales of a matrix, or at its values where they are floats. Returns 0 if one is
// infinite or no number; else the greatest exponent of an fp16 among the scales, as stored, at
// least 1.
uint32_t tp_scan(uint32_t type, const uint8_t *w, uint32_t rows, uint32_t cols);

// Bytes of one token's quantized activations as the products with weights of this type read them.
// How they are laid out is the variant's own affair (see isa.h), but for TP_F32: that is the layout
// of the portable kernels.
size_t tp_activation_bytes(uint32_t type, uint32_t cols);

enum {
    TP_PORTABLE = 8, // in the layout of the portable kernels
    TP_INT16 = 32,   // behind the n tokens n more: what the first left over, in 128ths of their scales
};

// Floats of n tokens to quantized activations for weights of this type: int8 with one scale a group,
// round half away from 0.
void tp_quantize(uint32_t type, uint8_t *q, const float *x, uint32_t cols, uint32_t n, uint32_t flags);

// Which variant of the kernels was compiled in; "portable" is the reference.
extern const char tp_kernels_variant[];

// Which path, "float" or "fixed". Logits are the same bits on all cores of a path.
extern const char tp_kernels_path[6];

// y[n][rows] = x[n][cols] . w[rows][cols]. x is float for F32 and F16, for other types what
// tp_quantize made for that type and the same n.
typedef struct {
    uint32_t type;
    uint32_t rows;
    uint32_t cols;
    uint32_t n;
    uint32_t top; // what tp_scan says of w
    float *y;
    const uint8_t *w;
    const void *x;
} tp_product_t;

void tp_matmul(const tp_product_t *p);

// The same bits from the portable kernels, whatever the variant.
void tp_matmul_portable(const tp_product_t *p);

// One row of a weight matrix as floats.
void tp_dequantize_row(uint32_t type, float *y, const uint8_t *w, uint32_t row, uint32_t cols);

// y = x * w / sqrt(mean(x^2) + eps)
void tp_rmsnorm(float *y, const float *x, const float *w, uint32_t cols, float eps);

// Frequencies of rotary embedding: freqs[i] = base^(-2 i / dims) / (scale * factors[i]), i < dims / 2, as the
// path's tp_rope_table wants them. factors: NULL for none.
TP_COLD void tp_rope_freqs(float *freqs, uint32_t dims, float base, float scale, const float *factors);

// table[2 i] = cos(pos * freqs[i]), table[2 i + 1] = sin(...), i < dims / 2, as the path's tp_rope
// wants them.
void tp_rope_table(float *table, const float *freqs, uint32_t dims, uint32_t pos);

// Rotates pairs of the first dims values of each head in place; those of a pair lie apart: 1, or dims / 2.
void tp_rope(float *x, const float *table, uint32_t heads, uint32_t head_dim, uint32_t dims, uint32_t apart);

// A cache of K or V holds, for each position, kv_heads times tp_kv_bytes: head_dim values as F32, F16
// or, for TP_Q8_0, a float scale and int8. 0: this path has no such cache; fixed point has int8 alone.
size_t tp_kv_bytes(uint32_t type, uint32_t head_dim);

// Puts one token's heads into one position of a cache.
void tp_kv_store(uint32_t type, uint8_t *kv, const float *x, uint32_t heads, uint32_t head_dim);

// Causal attention of one token over positions 0..length-1 of caches. q and y: [heads][head_dim];
// scratch: length words; cap: of the scores as tp_softcap has it, 0 for none.
void tp_attention(uint32_t type, float *y, const float *q, const uint8_t *k, const uint8_t *v, float *scratch,
    uint32_t heads, uint32_t kv_heads, uint32_t head_dim, uint32_t length, float cap);

// x = cap * tanh(x / cap)
TP_COLD void tp_softcap(float *x, float cap, uint32_t n);

// y += x
void tp_add(float *y, const float *x, uint32_t n);

// x *= factor, in floats on both paths: only embeddings are scaled
void tp_scale(float *x, float factor, uint32_t n);

// y = silu(gate) * up
void tp_swiglu(float *y, const float *gate, const float *up, uint32_t n);

// y = gelu(gate) * up, gelu with tanh as Gemma has it: x * sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3))
void tp_geglu(float *y, const float *gate, const float *up, uint32_t n);

// Index of the greatest value, the first of equals; NaN never wins.
uint32_t tp_argmax(const float *x, uint32_t n);

// Draws from softmax(x / temperature) with coin in [0, 1). Overwrites x with probabilities.
TP_COLD uint32_t tp_sample(float *x, uint32_t n, float temperature, float coin);

// CRC-32 (IEEE 802.3, as zlib's), seeded with the CRC so far.
uint32_t tp_crc32(uint32_t crc, const uint8_t *data, size_t len);

#endif
