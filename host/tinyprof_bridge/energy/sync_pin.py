"""Where the board's time lies in the time of a sensor elsewhere: by the edges of a pin that is high in each window."""

import numpy as np

from ..records.power_trace import Array, Pin, Trace
from ..records.schema import Window
from .sync_markers import Alignment, NotFound

LEAST_SHARE = 0.5  # of the board's edges, that must be seen
_SKEW = 0.02  # of the two clocks, at most
_LONGEST = 6  # windows that are looked for among the pulses
_MOST = 20_000  # edges of a pin that may be the board's; a clock has more


def align(trace: Trace, windows: list[Window]) -> Alignment:
    """By the pin on which most edges are found. Raises NotFound where the board's windows are on none."""
    times = sorted((x * 1e-6, up) for w in windows for x, up in ((w.begin, True), (w.end, False)))
    board, rises = np.array([t for t, _ in times]), np.array([up for _, up in times], dtype=bool)
    fits = [found for pin in trace.pins if (found := _best(pin, board, rises, 1 / trace.rate)) is not None]
    best = max(fits, key=lambda f: f[0], default=None)
    if best is None or best[0] < max(4, LEAST_SHARE * len(board)):
        raise NotFound("the edges of the board's windows are on no pin that the sensor saw")
    return best[1]


def _best(pin: Pin, board: Array, rises: np.ndarray, period: float) -> tuple[int, Alignment] | None:
    """(how many of the board's edges are on a pin, where they put its time)."""
    if not 4 <= len(pin.t) <= _MOST:
        return None
    pulses = np.flatnonzero(pin.up[:-1] & ~pin.up[1:])
    lengths = pin.t[pulses + 1] - pin.t[pulses]
    begins = np.flatnonzero(rises[:-1] & ~rises[1:])
    widths = board[begins + 1] - board[begins]
    tried: list[tuple[int, float, float, Array, Array]] = []  # edges, how far they are off, offset, board's, seen
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
    # 2.5 for 95 % of so few, at the farthest of the board's edges; the raster remains where edges agree by chance
    far = max(abs(board[0] - own.mean()), abs(board[-1] - own.mean())) / own.std()
    error = 2.5 * max(-off, period / np.sqrt(12)) * np.sqrt((1 + far**2) / count)
    by = f"{count} of {len(board)} edges of {pin.name}"
    return count, Alignment(float(offset), float(scale), float(error), by)


def _follow(pin: Pin, board: Array, rises: np.ndarray, j: int, i: int, period: float) -> tuple[Array, Array]:
    """The board's edges and those of the pin that go with them if the board's j is the pin's i: from near to far, by
    what the nearer ones say of both clocks."""
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
