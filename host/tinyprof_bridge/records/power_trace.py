"""Readings of a power sensor over time: current, voltage, and the edges of its digital inputs."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Pin:
    """The edges of one digital input of a sensor.

    name: of the input.
    t: time of each edge in seconds, ascending.
    up: whether the input rose at that edge."""

    name: str
    t: Array
    up: NDArray[np.bool_]


@dataclass(frozen=True)
class Trace:
    """Readings of the board's supply.

    t: seconds, ascending.
    a: amperes.
    v: volts.
    saturated: number of readings at the end of the sensor's range.
    name: of the sensor or file.
    pins: the digital inputs that changed."""

    t: Array
    a: Array
    v: Array
    saturated: int = 0
    name: str = ""
    pins: tuple[Pin, ...] = ()

    @property
    def watts(self) -> Array:
        """The power of each reading, in watts."""
        return self.a * self.v

    @property
    def rate(self) -> float:
        """Readings per second, from the median interval. Needs at least two readings."""
        return 1 / float(np.median(np.diff(self.t)))

    def between(self, begin: float, end: float) -> "Trace":
        """Returns the readings from begin to end, with interpolated readings at both ends.

        begin, end: seconds, as in t."""
        first, last = np.searchsorted(self.t, (begin, end), "right")
        if last > first and self.t[last - 1] == end:
            last -= 1
        edges = np.array([begin, end])

        def cut(y: Array) -> Array:
            near = slice(max(first - 1, 0), last + 1)
            low, high = np.interp(edges, self.t[near], y[near])
            return np.concatenate(([low], y[first:last], [high]))

        return replace(self, t=np.concatenate(([begin], self.t[first:last], [end])), a=cut(self.a), v=cut(self.v))


def joules(trace: Trace, begin: float, end: float) -> float:
    """Returns the energy between two times in joules, by the trapezoidal rule.

    begin, end: seconds, as in trace.t."""
    part = trace.between(begin, end)
    watts = part.watts
    return float(np.diff(part.t) @ (watts[1:] + watts[:-1])) / 2


def edges(name: str, t: Array, high: NDArray[np.bool_]) -> Pin:
    """Returns the edges of a sampled input; each lies halfway between two samples.

    t: seconds of the samples, ascending.
    high: whether the input was high in each sample."""
    at = np.flatnonzero(high[1:] != high[:-1])
    return Pin(name, (t[at] + t[at + 1]) / 2, high[at + 1])


def levels(pin: Pin, t: Array) -> NDArray[np.bool_]:
    """Returns whether an input was high at each of the times t (seconds). An input without edges counts as low."""
    if not len(pin.t):
        return np.zeros(len(t), dtype=bool)
    before = np.searchsorted(pin.t, t, "right")  # edges up to each time
    high: NDArray[np.bool_] = np.where(before > 0, pin.up[before - 1], ~pin.up[0])
    return high
