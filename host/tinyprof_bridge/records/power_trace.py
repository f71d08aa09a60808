"""A power supply as a sensor saw it: current and voltage against time, and edges of digital inputs."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Pin:
    """The edges of a digital input of a sensor: seconds, and whether it rose."""

    name: str
    t: Array
    up: NDArray[np.bool_]


@dataclass(frozen=True)
class Trace:
    """A sensor's view of a supply: seconds, amperes, volts; saturated: readings at the sensor's end; pins: those that
    changed."""

    t: Array
    a: Array
    v: Array
    saturated: int = 0
    name: str = ""
    pins: tuple[Pin, ...] = ()

    @property
    def watts(self) -> Array:
        return self.a * self.v

    @property
    def rate(self) -> float:
        """Readings a second."""
        return 1 / float(np.median(np.diff(self.t)))

    def between(self, begin: float, end: float) -> "Trace":
        """The readings of a stretch of time, and at its ends what lies between two."""
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
    """Trapezoids under the power."""
    part = trace.between(begin, end)
    watts = part.watts
    return float(np.diff(part.t) @ (watts[1:] + watts[:-1])) / 2


def edges(name: str, t: Array, high: NDArray[np.bool_]) -> Pin:
    """Of an input that was high at these times: halfway to where it was not."""
    at = np.flatnonzero(high[1:] != high[:-1])
    return Pin(name, (t[at] + t[at + 1]) / 2, high[at + 1])


def levels(pin: Pin, t: Array) -> NDArray[np.bool_]:
    """Whether an input was high at these times."""
    if not len(pin.t):
        return np.zeros(len(t), dtype=bool)
    behind = np.searchsorted(pin.t, t, "right")
    high: NDArray[np.bool_] = np.where(behind > 0, pin.up[behind - 1], ~pin.up[0])
    return high
