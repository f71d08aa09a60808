// Marks for the counters of an emulated board: instructions without effect that QEMU's plugin
// (firmware_builds/plugin) sees. Each costs one instruction and is in every build.
#ifndef TP_MARKS_H
#define TP_MARKS_H

// Numbers are registers on Arm, so at most 12.
#define TP_MARK_USER 1   // to 4: enters a region of one's own, for as long as TP_MARK_LEAVE says
#define TP_MARK_TEST 5   // enters what is around the operators
#define TP_MARK_DUMP 6   // writes out what was counted
#define TP_MARK_CLEAR 7  // forgets it
#define TP_MARK_OP 9     // enters the next operator of the plan; register 8 would be the assembler's nop
#define TP_MARK_LEAVE 10 // back to the region before
#define TP_MARK_RANGE 11 // the address of the load behind it is the next bound of a memory region
#define TP_MARK_RUN 12   // the address of the load behind it is that of the operator that comes next

#if defined(__thumb__)
// mov rN, rN: also an M0+, which lacks wide hints, has it, and compilers do not write it.
#define TP_MARK_TEXT(id) ".inst.n 0x4600 + (" #id " & 7) * 9 + (" #id " >> 3) * 0xc0\n"
#define TP_MARK_LOAD(id, value, address) \
    __asm volatile (TP_MARK_TEXT(id) "ldrb %0, [%1]" : "=l" (value) : "l" (address) : "memory")
#elif defined(__riscv)
#define TP_MARK_TEXT(id) "slti x0, x0, " #id "\n"
#define TP_MARK_LOAD(id, value, address) \
    __asm volatile (TP_MARK_TEXT(id) "lbu %0, 0(%1)" : "=r" (value) : "r" (address) : "memory")
#else
#define TP_MARK_TEXT(id) ""
#define TP_MARK_LOAD(id, value, address) ((value) = 0, (void)(address))
#endif

#define TP_MARK_EXPANDED(id) __asm volatile (TP_MARK_TEXT(id) ::: "memory")
#define TP_MARK(id) TP_MARK_EXPANDED(id)
// Marks, and reads the byte at address so that the plugin sees it.
#define TP_MARK_AT_EXPANDED(id, address) do { \
        uint32_t mark_value; \
        TP_MARK_LOAD(id, mark_value, address); \
        (void)mark_value; \
} while (0)
#define TP_MARK_AT(id, address) TP_MARK_AT_EXPANDED(id, address)

#endif
