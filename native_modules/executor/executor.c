#include "executor.h"

#include <stddef.h>

#include "../counters/counters.h"
#include "../kernels/tp_math.h"
#include "../marks/marks.h"

// The address of an operand.
static inline void *operand(uint8_t *const *regions, uint32_t word) {
    return regions[word >> 30] + (word & 0x3fffffffu);
}

// Runs one record. Returns 0 if its operator is unknown or a token is outside the embeddings.
static int run_one(const uint32_t *op, uint32_t *ctl, uint8_t *const *regions) {
    uint32_t type = op[TP_W_OP] >> 8 & 0xff;
    uint32_t flags = op[TP_W_OP] >> 16;
    uint32_t rows = op[TP_W_ROWS];
    uint32_t cols = op[TP_W_COLS];
    uint32_t pos = ctl[TP_CTL_POS];
    uint32_t n = flags & (TP_FLAG_LAST | TP_FLAG_ONE) ? 1 : ctl[TP_CTL_N];
    float *dst = operand(regions, op[TP_W_DST]);
    uint8_t *a = operand(regions, op[TP_W_A]);
    uint8_t *b = operand(regions, op[TP_W_B]);
    // values of one token of dst
    uint32_t width = (op[TP_W_OP] & 0xff) == TP_OP_MATMUL ? rows : rows * cols;
    tp_product_t product;

    if (flags & TP_FLAG_AT_POS) {
        dst += (size_t)pos * width;
    }
    switch ((enum tp_operator)(op[TP_W_OP] & 0xff)) { // without a default: the compiler names a missing operator
        case TP_OP_EMBED:
            for (uint32_t t = 0; t < n; ++t) {
                if (ctl[TP_CTL_TOKENS + t] >= rows) {
                    return 0;
                }
                tp_dequantize_row(type, dst + (size_t)t * cols, b, ctl[TP_CTL_TOKENS + t], cols);
            }
            return 1;
        case TP_OP_RMSNORM:
            if (flags & TP_FLAG_LAST) {
                a += (size_t)(ctl[TP_CTL_N] - 1) * cols * sizeof(float);
            }
            if (flags & TP_FLAG_AT_POS) {
                a = (uint8_t *)dst;
            }
            for (uint32_t t = 0; t < n * rows; ++t) {
                tp_rmsnorm(dst + (size_t)t * cols, (float *)a + (size_t)t * cols, (float *)b, cols,
                    tp_from_bits(op[TP_W_P0]));
            }
            return 1;
        case TP_OP_QUANTIZE:
            tp_quantize(type, (uint8_t *)dst, (float *)a, cols, n, flags);
            return 1;
        case TP_OP_MATMUL:
            product = (tp_product_t){ type, rows, cols, flags & TP_FLAG_INT16 ? 2 * n : n, op[TP_W_P3], dst, b, a };
            if (flags & TP_FLAG_PORTABLE) {
                tp_matmul_portable(&product);
            } else {
                tp_matmul(&product);
            }
            if (flags & TP_FLAG_INT16) {
                tp_add(dst, dst + (size_t)n * rows, n * rows);
            }
            return 1;
        case TP_OP_ROPE_TABLE:
            for (uint32_t t = 0; t < n; ++t) {
                tp_rope_table(dst + (size_t)t * cols, (float *)b, cols, pos + t);
            }
            return 1;
        case TP_OP_ROPE:
            for (uint32_t t = 0; t < n; ++t) {
                tp_rope(dst + (size_t)t * width, (float *)a + (size_t)t * op[TP_W_P0], rows, cols, op[TP_W_P0],
                    flags & TP_FLAG_HALVES ? op[TP_W_P0] / 2 : 1);
            }
            return 1;
        case TP_OP_ATTENTION:
            for (uint32_t t = 0; t < n; ++t) {
                size_t at = (size_t)t * width;
                size_t before = 0; // bytes of a cache before the window
                uint32_t length = pos + t + 1, window = op[TP_W_P3];
                if (window != 0 && length > window) {
                    before = (length - window) * op[TP_W_P2] * tp_kv_bytes(type, cols);
                    length = window;
                }
                tp_attention(type, dst + at, (float *)a + at, b + before,
                    (uint8_t *)operand(regions, op[TP_W_P0]) + before, operand(regions, op[TP_W_P1]), rows, op[TP_W_P2],
                    cols, length, tp_from_bits(op[TP_W_P4]));
            }
            return 1;
        case TP_OP_ADD:
            tp_add(dst, (float *)a, n * cols);
            return 1;
        case TP_OP_SWIGLU:
            tp_swiglu(dst, (float *)a, (float *)b, n * cols);
            return 1;
        case TP_OP_GEGLU:
            tp_geglu(dst, (float *)a, (float *)b, n * cols);
            return 1;
        case TP_OP_BIAS:
            for (uint32_t t = 0; t < n; ++t) {
                tp_add(dst + (size_t)t * width, (float *)b, cols);
            }
            return 1;
        case TP_OP_SCALE:
            tp_scale(dst, tp_from_bits(op[TP_W_P0]), n * cols);
            return 1;
        case TP_OP_SOFTCAP:
            tp_softcap(dst, tp_from_bits(op[TP_W_P0]), cols);
            return 1;
        case TP_OP_ARGMAX:
            ctl[TP_CTL_NEXT] = tp_argmax((float *)a, cols);
            return 1;
        case TP_OP_KV_STORE:
            for (uint32_t t = 0; t < n; ++t) {
                tp_kv_store(type, (uint8_t *)dst + (pos + t) * rows * tp_kv_bytes(type, cols),
                    (float *)a + (size_t)t * width, rows, cols);
            }
            return 1;
    }
    return 0;
}

uint32_t tp_run(const uint32_t *plan, uint32_t count, uint32_t *ctl, uint8_t *const *regions, uint64_t *acc) {
    uint32_t kind = ctl[TP_CTL_COUNTER];
    uintptr_t address = ctl[TP_CTL_ADDRESS];
    uint32_t modulus = ctl[TP_CTL_MODULUS];
    uint32_t before = acc == NULL ? 0 : tp_counter_read(kind, address);
    TP_MARK_AT(TP_MARK_RUN, plan);
    for (uint32_t i = 0; i < count; ++i, plan += TP_OP_WORDS) {
        TP_MARK(TP_MARK_OP);
        int done = run_one(plan, ctl, regions);
        TP_MARK(TP_MARK_LEAVE);
        if (!done) {
            return i + 1;
        }
        if (acc != NULL) {
            uint32_t now = tp_counter_read(kind, address);
            acc[i] += tp_counter_between(before, now, modulus);
            before = now;
        }
    }
    return 0;
}
