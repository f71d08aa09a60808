// Before all files of a native module for rv32imc: mpy_ld.py does not shorten calls, and one instruction
// reaches all of a module. One function of the library's compares floats: 0 where they are equal. Those of
// runtime.c have names of their own, for mpy_ld.py links the library's too where the name is the same.
__asm (
    ".macro call target, more\n .ifb \\more\n jal \\target\n .else\n jal \\target, \\more\n .endif\n .endm\n"
    ".macro tail target\n j \\target\n .endm\n"
    ".set __addsf3, tp_addsf3\n"
    ".set __subsf3, tp_subsf3\n"
    ".set __floatsisf, tp_floatsisf\n"
    ".set __ltsf2, tp_ltsf2\n"
    ".set __nesf2, __gtsf2\n"
    );
#pragma GCC visibility push(hidden)
#include "counters/counters.h"
#include "executor/executor.h"
#include "gguf/strings.h"
#include "kernels/kernels.h"
#include "text/unicode_class.h"
#pragma GCC visibility pop
