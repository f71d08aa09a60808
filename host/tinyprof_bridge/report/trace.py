"""Traces of a run for viewers: in Chrome's trace format (Perfetto, chrome://tracing) and in speedscope's.

A run records each operator's mean cost in a test and each token's latency. So a trace shows one mean token with its
operators in the order of the plan, and the tokens of the first repetition. If the unit is not a time, one unit is
drawn as a microsecond. The windows of a power sensor are a separate process, with its readings as counters."""

import json
from typing import Any

import numpy as np

from ..energy import operator_energy
from ..energy.run_energy import OPERATOR, Energy
from ..records.runs import Run, Test

_READINGS = 100_000  # most points of a power track that viewers open comfortably
_TOKENS = 8  # tokens of a window for which operators are drawn
_MICROSECONDS = {"ns": 1e-3, "us": 1.0}


def _scale(run: Run) -> float:
    """Microseconds per unit in the trace."""
    if run.per_second:
        return 1e6 / run.per_second
    return _MICROSECONDS.get(run.unit, 1.0)


def _layer(layer: int) -> str:
    return f"layer {layer}" if layer >= 0 else "outside the layers"


def _mean(run: Run, test: Test) -> list[tuple[str, str, float]]:
    """(layer, operator role, units) of a mean token, in the order of the plan."""
    per = max(test.runs * test.tokens, 1)
    return [(_layer(op.layer), op.role, test.costs.get(op.i, 0) / per) for op in run.ops]


def chrome(run: Run, energy: Energy | None) -> str:
    """The trace in Chrome's format: complete events ("X"), with ts and dur in microseconds.

    Format: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU"""
    events: list[dict[str, Any]] = []
    scale = _scale(run)
    for process, test in enumerate(run.tests.values(), 1):
        events.append(_name("process_name", f"{test.name} ({run.source})", process))
        events.append(_name("thread_name", "a mean token, by operator", process, 1))
        events.append(_name("thread_name", "tokens of the first repetition", process, 2))
        at = 0.0
        layers: list[list[Any]] = []  # [name, begin, end]
        for layer, role, units in _mean(run, test):
            if not layers or layers[-1][0] != layer:
                layers.append([layer, at, at])
            events.append(_event(role, at * scale, (at + units) * scale, process, 1, {run.unit: units}))
            at += units
            layers[-1][2] = at
        events += [_event(name, begin * scale, end * scale, process, 1, {}) for name, begin, end in layers]
        at = 0.0
        for i, units in next(test.samples.repetitions(), []):
            name = f"token {i}" if test.phase == "decode" else f"{test.tokens} tokens"
            events.append(_event(name, at * scale, (at + units) * scale, process, 2, {run.unit: units}))
            at += units
    events += _power(run, energy, len(run.tests) + 1)
    events.sort(key=lambda e: (e.get("ts", -1), -e.get("dur", 0)))
    about = {"unit": run.unit, "source": run.source, "microseconds drawn for a unit": scale}
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ns", "otherData": about})


def _power(run: Run, energy: Energy | None, process: int) -> list[dict[str, Any]]:
    """Events of the sensor's windows, the operators inside them, and its readings as counters.

    Times are microseconds of the board's clock. process: its number in the trace."""
    if energy is None or not energy.windows:
        return []
    events = [_name("process_name", f"power (sensor, {energy.how})", process)]
    events.append(_name("thread_name", "windows", process, 1))
    found = operator_energy.operators(run, energy)
    main = operator_energy.energy_test(run)
    joules = {
        str(row["role"]): {"joules per token": row["joules"], "watts": row["watts"], "found by": row["how"]}
        for _, row in found.iterrows()
        if row["how"]
    }
    events.append(
        _name("thread_name", "operators of a mean token, by their shares in the timed repetitions", process, 2)
    )
    for m in energy.windows:
        w = m.window
        about = {"joules": m.joules if m.joules == m.joules else None, "tokens": w.tokens}
        alone = w.test == OPERATOR and w.rep < len(run.ops)
        name = f"{run.ops[w.rep].role} × {w.tokens:,}" if alone else f"{w.test} #{w.rep}"
        events.append(_event(name, w.begin, w.end, process, 1, about))
        if w.rep == 0 and w.test in run.tests:
            known = joules if main and w.test == main.name else {}
            events += _under(run, run.tests[w.test], w.begin, w.end, process, known)
    if energy.trace is not None:
        part = energy.trace
        seen = (part.t >= 0) & (part.t * 1e6 <= max(m.window.end for m in energy.windows) + 1e5)
        times, watts, volts = part.t[seen] * 1e6, part.watts[seen], part.v[seen]
        step = max(-(-len(times) // _READINGS), 1)
        whole = len(times) // step * step
        # each point is the mean of the readings that it replaces
        means = [np.round(x[:whole].reshape(-1, step).mean(axis=1), 9) for x in (times, watts, volts)]
        for t, w_, v in zip(*means, strict=True):
            events.append(_counter("power (W)", t, {"W": float(w_)}, process))
            events.append(_counter("supply (V)", t, {"V": float(v)}, process))
    return events


def _under(
    run: Run, test: Test, begin: int, end: int, process: int, known: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """Events of the operators in a window, placed as if all tokens were equal; the sensor does not show their times.

    begin, end: of the window, in microseconds.
    known: energy by role, added to the events."""
    parts = _mean(run, test)
    whole = sum(units for _, _, units in parts)
    tokens = test.tokens if test.phase == "decode" else 1
    if not whole:
        return []
    length = (end - begin) / tokens
    events = []
    for token in range(min(tokens, _TOKENS)):
        at = begin + token * length
        for _, role, units in parts:
            events.append(_event(role, at, at + units / whole * length, process, 2, known.get(role, {})))
            at += units / whole * length
    return events


def _counter(name: str, at: float, values: dict[str, float], process: int) -> dict[str, Any]:
    return {"ph": "C", "name": name, "ts": 1 + float(at), "pid": process, "args": values}


def _name(kind: str, name: str, process: int, thread: int = 0) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": process, "tid": thread, "args": {"name": name}}


def _event(name: str, begin: float, end: float, process: int, thread: int, about: dict[str, Any]) -> dict[str, Any]:
    # An event must end exactly where the next one starts; otherwise viewers nest or drop events. So times are multiples
    # of a power of 2 near whole nanoseconds, since Perfetto rounds ts and dur separately.
    # Times start at 1, because DevTools treats 0 as a missing time.
    first, last = (1 + round(round(t * 1000) * 65.536) / 65536 for t in (begin, end))
    return {"ph": "X", "name": name, "ts": first, "dur": last - first, "pid": process, "tid": thread, "args": about}


def speedscope(run: Run) -> str:
    """The run as a speedscope file, with a sampled profile for each test.

    Format: https://www.speedscope.app/file-format-schema.json"""
    frames: list[dict[str, str]] = []
    index: dict[str, int] = {}

    def frame(name: str) -> int:
        if name not in index:
            index[name] = len(frames)
            frames.append({"name": name})
        return index[name]

    seconds = {"ns": "nanoseconds", "us": "microseconds"}
    profiles = []
    for test in run.tests.values():
        parts = _mean(run, test)
        profiles.append(
            {
                "type": "sampled",
                "name": f"{test.name}: a mean token, {run.unit} ({run.source})",
                "unit": seconds.get(run.unit, "none"),
                "startValue": 0,
                "endValue": sum(units for _, _, units in parts),
                "samples": [[frame(test.name), frame(layer), frame(role)] for layer, role, _ in parts],
                "weights": [units for _, _, units in parts],
            }
        )
    schema = "https://www.speedscope.app/file-format-schema.json"
    return json.dumps({"$schema": schema, "shared": {"frames": frames}, "profiles": profiles, "exporter": "tinyprof"})
