"""Weights rounded with regard to what goes into their matrix: better than each to the nearest.

importance: the scale of each block makes the squared errors least, each weighted with the mean square of its input
(and from 16 levels on with the weight's own size), as llama.cpp's imatrix does. feedback: beside that, what rounding a
column does to the outputs is made up for in the columns not yet rounded (GPTQ, Frantar et al. 2022)."""

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
# Levels from which great weights count more than small ones; with fewer, most of a block's weights are far from all
# levels, and that makes models worse.
MANY = 16
ROUNDS = 3  # in which feedback betters scales and codes in turn
ROWS = 256  # whose equations are solved at once
DAMPING = 0.1  # of the mean square of the inputs: keeps the inverse finite and the feedback small
TERNARY_DAMPING = 0.3  # where errors are large, smaller feedback is better


@dataclass(frozen=True)
class Rounding:
    """How a model is rounded. moments: mean products of the inputs of its matrices, by name (calibrate.py)."""

    method: str = "nearest"
    moments: Mapping[str, Doubles] = field(default_factory=dict)

    def quantize(self, name: str, w: Floats, type_: str) -> npt.NDArray[np.generic]:
        """As quants.quantize, which does it where this knows nothing better: for a type that is not in grids.TYPES,
        and for a matrix of which no inputs are known."""
        moments = self.moments.get(name)
        if self.method == "nearest" or moments is None or type_ not in block_fit.TYPES or not moments.any():
            return weight_types.quantize(w, type_)
        if moments.shape[1] < w.shape[1]:  # columns added to fill a block: their inputs are 0
            missing = w.shape[1] - moments.shape[1]
            moments = np.pad(moments, ((0, missing), (0, missing)))
        return (feedback if self.method == "gptq" else importance)(w, moments, type_)


def importance(w: Floats, moments: Doubles, type_: str) -> Bytes:
    """w (rows, cols) in a type of grids.TYPES; moments (cols, cols): mean products of the inputs."""
    grid = block_fit.make(type_, w)
    weights = _positive(np.diag(moments))[None].astype(np.float32)
    if grid.top + 1 >= MANY:
        weights = weights * np.sqrt((w * w).mean(1, keepdims=True) + w * w)
    codes = []
    for at in range(0, w.shape[1], grid.cols):
        part = w[:, at : at + grid.cols]
        least, step = grid.fit(part, weights[:, at : at + grid.cols])
        codes.append(block_fit.codes_of(part, least, step, grid.top))
    return grid.pack(np.concatenate(codes, 1))


def feedback(w: Floats, moments: Doubles, type_: str) -> Bytes:
    """As importance."""
    grid = block_fit.make(type_, w)
    damping = TERNARY_DAMPING if grid.top == 2 else DAMPING
    damped = moments + np.diag(np.full(len(moments), damping * _positive(np.diag(moments)).mean()))
    codes, values = _fed_back(grid, w, damped)
    for _ in range(ROUNDS):
        least, step = grid.shift(_change(grid.slopes(codes), w - values, damped, grid.cols))
        _exchange(w, damped, codes, least, step, grid)
        values = least + step * codes
    return grid.pack(codes)


def _fed_back(grid: block_fit.Grid, w: Floats, moments: Doubles) -> tuple[Ints, Doubles]:
    """Codes column by column, and their values."""
    # rows of the factor say how the error of a column is made up for in those right of it
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


def _change(slopes: Floats, errors: Doubles, moments: Doubles, cols: int) -> Floats:
    """What to add to the parameters of all blocks of a row so that its errors, weighted with moments, are least: a
    linear regression. cols: of a block; the result: (rows, blocks, parameters)."""
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
        # keeps what no code depends on
        little = 1e-6 * np.einsum("rkk->rk", equations).max(1) + 1e-300
        equations += little[:, None, None] * np.eye(n)
        found.append(np.linalg.solve(equations, wanted[..., None]).reshape(rows, -1, count))
    return np.concatenate(found).astype(np.float32)


def _exchange(w: Floats, moments: Doubles, codes: Ints, least: Floats, step: Floats, grid: block_fit.Grid) -> None:
    """Gives each code, from left to right, the value that is best with all others as they are."""
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
    """Mean squares of inputs, those that never came raised to a little: their weights count somewhat too."""
    raised: Doubles = np.maximum(squares, 1e-6 * squares.max() + 1e-30)
    return raised
