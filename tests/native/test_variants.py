"""The fast kernels of each board give the bits of the portable ones that are compiled in beside them."""

import numpy as np
import pytest
from on_board import KERNELS, board

COMPARE = """
import _tinyprof
from array import array
from tinyprof import ops

seed = 1
def noise(n):
    # xorshift: the same bytes on every board
    global seed
    out = bytearray(n)
    for i in range(n):
        seed ^= (seed << 13) & 0xFFFFFFFF
        seed ^= seed >> 17
        seed ^= (seed << 5) & 0xFFFFFFFF
        out[i] = seed >> 11 & 255
    return out

def weights(type_, rows, cols, kind):
    size = _tinyprof.row_bytes(type_, cols)
    w = noise(rows * size)
    step = 18 if type_ == ops.Q4_0 else 34
    for b in range(0, len(w), step):
        # scales: any finite fp16 but for 'ordinary'; never infinite or NaN
        if kind == "ordinary":
            w[b + 1] = 0x20 | w[b + 1] & 0x8F
        elif kind == "subnormal":
            w[b + 1] &= 0x83
        elif kind == "zero":
            w[b] = w[b + 1] = 0
        elif w[b + 1] & 0x7C == 0x7C:
            w[b + 1] &= 0xBF
        if kind == "extreme":
            for i in range(b + 2, b + step):
                w[i] = (0x80, 0x7F, 0x00, 0xFF)[w[i] & 3]
    return w

def floats(n, kind):
    raw = noise(4 * n)
    for i in range(0, len(raw), 4):
        raw[i + 3] = (raw[i + 3] & 0x80) | (0x3F if kind != "extreme" else 0x40)
        if kind == "zero":
            raw[i:i + 4] = bytes(4)
    return raw

def product(type_, w, x, rows, cols, n, as_type, flags):
    q = bytearray(n * ops.activation_bytes(cols, as_type))
    ops.call(ops.QUANTIZE, q, x, w, 1, cols, type_, n, flags=flags)
    y = bytearray(4 * n * rows)
    scan = _tinyprof.scan(w, 0, type_, rows, cols)
    return ops.call(ops.MATMUL, y, q, w, rows, cols, type_, n, p=(0, 0, 0, scan), flags=flags)

done = 0
for type_ in {types!r}:
    for kind in {kinds!r}:
        for rows, cols, n in {shapes!r}:
            w = weights(type_, rows, cols, kind)
            x = floats(n * cols, kind)
            fast = product(type_, w, x, rows, cols, n, type_, 0)
            slow = product(type_, w, x, rows, cols, n, ops.F32, ops.PORTABLE)
            if fast != slow:
                print("DIFFER", ops.TYPES[type_], kind, rows, cols, n)
            done += 1
print(done, _tinyprof.build()[1])
"""

SHAPES = [
    (1, 32, 1),
    (2, 64, 1),
    (3, 96, 2),
    (5, 32, 3),
    (7, 160, 1),
    (8, 32, 4),
    (11, 352, 1),
    (64, 64, 2),
    (25, 512, 1),
]
KINDS = ("any", "ordinary", "subnormal", "zero", "extreme")
TYPES = {"Q4_0": 2, "Q8_0": 8}


@pytest.mark.parametrize("name", [*KERNELS, "rv32-stock", "unix", "unix-asan", "unix-fixed-asan"])
def test_fast_and_portable_give_the_same_bits(name):
    with board(name) as b:
        lines = b.run(COMPARE.format(types=tuple(TYPES.values()), kinds=KINDS, shapes=SHAPES)).splitlines()
    assert lines[:-1] == []
    done, variant = lines[-1].split()
    assert int(done) == len(TYPES) * len(KINDS) * len(SHAPES)
    assert variant == KERNELS.get(name, variant)


def test_the_shapes_meet_every_remainder():
    assert {r % 3 for r, _, _ in SHAPES} == {0, 1, 2} and {min(r % 8, 1) for r, _, _ in SHAPES} == {0, 1}
    assert np.all([c % 32 == 0 for _, c, _ in SHAPES])
