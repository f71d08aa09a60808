"""A run as traces for viewers: Chrome's trace format (Perfetto, chrome://tracing) and speedscope's.

What is known are each operator's mean cost in a test and each token's latency. So a trace shows one
mean token, operator after operator in the order of the plan, and the tokens of the first repetition
one after the other. Where units are no seconds, one stands for a microsecond."""

import json
from typing import Any

from .table import Run, Test

_MICROSECONDS = {"ns": 1e-3, "us": 1.0}


def _scale(run: Run) -> float:
    """Microseconds that a unit is drawn as."""
    if run.per_second:
        return 1e6 / run.per_second
    return _MICROSECONDS.get(run.unit, 1.0)


def _layer(layer: int) -> str:
    return f"layer {layer}" if layer >= 0 else "outside the layers"


def _mean(run: Run, test: Test) -> list[tuple[str, str, float]]:
    """(layer, operator, units) of a mean token, in the order of the plan."""
    per = max(test.runs * test.tokens, 1)
    return [(_layer(op.layer), op.role, test.costs.get(op.i, 0) / per) for op in run.ops]


def chrome(run: Run) -> str:
    """https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU: complete events ("X"),
    ts and dur in microseconds."""
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
    events.sort(key=lambda e: (e.get("ts", -1), -e.get("dur", 0)))
    about = {"unit": run.unit, "source": run.source, "microseconds drawn for a unit": scale}
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ns", "otherData": about})


def _name(kind: str, name: str, process: int, thread: int = 0) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": process, "tid": thread, "args": {"name": name}}


def _event(name: str, begin: float, end: float, process: int, thread: int, about: dict[str, Any]) -> dict[str, Any]:
    # One ends where the next begins, to the last bit, else viewers nest them: so both are multiples of a power of 2.
    # Not from 0 on, which DevTools take for no time.
    first, last = (1 + round(t * 1024) / 1024 for t in (begin, end))
    return {"ph": "X", "name": name, "ts": first, "dur": last - first, "pid": process, "tid": thread, "args": about}


def speedscope(run: Run) -> str:
    """https://www.speedscope.app/file-format-schema.json: a sampled profile for each test."""
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
