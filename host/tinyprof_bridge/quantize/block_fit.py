"""For each weight type, the scales and minima of its quantization blocks with the least weighted squared error.

A block can hold the values least + step * code. For fixed codes these are linear in the block's parameters: its scale,
or its scale and its minimum. A Grid serves one matrix:

1. fit(), once for each block column from left to right, chooses the parameters.
2. shift(), any number of times, changes the parameters of all blocks.
3. pack() returns the matrix's bytes."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from . import weight_types

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Halves = npt.NDArray[np.float16]

TINY = np.finfo(np.float32).tiny
# A row's float is fixed before its blocks are fitted. Error feedback can make later scales larger than the weights
# alone suggest, so it leaves room for 25 % more.
OWN_SPARE = np.float32(1.25)


class Grid(Protocol):
    """The quantization blocks of one matrix in one weight type. Each class below implements these methods.

    cols: columns of a block.
    top: greatest code; codes start at 0."""

    cols: int
    top: int

    def fit(self, x: Floats, weights: Floats) -> tuple[Floats, Floats]:
        """Returns (least, step) of the next block column, each broadcastable to (rows, cols).

        x: weights of the matrix (rows, cols).
        weights: of the squared errors, of x's shape or one row for all rows."""

    def slopes(self, codes: Ints) -> Floats:
        """Returns the derivative of each value by each parameter of its block, (rows, all columns, parameters).

        codes: of the whole matrix (rows, all columns)."""

    def shift(self, change: Floats) -> tuple[Floats, Floats]:
        """Returns (least, step) after adding to the parameters, each (rows, all columns).

        The new parameters are rounded to what the type can store.

        change: what to add (rows, blocks, parameters)."""

    def pack(self, codes: Ints) -> Bytes:
        """Returns the matrix's bytes (rows, row_bytes).

        codes: of the whole matrix (rows, all columns)."""


def codes_of(x: Floats, least: Floats, step: Floats, top: int) -> Ints:
    """Returns the code from 0 to top whose value least + step * code is nearest to x; 0 where the step is 0."""
    return _nearest(x, least, step, top).astype(np.int64)


def _nearest(x: Floats, least: Floats, step: Floats, top: int) -> Floats:
    """Returns what codes_of does, as floats. A step so small that 1 / step overflows counts as 0."""
    q = (x - least) * np.divide(1, step, out=np.zeros_like(step), where=np.abs(step) >= TINY)
    np.rint(q, out=q)
    return q.clip(0, top, out=q)


def best_scale(x: Floats, weights: Floats, low: int, stride: int, high: int) -> Floats:
    """Returns the scales (..., 1) with which scale * level approximates blocks x (..., n) with the least error.

    Tries several first scales. Each gives codes, and for these codes the least-squares scale is a quotient of two sums
    (the idea of make_qx_quants in llama.cpp's ggml-quants.c).

    weights: of the squared errors, broadcastable to x.
    low, stride, high: the levels are low, low + stride, ... high; low is negative."""
    at = np.abs(x).argmax(-1, keepdims=True)
    extreme = np.take_along_axis(x, at, -1)
    base = extreme / low
    # With few levels the best scale often clips the largest weights, so smaller scales are tried too. Where levels are
    # not symmetric, the largest weight may go to either end.
    few = high - low < 8 * stride
    guesses = np.linspace(1.05, 0.35 if few else 0.8, 16 if few else 8)
    if low != -high:
        guesses = np.concatenate([guesses, guesses * low / high])
    best, least = np.zeros_like(base), np.full(base.shape, np.inf, np.float32)
    for guess in guesses.astype(np.float32):
        scale = base * guess
        for _ in range(2):
            q = low + stride * _nearest(x, low * scale, stride * scale, (high - low) // stride)
            error = (weights * (scale * q - x) ** 2).sum(-1, keepdims=True)
            best, least = np.where(error < least, scale, best), np.minimum(error, least)
            size = (weights * q * q).sum(-1, keepdims=True)
            scale = np.divide((weights * q * x).sum(-1, keepdims=True), size, out=np.zeros_like(scale), where=size > 0)
    return best.astype(np.float32)


def best_range(x: Floats, weights: Floats, top: int, highest: float) -> tuple[Floats, Floats]:
    """Returns (scale, least), each (..., 1), with which least + scale * (0 .. top) best approximates blocks x (..., n).

    The scale is not negative. Tries several first scales. Each gives codes, and for these codes scale and least follow
    from a linear regression (the idea of make_qkx2_quants in llama.cpp's ggml-quants.c).

    weights: of the squared errors, broadcastable to x.
    highest: upper limit of least; 0 for K-quants, whose minima cannot be positive."""
    floor = np.minimum(x.min(-1, keepdims=True), np.float32(highest))
    span = np.maximum(x.max(-1, keepdims=True), floor) - floor
    weights = np.broadcast_to(weights, x.shape)
    total, first = weights.sum(-1, keepdims=True), (weights * x).sum(-1, keepdims=True)
    best = [span / top, floor]
    least = np.full(span.shape, np.inf, np.float32)
    for guess in np.linspace(0.8, 1.1, 10, dtype=np.float32):
        scale, low = span * guess / top, floor
        for _ in range(2):
            q = _nearest(x, low, scale, top)
            error = (weights * (scale * q + low - x) ** 2).sum(-1, keepdims=True)
            better = error < least
            best = [np.where(better, new, old) for new, old in zip((scale, low), best, strict=True)]
            least = np.minimum(error, least)
            linear = (weights * q).sum(-1, keepdims=True)
            square, both = ((weights * q * v).sum(-1, keepdims=True) for v in (q, x))
            size = total * square - linear * linear
            scale = np.divide(total * both - linear * first, size, out=np.zeros_like(span), where=size > 0)
            low = np.divide(square * first - linear * both, size, out=np.zeros_like(span), where=size > 0)
            alone = np.divide(both, square, out=np.zeros_like(span), where=square > 0)
            scale, low = np.where(low > highest, alone, np.maximum(scale, 0)), np.minimum(low, np.float32(highest))
    return best[0].astype(np.float32), best[1].astype(np.float32)


def _half(x: Floats) -> Halves:
    """Returns x as fp16, clipped to finite values."""
    return x.clip(-weight_types.F16_MAX, weight_types.F16_MAX).astype("<f2")


class Legacy:
    """Q4_0, Q5_0 and Q8_0: one fp16 scale for each block of 32."""

    cols = 32

    def __init__(self, bits: int, low: int, high: int) -> None:
        """bits: of a code. low, high: the levels that codes stand for."""
        self.low, self.high, self.top = low, high, high - low
        self._bits = bits
        self._scales: list[Halves] = []

    def fit(self, x: Floats, weights: Floats) -> tuple[Floats, Floats]:
        half = _half(best_scale(x, weights, self.low, 1, self.high))
        self._scales.append(half)
        scale = half.astype(np.float32)
        return self.low * scale, scale

    def slopes(self, codes: Ints) -> Floats:
        return (self.low + codes).astype(np.float32)[..., None]

    def shift(self, change: Floats) -> tuple[Floats, Floats]:
        self._scales = [_half(half + change[:, i]) for i, half in enumerate(self._scales)]
        scale = np.concatenate(self._scales, 1).astype(np.float32).repeat(32, 1)
        return self.low * scale, scale

    def pack(self, codes: Ints) -> Bytes:
        q = codes.reshape(len(codes), -1, 32)
        body = _nibbles(q, self._bits) if self._bits < 8 else (q + self.low).astype(np.int8).view(np.uint8)
        scales = np.stack(self._scales, 1).view(np.uint8)
        return np.concatenate([scales, body], -1).reshape(len(codes), -1)


class LegacyRange:
    """Q4_1 and Q5_1: an fp16 scale and an fp16 minimum for each block of 32."""

    cols = 32

    def __init__(self, bits: int) -> None:
        """bits: of a code."""
        self.top = (1 << bits) - 1
        self._bits = bits
        self._parts: list[Halves] = []

    def fit(self, x: Floats, weights: Floats) -> tuple[Floats, Floats]:
        half = _half(np.concatenate(best_range(x, weights, self.top, np.inf), 1))
        self._parts.append(half)
        scale, least = np.split(half.astype(np.float32), 2, 1)
        return least, scale

    def slopes(self, codes: Ints) -> Floats:
        return np.stack([codes, np.ones_like(codes)], -1).astype(np.float32)

    def shift(self, change: Floats) -> tuple[Floats, Floats]:
        self._parts = [_half(half + change[:, i]) for i, half in enumerate(self._parts)]
        scale, least = np.stack(self._parts, 1).astype(np.float32).repeat(32, 1).transpose(2, 0, 1)
        return least, scale

    def pack(self, codes: Ints) -> Bytes:
        parts = np.stack(self._parts, 1).view(np.uint8)
        body = _nibbles(codes.reshape(len(codes), -1, 32), self._bits)
        return np.concatenate([parts, body], -1).reshape(len(codes), -1)


def _nibbles(q: Ints, bits: int) -> Bytes:
    """Returns the bytes of blocks of codes (..., 32) with 4 or 5 bits; the fifth bits come first (ggml-common.h)."""
    body = (q[..., :16] & 15 | (q[..., 16:] & 15) << 4).astype(np.uint8)
    if bits == 4:
        return body
    fifth = (q >> 4 << np.arange(32)).sum(-1, keepdims=True).astype("<u4").view(np.uint8)
    return np.concatenate([fifth, body], -1)


class Own:
    """TP2, TP3 and TPT, tinyprof's own types: one float for each row, one int8 scale for each block of 32."""

    cols = 32

    def __init__(
        self, levels: tuple[int, int, int], bytes_of: Callable[[Floats, Ints, Ints], Bytes], w: Floats
    ) -> None:
        """levels: the least level, the distance between two, the greatest.
        bytes_of: packs (factor, scales, codes), as weight_types.tp3_bytes does.
        w: the matrix (rows, all columns), for the float of each row."""
        self.low, self.stride, self.high = levels
        self.top = (self.high - self.low) // self.stride
        self._bytes_of = bytes_of
        scales = best_scale(w.reshape(len(w), -1, 32), np.ones(1, np.float32), *levels)[..., 0]
        self._factor = weight_types.own_factor(np.abs(scales).max(1, keepdims=True) * OWN_SPARE)
        self._scales: list[Ints] = []

    def fit(self, x: Floats, weights: Floats) -> tuple[Floats, Floats]:
        scale = best_scale(x, weights, self.low, self.stride, self.high)
        self._scales.append(np.rint(scale / self._factor).clip(-127, 127).astype(np.int64))
        scale = (self._factor * self._scales[-1]).astype(np.float32)
        return self.low * scale, self.stride * scale

    def slopes(self, codes: Ints) -> Floats:
        return (self.low + self.stride * codes).astype(np.float32)[..., None]

    def shift(self, change: Floats) -> tuple[Floats, Floats]:
        scales = np.concatenate(self._scales, 1) + change[..., 0] / self._factor
        scales = np.rint(scales).clip(-127, 127).astype(np.int64)
        self._scales = [scales]
        scale = (self._factor * scales).astype(np.float32).repeat(32, 1)
        return self.low * scale, self.stride * scale

    def pack(self, codes: Ints) -> Bytes:
        scales = np.concatenate(self._scales, 1)
        packed = self._bytes_of(self._factor, scales, codes.reshape(*scales.shape, 32))
        return packed.reshape(len(codes), -1)


class Ranged:
    """Q2_K, Q4_K and Q5_K: superblocks of 256 with two fp16 units; each block in them has an integer scale and minimum.

    shift() changes the two fp16 units and keeps the integers."""

    cols = 256

    def __init__(self, block: int, top: int, most: int, bytes_of: Callable[..., Bytes]) -> None:
        """The values of weight_types.RANGED: weights in a block, greatest code, greatest scale and minimum, packer."""
        self.top = top
        self._block, self._most, self._bytes_of = block, most, bytes_of
        self._parts: list[tuple[Halves, Halves, Ints, Ints]] = []

    def fit(self, x: Floats, weights: Floats) -> tuple[Floats, Floats]:
        shape = (-1, 256 // self._block, self._block)
        scale, least = (v[..., 0] for v in best_range(x.reshape(shape), weights.reshape(shape), self.top, 0))
        d, m = (_half(v.max(1, keepdims=True) / self._most) for v in (scale, -least))
        none = np.zeros(1, np.float32)
        units = (d.astype(np.float32), m.astype(np.float32))
        scales, mins = (codes_of(v, none, u, self._most) for v, u in zip((scale, -least), units, strict=True))
        self._parts.append((d, m, scales, mins))
        return self._steps(self._parts[-1])

    def _steps(self, part: tuple[Halves, Halves, Ints, Ints]) -> tuple[Floats, Floats]:
        d, m, scales, mins = part
        step, low = d.astype(np.float32) * scales, -m.astype(np.float32) * mins
        return low.astype(np.float32).repeat(self._block, 1), step.astype(np.float32).repeat(self._block, 1)

    def slopes(self, codes: Ints) -> Floats:
        scales, mins = (np.concatenate(v, 1).repeat(self._block, 1) for v in list(zip(*self._parts, strict=True))[2:])
        return np.stack([scales * codes, -mins], -1).astype(np.float32)

    def shift(self, change: Floats) -> tuple[Floats, Floats]:
        for i, (d, m, scales, mins) in enumerate(self._parts):
            self._parts[i] = (_half(d + change[:, i, :1]), _half(m + change[:, i, 1:]), scales, mins)
        low, step = zip(*map(self._steps, self._parts), strict=True)
        return np.concatenate(low, 1), np.concatenate(step, 1)

    def pack(self, codes: Ints) -> Bytes:
        return _superblocks(self._bytes_of, self._parts, codes)


class Signed:
    """Q3_K and Q6_K: superblocks of 256 with one fp16 unit; each block of 16 in them has an integer scale.

    shift() changes the fp16 unit and keeps the integers."""

    cols = 256

    def __init__(self, low: int, scale_low: int, bytes_of: Callable[..., Bytes]) -> None:
        """The values of weight_types.SIGNED: least level, least scale, packer."""
        self.low, self.top = low, -2 * low - 1
        self._scale_low, self._bytes_of = scale_low, bytes_of
        self._parts: list[tuple[Halves, Ints]] = []

    def fit(self, x: Floats, weights: Floats) -> tuple[Floats, Floats]:
        shape = (-1, 16, 16)
        scale = best_scale(x.reshape(shape), weights.reshape(shape), self.low, 1, -self.low - 1)[..., 0]
        at = np.abs(scale).argmax(1)[:, None]
        d = _half(np.take_along_axis(scale, at, 1) / np.float32(self._scale_low))
        unit = d.astype(np.float32)
        scales = codes_of(scale, self._scale_low * unit, unit, -2 * self._scale_low - 1) + self._scale_low
        scales[unit[:, 0] == 0] = 0
        self._parts.append((d, scales))
        return self._steps(d, scales)

    def _steps(self, d: Halves, scales: Ints) -> tuple[Floats, Floats]:
        step = (d.astype(np.float32) * scales).astype(np.float32).repeat(16, 1)
        return self.low * step, step

    def slopes(self, codes: Ints) -> Floats:
        scales = np.concatenate([scales for _, scales in self._parts], 1).repeat(16, 1)
        return (scales * (self.low + codes)).astype(np.float32)[..., None]

    def shift(self, change: Floats) -> tuple[Floats, Floats]:
        self._parts = [(_half(d + change[:, i]), scales) for i, (d, scales) in enumerate(self._parts)]
        low, step = zip(*(self._steps(*part) for part in self._parts), strict=True)
        return np.concatenate(low, 1), np.concatenate(step, 1)

    def pack(self, codes: Ints) -> Bytes:
        return _superblocks(self._bytes_of, self._parts, codes)


def _superblocks(bytes_of: Callable[..., Bytes], parts: Sequence[tuple[Halves | Ints, ...]], codes: Ints) -> Bytes:
    """Returns the bytes of a matrix of superblocks.

    parts: for each superblock column the arguments of bytes_of, fp16 numbers first.
    codes: of the whole matrix (rows, all columns)."""
    bytes_ = [[v.view(np.uint8) if v.dtype == np.float16 else v for v in part] for part in parts]
    q = codes.reshape(len(codes), -1, 256)
    return np.concatenate([bytes_of(*part, q[:, i]) for i, part in enumerate(bytes_)], 1)


_MAKERS: dict[str, Callable[[Floats], Grid]] = {
    "Q4_0": lambda w: Legacy(4, -8, 7),
    "Q4_1": lambda w: LegacyRange(4),
    "Q5_0": lambda w: Legacy(5, -16, 15),
    "Q5_1": lambda w: LegacyRange(5),
    "Q8_0": lambda w: Legacy(8, -127, 127),
    "Q2_K": lambda w: Ranged(*weight_types.RANGED["Q2_K"]),
    "Q3_K": lambda w: Signed(*weight_types.SIGNED["Q3_K"]),
    "Q4_K": lambda w: Ranged(*weight_types.RANGED["Q4_K"]),
    "Q5_K": lambda w: Ranged(*weight_types.RANGED["Q5_K"]),
    "Q6_K": lambda w: Signed(*weight_types.SIGNED["Q6_K"]),
    "TP3": lambda w: Own((-4, 1, 3), weight_types.tp3_bytes, w),
    "TP2": lambda w: Own(weight_types.LEVELS["TP2"], weight_types.pair_bytes, w),
    "TPT": lambda w: Own(weight_types.LEVELS["TPT"], weight_types.pair_bytes, w),
}
TYPES = tuple(_MAKERS)


def make(type_: str, w: Floats) -> Grid:
    """Returns the grid that fits a matrix w (rows, cols) to a type of TYPES."""
    return _MAKERS[type_](w)
