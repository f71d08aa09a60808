// Part of armv7em.c: two rows by two tokens, in assembly.
#ifndef TP_ARMV7EM_TILES_H
#define TP_ARMV7EM_TILES_H

#include "simd.h"

// The products of an unpacked stretch of two rows with pairs of interleaved tokens. Assembly knows the order of
// members.
typedef struct {
    uint32_t bytes; // of a stretch of two tokens in x
    uint32_t more; // whether y holds a sum to add to
    uint32_t gap; // bytes in x to the stretch of the next two tokens
    uint32_t row_bytes; // of y: bytes from token to token
    uint32_t pairs; // of tokens, 1 or more; assembly counts it down
} job_t;

// clang-format off

// Four columns of two rows and two tokens. from0, from1: registers to which the first products are added.
#define TILE(from0, from1) \
    "ldmia r1!, {r0, r3, r8, r9}\n" \
    "ldmia r2!, {r10, r11, r12, lr}\n" \
    "smlad r6, r8, r10, " from0 "\n" \
    "smlad r7, r8, r12, " from1 "\n" \
    "smlad r4, r0, r10, r4\n" \
    "smlad r5, r0, r12, r5\n" \
    "smlad r6, r9, r11, r6\n" \
    "smlad r7, r9, lr, r7\n" \
    "smlad r4, r3, r11, r4\n" \
    "smlad r5, r3, lr, r5\n"

// Start of a function that sets y, for each token and both rows, to the products of an unpacked stretch, or adds them.
//   r1 weights; r2 x; r4 r5 sums of row 0 for tokens 0 and 1; r6 r7 sums of row 1; r10 r11 and r12 lr activations
//   r0 r3 and r8 r9 pairs of weights; s12 to s15 results; s8 end of x; s9 start of the weights; s10 y; [sp] job
#define TILES_ENTER \
    ".syntax unified\n" \
    "push {r3-r11, lr}\n" \
    "vmov s9, s10, r1, r0\n" \
    "ldmia r3, {r3-r7}\n" \
    "1:\n" \
    "adds r3, r3, r2\n" \
    "movs r5, #0\n" \
    "vmov s8, r3\n" \
    "vmov s12, s13, r5, r5\n" \
    "vmov s14, s15, r5, r5\n" \
    "cbz r4, 2f\n" \
    "vldmia r0, {s12, s13}\n" \
    "adds r0, r0, r6\n" \
    "vldmia r0, {s14, s15}\n" \
    "2:\n"

// End of a block, whose scales follow, and of the function.
#define TILES_LEAVE \
    "vldmia r1!, {s0, s1}\n" \
    "vldmia r2!, {s2, s3}\n" \
    "vmul.f32 s4, s0, s2\n" \
    "vmul.f32 s5, s1, s2\n" \
    "vmul.f32 s6, s0, s3\n" \
    "vmul.f32 s7, s1, s3\n" \
    "vmov s0, s1, r4, r6\n" \
    "vmov s2, s3, r5, r7\n" \
    "vmov r12, s8\n" \
    "vcvt.f32.s32 s0, s0\n" \
    "vcvt.f32.s32 s1, s1\n" \
    "vcvt.f32.s32 s2, s2\n" \
    "vcvt.f32.s32 s3, s3\n" \
    "cmp r2, r12\n" \
    "vmla.f32 s12, s4, s0\n" \
    "vmla.f32 s13, s5, s1\n" \
    "vmla.f32 s14, s6, s2\n" \
    "vmla.f32 s15, s7, s3\n" \
    "bne 2b\n" \
    "ldr r12, [sp]\n" \
    "vmov r1, r0, s9, s10\n" \
    "ldmia r12, {r3-r7}\n" \
    "vstmia r0, {s12, s13}\n" \
    "adds r0, r0, r6\n" \
    "adds r2, r2, r5\n" \
    "vstmia r0, {s14, s15}\n" \
    "adds r0, r0, r6\n" \
    "subs r7, #1\n" \
    "vmov s10, r0\n" \
    "str r7, [r12, #16]\n" \
    "bne 1b\n" \
    "pop {r3-r11, pc}\n"

// clang-format on

#endif
