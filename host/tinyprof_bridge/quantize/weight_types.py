"""Weights to every type that the kernels know, rounded to the nearest in each block.

Layouts of the types that are in GGUF are llama.cpp's; of ours (TP2, TP3, TPT) docs/kernels.md's."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # gguf takes long to load, and a report needs the sizes alone
    from gguf import GGMLQuantizationType

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Type:
    """id: in a GGUF file; values: what a row must be a multiple of; rows: what their number must be;
    file_type: llama.cpp's general.file_type; fallback: for matrices that do not fit."""

    id: int
    values: int
    file_type: int | None
    fallback: str | None = None
    rows: int = 1


TYPES = {
    "F32": Type(0, 1, 0),
    "F16": Type(1, 1, 1),
    "Q4_0": Type(2, 32, 2),
    "Q4_1": Type(3, 32, 3),
    "Q5_0": Type(6, 32, 8),
    "Q5_1": Type(7, 32, 9),
    "Q8_0": Type(8, 32, 7),
    "Q2_K": Type(10, 256, 10, "Q4_0"),
    "Q3_K": Type(11, 256, 11, "Q4_0"),
    "Q4_K": Type(12, 256, 14, "Q5_0"),
    "Q5_K": Type(13, 256, 16, "Q5_1"),
    "Q6_K": Type(14, 256, 18, "Q8_0"),
    "TQ1_0": Type(34, 256, 36, "TPT"),
    "TQ2_0": Type(35, 256, 37, "TPT"),
    "TP2": Type(192, 32, None, "Q4_0", rows=2),
    "TP3": Type(193, 32, None, "Q4_0", rows=4),
    "TPT": Type(194, 32, None, "Q4_0", rows=2),
}
# Bytes of a block, of the types that are in GGUF (gguf.GGML_QUANT_SIZES).
_BLOCK_BYTES = {
    **{"F32": 4, "F16": 2, "Q4_0": 18, "Q4_1": 20, "Q5_0": 22, "Q5_1": 24, "Q8_0": 34},
    **{"Q2_K": 84, "Q3_K": 110, "Q4_K": 144, "Q5_K": 176, "Q6_K": 210, "TQ1_0": 54, "TQ2_0": 66},
}
OWN = ("TP2", "TP3", "TPT")
MIXES = {"Q4_K_M": ("Q4_K", 15)}  # mostly which type, and its general.file_type
F16_MAX = 65504.0
# Greatest weight of a type with an fp16 scale of max / 127 or max / 8; of others that of fp16 itself.
_LARGEST = {"F32": np.inf, "Q8_0": 127 * F16_MAX, "Q4_0": 8 * F16_MAX, "TP2": np.inf, "TP3": np.inf, "TPT": np.inf}


def largest(type_: str) -> float:
    """The greatest weight that a type can hold."""
    return _LARGEST.get(type_, F16_MAX)


def fitting(type_: str, rows: int, cols: int) -> str:
    """The type, or the nearest to it that such a matrix can have. Raises ValueError if there is none."""
    choice: str | None = type_
    while choice is not None:
        if cols % TYPES[choice].values == 0 and rows % TYPES[choice].rows == 0:
            return choice
        choice = TYPES[choice].fallback
    raise ValueError(f"rows of {cols} weights are no multiple of the 32 in a block of {type_}")


def chosen(name: str, layers: int, type_: str) -> str:
    """The type of a tensor (by its GGUF name) in a file of a type or a mix.

    Q4_K_M as llama.cpp mixes it: Q6_K for the output and, in the layers where it matters most, for
    attn_v and ffn_down."""
    if type_ not in MIXES:
        return type_
    if name in ("output.weight", "token_embd.weight"):
        return "Q6_K"
    if name.endswith((".attn_v.weight", ".ffn_down.weight")):
        i = int(name.split(".")[1])
        if i < layers // 8 or i >= 7 * layers // 8 or (i - layers // 8) % 3 == 2:
            return "Q6_K"
    return MIXES[type_][0]


def row_bytes(type_: str, cols: int) -> int:
    """Bytes of a row of cols values (where rows lie together: their bytes by their number)."""
    if type_ == "TP3":
        return 4 + cols // 32 * 13
    if type_ in OWN:
        return 4 + (2 * cols // 32 + 3) // 4 * 2 + cols // 32 * 8
    return cols // TYPES[type_].values * _BLOCK_BYTES[type_]


def raw_type(type_: str) -> "GGMLQuantizationType":
    """The type's number for GGUFWriter, which writes ours as it does those that it knows."""
    from gguf import GGMLQuantizationType

    id_ = TYPES[type_].id
    return cast(GGMLQuantizationType, id_) if type_ in OWN else GGMLQuantizationType(id_)


def quantize(x: Floats, type_: str) -> npt.NDArray[np.generic]:
    """x (rows, cols) as bytes (rows, row_bytes), or as floats for F32 and F16. Raises ValueError if a
    row does not fit the type."""
    rows, cols = x.shape
    if cols % TYPES[type_].values or rows % TYPES[type_].rows:
        raise ValueError(f"{rows} x {cols} values do not fit {type_}")
    from gguf import GGMLQuantizationType
    from gguf.quants import quantize as gguf_quantize

    # Blocks too small for an fp16 scale become zeros; the quantizers divide by zero on the way.
    with np.errstate(all="ignore"):
        if type_ in RANGED or type_ in SIGNED:
            return _k_quant(x, type_).reshape(rows, -1)
        if type_ in _PACKERS:
            return _PACKERS[type_](x).reshape(rows, -1)
        return gguf_quantize(x, GGMLQuantizationType[type_])


def dequantize(data: Bytes, type_: str, cols: int) -> Floats:
    """(rows, cols) of what quantize made."""
    if type_ not in OWN:
        from gguf import GGMLQuantizationType
        from gguf.quants import dequantize as gguf_dequantize

        return gguf_dequantize(data, GGMLQuantizationType[type_])
    return _unpack_tp3(data, cols) if type_ == "TP3" else _unpack_pairs(data, cols, type_)


def _nearest(x: Floats, scale: Floats, low: int, high: int) -> Ints:
    """x / scale as integers from low to high; where scale is 0, the one nearest to 0."""
    q = np.divide(x, scale, out=np.zeros_like(x, dtype=np.float32), where=scale != 0)
    return np.rint(q).clip(low, high).astype(np.int64)


def _best_scale(x: Floats, low: int, high: int) -> Floats:
    """For blocks x (..., n) the scale (..., 1) with which integers low to high come nearest, of 20 tried.

    The one to begin with makes the value that is greatest in size low; low is the longer side."""
    at = np.abs(x).argmax(-1, keepdims=True)
    base = np.take_along_axis(x, at, -1) / low
    best, least = base, np.full(base.shape, np.inf, np.float32)
    for factor in np.linspace(0.7, 1.3, 20, dtype=np.float32):
        scale = base * factor
        error = ((_nearest(x, scale, low, high) * scale - x) ** 2).sum(-1, keepdims=True)
        best, least = np.where(error < least, scale, best), np.minimum(error, least)
    return best.astype(np.float32)


def _range_scale(x: Floats, high: int) -> tuple[Floats, Floats]:
    """(scale, min) (..., 1) of blocks x (..., n), x = scale * q - min with q from 0 to high, min >= 0."""
    least = np.minimum(x.min(-1, keepdims=True), 0)
    return ((x.max(-1, keepdims=True) - least) / high).astype(np.float32), -least


def _f16(x: npt.NDArray[np.floating]) -> tuple[Bytes, Floats]:
    """fp16 numbers (...) as bytes (..., 2), and what they are as float."""
    half = x.astype("<f2")
    return half[..., None].view(np.uint8), half.astype(np.float32)


def _six_bits(scale: Ints, least: Ints) -> Bytes:
    """Scales and mins (n, 8) of 6 bits as the 12 bytes of Q4_K and Q5_K."""
    first = scale[:, :4] | scale[:, 4:] >> 4 << 6
    second = least[:, :4] | least[:, 4:] >> 4 << 6
    third = scale[:, 4:] & 15 | (least[:, 4:] & 15) << 4
    return np.concatenate([first, second, third], 1).astype(np.uint8)


def _ranged(x: Floats, block: int, high: int, most: int) -> tuple[Bytes, Bytes, Ints, Ints, Ints]:
    """(d, dmin, scales, mins, q) of superblocks x (n, 256) in blocks; scales and mins 0 to most."""
    parts = x.reshape(len(x), -1, block)
    scale, least = _range_scale(parts, high)
    (d, df), (m, mf) = _f16(scale.max(1)[:, 0] / most), _f16(least.max(1)[:, 0] / most)
    scales = _nearest(scale[..., 0], df[:, None], 0, most)
    mins = _nearest(least[..., 0], mf[:, None], 0, most)
    step = (df[:, None] * scales)[..., None].astype(np.float32)
    q = _nearest(parts + (mf[:, None] * mins)[..., None].astype(np.float32), step, 0, high)
    return d, m, scales, mins, q.reshape(len(x), 256)


def _signed(x: Floats, low: int, scale_low: int) -> tuple[Bytes, Ints, Ints]:
    """(d, scales, q) of superblocks x (n, 256) in blocks of 16; scales from scale_low up, q from 0 up."""
    parts = x.reshape(-1, 16, 16)
    scale = _best_scale(parts, low, -low - 1)[..., 0]
    at = np.abs(scale).argmax(1)[:, None]
    d, df = _f16(np.take_along_axis(scale, at, 1)[:, 0] / scale_low)
    scales = _nearest(scale, df[:, None], scale_low, -scale_low - 1)
    q = _nearest(parts, (df[:, None] * scales)[..., None].astype(np.float32), low, -low - 1)
    return d, scales, q.reshape(len(x), 256) - low


def _join(q: Ints, bits: int, count: int) -> Bytes:
    """q (n, groups * count * width): of each group count runs of width are laid over another, the first lowest."""
    runs = q.reshape(len(q), -1, count, 32)
    joined: Ints = (runs << (bits * np.arange(count))[:, None]).sum(2)
    return joined.astype(np.uint8).reshape(len(q), -1)


def q2_k_bytes(d: Bytes, m: Bytes, scales: Ints, mins: Ints, q: Ints) -> Bytes:
    """Superblocks (n, bytes) of fp16 d and m as bytes (n, 2), scales and mins (n, 16), q (n, 256) from 0 up."""
    return np.concatenate([(scales | mins << 4).astype(np.uint8), _join(q, 2, 4), d, m], 1)


def q4_k_bytes(d: Bytes, m: Bytes, scales: Ints, mins: Ints, q: Ints) -> Bytes:
    """As q2_k_bytes, scales and mins (n, 8)."""
    return np.concatenate([d, m, _six_bits(scales, mins), _join(q, 4, 2)], 1)


def q5_k_bytes(d: Bytes, m: Bytes, scales: Ints, mins: Ints, q: Ints) -> Bytes:
    """As q4_k_bytes."""
    return np.concatenate([d, m, _six_bits(scales, mins), _join(q >> 4, 1, 8), _join(q & 15, 4, 2)], 1)


def q3_k_bytes(d: Bytes, scales: Ints, q: Ints) -> Bytes:
    """Superblocks (n, bytes) of fp16 d as bytes (n, 2), scales (n, 16) from -32 up, q (n, 256) from 0 up."""
    scales = scales + 32
    low = scales[:, :8] & 15 | (scales[:, 8:] & 15) << 4
    high = (scales.reshape(-1, 4, 4) >> 4 << (2 * np.arange(4))[:, None]).sum(1)
    return np.concatenate([_join(q >> 2, 1, 8), _join(q & 3, 2, 4), low.astype(np.uint8), high.astype(np.uint8), d], 1)


def q6_k_bytes(d: Bytes, scales: Ints, q: Ints) -> Bytes:
    """As q3_k_bytes, scales from -128 up."""
    # of each half 128: values 0 to 63 below 64 to 127
    low = (q & 15).reshape(-1, 2, 2, 64)
    return np.concatenate(
        [
            (low[:, :, 0] | low[:, :, 1] << 4).astype(np.uint8).reshape(-1, 128),
            _join(q >> 4, 2, 4),
            scales.astype(np.int8).view(np.uint8),
            d,
        ],
        1,
    )


def _own_scales(scale: Floats) -> tuple[Floats, Ints]:
    """Scales of blocks (rows, blocks) as (one float a row (rows, 1), int8)."""
    factor = own_factor(np.abs(scale).max(1, keepdims=True))
    return factor, _nearest(scale, factor, -127, 127)


def own_factor(greatest: Floats) -> Floats:
    """A row's float by its greatest scale; 1 where that would be 0, which takes the slow way on cores without FPU."""
    factor = greatest / np.float32(127)
    return np.where(factor > 0, factor, np.float32(1)).astype(np.float32)


def _pad4(x: npt.NDArray[np.generic]) -> Bytes:
    """Bytes of int8 (n, count), each row padded to a multiple of 4."""
    padded = np.zeros((len(x), (x.shape[1] + 3) // 4 * 4), np.int8)
    padded[:, : x.shape[1]] = x
    return padded.view(np.uint8)


def _tp3(x: Floats) -> Bytes:
    parts = x.reshape(len(x), -1, 32)
    factor, scales = _own_scales(_best_scale(parts, -4, 3)[..., 0])
    return tp3_bytes(factor, scales, _nearest(parts, (factor * scales)[..., None].astype(np.float32), -4, 3) + 4)


def tp3_bytes(factor: Floats, scales: Ints, codes: Ints) -> Bytes:
    """Rows in fours of 3 bits: four float scales; of each block four int8 scales and 48 bytes. factor (rows, 1),
    scales (rows, blocks), codes 0 to 7 (rows, blocks, 32)."""
    fours, blocks = len(codes) // 4, codes.shape[1]
    two = (codes[..., :16] | codes[..., 16:] << 3).reshape(fours, 4, blocks, 16).transpose(0, 2, 1, 3)
    # what the fourth row has is laid over the others, two bits each
    data = two[:, :, :3] | (two[:, :, 3:] >> np.array([0, 2, 4])[:, None] & 3) << 6
    turned = scales.reshape(fours, 4, blocks).transpose(0, 2, 1).astype(np.int8).view(np.uint8)
    body = np.concatenate([turned, data.astype(np.uint8).reshape(fours, blocks, 48)], 2)
    return np.concatenate([factor.reshape(fours, 4).view(np.uint8), body.reshape(fours, -1)], 1)


def _unpack_tp3(data: Bytes, cols: int) -> Floats:
    fours = data.reshape(len(data) // 4, -1)
    body = fours[:, 16:].reshape(len(fours), -1, 52)
    d = fours[:, :16].copy().view("<f4")[..., None] * body[..., :4].view(np.int8).transpose(0, 2, 1)
    three = body[..., 4:].reshape(len(fours), -1, 3, 16).astype(np.int64)
    fourth = (three >> 6 << np.array([0, 2, 4])[:, None]).sum(2, keepdims=True)
    two = np.concatenate([three, fourth], 2).transpose(0, 2, 1, 3)
    q = np.concatenate([two & 7, two >> 3 & 7], -1) - 4
    x: Floats = (d[..., None] * q).astype(np.float32)
    return x.reshape(len(data), cols)


def _pairs(x: Floats, levels: tuple[int, int, int]) -> Bytes:
    """levels: the least value, its distance to the next, and the greatest."""
    low, step, high = levels
    parts = x.reshape(len(x), -1, 32)
    factor, scales = _own_scales(_pair_scale(parts, low, step, high))
    d = (factor * scales)[..., None].astype(np.float32)
    return pair_bytes(factor, scales, (_steps(parts, d, low, step, high) - low) // step)


def pair_bytes(factor: Floats, scales: Ints, codes: Ints) -> Bytes:
    """Rows in pairs of 2 bits: two float scales, int8 scales in turn, 16 bytes a block. factor (rows, 1), scales
    (rows, blocks), codes 0 to 3 (rows, blocks, 32)."""
    rows, blocks = scales.shape
    columns = codes.reshape(-1, 2, blocks, 4, 8)
    # row b of a pair has the column of nibble i three nibbles on
    nibbles = columns[:, 0] | np.roll(columns[:, 1], 3, -1) << 2
    data = (nibbles[..., 0::2] | nibbles[..., 1::2] << 4).astype(np.uint8).reshape(rows // 2, -1)
    turned = scales.reshape(-1, 2, blocks).transpose(0, 2, 1).reshape(rows // 2, -1)
    return np.concatenate([factor.reshape(-1, 2).view(np.uint8), _pad4(turned), data], 1)


def _steps(x: Floats, scale: Floats, low: int, step: int, high: int) -> Ints:
    """The nearest of low, low + step .. high to x / scale."""
    return low + step * _nearest(x - low * scale, step * scale, 0, (high - low) // step)


def _pair_scale(parts: Floats, low: int, step: int, high: int) -> Floats:
    """Scales (rows, blocks) of least squared error, of 24 tried."""
    base = np.abs(parts).max(-1, keepdims=True) / high
    best, least = base, np.full(base.shape, np.inf, np.float32)
    for factor in np.linspace(0.3, 1.1, 24, dtype=np.float32):
        scale = base * factor
        error = ((_steps(parts, scale, low, step, high) * scale - parts) ** 2).sum(-1, keepdims=True)
        best, least = np.where(error < least, scale, best), np.minimum(error, least)
    scales: Floats = best[..., 0].astype(np.float32)
    return scales


LEVELS = {"TP2": (-3, 2, 3), "TPT": (-1, 1, 1)}


def _unpack_pairs(data: Bytes, cols: int, type_: str) -> Floats:
    low, step, _ = LEVELS[type_]
    blocks, pairs = cols // 32, data.reshape(len(data) // 2, -1)
    factor = pairs[:, :8].copy().view("<f4")
    scales = pairs[:, 8 : 8 + 2 * blocks].view(np.int8).reshape(-1, blocks, 2).transpose(0, 2, 1)
    packed = pairs[:, -16 * blocks :].reshape(-1, blocks, 4, 4)
    nibbles = np.stack([packed & 15, packed >> 4], -1).reshape(-1, blocks, 4, 8).astype(np.int64)
    codes = np.stack([nibbles & 3, np.roll(nibbles >> 2, -3, -1)], 1).reshape(-1, 2, blocks, 32)
    d = factor[:, :, None] * scales
    x: Floats = (d[..., None] * (low + step * codes)).astype(np.float32)
    return x.reshape(len(data), cols)


# K-quants with minima: values in a block, their greatest code, that of scales and minima; and without: their least
# code, that of scales.
RANGED = {"Q2_K": (16, 3, 15, q2_k_bytes), "Q4_K": (32, 15, 63, q4_k_bytes), "Q5_K": (32, 31, 63, q5_k_bytes)}
SIGNED = {"Q3_K": (-4, -32, q3_k_bytes), "Q6_K": (-32, -128, q6_k_bytes)}


def _k_quant(x: Floats, type_: str) -> Bytes:
    parts = x.reshape(-1, 256)
    if type_ in RANGED:
        *sizes, ranged_bytes = RANGED[type_]
        return ranged_bytes(*_ranged(parts, *sizes))
    low, scale_low, signed_bytes = SIGNED[type_]
    return signed_bytes(*_signed(parts, low, scale_low))


_PACKERS: dict[str, Callable[[Floats], Bytes]] = {
    "TP3": _tp3,
    "TP2": lambda x: _pairs(x, LEVELS["TP2"]),
    "TPT": lambda x: _pairs(x, LEVELS["TPT"]),
}
