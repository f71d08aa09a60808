// The operators of a plan, which know neither MicroPython nor transformers.
// Shapes in comments: [n][cols] is n tokens of cols values each, row after row.
#ifndef TP_KERNELS_H
#define TP_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#define TP_COLD __attribute__((cold)) // compiled for size
#define TP_BLOCK (32) // values of a block of Q8_0 or Q4_0, and the unit in which all others are counted

// Tensor types, numbered as in GGUF.
enum {
    TP_F32 = 0,
    TP_F16 = 1,
    #define WEIGHT_TYPE(name, number, ...) TP_##name = number,
    #include "weight_types.h"
    #undef WEIGHT_TYPE
};

// Returns the bytes of one row of cols values; 0 if the type is unknown, or cols is no multiple of its block. TP2 and
// TPT store two rows together, TP3 stores four: then this is a half or a quarter of their bytes.
size_t tp_row_bytes(uint32_t type, uint32_t cols);

// Returns how many neighbouring activations share one scale, for weights of this type.
uint32_t tp_group(uint32_t type);

// Checks all scales of the matrix w[rows][cols], or all its values if they are floats. Returns 0 if one is infinite or
// NaN; else the greatest exponent field of the fp16 scales, at least 1.
uint32_t tp_scan(uint32_t type, const uint8_t *w, uint32_t rows, uint32_t cols);

// Returns the bytes of one token's quantized activations, cols values, for products with weights of this type. Each
// variant chooses its own layout (see isa.h). TP_F32 stands for the layout of the portable kernels.
size_t tp_activation_bytes(uint32_t type, uint32_t cols);

enum {
    TP_PORTABLE = 8, // the layout of the portable kernels
    // 16-bit activations: after the n tokens follow n more, their rounding errors in 128ths of their steps
    TP_INT16 = 32,
};

// Quantizes x[n][cols] for weights of this type: int8 with one scale a group, rounded half away from 0. q: n times
// tp_activation_bytes, twice as many with TP_INT16. flags: TP_PORTABLE, TP_INT16.
void tp_quantize(uint32_t type, uint8_t *q, const float *x, uint32_t cols, uint32_t n, uint32_t flags);

// Name of the variant of the kernels that was compiled in; "portable" is the reference.
extern const char tp_kernels_variant[];

// Name of the path, "float" or "fixed". Logits have the same bits on all cores of a path.
extern const char tp_kernels_path[6];

// A matrix product, y[n][rows] = x[n][cols] . w[rows][cols]. x is floats for weights of F32 and F16; for other types it
// is the output of tp_quantize for the same type and the same n.
typedef struct {
    uint32_t type;
    uint32_t rows;
    uint32_t cols;
    uint32_t n;
    uint32_t top; // result of tp_scan for w
    float *y;
    const uint8_t *w;
    const void *x;
} tp_product_t;

// Computes a product with the variant's kernel, or with the portable one if the variant has none for the type.
void tp_matmul(const tp_product_t *p);

// The same bits from the portable kernels, for x in their layout.
void tp_matmul_portable(const tp_product_t *p);

// y[cols] = row number row of a weight matrix, as floats.
void tp_dequantize_row(uint32_t type, float *y, const uint8_t *w, uint32_t row, uint32_t cols);

// y[cols] = x * w / sqrt(mean(x^2) + eps)
void tp_rmsnorm(float *y, const float *x, const float *w, uint32_t cols, float eps);

// Frequencies of the rotary embedding: freqs[i] = base^(-2 i / dims) / (scale * factors[i]), i < dims / 2, in the form
// that the path's tp_rope_table takes. factors: NULL for none.
TP_COLD void tp_rope_freqs(float *freqs, uint32_t dims, float base, float scale, const float *factors);

// table[2 i] = cos(pos * freqs[i]), table[2 i + 1] = sin(pos * freqs[i]), i < dims / 2, in the form that the path's
// tp_rope takes.
void tp_rope_table(float *table, const float *freqs, uint32_t dims, uint32_t pos);

// Rotates pairs of the first dims values of each head of x[heads][head_dim] in place. apart: distance of the values of
// a pair, 1 or dims / 2.
void tp_rope(float *x, const float *table, uint32_t heads, uint32_t head_dim, uint32_t dims, uint32_t apart);

// Returns the bytes of one head at one position of a key or value cache: head_dim values as F32 or F16, or for TP_Q8_0
// a float scale and int8 values. 0 if this path has no cache of the type; the fixed path has only TP_Q8_0.
size_t tp_kv_bytes(uint32_t type, uint32_t head_dim);

// Stores x[heads][head_dim], one token, at one position of a cache.
void tp_kv_store(uint32_t type, uint8_t *kv, const float *x, uint32_t heads, uint32_t head_dim);

// Causal attention of one token over positions 0 to length - 1 of the caches k and v. q and y: [heads][head_dim];
// scratch: length words; cap: limits the scores as tp_softcap does, 0 for none.
void tp_attention(uint32_t type, float *y, const float *q, const uint8_t *k, const uint8_t *v, float *scratch,
    uint32_t heads, uint32_t kv_heads, uint32_t head_dim, uint32_t length, float cap);

// x[n] = cap * tanh(x / cap)
TP_COLD void tp_softcap(float *x, float cap, uint32_t n);

// y[n] += x[n]
void tp_add(float *y, const float *x, uint32_t n);

// x[n] *= factor, in floats on both paths: only embeddings are scaled
void tp_scale(float *x, float factor, uint32_t n);

// y[n] = silu(gate[n]) * up[n]
void tp_swiglu(float *y, const float *gate, const float *up, uint32_t n);

// y[n] = gelu(gate[n]) * up[n], with the tanh form of gelu, as in Gemma: x * sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3))
void tp_geglu(float *y, const float *gate, const float *up, uint32_t n);

// Returns the index of the greatest of x[n], the first of equal ones; NaN never wins.
uint32_t tp_argmax(const float *x, uint32_t n);

// Returns an index drawn from softmax(x[n] / temperature). coin: random number in [0, 1). Overwrites x.
TP_COLD uint32_t tp_sample(float *x, uint32_t n, float temperature, float coin);

// Returns the CRC-32 (IEEE 802.3, as in zlib) of data, continued from crc; 0 to start.
uint32_t tp_crc32(uint32_t crc, const uint8_t *data, size_t len);

#endif
