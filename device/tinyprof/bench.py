"""Single matrix products: their cost, and whether fast and portable kernels give the same bits."""

import json
from array import array

import _tinyprof
from micropython import const

from . import counters, ops
from .weight_types import layout

_SCALES = (0x2C9A, 0x1F31, 0xA7C3, 0x2410)  # fp16
_NOISE = const(1021)  # items of noise, which are repeated: a prime number, so that no two blocks are the same

_made = {}  # noise by function and seed: making it takes longer than a product


def once(make, seed):
    """make(seed), which is called only the first time."""
    key = (make, seed)
    if key not in _made:
        _made[key] = make(seed)
    return _made[key]


def noise_bytes(seed):
    """Random bytes."""
    noise = bytearray(_NOISE)
    for i in range(_NOISE):
        seed = (seed * 69069 + 1) & 0xFFFFFFF
        noise[i] = seed >> 16 & 0xFF
    return bytes(noise)


def noise_floats(seed):
    """Random floats in [-1, 1), as bytes."""
    noise = once(noise_bytes, seed) * 2
    return bytes(array("f", (((noise[i] | noise[i + 1] << 8) - 32768) / 32768 for i in range(0, 2 * _NOISE, 2))))


def repeated(make, seed, size, item=1):
    """size bytes of noise, starting at a place that the seed decides.

    make: a function of a seed that returns noise; item: bytes of one of its items. Only two seeds of noise are made."""
    noise = once(make, (seed - 1) % 2 + 1)
    begin = (seed - 1) // 2 * 89 % _NOISE * item
    return bytearray((noise * ((begin + size) // len(noise) + 1))[begin : begin + size])


def random_weights(type_, rows, cols, seed=1, make=noise_bytes, scales=_SCALES):
    """The bytes of a matrix of random blocks.

    type_: number of the weight type; make: a function of a seed that returns noise; scales: fp16 numbers."""
    w = repeated(make, seed, rows * _tinyprof.row_bytes(type_, cols))
    _, size, together, _, *offsets = layout(ops.TYPES[type_])
    if offsets:
        for i, at in enumerate(range(0, len(w), size)):
            for offset in offsets:
                scale = scales[(i * 7 + (i >> 3) + offset) % len(scales)]
                w[at + offset] = scale & 0xFF
                w[at + offset + 1] = scale >> 8
    elif type_ == ops.F16:
        for i in range(1, len(w), 2):
            w[i] &= 0xBB  # no infinities
    elif type_ == ops.F32:
        for i in range(3, len(w), 4):
            w[i] = w[i] & 0x80 | 0x3E
    else:  # a float for each row
        step = together * _tinyprof.row_bytes(type_, cols)
        for at in range(0, len(w), step):
            for i in range(together):
                w[at + 4 * i : at + 4 * i + 4] = bytes((i, at & 0xFF, 0x20, 0x3C))
    return w


def fits(type_, rows, cols):
    """Whether a matrix of rows x cols can have the type (a number of ops.TYPES)."""
    return _tinyprof.row_bytes(type_, cols) != 0 and rows % ops.together(type_) == 0


class Product:
    """One product of random data for the fast and the portable kernel.

    type_: number of the weight type; rows, cols: size of the matrix; n: tokens; int16: 0, or ops.INT16 for activations
    of 16 bits; weights: the matrix; x: n x cols floats, as bytes; None for random ones.

    y: memoryviews of both results; quantize, fast, portable: units of the last run with a counter."""

    def __init__(self, type_, rows, cols, n=1, int16=0, weights=None, x=None):
        self.weights = weights or random_weights(type_, rows, cols)
        x = x or repeated(noise_floats, 2, 4 * cols * n, 4)
        quantized = type_ not in (ops.F32, ops.F16)
        at = (len(x) + 15) & ~15
        times = 2 * n if int16 else n
        own = at + times * ops.activation_bytes(cols, type_) if quantized else at
        reference = own + times * ops.activation_bytes(cols) if quantized else at
        size = times * rows * 4
        self.arena = memoryview(bytearray(reference + 2 * size))
        self.arena[: len(x)] = x
        self.y = (self.arena[reference : reference + size], self.arena[reference + size :])
        a, b = (at, own) if quantized else (0, 0)
        self.plan = array("I")
        scan = _tinyprof.scan(self.weights, 0, type_, rows, cols)
        for op, kind, flags, dst, src in (
            (ops.QUANTIZE, type_, 0, a, 0),
            (ops.QUANTIZE, type_, ops.PORTABLE, b, 0),
            (ops.MATMUL, type_, 0, reference, a),
            (ops.MATMUL, type_, ops.PORTABLE, reference + size, b),
        ):
            self.plan.extend(array("I", (op | kind << 8 | (flags | int16) << 16, dst, src, ops.WEIGHTS, rows, cols)))
            self.plan.extend(array("I", (0, 0, 0, scan, 0, 0)))
        self.first = 0 if quantized else 2
        self.n = n

    def run(self, counter=None):
        """Whether both kernels give the same bits. counter: a counters.Counter that measures them, or None."""
        ctl = ops.control(self.n)
        ctl[ops.N] = self.n
        if counter:
            counter.select(ctl)
        acc = array("Q", bytes(8 * 4))
        counts = acc if counter else None
        _tinyprof.run(self.plan, self.first, 4 - self.first, ctl, self.arena, bytearray(), self.weights, counts)
        self.quantize, _, self.fast, self.portable = [counter.units(v) for v in acc] if counter else (0, 0, 0, 0)
        return bytes(self.y[0]) == bytes(self.y[1])


def kernels(types, shapes, tokens):
    """Prints a line of JSON about the board, then one for each product, with the units of the whole record.

    types: numbers of weight types; shapes: pairs of rows and columns; tokens: numbers of tokens."""
    counter = counters.find()
    print(json.dumps({"kernels": _tinyprof.build()[1], "source": counter.source, "unit": counter.unit}))
    for type_ in types:
        for rows, cols in shapes:
            for n in tokens if fits(type_, rows, cols) else ():
                product = Product(type_, rows, cols, n)
                product.run(counter)  # warms up caches and clocks
                same = product.run(counter)
                line = {"type": ops.TYPES[type_], "rows": rows, "cols": cols, "n": n, "same": same}
                line.update(quantize=product.quantize, fast=product.fast, portable=product.portable)
                print(json.dumps(line))
