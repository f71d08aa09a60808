"""How weights of each type are stored in a row. Pure data, read by ceilings and bench on boards, and by the host.

Numbers of the types are in ops.TYPES. Columns:

    name
    values   of a block
    bytes    of a block; 0: each row has a float, and each block of 32 an int8 scale (docs/kernels.md)
    rows     that are stored together
    signed   1: quantizing gives scales of both signs (F32, F16: values have both)
    scales   where the fp16 scales and minima are in a block, in bytes

Sources: ggml-common.h of llama.cpp; native_modules/kernels/types.c, which tests hold against this table. One piece of
text takes the least RAM."""

LAYOUTS = """
F32 1 4 1 1
F16 1 2 1 1
Q4_0 32 18 1 1 0
Q4_1 32 20 1 0 0 2
Q5_0 32 22 1 1 0
Q5_1 32 24 1 0 0 2
Q8_0 32 34 1 0 0
Q2_K 256 84 1 0 80 82
Q3_K 256 110 1 1 108
Q4_K 256 144 1 0 0 2
Q5_K 256 176 1 0 0 2
Q6_K 256 210 1 1 208
TQ1_0 256 54 1 0 52
TQ2_0 256 66 1 0 64
TP2 32 0 2 0
TP3 32 0 4 0
TPT 32 0 2 0
"""


def layout(name):
    """[values, bytes, rows, signed, scales...] of a type, as above."""
    begin = LAYOUTS.find("\n" + name + " ") + len(name) + 2
    return [int(word) for word in LAYOUTS[begin : LAYOUTS.find("\n", begin)].split()]
