"""Captures of a sensor elsewhere, made from a load that is known."""

import numpy as np
from tinyprof_bridge.records import power_trace
from tinyprof_bridge.records.schema import Marker

BITS, PATTERN, STEP = 7, 0b1110010, 0.02


def marker(name, begin):
    end = begin + round(BITS * STEP * 1e6)
    return Marker(tp=1, run="x", seq=0, kind="marker", name=name, begin=begin, end=end, bits=BITS, pattern=PATTERN)


def staircase(steps, rate, seconds, offset=0.0, scale=1.0, noise=0.0, seed=1):
    """Mean current of a load between readings, on a clock that runs by scale and began at offset.

    steps: (seconds, amperes from then on), of the load's clock."""
    at = np.array([s for s, _ in steps]) * scale + offset
    level = np.array([a for _, a in steps])
    charge = np.concatenate(([0.0], np.cumsum(np.diff(at) * level[:-1])))
    edges = np.arange(round(seconds * rate) + 1) / rate
    whole = (
        np.interp(edges, at, charge)
        + np.maximum(edges - at[-1], 0) * level[-1]
        - np.maximum(at[0] - edges, 0) * level[0]
    )
    current = np.diff(whole) * rate + np.random.default_rng(seed).normal(0, noise, len(edges) - 1)
    t = (edges[1:] + edges[:-1]) / 2
    return power_trace.Trace(t, current, np.full(len(t), 3.3), name="logger")
