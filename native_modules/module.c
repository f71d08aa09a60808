// The MicroPython module _tinyprof, which gives Python the native code. One source for both packagings: a native .mpy
// for stock firmware (MICROPY_ENABLE_DYNRUNTIME), and a user C module.
#if defined(MICROPY_ENABLE_DYNRUNTIME)
#include "py/dynruntime.h"
#else
#include "py/runtime.h"
#endif

#include "counters/counters.h"
#include "executor/executor.h"
#include "gguf/strings.h"
#include "kernels/kernels.h"
#include "kernels/tp_math.h"
#include "marks/marks.h"
#include "text/unicode_class.h"

// Increased with each change of this interface: the Python package refuses a module with another number.
#define TP_ABI (9)

// The buffer of obj, at least min_len bytes long.
static void *get_buffer(mp_obj_t obj, size_t min_len, int flags) {
    mp_buffer_info_t info;
    mp_get_buffer_raise(obj, &info, flags);
    if (info.len < min_len) {
        mp_raise_ValueError(MP_ERROR_TEXT("buffer too small"));
    }
    return info.buf;
}

// run(plan, first, count, ctl, arena, kv, weights, acc or None): runs count records of a plan, from first on. acc has
// an entry for each record of the plan.
static mp_obj_t tinyprof_run(size_t n_args, const mp_obj_t *args) {
    (void)n_args;
    size_t first = mp_obj_get_int(args[1]);
    size_t count = mp_obj_get_int(args[2]);
    const uint32_t *plan = get_buffer(args[0], (first + count) * TP_OP_WORDS * 4, MP_BUFFER_READ);
    uint32_t *ctl = get_buffer(args[3], TP_CTL_TOKENS * 4, MP_BUFFER_RW);
    get_buffer(args[3], (TP_CTL_TOKENS + ctl[TP_CTL_N]) * 4, MP_BUFFER_READ);
    uint8_t *regions[TP_REGIONS];
    regions[TP_REGION_ARENA] = get_buffer(args[4], 0, MP_BUFFER_RW);
    regions[TP_REGION_KV] = get_buffer(args[5], 0, MP_BUFFER_RW);
    regions[TP_REGION_WEIGHTS] = get_buffer(args[6], 0, MP_BUFFER_READ);
    regions[3] = NULL;
    uint64_t *acc = args[7] == mp_const_none ? NULL : get_buffer(args[7], (first + count) * 8, MP_BUFFER_RW);
    if (tp_run(plan + first * TP_OP_WORDS, count, ctl, regions, acc == NULL ? NULL : acc + first) != 0) {
        mp_raise_ValueError(MP_ERROR_TEXT("unknown operator or token"));
    }
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(tinyprof_run_obj, 8, 8, tinyprof_run);

// stamp(ctl, buffer, i): sets buffer[i] to the counter. Allocates nothing.
static mp_obj_t tinyprof_stamp(mp_obj_t ctl_in, mp_obj_t buffer, mp_obj_t index) {
    const uint32_t *ctl = get_buffer(ctl_in, TP_CTL_TOKENS * 4, MP_BUFFER_READ);
    size_t i = mp_obj_get_int(index);
    uint32_t *stamps = get_buffer(buffer, (i + 1) * 4, MP_BUFFER_RW);
    stamps[i] = tp_counter_read(ctl[TP_CTL_COUNTER], ctl[TP_CTL_ADDRESS]);
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_3(tinyprof_stamp_obj, tinyprof_stamp);

// lap(ctl, buffer, acc, i): adds the counts since stamp(ctl, buffer, 0) to acc[i]. Allocates nothing.
static mp_obj_t tinyprof_lap(size_t n_args, const mp_obj_t *args) {
    (void)n_args;
    const uint32_t *ctl = get_buffer(args[0], TP_CTL_TOKENS * 4, MP_BUFFER_READ);
    const uint32_t *stamps = get_buffer(args[1], 4, MP_BUFFER_READ);
    size_t i = mp_obj_get_int(args[3]);
    uint64_t *acc = get_buffer(args[2], (i + 1) * 8, MP_BUFFER_RW);
    uint32_t now = tp_counter_read(ctl[TP_CTL_COUNTER], ctl[TP_CTL_ADDRESS]);
    acc[i] += tp_counter_between(stamps[0], now, ctl[TP_CTL_MODULUS]);
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(tinyprof_lap_obj, 4, 4, tinyprof_lap);

// spin(ctl, turns): returns the counts of a loop with two instructions a turn (Arm, RISC-V), or with turns 0 those
// between two reads of the counter.
static mp_obj_t tinyprof_spin(mp_obj_t ctl_in, mp_obj_t turns) {
    const uint32_t *ctl = get_buffer(ctl_in, TP_CTL_TOKENS * 4, MP_BUFFER_READ);
    uint32_t n = mp_obj_get_int(turns);
    uint32_t before = tp_counter_read(ctl[TP_CTL_COUNTER], ctl[TP_CTL_ADDRESS]);
    if (n != 0) {
        tp_counter_spin(n);
    }
    uint32_t after = tp_counter_read(ctl[TP_CTL_COUNTER], ctl[TP_CTL_ADDRESS]);
    return mp_obj_new_int_from_uint(tp_counter_between(before, after, ctl[TP_CTL_MODULUS]));
}
static MP_DEFINE_CONST_FUN_OBJ_2(tinyprof_spin_obj, tinyprof_spin);

#if defined(TP_REGISTERS)
// register(number, value): writes a register that is not in memory. stamp can read one.
static mp_obj_t tinyprof_register(mp_obj_t number, mp_obj_t value) {
    tp_register_write(mp_obj_get_int(number), mp_obj_get_int_truncated(value));
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_2(tinyprof_register_obj, tinyprof_register);
#endif

// sweep(ctl, data): returns the counts of reading all of data, except for a rest of less than TP_SWEEP bytes.
static mp_obj_t tinyprof_sweep(mp_obj_t ctl_in, mp_obj_t data) {
    const uint32_t *ctl = get_buffer(ctl_in, TP_CTL_TOKENS * 4, MP_BUFFER_READ);
    mp_buffer_info_t info;
    mp_get_buffer_raise(data, &info, MP_BUFFER_READ);
    uint32_t steps = info.len / TP_SWEEP;
    uint32_t before = tp_counter_read(ctl[TP_CTL_COUNTER], ctl[TP_CTL_ADDRESS]);
    tp_sweep(info.buf, steps);
    uint32_t after = tp_counter_read(ctl[TP_CTL_COUNTER], ctl[TP_CTL_ADDRESS]);
    return mp_obj_new_int_from_uint(tp_counter_between(before, after, ctl[TP_CTL_MODULUS]));
}
static MP_DEFINE_CONST_FUN_OBJ_2(tinyprof_sweep_obj, tinyprof_sweep);

// mark(id): sets a mark for the counters of an emulated board: 1 to 4, TP_MARK_TEST, _DUMP, _CLEAR or _LEAVE.
static mp_obj_t tinyprof_mark(mp_obj_t id) {
    switch (mp_obj_get_int(id)) {
        case 1:
            TP_MARK(1);
            break;
        case 2:
            TP_MARK(2);
            break;
        case 3:
            TP_MARK(3);
            break;
        case 4:
            TP_MARK(4);
            break;
        case TP_MARK_TEST:
            TP_MARK(TP_MARK_TEST);
            break;
        case TP_MARK_DUMP:
            TP_MARK(TP_MARK_DUMP);
            break;
        case TP_MARK_CLEAR:
            TP_MARK(TP_MARK_CLEAR);
            break;
        case TP_MARK_LEAVE:
            TP_MARK(TP_MARK_LEAVE);
            break;
    }
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_1(tinyprof_mark_obj, tinyprof_mark);

// mark_ranges(weights, arena, kv, plan): tells these counters where the four buffers and the stack are.
static mp_obj_t tinyprof_mark_ranges(size_t n_args, const mp_obj_t *args) {
    for (size_t i = 0; i < n_args; ++i) {
        mp_buffer_info_t info;
        mp_get_buffer_raise(args[i], &info, MP_BUFFER_READ);
        const uint8_t *first = info.buf;
        TP_MARK_AT(TP_MARK_RANGE, first);
        first += info.len == 0 ? 0 : info.len - 1;
        TP_MARK_AT(TP_MARK_RANGE, first);
    }
    volatile uint8_t here = 0;
    TP_MARK_AT(TP_MARK_RANGE, &here);
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(tinyprof_mark_ranges_obj, 4, 4, tinyprof_mark_ranges);

// row_bytes(type, cols): see tp_row_bytes.
static mp_obj_t tinyprof_row_bytes(mp_obj_t type, mp_obj_t cols) {
    return mp_obj_new_int_from_uint(tp_row_bytes(mp_obj_get_int(type), mp_obj_get_int(cols)));
}
static MP_DEFINE_CONST_FUN_OBJ_2(tinyprof_row_bytes_obj, tinyprof_row_bytes);

// activation_bytes(type, cols): see tp_activation_bytes.
static mp_obj_t tinyprof_activation_bytes(mp_obj_t type, mp_obj_t cols) {
    return mp_obj_new_int_from_uint(tp_activation_bytes(mp_obj_get_int(type), mp_obj_get_int(cols)));
}
static MP_DEFINE_CONST_FUN_OBJ_2(tinyprof_activation_bytes_obj, tinyprof_activation_bytes);

// scan(data, offset, type, rows, cols): see tp_scan.
static mp_obj_t tinyprof_scan(size_t n_args, const mp_obj_t *args) {
    (void)n_args;
    size_t offset = mp_obj_get_int(args[1]);
    uint32_t type = mp_obj_get_int(args[2]), rows = mp_obj_get_int(args[3]), cols = mp_obj_get_int(args[4]);
    const uint8_t *data = get_buffer(args[0], offset + rows * tp_row_bytes(type, cols), MP_BUFFER_READ);
    return MP_OBJ_NEW_SMALL_INT(tp_scan(type, data + offset, rows, cols));
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(tinyprof_scan_obj, 5, 5, tinyprof_scan);

// kv_bytes(type, head_dim): see tp_kv_bytes.
static mp_obj_t tinyprof_kv_bytes(mp_obj_t type, mp_obj_t head_dim) {
    return mp_obj_new_int_from_uint(tp_kv_bytes(mp_obj_get_int(type), mp_obj_get_int(head_dim)));
}
static MP_DEFINE_CONST_FUN_OBJ_2(tinyprof_kv_bytes_obj, tinyprof_kv_bytes);

// rope_freqs(buffer, dims, base, scale, factors or None): see tp_rope_freqs. base and scale are bits of floats, because
// MicroPython's float type may have another precision.
static mp_obj_t tinyprof_rope_freqs(size_t n_args, const mp_obj_t *args) {
    (void)n_args;
    uint32_t dims = mp_obj_get_int(args[1]);
    size_t size = dims / 2 * sizeof(float);
    float *freqs = get_buffer(args[0], size, MP_BUFFER_RW);
    const float *factors = args[4] == mp_const_none ? NULL : get_buffer(args[4], size, MP_BUFFER_READ);
    tp_rope_freqs(freqs, dims, tp_from_bits(mp_obj_get_int_truncated(args[2])),
        tp_from_bits(mp_obj_get_int_truncated(args[3])), factors);
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(tinyprof_rope_freqs_obj, 5, 5, tinyprof_rope_freqs);

// sample(logits, temperature in 1/1000, coin from 0 to 2^24 - 1): see tp_sample; overwrites the logits.
static mp_obj_t tinyprof_sample(mp_obj_t logits, mp_obj_t milli, mp_obj_t coin) {
    mp_buffer_info_t info;
    mp_get_buffer_raise(logits, &info, MP_BUFFER_RW);
    float temperature = (float)(int32_t)mp_obj_get_int(milli) / 1000.0f;
    float c = (float)(int32_t)mp_obj_get_int(coin) * 0x1p-24f;
    return MP_OBJ_NEW_SMALL_INT(tp_sample(info.buf, info.len / sizeof(float), temperature, c));
}
static MP_DEFINE_CONST_FUN_OBJ_3(tinyprof_sample_obj, tinyprof_sample);

// crc32(data, crc so far): see tp_crc32.
static mp_obj_t tinyprof_crc32(mp_obj_t data, mp_obj_t crc) {
    mp_buffer_info_t info;
    mp_get_buffer_raise(data, &info, MP_BUFFER_READ);
    return mp_obj_new_int_from_uint(tp_crc32(mp_obj_get_int_truncated(crc), info.buf, info.len));
}
static MP_DEFINE_CONST_FUN_OBJ_2(tinyprof_crc32_obj, tinyprof_crc32);

// crc32_hex(data): returns the CRC as eight hexadecimal digits. Text always takes the same space on the heap. A number
// would be a small int or a long one by chance, and the state of the heap shows in the last digits of a measurement.
static mp_obj_t tinyprof_crc32_hex(mp_obj_t data) {
    mp_buffer_info_t info;
    mp_get_buffer_raise(data, &info, MP_BUFFER_READ);
    uint32_t crc = tp_crc32(0, info.buf, info.len);
    char text[8];
    for (int i = 7; i >= 0; --i, crc >>= 4) {
        text[i] = "0123456789abcdef"[crc & 15];
    }
    return mp_obj_new_str(text, sizeof(text));
}
static MP_DEFINE_CONST_FUN_OBJ_1(tinyprof_crc32_hex_obj, tinyprof_crc32_hex);

// strings(data, offset, count, text[, steps, index]): returns the number of the string equal to text, or -1. With None
// for text: returns the offset after the strings, or -1 if they leave the data. See tp_strings_walk, and with steps and
// index tp_strings_find.
static mp_obj_t tinyprof_strings(size_t n_args, const mp_obj_t *args) {
    mp_buffer_info_t info, text = { NULL, TP_OUTSIDE, 0 };
    mp_get_buffer_raise(args[0], &info, MP_BUFFER_READ);
    size_t at = mp_obj_get_int(args[1]);
    uint32_t count = mp_obj_get_int(args[2]);
    if (args[3] != mp_const_none) {
        mp_get_buffer_raise(args[3], &text, MP_BUFFER_READ);
    }
    mp_int_t found;
    if (n_args == 6) {
        const uint32_t *steps = get_buffer(args[4], (count / TP_STRINGS_STEP + 1) * 4, MP_BUFFER_READ);
        found = tp_strings_find(info.buf, info.len, steps, count, mp_obj_get_int(args[5]), text.buf, text.len);
    } else {
        found = tp_strings_walk(info.buf, info.len, &at, count, text.buf, text.len);
    }
    return mp_obj_new_int(text.len == TP_OUTSIDE ? (mp_int_t)at : found);
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(tinyprof_strings_obj, 4, 6, tinyprof_strings);

// unicode_class(text, table): see tp_unicode_class.
static mp_obj_t tinyprof_unicode_class(mp_obj_t text, mp_obj_t table) {
    mp_buffer_info_t info, runs;
    mp_get_buffer_raise(text, &info, MP_BUFFER_RW);
    mp_get_buffer_raise(table, &runs, MP_BUFFER_READ);
    tp_unicode_class(info.buf, info.len, runs.buf, runs.len);
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_2(tinyprof_unicode_class_obj, tinyprof_unicode_class);

#if !defined(TP_CFLAGS)
#define TP_CFLAGS "unknown"
#endif

// build(): returns (ABI, variant of the kernels, compiler, flags of the kernels, path).
static mp_obj_t tinyprof_build(void) {
    #if defined(__GNUC__) && !defined(__clang__)
    static const char compiler[] = "gcc " __VERSION__;
    #else
    static const char compiler[] = __VERSION__;
    #endif
    static const char flags[] = TP_CFLAGS;
    size_t variant_len = 0;
    while (tp_kernels_variant[variant_len] != 0) {
        ++variant_len;
    }
    mp_obj_t items[5] = {
        MP_OBJ_NEW_SMALL_INT(TP_ABI),
        mp_obj_new_str(tp_kernels_variant, variant_len),
        mp_obj_new_str(compiler, sizeof(compiler) - 1),
        mp_obj_new_str(flags, sizeof(flags) - 1),
        mp_obj_new_str(tp_kernels_path, 5),
    };
    return mp_obj_new_tuple(5, items);
}
static MP_DEFINE_CONST_FUN_OBJ_0(tinyprof_build_obj, tinyprof_build);

#if defined(MICROPY_ENABLE_DYNRUNTIME)

#if defined(__XTENSA__)
// mpy_ld.py cannot link the relocation of an optimized load of a qstr.
__attribute__((optimize("O0")))
#endif
mp_obj_t mpy_init(mp_obj_fun_bc_t *self, size_t n_args, size_t n_kw, mp_obj_t *args) {
    MP_DYNRUNTIME_INIT_ENTRY
    mp_store_global(MP_QSTR_run, MP_OBJ_FROM_PTR(&tinyprof_run_obj));
    mp_store_global(MP_QSTR_stamp, MP_OBJ_FROM_PTR(&tinyprof_stamp_obj));
    mp_store_global(MP_QSTR_lap, MP_OBJ_FROM_PTR(&tinyprof_lap_obj));
    mp_store_global(MP_QSTR_spin, MP_OBJ_FROM_PTR(&tinyprof_spin_obj));
    mp_store_global(MP_QSTR_sweep, MP_OBJ_FROM_PTR(&tinyprof_sweep_obj));
    #if defined(TP_REGISTERS)
    mp_store_global(MP_QSTR_register, MP_OBJ_FROM_PTR(&tinyprof_register_obj));
    #endif
    mp_store_global(MP_QSTR_mark, MP_OBJ_FROM_PTR(&tinyprof_mark_obj));
    mp_store_global(MP_QSTR_mark_ranges, MP_OBJ_FROM_PTR(&tinyprof_mark_ranges_obj));
    mp_store_global(MP_QSTR_row_bytes, MP_OBJ_FROM_PTR(&tinyprof_row_bytes_obj));
    mp_store_global(MP_QSTR_activation_bytes, MP_OBJ_FROM_PTR(&tinyprof_activation_bytes_obj));
    mp_store_global(MP_QSTR_scan, MP_OBJ_FROM_PTR(&tinyprof_scan_obj));
    mp_store_global(MP_QSTR_kv_bytes, MP_OBJ_FROM_PTR(&tinyprof_kv_bytes_obj));
    mp_store_global(MP_QSTR_rope_freqs, MP_OBJ_FROM_PTR(&tinyprof_rope_freqs_obj));
    mp_store_global(MP_QSTR_sample, MP_OBJ_FROM_PTR(&tinyprof_sample_obj));
    mp_store_global(MP_QSTR_crc32, MP_OBJ_FROM_PTR(&tinyprof_crc32_obj));
    mp_store_global(MP_QSTR_crc32_hex, MP_OBJ_FROM_PTR(&tinyprof_crc32_hex_obj));
    mp_store_global(MP_QSTR_strings, MP_OBJ_FROM_PTR(&tinyprof_strings_obj));
    mp_store_global(MP_QSTR_unicode_class, MP_OBJ_FROM_PTR(&tinyprof_unicode_class_obj));
    mp_store_global(MP_QSTR_build, MP_OBJ_FROM_PTR(&tinyprof_build_obj));
    MP_DYNRUNTIME_INIT_EXIT
}

#else

static const mp_rom_map_elem_t tinyprof_globals_table[] = {
    { MP_ROM_QSTR(MP_QSTR___name__), MP_ROM_QSTR(MP_QSTR__tinyprof) },
    { MP_ROM_QSTR(MP_QSTR_run), MP_ROM_PTR(&tinyprof_run_obj) },
    { MP_ROM_QSTR(MP_QSTR_stamp), MP_ROM_PTR(&tinyprof_stamp_obj) },
    { MP_ROM_QSTR(MP_QSTR_lap), MP_ROM_PTR(&tinyprof_lap_obj) },
    { MP_ROM_QSTR(MP_QSTR_spin), MP_ROM_PTR(&tinyprof_spin_obj) },
    { MP_ROM_QSTR(MP_QSTR_sweep), MP_ROM_PTR(&tinyprof_sweep_obj) },
    #if defined(TP_REGISTERS)
    { MP_ROM_QSTR(MP_QSTR_register), MP_ROM_PTR(&tinyprof_register_obj) },
    #endif
    { MP_ROM_QSTR(MP_QSTR_mark), MP_ROM_PTR(&tinyprof_mark_obj) },
    { MP_ROM_QSTR(MP_QSTR_mark_ranges), MP_ROM_PTR(&tinyprof_mark_ranges_obj) },
    { MP_ROM_QSTR(MP_QSTR_row_bytes), MP_ROM_PTR(&tinyprof_row_bytes_obj) },
    { MP_ROM_QSTR(MP_QSTR_activation_bytes), MP_ROM_PTR(&tinyprof_activation_bytes_obj) },
    { MP_ROM_QSTR(MP_QSTR_scan), MP_ROM_PTR(&tinyprof_scan_obj) },
    { MP_ROM_QSTR(MP_QSTR_kv_bytes), MP_ROM_PTR(&tinyprof_kv_bytes_obj) },
    { MP_ROM_QSTR(MP_QSTR_rope_freqs), MP_ROM_PTR(&tinyprof_rope_freqs_obj) },
    { MP_ROM_QSTR(MP_QSTR_sample), MP_ROM_PTR(&tinyprof_sample_obj) },
    { MP_ROM_QSTR(MP_QSTR_crc32), MP_ROM_PTR(&tinyprof_crc32_obj) },
    { MP_ROM_QSTR(MP_QSTR_crc32_hex), MP_ROM_PTR(&tinyprof_crc32_hex_obj) },
    { MP_ROM_QSTR(MP_QSTR_strings), MP_ROM_PTR(&tinyprof_strings_obj) },
    { MP_ROM_QSTR(MP_QSTR_unicode_class), MP_ROM_PTR(&tinyprof_unicode_class_obj) },
    { MP_ROM_QSTR(MP_QSTR_build), MP_ROM_PTR(&tinyprof_build_obj) },
};
static MP_DEFINE_CONST_DICT(tinyprof_globals, tinyprof_globals_table);

const mp_obj_module_t tinyprof_user_cmodule = {
    .base = { &mp_type_module },
    .globals = (mp_obj_dict_t *)&tinyprof_globals,
};
MP_REGISTER_MODULE(MP_QSTR__tinyprof, tinyprof_user_cmodule);

#endif
