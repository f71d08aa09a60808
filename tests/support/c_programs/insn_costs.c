// Prints class, cycles, refill and condition of each instruction of a file of machine code, as the
// plugin takes them: insn_costs CORE FILE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../firmware_builds/plugin/insn.h"

int main(int argc, char **argv) {
    static const char *const cores[] = { "m0", "m3", "m4", "m7", "m33", "m55", "rv32" };
    static uint8_t code[65536];
    int core = 0;
    FILE *file = argc == 3 ? fopen(argv[2], "rb") : NULL;
    if (file == NULL) {
        return 2;
    }
    while (core < TP_RV32 && strcmp(cores[core], argv[1]) != 0) {
        ++core;
    }
    size_t length = fread(code, 1, sizeof(code), file);
    tp_insn_t last, insn;
    memset(&last, 0, sizeof(last));
    for (size_t at = 0; at < length; at += insn.size) {
        memset(&insn, 0, sizeof(insn));
        if (core == TP_RV32) {
            insn.size = (code[at] & 3) == 3 ? 4 : 2;
            tp_decode_rv32(&insn, code + at, insn.size);
        } else {
            insn.size = code[at + 1] >= 0xe8 ? 4 : 2;
            tp_decode_thumb(&insn, code + at, insn.size, (tp_core_t)core);
            tp_overlap_thumb(&insn, &last, (tp_core_t)core);
        }
        printf("%d %d %d %d %d\n", insn.kind, insn.cycles, insn.refill, insn.conditional, insn.mark);
        last = insn;
    }
    return 0;
}
