"""Finds RoPE's parameters from rotated queries or from a table, and computes Llama 3's scaling."""

import numpy as np

from ..source import Floats

FASTEST = 1024  # radians per position of the fastest pair, at most; 1 without scaling


class NoRope(Exception):
    """The rotation is not a RoPE that boards support. The message is one line with the reason."""


def rotation(before: Floats, after: Floats) -> tuple[bool, Floats]:
    """Returns whether RoPE pairs the two halves of a head (else neighbouring values), and the pairs' frequencies.

    The frequencies (D / 2,) are in radians per position.

    before, after: queries (T, H, D) before and after RoPE.
    Raises NoRope if no rotation by position turns one into the other."""
    half = before.shape[2] // 2
    fits = []
    for halves in (True, False):
        a, b = (
            x[..., :half] + 1j * x[..., half:] if halves else x[..., 0::2] + 1j * x[..., 1::2]
            for x in (before.astype(np.float64), after.astype(np.float64))
        )
        turns = (b * a.conj()).sum(1) / (np.abs(a) ** 2).sum(1)
        wrong = np.linalg.norm(b - turns[:, None] * a) / np.linalg.norm(b)
        fits.append((wrong, not halves, turns))
    wrong, neighbours, turns = min(fits, key=lambda fit: fit[0])
    size = np.abs(turns)
    if not wrong < 0.01 or not np.ptp(size) < 0.01 * size.mean():
        raise NoRope("its queries are not rotated by RoPE, or are changed in another way")
    angles = np.angle(turns / turns[0])
    freqs = angles[1]
    for position in range(2, len(angles)):  # later positions have turned further and give the frequency more exactly
        off = angles[position] - position * freqs
        freqs = freqs + (off - 2 * np.pi * np.round(off / (2 * np.pi))) / position
    return not neighbours, freqs


def base_and_scale(freqs: Floats, exact: float) -> tuple[float, float]:
    """Returns RoPE's base and its factor of linear scaling: freqs[i] = base ** (-i / len(freqs)) / factor.

    freqs: radians per position of each pair.
    exact: tolerated error of a frequency, in radians per position.
    Raises NoRope if the frequencies do not follow this formula."""
    exponents = np.arange(len(freqs)) / len(freqs)
    seen = freqs > 10 * exact
    if not seen[0] or not np.abs(freqs).max() <= FASTEST:
        raise NoRope("its queries are not rotated by RoPE")
    if seen.sum() < 2:
        return 10000.0, 1 / freqs[0]
    slope, at = np.polyfit(exponents[seen], np.log(freqs[seen]), 1, w=freqs[seen])
    digits = 4 if exact < 1e-4 else 2
    base, scale = (float(f"{value:.{digits}g}") for value in (np.exp(-slope), np.exp(-at)))
    if np.abs(base**-exponents / scale - freqs).max() > exact:
        raise NoRope("RoPE's scaling is not linear")
    return base, scale


def llama3_factors(dims: int, base: float, factor: float, low: float, high: float, context: int) -> Floats:
    """Returns the divisors (dims / 2,) of RoPE's frequencies in Llama 3's scaling, as in transformers'
    _compute_llama3_parameters.

    A frequency with less than `low` turns in the context is divided by `factor`, one with more than `high` turns stays
    the same, and the divisors of those between are interpolated.

    dims: values of a head that RoPE rotates.
    base: RoPE's base frequency.
    context: original_max_position_embeddings, in tokens."""
    turns = context / (2 * np.pi) * base ** (-np.arange(0, dims, 2) / dims)
    smooth = ((turns - low) / (high - low)).clip(0, 1)
    factors: Floats = (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)
    return factors
