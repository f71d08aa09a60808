"""The weight types that the kernels know, and round-to-nearest quantization to each of them.

A weight type stores the weights of a quantization block as small integers (codes) and a scale, some types with a
minimum as well. llama.cpp's ggml-common.h and ggml-quants.c define the layouts of the types that GGUF has;
docs/kernels.md defines TP2, TP3 and TPT, which are tinyprof's own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # gguf takes long to load, and a report needs only sizes
    from gguf import GGMLQuantizationType

from .. import device_package

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Type:
    """One weight type.

    id: its number in GGUF files.
    values: of a block; a matrix's columns must be a multiple of this.
    bytes: of a block; 0 for tinyprof's own types.
    rows: stored together; a matrix's rows must be a multiple of this.
    file_type: llama.cpp's general.file_type; None for tinyprof's own types.
    fallback: the type for matrices that do not fit this one."""

    id: int
    values: int
    bytes: int
    rows: int
    file_type: int | None
    fallback: str | None = None


# What only the host needs: file_type and fallback.
_FILE_TYPES: dict[str, tuple[int | None, str | None]] = {
    "F32": (0, None),
    "F16": (1, None),
    "Q4_0": (2, None),
    "Q4_1": (3, None),
    "Q5_0": (8, None),
    "Q5_1": (9, None),
    "Q8_0": (7, None),
    "Q2_K": (10, "Q4_0"),
    "Q3_K": (11, "Q4_0"),
    "Q4_K": (14, "Q5_0"),
    "Q5_K": (16, "Q5_1"),
    "Q6_K": (18, "Q8_0"),
    "TQ1_0": (36, "TPT"),
    "TQ2_0": (37, "TPT"),
    "TP2": (None, "Q4_0"),
    "TP3": (None, "Q4_0"),
    "TPT": (None, "Q4_0"),
}


def _types() -> dict[str, Type]:
    """Returns all types of the device package, by name."""
    layout = device_package.data("weight_types").layout
    ids = {name: id_ for id_, name in device_package.data("ops").TYPES.items()}
    types = {}
    for name, (file_type, fallback) in _FILE_TYPES.items():
        values, size, rows, *_ = layout(name)
        types[name] = Type(ids[name], values, size, rows, file_type, fallback)
    return types


TYPES = _types()
OWN = tuple(name for name, type_ in TYPES.items() if type_.rows > 1)  # not in llama.cpp
MIXES = {"Q4_K_M": ("Q4_K", 15)}  # the type of most tensors, and general.file_type
F16_MAX = 65504.0
# Q8_0 and Q4_0 store the scale max / 127 or max / 8 in fp16; tinyprof's own types store it in fp32. All others are
# limited to the greatest fp16 number itself.
_LARGEST = {"F32": np.inf, "Q8_0": 127 * F16_MAX, "Q4_0": 8 * F16_MAX, "TP2": np.inf, "TP3": np.inf, "TPT": np.inf}


def largest(type_: str) -> float:
    """Returns the greatest absolute weight that a type can hold."""
    return _LARGEST.get(type_, F16_MAX)


def fitting(type_: str, rows: int, cols: int) -> str:
    """Returns the type itself, or the first of its fallbacks that a matrix of this shape fits.

    Raises ValueError if none fits."""
    choice: str | None = type_
    while choice is not None:
        if cols % TYPES[choice].values == 0 and rows % TYPES[choice].rows == 0:
            return choice
        choice = TYPES[choice].fallback
    raise ValueError(f"rows of {cols} weights do not fit {type_}: they must be a multiple of 32; use F16 or F32")


def chosen(name: str, layers: int, type_: str) -> str:
    """Returns the type of one tensor in a file that is converted to a type or a mix.

    Q4_K_M follows llama.cpp (use_more_bits in llama-quant.cpp): Q6_K for the output matrix and, in the layers where
    precision matters most, for attn_v and ffn_down.

    name: of the tensor in GGUF.
    layers: of the model.
    type_: a key of TYPES or MIXES."""
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
    """Returns the bytes of one row of a matrix; for types that interleave rows, the mean of the rows in a group."""
    if type_ == "TP3":
        return 4 + cols // 32 * 13
    if type_ in OWN:
        return 4 + (2 * cols // 32 + 3) // 4 * 2 + cols // 32 * 8
    return cols // TYPES[type_].values * TYPES[type_].bytes


def raw_type(type_: str) -> "GGMLQuantizationType":
    """Returns the type's number in the form GGUFWriter wants. It accepts the numbers of tinyprof's own types, too."""
    from gguf import GGMLQuantizationType

    id_ = TYPES[type_].id
    return cast(GGMLQuantizationType, id_) if type_ in OWN else GGMLQuantizationType(id_)


def quantize(x: Floats, type_: str) -> npt.NDArray[np.generic]:
    """Returns weights rounded to nearest: bytes (rows, row_bytes), or floats (rows, cols) for F32 and F16.

    x: weights (rows, cols).
    type_: a key of TYPES.
    Raises ValueError if the matrix does not fit the type."""
    rows, cols = x.shape
    if cols % TYPES[type_].values or rows % TYPES[type_].rows:
        need = f"rows a multiple of {TYPES[type_].rows}, columns a multiple of {TYPES[type_].values}"
        raise ValueError(f"a matrix of {rows} x {cols} does not fit {type_}: it needs {need}")
    from gguf import GGMLQuantizationType
    from gguf.quants import quantize as gguf_quantize

    # A block whose scale is too small for fp16 becomes all zeros, through a division by zero in the quantizers.
    with np.errstate(all="ignore"):
        if type_ in RANGED or type_ in SIGNED:
            return _k_quant(x, type_).reshape(rows, -1)
        if type_ in _PACKERS:
            return _PACKERS[type_](x).reshape(rows, -1)
        return gguf_quantize(x, GGMLQuantizationType[type_])


def dequantize(data: Bytes, type_: str, cols: int) -> Floats:
    """Returns the weights (rows, cols) that quantized bytes stand for.

    data: from quantize (rows, row_bytes).
    type_: a key of TYPES.
    cols: columns of the matrix."""
    if type_ not in OWN:
        from gguf import GGMLQuantizationType
        from gguf.quants import dequantize as gguf_dequantize

        return gguf_dequantize(data, GGMLQuantizationType[type_])
    return _unpack_tp3(data, cols) if type_ == "TP3" else _unpack_pairs(data, cols, type_)


def _nearest(x: Floats, scale: Floats, low: int, high: int) -> Ints:
    """Returns x / scale rounded to integers from low to high; where the scale is 0, the one nearest to 0."""
    q = np.divide(x, scale, out=np.zeros_like(x, dtype=np.float32), where=scale != 0)
    return np.rint(q).clip(low, high).astype(np.int64)


def _best_scale(x: Floats, low: int, high: int) -> Floats:
    """Returns for blocks x (..., n) the scales (..., 1) with the least squared error, the best of 20 tried.

    They lie around the scale that turns the weight of greatest absolute value into low, the end farther from 0."""
    at = np.abs(x).argmax(-1, keepdims=True)
    base = np.take_along_axis(x, at, -1) / low
    best, least = base, np.full(base.shape, np.inf, np.float32)
    for factor in np.linspace(0.7, 1.3, 20, dtype=np.float32):
        scale = base * factor
        error = ((_nearest(x, scale, low, high) * scale - x) ** 2).sum(-1, keepdims=True)
        best, least = np.where(error < least, scale, best), np.minimum(error, least)
    return best.astype(np.float32)


def _range_scale(x: Floats, high: int) -> tuple[Floats, Floats]:
    """Returns (scale, min), each (..., 1): blocks x (..., n) are scale * q - min, q from 0 to high, min >= 0."""
    least = np.minimum(x.min(-1, keepdims=True), 0)
    return ((x.max(-1, keepdims=True) - least) / high).astype(np.float32), -least


def _f16(x: npt.NDArray[np.floating]) -> tuple[Bytes, Floats]:
    """Returns x (...) in fp16, as bytes (..., 2) and as floats (...)."""
    half = x.astype("<f2")
    return half[..., None].view(np.uint8), half.astype(np.float32)


def _six_bits(scale: Ints, least: Ints) -> Bytes:
    """Returns the 12 bytes in which Q4_K and Q5_K store 8 scales and 8 minima of 6 bits, (n, 12)."""
    first = scale[:, :4] | scale[:, 4:] >> 4 << 6
    second = least[:, :4] | least[:, 4:] >> 4 << 6
    third = scale[:, 4:] & 15 | (least[:, 4:] & 15) << 4
    return np.concatenate([first, second, third], 1).astype(np.uint8)


def _ranged(x: Floats, block: int, high: int, most: int) -> tuple[Bytes, Bytes, Ints, Ints, Ints]:
    """Returns (d, dmin, scales, mins, codes) of superblocks x (n, 256) for a type of RANGED.

    block: weights in a block. high: greatest code. most: greatest scale and minimum."""
    parts = x.reshape(len(x), -1, block)
    scale, least = _range_scale(parts, high)
    (d, df), (m, mf) = _f16(scale.max(1)[:, 0] / most), _f16(least.max(1)[:, 0] / most)
    scales = _nearest(scale[..., 0], df[:, None], 0, most)
    mins = _nearest(least[..., 0], mf[:, None], 0, most)
    step = (df[:, None] * scales)[..., None].astype(np.float32)
    q = _nearest(parts + (mf[:, None] * mins)[..., None].astype(np.float32), step, 0, high)
    return d, m, scales, mins, q.reshape(len(x), 256)


def _signed(x: Floats, low: int, scale_low: int) -> tuple[Bytes, Ints, Ints]:
    """Returns (d, scales, codes) of superblocks x (n, 256) for a type of SIGNED. Codes start at 0.

    low: the least level. scale_low: the least scale."""
    parts = x.reshape(-1, 16, 16)
    scale = _best_scale(parts, low, -low - 1)[..., 0]
    at = np.abs(scale).argmax(1)[:, None]
    d, df = _f16(np.take_along_axis(scale, at, 1)[:, 0] / scale_low)
    scales = _nearest(scale, df[:, None], scale_low, -scale_low - 1)
    q = _nearest(parts, (df[:, None] * scales)[..., None].astype(np.float32), low, -low - 1)
    return d, scales, q.reshape(len(x), 256) - low


def _join(q: Ints, bits: int, count: int) -> Bytes:
    """Returns codes packed count to a byte: each byte takes one code of each of count runs of 32, the first lowest.

    q: codes (n, groups * count * 32). bits: of a code."""
    runs = q.reshape(len(q), -1, count, 32)
    joined: Ints = (runs << (bits * np.arange(count))[:, None]).sum(2)
    return joined.astype(np.uint8).reshape(len(q), -1)


def q2_k_bytes(d: Bytes, m: Bytes, scales: Ints, mins: Ints, q: Ints) -> Bytes:
    """Returns Q2_K superblocks (n, 84).

    d, m: fp16 units of scales and minima, as bytes (n, 2).
    scales, mins: 4-bit integers (n, 16).
    q: codes from 0 (n, 256)."""
    return np.concatenate([(scales | mins << 4).astype(np.uint8), _join(q, 2, 4), d, m], 1)


def q4_k_bytes(d: Bytes, m: Bytes, scales: Ints, mins: Ints, q: Ints) -> Bytes:
    """Returns Q4_K superblocks (n, 144). Parameters as q2_k_bytes, but scales and mins are 6-bit integers (n, 8)."""
    return np.concatenate([d, m, _six_bits(scales, mins), _join(q, 4, 2)], 1)


def q5_k_bytes(d: Bytes, m: Bytes, scales: Ints, mins: Ints, q: Ints) -> Bytes:
    """Returns Q5_K superblocks (n, 176). Parameters as q4_k_bytes."""
    return np.concatenate([d, m, _six_bits(scales, mins), _join(q >> 4, 1, 8), _join(q & 15, 4, 2)], 1)


def q3_k_bytes(d: Bytes, scales: Ints, q: Ints) -> Bytes:
    """Returns Q3_K superblocks (n, 110).

    d: fp16 unit of the scales, as bytes (n, 2).
    scales: integers from -32 (n, 16).
    q: codes from 0 (n, 256)."""
    scales = scales + 32
    low = scales[:, :8] & 15 | (scales[:, 8:] & 15) << 4
    high = (scales.reshape(-1, 4, 4) >> 4 << (2 * np.arange(4))[:, None]).sum(1)
    return np.concatenate([_join(q >> 2, 1, 8), _join(q & 3, 2, 4), low.astype(np.uint8), high.astype(np.uint8), d], 1)


def q6_k_bytes(d: Bytes, scales: Ints, q: Ints) -> Bytes:
    """Returns Q6_K superblocks (n, 210). Parameters as q3_k_bytes, but scales are integers from -128."""
    # In each half of 128 codes, codes 0 to 63 take the low nibbles and codes 64 to 127 the high ones.
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
    """Returns scales (rows, blocks) as a float for each row (rows, 1) and an int8 for each block."""
    factor = own_factor(np.abs(scale).max(1, keepdims=True))
    return factor, _nearest(scale, factor, -127, 127)


def own_factor(greatest: Floats) -> Floats:
    """Returns the float of a row in TP2, TP3 and TPT: its greatest scale / 127.

    It is 1 for a row of zeros, because a float of 0 takes a slow path on cores without FPU.

    greatest: the greatest absolute scale of each row (rows, 1)."""
    factor = greatest / np.float32(127)
    return np.where(factor > 0, factor, np.float32(1)).astype(np.float32)


def _pad4(x: npt.NDArray[np.generic]) -> Bytes:
    """Returns int8 values (n, count) as bytes, each row padded to a multiple of 4."""
    padded = np.zeros((len(x), (x.shape[1] + 3) // 4 * 4), np.int8)
    padded[:, : x.shape[1]] = x
    return padded.view(np.uint8)


def _tp3(x: Floats) -> Bytes:
    parts = x.reshape(len(x), -1, 32)
    factor, scales = _own_scales(_best_scale(parts, -4, 3)[..., 0])
    return tp3_bytes(factor, scales, _nearest(parts, (factor * scales)[..., None].astype(np.float32), -4, 3) + 4)


def tp3_bytes(factor: Floats, scales: Ints, codes: Ints) -> Bytes:
    """Returns a matrix in TP3 as bytes (rows // 4, bytes of four rows).

    Four rows are stored together: four floats, then for each block four int8 scales and 48 bytes of codes.

    factor: float of each row (rows, 1).
    scales: int8 range (rows, blocks).
    codes: 0 to 7 (rows, blocks, 32)."""
    fours, blocks = len(codes) // 4, codes.shape[1]
    two = (codes[..., :16] | codes[..., 16:] << 3).reshape(fours, 4, blocks, 16).transpose(0, 2, 1, 3)
    # Two 3-bit codes of a row fill 6 bits of a byte. The fourth row's 6 bits go into the top 2 bits of the other three.
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
    """Returns weights x (rows, cols) in TP2 or TPT.

    levels: the least level, the distance between two, the greatest."""
    low, step, high = levels
    parts = x.reshape(len(x), -1, 32)
    factor, scales = _own_scales(_pair_scale(parts, low, step, high))
    d = (factor * scales)[..., None].astype(np.float32)
    return pair_bytes(factor, scales, (_steps(parts, d, low, step, high) - low) // step)


def pair_bytes(factor: Floats, scales: Ints, codes: Ints) -> Bytes:
    """Returns a matrix in TP2 or TPT as bytes (rows // 2, bytes of two rows).

    Two rows are stored together: two floats, the int8 scales of both rows alternately, then 16 bytes for each block.

    factor: float of each row (rows, 1).
    scales: int8 range (rows, blocks).
    codes: 0 to 3 (rows, blocks, 32)."""
    rows, blocks = scales.shape
    columns = codes.reshape(-1, 2, blocks, 4, 8)
    # A nibble holds a code of each row. Those of the second row are rotated by three nibbles (see docs/kernels.md).
    nibbles = columns[:, 0] | np.roll(columns[:, 1], 3, -1) << 2
    data = (nibbles[..., 0::2] | nibbles[..., 1::2] << 4).astype(np.uint8).reshape(rows // 2, -1)
    turned = scales.reshape(-1, 2, blocks).transpose(0, 2, 1).reshape(rows // 2, -1)
    return np.concatenate([factor.reshape(-1, 2).view(np.uint8), _pad4(turned), data], 1)


def _steps(x: Floats, scale: Floats, low: int, step: int, high: int) -> Ints:
    """Returns the level of low, low + step, ... high that is nearest to x / scale."""
    return low + step * _nearest(x - low * scale, step * scale, 0, (high - low) // step)


def _pair_scale(parts: Floats, low: int, step: int, high: int) -> Floats:
    """Returns the scales (rows, blocks) with the least squared error, the best of 24 tried."""
    base = np.abs(parts).max(-1, keepdims=True) / high
    best, least = base, np.full(base.shape, np.inf, np.float32)
    for factor in np.linspace(0.3, 1.1, 24, dtype=np.float32):
        scale = base * factor
        error = ((_steps(parts, scale, low, step, high) * scale - parts) ** 2).sum(-1, keepdims=True)
        best, least = np.where(error < least, scale, best), np.minimum(error, least)
    scales: Floats = best[..., 0].astype(np.float32)
    return scales


LEVELS = {"TP2": (-3, 2, 3), "TPT": (-1, 1, 1)}  # the least level, the distance between two, the greatest


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


# K-quants with minima: weights in a block, greatest code, greatest scale and minimum, packer.
RANGED = {"Q2_K": (16, 3, 15, q2_k_bytes), "Q4_K": (32, 15, 63, q4_k_bytes), "Q5_K": (32, 31, 63, q5_k_bytes)}
# K-quants without minima: least level, least scale, packer.
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
