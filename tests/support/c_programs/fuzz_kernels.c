// Fuzz target of the kernels: any bytes as a product's type, shape, weights and activations. The fast
// kernels must give the portable ones' bits, and nothing may leave its memory or be undefined.
//
// With libFuzzer: clang -fsanitize=fuzzer,address,undefined. Without (-DSTANDALONE) the program makes
// inputs itself: fuzz_kernels COUNT [SEED].
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "types.h"

static const uint8_t types[] = {
    TP_F32,
    TP_F16,
    #define WEIGHT_TYPE(name, ...) TP_##name,
    #include "weight_types.h"
    #undef WEIGHT_TYPE
};

// size bytes of their own, on a multiple of 16, filled from the input over and over.
static void *filled(size_t size, const uint8_t *data, size_t n, size_t at) {
    size_t whole = (size + 15) / 16 * 16;
    uint8_t *p = aligned_alloc(16, whole == 0 ? 16 : whole);
    if (p == NULL) {
        abort();
    }
    for (size_t i = 0; i < size; ++i) {
        p[i] = data[(at + i) % n];
    }
    return p;
}

static void product(uint32_t type, uint32_t rows, uint32_t cols, uint32_t n, const uint8_t *data, size_t size) {
    size_t w_bytes = rows * tp_row_bytes(type, cols), x_count = (size_t)n * cols;
    uint8_t *w = filled(w_bytes, data, size, 0);
    float *x = filled(x_count * sizeof(float), data, size, 7);
    float *y[2] = { calloc(rows * n, sizeof(float)), calloc(rows * n, sizeof(float)) };
    uint32_t top = tp_scan(type, w, rows, cols);
    float *row = calloc(cols, sizeof(float));
    tp_dequantize_row(type, row, w, rows - 1, cols);
    free(row);
    if (top != 0) { // else it would have been refused
        const void *in[2] = { x, x };
        uint8_t *q[2] = { NULL, NULL };
        uint32_t int16 = n % 2 == 0 ? TP_INT16 : 0;
        for (int portable = 0; portable < 2 && tp_format(type) != NULL; ++portable) {
            q[portable] = calloc(n, portable ? tp_activation_bytes(TP_F32, cols) : tp_activation_bytes(type, cols));
            tp_quantize(type, q[portable], x, cols, int16 ? n / 2 : n, int16 | (portable ? TP_PORTABLE : 0));
            in[portable] = q[portable];
        }
        tp_product_t p = { type, rows, cols, n, top, y[0], w, in[0] };
        tp_matmul(&p);
        p.y = y[1];
        p.x = in[1];
        tp_matmul_portable(&p);
        if (memcmp(y[0], y[1], rows * n * sizeof(float)) != 0) {
            fprintf(stderr, "type %u, %u rows, %u columns, %u tokens: other bits\n", type, rows, cols, n);
            abort();
        }
        free(q[0]);
        free(q[1]);
    }
    free(w);
    free(x);
    free(y[0]);
    free(y[1]);
}

// The other operators over the same bytes as floats.
static void operators(const uint8_t *data, size_t size) {
    enum { N = 64, HEADS = 4, KV = 2, DIM = 16, LENGTH = 3 };
    float *a = filled(N * sizeof(float), data, size, 3), *b = filled(N * sizeof(float), data, size, 11);
    float y[N], table[DIM], freqs[DIM / 2], scratch[LENGTH];
    tp_rmsnorm(y, a, b, N, 1e-5f);
    tp_rope_freqs(freqs, DIM, 10000.0f, 1.0f, NULL);
    tp_rope_table(table, freqs, DIM, data[0] | (uint32_t)data[1] << 8);
    tp_rope(a, table, HEADS, DIM, DIM, 1);
    tp_rope(a, table, HEADS, DIM, DIM, DIM / 2);
    tp_scale(a, 8.0f, N);
    tp_softcap(b, 30.0f, N);
    tp_swiglu(y, a, b, N);
    tp_geglu(y, a, b, N);
    static const uint8_t kv_types[] = { TP_F32, TP_F16, TP_Q8_0 };
    for (size_t i = 0; i < sizeof(kv_types); ++i) {
        size_t bytes = KV * tp_kv_bytes(kv_types[i], DIM);
        if (bytes != 0) {
            uint8_t *kv = calloc(LENGTH, bytes);
            for (uint32_t t = 0; t < LENGTH; ++t) {
                tp_kv_store(kv_types[i], kv + t * bytes, a + t * DIM / 2, KV, DIM);
            }
            tp_attention(kv_types[i], y, b, kv, kv, scratch, HEADS, KV, DIM, LENGTH, i == 0 ? 0.0f : 5.0f);
            free(kv);
        }
    }
    tp_add(y, b, N);
    uint32_t best = tp_argmax(y, N), drawn = tp_sample(y, N, 0.8f, (float)data[0] / 256.0f);
    if (best >= N || drawn >= N) {
        abort();
    }
    free(a);
    free(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 8) {
        return 0;
    }
    uint32_t type = types[data[0] % sizeof(types)];
    uint32_t step = tp_row_bytes(type, TP_BLOCK) != 0 ? TP_BLOCK : 256;
    uint32_t rows = data[1] % 9 + 1, cols = (data[2] % (step == TP_BLOCK ? 12 : 3) + 1) * step, n = data[3] % 6 + 1;
    uint32_t together = 1u << tp_together(type);
    rows = (rows + together - 1) / together * together;
    product(type, rows, cols, n, data + 4, size - 4);
    operators(data, size);
    return 0;
}

#if defined(STANDALONE)
int main(int argc, char **argv) {
    uint32_t count = argc > 1 ? (uint32_t)atoi(argv[1]) : 1000;
    uint64_t seed = argc > 2 ? (uint64_t)atoi(argv[2]) : 1;
    uint8_t data[1021];
    for (uint32_t i = 0; i < count; ++i) {
        size_t size = 8 + i * 37 % (sizeof(data) - 8);
        uint64_t kind = seed >> 40 & 3;
        for (size_t j = 0; j < size; ++j) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            uint8_t byte = (uint8_t)(seed >> 56);
            // beside noise: bytes of few values, so that blocks are extreme, and floats near 1
            static const uint8_t few[4] = { 0x00, 0x7f, 0x80, 0xff };
            data[j] = j < 4 || kind == 0 ? byte : kind == 1 ? few[byte & 3] : j % 2 ? 0x2c | (byte & 0x93) : byte;
        }
        LLVMFuzzerTestOneInput(data, size);
    }
    printf("%u inputs\n", (unsigned)count);
    return 0;
}
#endif
