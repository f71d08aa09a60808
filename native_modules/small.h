// Included before each file of a native module for rv32imc, to make it smaller. mpy_ld.py does not shorten calls, so
// calls are written as one instruction, which reaches all of a module. One library function, __gtsf2, serves for all
// comparisons of floats: it returns 0 if they are equal. The functions of runtime.c have names of their own, because
// mpy_ld.py would link those of the library as well if the names were the same.
// clang-format off
__asm (
    ".macro call target, more\n .ifb \\more\n jal \\target\n .else\n jal \\target, \\more\n .endif\n .endm\n"
    ".macro tail target\n j \\target\n .endm\n"
    ".set __addsf3, tp_addsf3\n"
    ".set __subsf3, tp_subsf3\n"
    ".set __floatsisf, tp_floatsisf\n"
    ".set __ltsf2, tp_ltsf2\n"
    ".set __nesf2, __gtsf2\n"
    );
// clang-format on
#pragma GCC visibility push(hidden)
#include "counters/counters.h"
#include "executor/executor.h"
#include "gguf/strings.h"
#include "kernels/kernels.h"
#include "text/unicode_class.h"
#pragma GCC visibility pop
