"""Calibrated quantization: uses the inputs that a matrix sees in a text to quantize its weights more accurately.

Two methods produce the same formats as weight_types.quantize, at the same size:

importance (--method imatrix): each block's scale minimizes the squared weight errors, each weighted by the mean square
of that column's input. From 16 levels on, large weights count more. The formula is that of quantize_row_q4_0_impl
in llama.cpp's ggml-quants.c.

feedback (--method gptq): quantizes one column after another, and compensates the output error of each in the columns
that are not quantized yet (GPTQ, Frantar et al. 2022, arXiv:2210.17323). After that, it improves scales and codes
alternately."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from . import block_fit, weight_types

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

METHODS = ("nearest", "imatrix", "gptq")
# Types with at least this many levels weight errors by the size of the weight as well. With fewer levels most weights
# are far from every level, and the extra weight was measured to make models worse.
MANY_LEVELS = 16
ROUNDS = 3  # of improving scales, then codes, after the error feedback
ROWS = 256  # rows whose equations are solved at once; bounds the memory
DAMPING = 0.1  # added to the diagonal, as a fraction of the inputs' mean square: keeps the inverse finite
TERNARY_DAMPING = 0.3  # three levels make large errors; more damping makes their feedback smaller


@dataclass(frozen=True)
class Rounding:
    """How the matrices of a model are quantized.

    method: one of METHODS.
    moments: by matrix name, the mean products of its inputs over a calibration text, (cols, cols)
        (models/calibration_stats.py)."""

    method: str = "nearest"
    moments: Mapping[str, Doubles] = field(default_factory=dict)

    def quantize(self, name: str, w: Floats, type_: str) -> npt.NDArray[np.generic]:
        """Returns the weights of a matrix in a type, as weight_types.quantize does.

        Rounds to nearest where the method cannot be used: for a type outside block_fit.TYPES, and for a matrix whose
        inputs are unknown or all zero.

        name: of the matrix, as in moments.
        w: weights (rows, cols).
        type_: a key of weight_types.TYPES.
        Raises ValueError if the matrix does not fit the type."""
        moments = self.moments.get(name)
        if self.method == "nearest" or moments is None or type_ not in block_fit.TYPES or not moments.any():
            return weight_types.quantize(w, type_)
        if moments.shape[1] < w.shape[1]:  # the converter padded rows to whole blocks; inputs of the padding are 0
            missing = w.shape[1] - moments.shape[1]
            moments = np.pad(moments, ((0, missing), (0, missing)))
        return (feedback if self.method == "gptq" else importance)(w, moments, type_)


def importance(w: Floats, moments: Doubles, type_: str) -> Bytes:
    """Returns a matrix quantized with errors weighted by the mean squares of its inputs, as bytes (rows, row_bytes).

    w: weights (rows, cols).
    moments: mean products of the inputs (cols, cols); only the diagonal is used.
    type_: one of block_fit.TYPES."""
    grid = block_fit.make(type_, w)
    weights = _positive(np.diag(moments))[None].astype(np.float32)
    if grid.top + 1 >= MANY_LEVELS:
        weights = weights * np.sqrt((w * w).mean(1, keepdims=True) + w * w)
    codes = []
    for at in range(0, w.shape[1], grid.cols):
        part = w[:, at : at + grid.cols]
        least, step = grid.fit(part, weights[:, at : at + grid.cols])
        codes.append(block_fit.codes_of(part, least, step, grid.top))
    return grid.pack(np.concatenate(codes, 1))


def feedback(w: Floats, moments: Doubles, type_: str) -> Bytes:
    """Returns a matrix quantized with error feedback (GPTQ), as bytes (rows, row_bytes). Parameters as importance."""
    grid = block_fit.make(type_, w)
    damping = TERNARY_DAMPING if grid.top == 2 else DAMPING
    damped = moments + np.diag(np.full(len(moments), damping * _positive(np.diag(moments)).mean()))
    codes, values = _quantize_columns(grid, w, damped)
    for _ in range(ROUNDS):
        least, step = grid.shift(_parameter_change(grid.slopes(codes), w - values, damped, grid.cols))
        _improve_codes(w, damped, codes, least, step, grid)
        values = least + step * codes
    return grid.pack(codes)


def _quantize_columns(grid: block_fit.Grid, w: Floats, moments: Doubles) -> tuple[Ints, Doubles]:
    """Returns (codes, their values), each (rows, cols): GPTQ's pass over the columns from left to right."""
    # Row i of the factor tells how much of column i's error each column to its right takes over.
    factor = np.linalg.cholesky(np.linalg.inv(moments)).T
    weights = (1 / np.diag(factor) ** 2)[None].astype(np.float32)
    left = w.astype(np.float64)
    codes, values = np.zeros(w.shape, np.int64), np.zeros(w.shape)
    for at in range(0, w.shape[1], grid.cols):
        end = at + grid.cols
        least, step = grid.fit(left[:, at:end].astype(np.float32), weights[:, at:end])
        least, step = (np.broadcast_to(v, (len(w), grid.cols)) for v in (least, step))
        errors = np.zeros((len(w), grid.cols))
        for i in range(at, end):
            low, by = least[:, i - at], step[:, i - at]
            codes[:, i] = block_fit.codes_of(left[:, i].astype(np.float32), low, by, grid.top)
            values[:, i] = low + by * codes[:, i]
            errors[:, i - at] = (left[:, i] - values[:, i]) / factor[i, i]
            left[:, i + 1 : end] -= np.outer(errors[:, i - at], factor[i, i + 1 : end])
        left[:, end:] -= errors @ factor[at:end, end:]
    return codes, values


def _parameter_change(slopes: Floats, errors: Doubles, moments: Doubles, cols: int) -> Floats:
    """Returns what to add to the blocks' parameters for the least output error, (rows, blocks, parameters).

    With fixed codes this is a linear least-squares problem for each row, whose normal equations are solved here.

    slopes: from Grid.slopes.
    errors: weights minus their quantized values (rows, cols).
    moments: mean products of the inputs (cols, cols).
    cols: columns of a block."""
    found = []
    for at in range(0, len(errors), ROWS):
        part, e = slopes[at : at + ROWS].astype(np.float64), errors[at : at + ROWS]
        rows, width, count = part.shape
        n = width // cols * count
        equations = np.zeros((rows, n, n))
        for k in range(n):
            block, which = slice(k // count * cols, (k // count + 1) * cols), k % count
            weighted = (part[:, block, which] @ moments[block])[..., None] * part
            equations[:, k] = weighted.reshape(rows, -1, cols, count).sum(2).reshape(rows, n)
        wanted = ((e @ moments)[..., None] * part).reshape(rows, -1, cols, count).sum(2).reshape(rows, n)
        # A little damping leaves a parameter alone that no value depends on (a block whose codes are all 0).
        little = 1e-6 * np.einsum("rkk->rk", equations).max(1) + 1e-300
        equations += little[:, None, None] * np.eye(n)
        found.append(np.linalg.solve(equations, wanted[..., None]).reshape(rows, -1, count))
    return np.concatenate(found).astype(np.float32)


def _improve_codes(w: Floats, moments: Doubles, codes: Ints, least: Floats, step: Floats, grid: block_fit.Grid) -> None:
    """Changes codes in place, from left to right, each to its best value while all others stay (coordinate descent)."""
    slope = (w - (least + step * codes)) @ moments
    for at in range(0, w.shape[1], grid.cols):
        end = at + grid.cols
        changes = np.zeros((len(w), grid.cols))
        inner = slope[:, at:end].copy()
        for i in range(at, end):
            low, by = least[:, i], step[:, i]
            wanted = low + by * codes[:, i] + inner[:, i - at] / moments[i, i]
            new = block_fit.codes_of(wanted.astype(np.float32), low, by, grid.top)
            changes[:, i - at] = by * (new - codes[:, i])
            codes[:, i] = new
            inner -= np.outer(changes[:, i - at], moments[i, at:end])
        slope -= changes @ moments[at:end]


def _positive(squares: Doubles) -> Doubles:
    """Returns mean squares with a small lower bound: a weight whose input was always 0 still counts a little."""
    raised: Doubles = np.maximum(squares, 1e-6 * squares.max() + 1e-30)
    return raised
