"""Alignment of an external sensor's clock with the board's, by the edges of a pin that is high in each window."""

import numpy as np

from ..records.power_trace import Array, Pin, Trace
from ..records.schema import Window
from .sync_markers import Alignment, NotFound

LEAST_SHARE = 0.5  # of the board's edges must be seen
_SKEW = 0.02  # largest relative difference between the two clocks
_LONGEST = 6  # windows to match with pulses: the longest ones
_MOST = 20_000  # a pin with more edges is a clock signal, not the board's pin


def align(trace: Trace, windows: list[Window]) -> Alignment:
    """The alignment of a trace by the pin that shows most edges of the windows.

    Raises NotFound if no pin shows at least half of them."""
    times = sorted((x * 1e-6, up) for w in windows for x, up in ((w.begin, True), (w.end, False)))
    board, rises = np.array([t for t, _ in times]), np.array([up for _, up in times], dtype=bool)
    fits = [found for pin in trace.pins if (found := _best(pin, board, rises, 1 / trace.rate)) is not None]
    best = max(fits, key=lambda f: f[0], default=None)
    if best is None or best[0] < max(4, LEAST_SHARE * len(board)):
        raise NotFound("no digital input of the trace shows the board's windows; check the wire to the board's pin")
    return best[1]


def _best(pin: Pin, board: Array, rises: np.ndarray, period: float) -> tuple[int, Alignment] | None:
    """(number of the board's edges found on a pin, the alignment by them); None if nothing matches.

    board: seconds of each edge by the board's clock.
    rises: whether each edge rises.
    period: seconds between the trace's readings."""
    if not 4 <= len(pin.t) <= _MOST:
        return None
    pulses = np.flatnonzero(pin.up[:-1] & ~pin.up[1:])
    lengths = pin.t[pulses + 1] - pin.t[pulses]
    begins = np.flatnonzero(rises[:-1] & ~rises[1:])
    widths = board[begins + 1] - board[begins]
    tried: list[tuple[int, float, float, Array, Array]] = []  # edges, minus their RMS error, offset, board's, seen
    for j in begins[np.argsort(-widths, kind="stable")[:_LONGEST]]:
        width = board[j + 1] - board[j]
        for i in pulses[abs(lengths - width) <= _SKEW * width + 2 * period]:
            if any(abs(pin.t[i] - board[j] - offset) < 2 * period for _, _, offset, _, _ in tried):
                continue
            own, seen = _follow(pin, board, rises, int(j), int(i), period)
            scale, offset = np.polyfit(own, seen, 1)
            off = float(np.sqrt(((seen - offset - scale * own) ** 2).mean()))
            tried.append((len(own), -off, float(pin.t[i] - board[j]), own, seen))
    if not tried:
        return None
    count, off, _, own, seen = max(tried, key=lambda f: f[:2])
    scale, offset = np.polyfit(own, seen, 1)
    # the 95 % error (2.5: Student's t for few edges) at the farthest of the board's edges; at least the sampling
    # period's uncertainty, even if the edges agree by chance
    far = max(abs(board[0] - own.mean()), abs(board[-1] - own.mean())) / own.std()
    error = 2.5 * max(-off, period / np.sqrt(12)) * np.sqrt((1 + far**2) / count)
    by = f"{count} of {len(board)} edges of {pin.name}"
    return count, Alignment(float(offset), float(scale), float(error), by)


def _follow(pin: Pin, board: Array, rises: np.ndarray, j: int, i: int, period: float) -> tuple[Array, Array]:
    """(times of board edges, times of the matching pin edges), assuming that board edge j is pin edge i.

    Works from near to far: the matches so far give the clocks' ratio, which predicts the next match."""
    own, seen = [board[j]], [pin.t[i]]
    sides = {up: pin.t[pin.up == up] for up in (True, False)}
    for k in np.argsort(abs(board - board[j]), kind="stable")[1:]:
        span = max(own) - min(own)
        scale = float(np.polyfit(own, seen, 1)[0]) if span > 100 * period else 1.0
        sure = min(2 * period / span, _SKEW) if span > 100 * period else _SKEW
        near = min(range(len(own)), key=lambda n: abs(own[n] - board[k]))
        there = seen[near] + scale * (board[k] - own[near])
        side = sides[bool(rises[k])]
        at = int(np.searchsorted(side, there))
        close = [float(t) for t in side[max(at - 1, 0) : at + 1]]
        hit = min(close, key=lambda t: abs(t - there), default=np.inf)
        if abs(hit - there) <= 2 * period + sure * abs(board[k] - own[near]):
            own.append(board[k])
            seen.append(hit)
    return np.array(own), np.array(seen)
