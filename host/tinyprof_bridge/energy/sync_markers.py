"""Alignment of an external sensor's clock with the board's, by the markers in the load.

A marker is a pattern of idle and busy steps that does not resemble any shift of itself (a Barker code). Correlation
finds it. Each of its edges is then placed between two readings, from the energy around it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..records.power_trace import Trace, joules
from ..records.schema import Marker

Array = NDArray[np.float64]

LEAST_LIKENESS = 0.8  # correlation coefficient of pattern and trace
_GRID = 20  # points per step of the pattern in the search
_SKEW = 0.02  # largest relative difference between the two clocks


class NotFound(ValueError):
    """The markers, or the edges of a pin, are not in the trace."""


@dataclass(frozen=True)
class Alignment:
    """A linear map from the board's clock to the trace's: trace seconds = offset + scale * board seconds.

    offset: seconds.
    scale: trace seconds per board second.
    error: 95 % error in seconds.
    by: what it was found by, for display."""

    offset: float
    scale: float
    error: float
    by: str = "markers"

    def at(self, board: float) -> float:
        """Trace time for a board time, both in seconds."""
        return self.offset + self.scale * board


def align(trace: Trace, markers: list[Marker]) -> Alignment:
    """The alignment of a trace by the markers of a run. Raises NotFound if a marker is not in the trace."""
    if not markers:
        raise NotFound("the run has no markers; collect it with --power markers")
    steps = [_steps(m) for m in markers]
    width = (markers[0].end - markers[0].begin) * 1e-6 / markers[0].bits
    grid = max(width / _GRID, 1 / trace.rate)
    if grid > width / 2:
        raise NotFound(
            f"{trace.rate:.3g} readings per second are too few for marker steps of {width * 1e3:.3g} ms;"
            " set the logger to a higher rate"
        )
    times = np.arange(trace.t[0], trace.t[-1], grid)
    watts = _resample(trace, times, grid)
    likeness = [_likeness(watts, s, (m.end - m.begin) * 1e-6, grid) for s, m in zip(steps, markers, strict=True)]
    places = _places(likeness, [(m.begin - markers[0].begin) * 1e-6 for m in markers], grid)
    worst = min(found[i] for found, i in zip(likeness, places, strict=True))
    if worst < LEAST_LIKENESS:
        raise NotFound(
            f"the markers are not in {trace.name or 'the trace'} (correlation {worst:.2f}, at least {LEAST_LIKENESS}"
            " is needed): use the capture of this run, or wire a pin"
        )
    board, seen = [], []
    for marker, step, place in zip(markers, steps, places, strict=True):
        for k, edge in _edges(trace, step, times[place], width):
            board.append(marker.begin * 1e-6 + k * width)
            seen.append(edge)
    return _fit(np.array(board), np.array(seen), len(markers), 1 / trace.rate)


def _steps(marker: Marker) -> Array:
    """The pattern as 1 (busy) and 0 (asleep) per step."""
    return np.array([marker.pattern >> (marker.bits - 1 - i) & 1 for i in range(marker.bits)], dtype=float)


def _resample(trace: Trace, times: Array, grid: float) -> Array:
    """Mean power over each step of the grid."""
    watts = trace.watts
    charge = np.concatenate(([0.0], np.cumsum(np.diff(trace.t) * (watts[1:] + watts[:-1]) / 2)))
    edges = np.concatenate((times, [times[-1] + grid]))
    resampled: Array = np.diff(np.interp(edges, trace.t, charge)) / grid
    return resampled


def _likeness(watts: Array, steps: Array, seconds: float, grid: float) -> Array:
    """Correlation coefficient of pattern and trace at each position of the grid."""
    count = round(seconds / grid)
    pattern = steps[np.minimum((np.arange(count) + 0.5) * len(steps) / count, len(steps) - 1).astype(int)]
    if len(watts) < count:
        raise NotFound("the trace is shorter than a marker; record from before the run to after its end")
    pattern = pattern - pattern.mean()
    sums, squares = (np.concatenate(([0.0], np.cumsum(x))) for x in (watts, watts**2))
    mean = (sums[count:] - sums[:-count]) / count
    spread = np.sqrt(np.maximum((squares[count:] - squares[:-count]) / count - mean**2, 0))
    product = np.correlate(watts - watts.mean(), pattern, "valid")
    floor = 1e-6 * np.abs(watts).max() + 1e-12  # keeps rounding noise of a flat trace from matching
    found: Array = product / (count * pattern.std() * np.maximum(spread, floor))
    return found


def _places(likeness: list[Array], after: list[float], grid: float) -> list[int]:
    """The grid position of each marker: the best set whose distances agree with the board's, within the skew."""
    if len(likeness) == 1:
        return [int(likeness[0].argmax())]
    best, found = -2.0, [0] * len(likeness)
    for first in np.argsort(likeness[0])[::-1][:200]:
        places = [int(first)]
        for other, seconds in zip(likeness[1:], after[1:], strict=True):
            room = seconds * _SKEW / grid + 2
            low = max(int(first + seconds / grid - room), 0)
            high = int(first + seconds / grid + room) + 1
            if low >= min(high, len(other)):
                break
            places.append(low + int(other[low:high].argmax()))
        if len(places) == len(likeness):
            score = min(x[i] for x, i in zip(likeness, places, strict=True))
            if score > best:
                best, found = float(score), places
    return found


def _edges(trace: Trace, steps: Array, begin: float, width: float) -> list[tuple[int, float]]:
    """(number of the step after it, time) of each edge, from the energy between the middles of both plateaus."""
    changes = [0, *(i for i in range(1, len(steps)) if steps[i] != steps[i - 1]), len(steps)]
    middles = [begin + width * (a + b) / 2 for a, b in zip(changes, changes[1:], strict=False)]
    levels = [
        _mean(trace, begin + (a + 0.25) * width, begin + (b - 0.25) * width)
        for a, b in zip(changes, changes[1:], strict=False)
    ]
    narrow = max(3 / trace.rate, width / 10)  # wide enough for a slope, narrow enough to keep noise out
    found = []
    for i, k in enumerate(changes[1:-1]):
        if levels[i] != levels[i + 1]:
            edge = _edge(trace, middles[i], middles[i + 1], levels[i], levels[i + 1])
            low, high = max(edge - narrow, middles[i]), min(edge + narrow, middles[i + 1])
            found.append((k, _edge(trace, low, high, levels[i], levels[i + 1]) if low < high else edge))
    return found


def _mean(trace: Trace, begin: float, end: float) -> float:
    return joules(trace, begin, end) / (end - begin)


def _edge(trace: Trace, low: float, high: float, before: float, after: float) -> float:
    """When power changed from one level to the other, between the times low and high."""
    return (joules(trace, low, high) + before * low - after * high) / (before - after)


def _fit(board: Array, seen: Array, markers: int, period: float) -> Alignment:
    if not len(board):
        raise NotFound("the markers have no edges: the board draws the same power idle and busy; wire a pin")
    if markers > 1:
        scale, offset = np.polyfit(board, seen, 1)
    else:
        scale, offset = 1.0, float((seen - board).mean())
    off = seen - (offset + scale * board)
    free = max(len(board) - (2 if markers > 1 else 1), 1)
    spread = float(np.sqrt((off**2).sum() / free))
    # at least the sampling period's uncertainty, even if the edges agree by chance; 2.5: Student's t for few edges
    error = 2.5 * max(spread, period / np.sqrt(12)) / np.sqrt(len(board) / markers)
    return Alignment(float(offset), float(scale), float(error))
