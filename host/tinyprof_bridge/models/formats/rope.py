"""What turned queries, or a table, tell of RoPE; how Llama 3 scales it."""

import numpy as np

from ..source import Floats

FASTEST = 1024  # radians a position; 1 without scaling


class NoRope(Exception):
    """Why it is none that boards have, in one line."""


def rotation(before: Floats, after: Floats) -> tuple[bool, Floats]:
    """How queries (T, H, D) were turned: whether halves of a head are pairs, not neighbours, and by which angle a
    position, each pair. Raises NoRope if that is no RoPE."""
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
        raise NoRope("its queries are not turned as RoPE does, or are changed otherwise")
    angles = np.angle(turns / turns[0])
    freqs = angles[1]
    for position in range(2, len(angles)):  # each is known better, the further it has turned
        off = angles[position] - position * freqs
        freqs = freqs + (off - 2 * np.pi * np.round(off / (2 * np.pi))) / position
    return not neighbours, freqs


def base_and_scale(freqs: Floats, exact: float) -> tuple[float, float]:
    """RoPE's base and factor of linear scaling. exact: how far angles may be off. Raises NoRope for other scaling."""
    exponents = np.arange(len(freqs)) / len(freqs)
    seen = freqs > 10 * exact
    if not seen[0] or not np.abs(freqs).max() <= FASTEST:
        raise NoRope("its queries are not turned by RoPE")
    if seen.sum() < 2:
        return 10000.0, 1 / freqs[0]
    slope, at = np.polyfit(exponents[seen], np.log(freqs[seen]), 1, w=freqs[seen])
    digits = 4 if exact < 1e-4 else 2
    base, scale = (float(f"{value:.{digits}g}") for value in (np.exp(-slope), np.exp(-at)))
    if np.abs(base**-exponents / scale - freqs).max() > exact:
        raise NoRope("RoPE is scaled in another way than by one factor")
    return base, scale


def llama3_factors(dims: int, base: float, factor: float, low: float, high: float, context: int) -> Floats:
    """What frequencies are divided by: by factor where a turn takes more than context / low positions, by 1 where it
    takes less than context / high, between them by how often they turn in the context."""
    turns = context / (2 * np.pi) * base ** (-np.arange(0, dims, 2) / dims)
    smooth = ((turns - low) / (high - low)).clip(0, 1)
    factors: Floats = (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)
    return factors
