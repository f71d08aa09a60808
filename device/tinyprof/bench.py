"""Matrix products alone: what they cost, and that the fast kernels give the portable ones' bits."""

import json
from array import array

import _tinyprof
from micropython import const

from . import counters, ops
from .roof import BLOCKS

# fp16 scales: ordinary ones, zero, the least subnormal, the greatest finite, both signs
_ORDINARY = (0x2C9A, 0x1F31, 0xA7C3, 0x2410)
_EXTREME = (0x2C9A, 0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x7BFF, 0xFBFF, 0x3C00)
_MAX = bytes((0x7F, 0x80, 0x81, 0xFF, 0x00))
_BLOCK = const(32)  # activations
_NOISE = const(1021)  # items of noise, then over and over: a prime number, so that no two blocks are the same

_made = {}  # noise by its kind and seed: to make it takes longer than a product


def _once(make, seed):
    key = (make, seed)
    if key not in _made:
        _made[key] = make(seed)
    return _made[key]


def _bytes(seed):
    noise = bytearray(_NOISE)
    for i in range(_NOISE):
        seed = (seed * 69069 + 1) & 0xFFFFFFF
        noise[i] = seed >> 16 & 0xFF
    return bytes(noise)


def _greatest(seed):
    return bytes(_MAX[b % len(_MAX)] for b in _once(_bytes, seed))


def _floats(seed):
    """In [-1, 1)."""
    noise = _once(_bytes, seed) * 2
    return bytes(array("f", (((noise[i] | noise[i + 1] << 8) - 32768) / 32768 for i in range(0, 2 * _NOISE, 2))))


def _scaled(seed):
    """Eight blocks' floats and one's more, times each scale."""
    x = array("f", _once(_floats, seed)[: 4 * 9 * _BLOCK])
    kinds = [bytes(array("f", (1.0 if v > 0 else -1.0 for v in x)))]
    for scale in (0.0, 1e-38, 1e30, 1e-42):
        y = array("f", (v * scale for v in x))
        for i in range(3, len(y) if scale == 0 else 0, 8):
            y[i] = float("nan")  # becomes 127 with a scale of 0
        kinds.append(bytes(y))
    return kinds


def _over(make, seed, size, item=1):
    """size bytes of noise whose items have so many bytes: of two seeds, each time begun elsewhere."""
    noise = _once(make, (seed - 1) % 2 + 1)
    begin = (seed - 1) // 2 * 89 % _NOISE * item
    return bytearray((noise * ((begin + size) // len(noise) + 1))[begin : begin + size])


def _weights(type_, rows, cols, seed, extreme):
    """A matrix of random blocks; extreme: of the greatest and least values, with odd scales."""
    w = _over(_greatest if extreme else _bytes, seed, rows * _tinyprof.row_bytes(type_, cols))
    name = ops.TYPES[type_]
    if name in BLOCKS:
        size, offsets = BLOCKS[name]
        scales = _EXTREME if extreme else _ORDINARY
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
    else:  # our own: a float for each row
        together = ops.together(type_)
        step = together * _tinyprof.row_bytes(type_, cols)
        for at in range(0, len(w), step):
            for i in range(together):
                w[at + 4 * i : at + 4 * i + 4] = bytes((i, at & 0xFF, 0x20, 0x3C))
    return w


def fits(type_, rows, cols):
    """Whether there can be such a matrix."""
    return _tinyprof.row_bytes(type_, cols) != 0 and rows % ops.together(type_) == 0


def _activations(cols, n, seed, extreme):
    """Floats in [-1, 1); extreme: blocks of them times the greatest and the least scales."""
    size = 4 * cols * n
    if not extreme:
        return _over(_floats, seed, size, 4)
    kinds, x, step = _once(_scaled, 1), bytearray(size), 4 * _BLOCK
    for at in range(0, size, step):
        begin = (seed * 13 + at // 4) % (8 * _BLOCK) * 4
        x[at : at + step] = kinds[at // step % 5][begin : begin + min(step, size - at)]
    return x


class Product:
    """One product of random data, ready to be run by the fast kernel and by the portable one.

    int16: 0 or ops.INT16; y: memoryviews of both results; quantize, fast, portable: counts of the last run."""

    def __init__(self, type_, rows, cols, n=1, seed=1, extreme=False, int16=0):
        self.weights = _weights(type_, rows, cols, seed, extreme)
        x = _activations(cols, n, seed + 1, extreme)
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
        """Runs both; True if their results are the same bits."""
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
    """Prints one line of JSON about the board, then one a product: counts of the whole record."""
    counter = counters.find()
    print(json.dumps({"kernels": _tinyprof.build()[1], "source": counter.source, "unit": counter.unit}))
    for type_ in types:
        for rows, cols in shapes:
            for n in tokens if fits(type_, rows, cols) else ():
                product = Product(type_, rows, cols, n)
                product.run(counter)  # caches and clocks settle
                same = product.run(counter)
                line = {"type": ops.TYPES[type_], "rows": rows, "cols": cols, "n": n, "same": same}
                line.update(quantize=product.quantize, fast=product.fast, portable=product.portable)
                print(json.dumps(line))


def differences(types, rows, cols, tokens, seed=1, int16=0):
    """Quantized products, random and extreme, whose fast result is not the portable one; [] is right."""
    wrong = []
    for type_ in types:
        for c in cols:
            for r in rows:
                for n in tokens if fits(type_, r, c) else ():
                    for extreme in (False, True):
                        seed += 1
                        if not Product(type_, r, c, n, seed, extreme, int16).run():
                            wrong.append((ops.TYPES[type_], r, c, n, seed, extreme))
    return wrong
