"""Kernels alone: matrix products of some shapes by the fast and by the portable kernel."""

import gc

import _tinyprof

from . import counters, ops
from .measure import begin
from .records import Records


def kernels(types, shapes, r=3, run="bench", out=None):
    """Writes a bench record for each type (name) and (rows, cols, tokens): the least units of r.

    The weights are zeros: what a product costs does not depend on them."""
    counter = counters.find()
    records = Records(run, out)
    begin(records, counter, repetitions=r, warmup=0, meta={})
    numbers = {name: number for number, name in ops.TYPES.items()}
    for name in types:
        type_ = numbers[name]
        for rows, cols, n in shapes:
            gc.collect()
            w = bytearray(rows * _tinyprof.row_bytes(type_, cols))
            x = bytearray(4 * n * cols)
            y = bytearray(4 * n * rows)
            fast = _product(counter, type_, w, x, y, rows, cols, n, r, 0)
            portable = _product(counter, type_, w, x, y, rows, cols, n, r, ops.REFERENCE)
            records.write("bench", type=name, rows=rows, cols=cols, tokens=n, fast=fast, portable=portable)
    records.end()


def _product(counter, type_, w, x, y, rows, cols, n, r, flags):
    a = x
    size = 4 * cols
    if type_ not in (ops.F32, ops.F16):
        size = cols + cols // 8 if flags else _tinyprof.input_bytes(type_, cols)
        a = bytearray(n * size)
        ops.call(ops.QUANTIZE, a, x, w, 1, cols, type_, n, 0, (0, 0, size, 0), flags)
    p = (0, 0, size, 0)
    return min(ops.call(ops.MATMUL, y, a, w, rows, cols, type_, n, 0, p, flags, (), counter) for _ in range(r))
