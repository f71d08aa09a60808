// A QEMU plugin that counts what the guest executes, by region of its program. The marks in marks.h
// delimit the regions: the operators of a plan, and everything around them.
//
//   -plugin counters.so,out=FILE,core=m4[,code=FIRST:SIZE][,icache=BYTES:WAYS:LINE][,dcache=…]
//
// It counts in blocks of code that have a mark only at their start. A block is counted when it is
// entered; the counts are summed when the region changes.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../native_modules/marks/marks.h"
#include "cache.h"
#include "insn.h"
#include "qemu_plugin.h"

#define OP_BYTES (48)       // of a record of the plan
#define STACK_NEAR (16384)  // from the stack pointer when the profile began
#define MAX_DEPTH (16)
#define MAX_OPS (65536)
#define MAX_TOUCHED (4096)
#define USERS (TP_MARK_TEST) // user regions 1 to 4, and 0 for none

enum { WEIGHTS, ARENA, KV, PLAN, STACK, CODE, RANGES }; // in the order of mark_ranges
enum { LOADS, STORES, DIRECTIONS };

typedef struct {
    uint64_t calls;
    uint64_t insns;
    uint64_t kinds[TP_CLASSES];
    uint64_t cycles;
    uint64_t taken;
    uint64_t not_taken;
    uint64_t bytes[DIRECTIONS][RANGES + 1]; // the last one: outside of all
    uint64_t icache_misses;
    uint64_t dcache_misses;
} counts_t;

typedef struct block {
    uint32_t begin;
    uint32_t end; // of its last instruction
    uint32_t runs;  // since the region was entered
    uint32_t taken;
    uint32_t length;
    tp_insn_t *insns;
    uint32_t cycles;
    uint32_t kinds[TP_CLASSES];
    struct block **begun; // by the number of instructions: the same block, left by an exception or to do I/O
} block_t;

// How an instruction accesses memory, from what QEMU reports.
typedef struct {
    uint32_t info;
    uint32_t size;
    int direction;
} access_t;

EXPORT int qemu_plugin_version = 1;

static tp_core_t core;
static FILE *out;
static tp_cache_t icache, dcache;
static struct {
    uint32_t first, size;
} ranges[RANGES];

static counts_t *slots; // of (operator + 1) * USERS + user
static size_t slots_count;
static size_t stack[MAX_DEPTH];
static size_t depth; // beyond MAX_DEPTH regions are not distinguished
static size_t next_op;
static counts_t outside;
static counts_t *now = &outside;

static block_t *last;
static uint64_t entered, finished; // blocks
static block_t *touched[MAX_TOUCHED];
static size_t touched_count;
static uint32_t last_line = UINT32_MAX;

static unsigned int awaiting; // a mark whose address comes with the next load
static unsigned int next_bound;

static void *allocate(size_t bytes) {
    void *memory = calloc(1, bytes);
    if (memory == NULL) {
        fprintf(stderr, "counters: out of memory\n");
        exit(1);
    }
    return memory;
}

/******************************************************************************/
// Regions

static void settle(void) {
    for (size_t i = 0; i < touched_count; ++i) {
        block_t *b = touched[i];
        const tp_insn_t *end = &b->insns[b->length - 1];
        now->insns += (uint64_t)b->runs * b->length;
        for (int k = 0; k < TP_CLASSES; ++k) {
            now->kinds[k] += (uint64_t)b->runs * b->kinds[k];
        }
        now->cycles += (uint64_t)b->runs * b->cycles + (uint64_t)b->taken * end->refill;
        if (end->kind == TP_BRANCH) {
            now->taken += end->conditional ? b->taken : b->runs;
            now->not_taken += end->conditional ? b->runs - b->taken : 0;
        }
        b->runs = b->taken = 0;
    }
    touched_count = 0;
}

static void find_slot(void) {
    if (depth == 0 || depth > MAX_DEPTH) {
        now = &outside;
        return;
    }
    size_t slot = stack[depth - 1];
    if (slot >= MAX_OPS * USERS) { // before the plan's place is known
        now = &outside;
        return;
    }
    if (slot >= slots_count) {
        size_t count = 2 * slot + USERS;
        counts_t *more = allocate(count * sizeof(counts_t));
        if (slots_count != 0) {
            memcpy(more, slots, slots_count * sizeof(counts_t));
        }
        free(slots);
        slots = more;
        slots_count = count;
    }
    now = &slots[slot];
}

static void enter_region(size_t slot) {
    if (depth < MAX_DEPTH) {
        stack[depth] = slot;
    }
    ++depth;
    find_slot();
    ++now->calls;
}

static void leave_region(void) {
    depth -= depth != 0;
    find_slot();
}

static void clear(void) {
    if (slots_count != 0) {
        memset(slots, 0, slots_count * sizeof(counts_t));
    }
    depth = 0;
    find_slot();
}

static void dump(void) {
    for (size_t i = 0; i < slots_count; ++i) {
        const counts_t *c = &slots[i];
        if (c->insns == 0) {
            continue;
        }
        fprintf(out, "%d %d", (int)(i / USERS) - 1, (int)(i % USERS));
        const uint64_t *values = (const uint64_t *)c;
        for (size_t v = 0; v < sizeof(counts_t) / sizeof(uint64_t); ++v) {
            fprintf(out, " %llu", (unsigned long long)values[v]);
        }
        fputc('\n', out);
    }
    fprintf(out, "end\n");
    fflush(out);
}

static void mark(unsigned int id) {
    settle();
    switch (id) {
        case TP_MARK_OP:
            enter_region(++next_op * USERS);
            break;
        case TP_MARK_TEST:
            enter_region(0);
            break;
        case TP_MARK_LEAVE:
            leave_region();
            break;
        case TP_MARK_CLEAR:
            clear();
            break;
        case TP_MARK_DUMP:
            dump();
            break;
        case TP_MARK_RANGE:
        case TP_MARK_RUN:
            awaiting = id;
            break;
        default: { // a user's region within the running operator
            size_t around = depth == 0 || depth > MAX_DEPTH ? 0 : stack[depth - 1] / USERS;
            enter_region(around * USERS + id);
        }
    }
}

static void take_address(uint32_t address) {
    if (awaiting == TP_MARK_RUN) {
        next_op = (address - ranges[PLAN].first) / OP_BYTES;
    } else if (next_bound == 2 * STACK) {
        ranges[STACK].first = address - STACK_NEAR;
        ranges[STACK].size = 2 * STACK_NEAR;
        next_bound = 0;
    } else {
        unsigned int range = next_bound / 2;
        if (next_bound++ % 2 == 0) {
            ranges[range].first = address;
        } else {
            ranges[range].size = address - ranges[range].first + 1;
        }
    }
    awaiting = 0;
}

/******************************************************************************/
// Execution

static void count(block_t *b) {
    if (b->runs++ == 0) {
        if (touched_count == MAX_TOUCHED) {
            b->runs = 0;
            settle();
            b->runs = 1;
        }
        touched[touched_count++] = b;
    }
}

static block_t *new_block(const tp_insn_t *insns, uint32_t length, uint32_t begin) {
    block_t *b = allocate(sizeof(*b));
    b->begin = begin;
    b->length = length;
    b->insns = allocate(length * sizeof(tp_insn_t));
    memcpy(b->insns, insns, length * sizeof(tp_insn_t));
    for (uint32_t i = 0; i < length; ++i) {
        ++b->kinds[insns[i].kind];
        b->cycles += insns[i].cycles;
        b->end += insns[i].size;
    }
    b->end += begin;
    return b;
}

// The last block was left before its end, and the instruction at address comes next. Subtracts what
// was counted in advance.
static void left_early(block_t *b, uint32_t address) {
    uint32_t done = 0, at = b->begin;
    while (done < b->length && at != address) {
        at += b->insns[done++].size;
    }
    if (done == 0 || done >= b->length) {
        return; // an exception went elsewhere
    }
    if (b->begun == NULL) {
        b->begun = allocate(b->length * sizeof(block_t *));
    }
    if (b->begun[done] == NULL) {
        b->begun[done] = new_block(b->insns, done, b->begin);
    }
    if (b->runs != 0) { // otherwise a mark came in between
        --b->runs;
        count(b->begun[done]);
    }
}

static inline void enter(block_t *b) {
    block_t *before = last;
    if (before != NULL) {
        if (__builtin_expect(entered != finished, 0)) {
            left_early(before, b->begin);
            finished = entered;
        } else {
            before->taken += b->begin != before->end;
        }
    }
    ++entered;
    last = b;
    if (__builtin_expect(b->insns[0].mark, 0)) {
        mark(b->insns[0].mark);
    }
    count(b);
    if (icache.lines != NULL) {
        uint32_t end = (b->end - 1) >> icache.line_shift;
        for (uint32_t line = b->begin >> icache.line_shift; line <= end; ++line) {
            if (line != last_line) {
                last_line = line;
                now->icache_misses += tp_cache_use(&icache, line);
            }
        }
    }
}

static void on_block(unsigned int cpu, void *data) {
    (void)cpu;
    enter(data);
}

static void on_access(unsigned int cpu, uint32_t info, uint64_t address64, void *data) {
    (void)cpu;
    access_t *a = data;
    uint32_t address = (uint32_t)address64;
    if (__builtin_expect(a->info != info, 0)) {
        a->info = info;
        a->size = 1u << qemu_plugin_mem_size_shift(info);
        a->direction = qemu_plugin_mem_is_store(info) ? STORES : LOADS;
    }
    if (__builtin_expect(awaiting, 0)) {
        take_address(address);
    }
    int range = 0;
    while (range < RANGES && address - ranges[range].first >= ranges[range].size) {
        ++range;
    }
    now->bytes[a->direction][range] += a->size;
    if (dcache.lines != NULL) {
        now->dcache_misses += tp_cache_use(&dcache, address >> dcache.line_shift);
    }
}

/******************************************************************************/
// Translation

static void decode(tp_insn_t *insn, const struct qemu_plugin_insn *from) {
    const uint8_t *code = qemu_plugin_insn_data(from);
    size_t size = qemu_plugin_insn_size(from);
    memset(insn, 0, sizeof(*insn));
    insn->size = (uint8_t)size;
    if (core == TP_RV32) {
        tp_decode_rv32(insn, code, size);
    } else {
        tp_decode_thumb(insn, code, size, core);
    }
}

static void on_translation(uint64_t id, struct qemu_plugin_tb *tb) {
    (void)id;
    size_t length = qemu_plugin_tb_n_insns(tb);
    tp_insn_t *insns = allocate(length * sizeof(tp_insn_t));
    access_t *accesses = allocate(length * sizeof(access_t));
    size_t conditional = 0;
    for (size_t i = 0; i < length; ++i) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        decode(&insns[i], insn);
        if (i != 0 && core != TP_RV32) {
            tp_overlap_thumb(&insns[i], &insns[i - 1], core);
        }
        if (conditional != 0) {
            --conditional;
            tp_make_conditional(&insns[i]);
        } else {
            conditional = insns[i].shadow;
        }
        accesses[i].info = UINT32_MAX;
        qemu_plugin_register_vcpu_mem_cb(insn, on_access, QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_MEM_RW, &accesses[i]);
    }
    for (size_t i = 0, end; i < length; i = end) {
        for (end = i + 1; end < length && insns[end].mark == 0; ++end) {
        }
        struct qemu_plugin_insn *first = qemu_plugin_tb_get_insn(tb, i);
        block_t *b = new_block(&insns[i], (uint32_t)(end - i), (uint32_t)qemu_plugin_insn_vaddr(first));
        if (i == 0) {
            qemu_plugin_register_vcpu_tb_exec_cb(tb, on_block, QEMU_PLUGIN_CB_NO_REGS, b);
        } else {
            qemu_plugin_register_vcpu_insn_exec_cb(first, on_block, QEMU_PLUGIN_CB_NO_REGS, b);
        }
        qemu_plugin_register_vcpu_insn_exec_inline(qemu_plugin_tb_get_insn(tb, end - 1), QEMU_PLUGIN_INLINE_ADD_U64,
            &finished, 1);
    }
    free(insns);
}

/******************************************************************************/
// Start

static const char *const cores[] = { "m0", "m3", "m4", "m7", "m33", "m55", "rv32" };

static bool set_cache(tp_cache_t *cache, const char *text) {
    unsigned int bytes, ways, line;
    return sscanf(text, "%u:%u:%u", &bytes, &ways, &line) == 3 && tp_cache_init(cache, bytes, ways, line);
}

static bool set_option(const char *option) {
    const char *value = strchr(option, '=');
    if (value++ == NULL) {
        return false;
    }
    if (strncmp(option, "out=", 4) == 0) {
        return (out = fopen(value, "w")) != NULL;
    }
    if (strncmp(option, "core=", 5) == 0) {
        for (size_t i = 0; i < sizeof(cores) / sizeof(cores[0]); ++i) {
            if (strcmp(value, cores[i]) == 0) {
                core = (tp_core_t)i;
                return true;
            }
        }
        return false;
    }
    if (strncmp(option, "code=", 5) == 0) {
        return sscanf(value, "%u:%u", &ranges[CODE].first, &ranges[CODE].size) == 2;
    }
    if (strncmp(option, "icache=", 7) == 0) {
        return set_cache(&icache, value);
    }
    return strncmp(option, "dcache=", 7) == 0 && set_cache(&dcache, value);
}

int qemu_plugin_install(uint64_t id, const qemu_info_t *info, int argc, char **argv) {
    (void)info;
    for (int i = 0; i < argc; ++i) {
        if (!set_option(argv[i])) {
            fprintf(stderr, "counters: cannot use %s\n", argv[i]);
            return 1;
        }
    }
    if (out == NULL) {
        fprintf(stderr, "counters: out= is missing\n");
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    return 0;
}
