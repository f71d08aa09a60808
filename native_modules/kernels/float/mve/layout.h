// Part of mve.c: how activations are laid out, and what all assembly shares.
#ifndef TP_MVE_LAYOUT_H
#define TP_MVE_LAYOUT_H

#include <arm_mve.h>

#include "../../isa.h"

#define ROWS (4) // at a time
#define PAIR_ROWS (8) // at a time, of TP2 and TPT
#define GROUP (TP_MAX_GROUP / TP_BLOCK) // blocks of 32 of a group

// Q4_0, Q8_0 and TP3: a block of 32 activations.
typedef struct {
    int8_t q[TP_BLOCK];
    int32_t add; // to each dot product
    float scale; // of TP3 that of the group
} block_t;

// Q4_K and Q6_K: after the 256 activations of a group, which are as they are.
typedef struct {
    int16_t sums[2 * GROUP]; // of the blocks of 32, of Q6_K those of 16; 0 where there is none
    float scale;
} tail_t;

// TP2 and TPT: after the activations of a group, 64 bytes for each block: four times 16 that meet the codes at bits 0
// (first row of a pair), 2 (second row), 4 and 6 of the block's bytes. Assembly knows the order of the members. Lanes
// are blocks, from the last one of the group to the first.
typedef struct {
    int16_t sums[GROUP]; // subtracted from four times a sum of codes; 0 where there is no block
    uint16_t scale_at[GROUP]; // offset of the int8 scale from the first one of the row; 0 where there is none
    float scale;
    int32_t shift; // brings dot products to their size, negative
    uint32_t next; // blocks of the next group
} pair_tail_t;

// Bytes of a block of 32 activations, of types with groups.
static inline uint32_t block_bytes(uint32_t type) {
    return tp_is_pair(type) ? 64 : TP_BLOCK;
}

// Whether each block of activations has a scale of its own.
static inline int is_single(uint32_t type) {
    return type == TP_Q4_0 || type == TP_Q8_0 || (tp_is_own(type) && !tp_is_pair(type));
}

static inline size_t tail_bytes(uint32_t type) {
    return tp_is_pair(type) ? sizeof(pair_tail_t) : sizeof(tail_t);
}

// The functions are naked, because they use all registers; noipa: the compiler must not conclude that they write
// nothing.
#define ASSEMBLY __attribute__((naked, noipa))

// VCVTB.F32.F16 q2, q2 and VCVTT.F32.F16 q2, q2: the assembler of binutils 2.40 encodes other registers.
#define VCVTB_Q2_Q2 ".inst.w 0xfe3f4e05\n"
#define VCVTT_Q2_Q2 ".inst.w 0xfe3f5e05\n"

#endif
