// Marks for the counters of an emulated board: instructions without effect, which QEMU's plugin
// (firmware_builds/plugin) recognizes. Each mark costs one instruction, and is in every build.
#ifndef TP_MARKS_H
#define TP_MARKS_H

// Numbers of marks. On Arm they are registers, so they are at most 12.
#define TP_MARK_USER 1   // to 4: enters a region of the user, up to TP_MARK_LEAVE
#define TP_MARK_TEST 5   // enters the test: the code around the operators
#define TP_MARK_DUMP 6   // writes out what was counted
#define TP_MARK_CLEAR 7  // sets all counts to 0
#define TP_MARK_OP 9     // enters the next operator of the plan; mov r8, r8 is the assembler's nop, so 8 is not used
#define TP_MARK_LEAVE 10 // returns to the region before
#define TP_MARK_RANGE 11 // the address of the load after it is the next bound of a memory region
#define TP_MARK_RUN 12   // the address of the load after it is the record of the next operator

#if defined(__thumb__)
// mov rN, rN, which compilers do not write. An M0+ has it too, unlike the wide hint instructions.
#define TP_MARK_TEXT(id) ".inst.n 0x4600 + (" #id " & 7) * 9 + (" #id " >> 3) * 0xc0\n"
#define TP_MARK_LOAD(id, value, address) \
    __asm volatile(TP_MARK_TEXT(id) "ldrb %0, [%1]" : "=l"(value) : "l"(address) : "memory")
#elif defined(__riscv)
#define TP_MARK_TEXT(id) "slti x0, x0, " #id "\n"
#define TP_MARK_LOAD(id, value, address) \
    __asm volatile(TP_MARK_TEXT(id) "lbu %0, 0(%1)" : "=r"(value) : "r"(address) : "memory")
#else
#define TP_MARK_TEXT(id) ""
#define TP_MARK_LOAD(id, value, address) ((value) = 0, (void)(address))
#endif

#define TP_MARK_EXPANDED(id) __asm volatile(TP_MARK_TEXT(id)::: "memory")
#define TP_MARK(id) TP_MARK_EXPANDED(id)
// Marks, and reads the byte at address, so that the plugin sees the address.
// clang-format off
#define TP_MARK_AT_EXPANDED(id, address) do { \
        uint32_t mark_value; \
        TP_MARK_LOAD(id, mark_value, address); \
        (void)mark_value; \
} while (0)
// clang-format on
#define TP_MARK_AT(id, address) TP_MARK_AT_EXPANDED(id, address)

#endif
