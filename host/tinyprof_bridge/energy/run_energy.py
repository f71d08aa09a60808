"""Energy of a run: from readings of a sensor to joules per token, and whether they can be believed."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from ..records.power_trace import Array, Trace, joules
from ..records.runs import Run
from ..records.schema import Sensor, Window
from ..records.stats import median_interval
from ..tables import scaled
from . import sync_pin
from .sync_markers import Alignment, NotFound, align

if TYPE_CHECKING:
    import pandas as pd

# MLPerf Tiny's rules: so many repetitions, or so many seconds
LEAST_WINDOWS = 10
LEAST_SECONDS = 10.0
LEAST_READINGS = 20  # of a window
LEAST_CONVERSIONS = 100  # of an accumulator
GREATEST_DRIFT = 0.02  # of the supply, from the first window to the last
GREATEST_IDLE_DRIFT = 0.1
GREATEST_SKEW = 0.01  # of the clock of windows against the counter
GREATEST_OFF = 0.02  # of the shortest window, that its edges may be off
IDLE = "idle"
OPERATOR = "operator"  # one record of the plan, the window's rep, so many times as the window has tokens


@dataclass
class Measured:
    """One window: seconds, joules; readings in it; watts of the greatest reading (nan where only a sum is known)."""

    window: Window
    seconds: float
    joules: float
    readings: int
    peak: float
    volts: float
    saturated: int = 0


@dataclass
class Energy:
    """All windows of a run. how: where the joules come from, for people; findings: what stands against them;
    alignment: seconds by which the sensor's clock may be off the board's; aligned_by: what tells so."""

    how: str
    windows: list[Measured]
    findings: list[str] = field(default_factory=list)
    trace: Trace | None = None
    alignment: float | None = None
    aligned_by: str = ""

    @property
    def idle(self) -> float:
        """Watts of the sleeping board; nan where that was not measured."""
        idle = [m for m in self.windows if m.window.test == IDLE]
        seconds = sum(m.seconds for m in idle)
        return sum(m.joules for m in idle) / seconds if seconds else math.nan


def energy(run: Run) -> Energy | None:
    """What a sensor says of a run: one elsewhere if its trace was given, else the board's own; None without both."""
    return elsewhere(run, run.supply) if run.supply is not None else on_board(run)


def elsewhere(run: Run, trace: Trace) -> Energy:
    """The energy of a run in the trace of a sensor elsewhere."""
    result = Energy(f"{trace.name} at {trace.rate:,.0f} Hz", [])
    try:
        found = _aligned(run, trace)
    except NotFound as error:
        result.findings = [str(error)]
        return result
    result.alignment, result.aligned_by = found.error, found.by
    result.windows = [measure(trace, w, found.at(w.begin * 1e-6), found.scale) for w in run.windows]
    result.trace = Trace((trace.t - found.offset) / found.scale, trace.a, trace.v, trace.saturated, trace.name)
    if abs(found.scale - 1) > GREATEST_SKEW:
        result.findings.append(f"the sensor's clock is {100 * (found.scale - 1):.1f} % off the board's")
    shortest = min((m.seconds for m in result.windows), default=math.inf)
    if found.error > GREATEST_OFF * shortest:
        result.findings.append(
            f"the alignment may be {found.error * 1e3:.2g} ms off, and windows are {shortest * 1e3:.2g} ms short"
        )
    result.findings += check(run, result)
    return result


def _aligned(run: Run, trace: Trace) -> Alignment:
    """By the edges of a pin where one is wired, else by the markers."""
    try:
        return sync_pin.align(trace, run.windows)
    except NotFound:
        return align(trace, run.markers)


def on_board(run: Run) -> Energy | None:
    """The energy that the board's own sensor saw; None where it has none."""
    if run.sensor is None:
        return None
    s = run.sensor
    if s.mode == "accumulator":
        how = f"{s.name}'s accumulator"
        energy = Energy(how, [_accumulated(w) for w in run.windows if w.energy_nj is not None])
    else:
        reached = [w.rate_hz for w in run.windows if w.rate_hz]
        how = f"{s.name} at {round(np.median(reached)) if reached else s.rate_hz:,} Hz"
        parts = _traces(run, s)
        energy = Energy(how, [measure(parts[w.test, w.rep], w, 0.0, asleep_around=True) for w in run.windows])
        whole = [(w.begin * 1e-6, parts[w.test, w.rep]) for w in run.windows if len(parts[w.test, w.rep].t)]
        if whole:
            energy.trace = Trace(
                np.concatenate([begin + part.t for begin, part in whole]),
                np.concatenate([part.a for _, part in whole]),
                np.concatenate([part.v for _, part in whole]),
            )
    energy.findings = [*_of_sensor(run, s, energy), *check(run, energy)]
    return energy


def _traces(run: Run, s: Sensor) -> dict[tuple[str, int], Trace]:
    """The readings of each window, each in the middle of its conversion; t = 0 is the window's begin."""
    found = {}
    for w in run.windows:
        rows = sorted(run.readings.get((w.test, w.rep), []), key=lambda r: r.at)
        t, i, v = (np.array([x for r in rows for x in getattr(r, name)], dtype=float) for name in "tiv")
        saturated = int((abs(i) >= s.full_scale).sum())
        found[w.test, w.rep] = Trace(t * 1e-6, i * s.shunt_pv / s.shunt_uohm * 1e-6, v * s.bus_pv * 1e-12, saturated)
    # first conversions of shunt and bus by turns, then, longer or shorter, of the shunt alone
    both = _cycle([x.t[: len(x.v)] for x in found.values()])
    alone = _cycle([x.t[len(x.v) :] for x in found.values()])
    late = s.poll_us * 1e-6 / 2
    volts = _volts(list(found.values()))
    for key, x in found.items():
        n = len(x.v)
        t = np.concatenate((_even(x.t[:n], both) - both / 2, _even(x.t[n:], alone) - alone / 2)) - late
        found[key] = replace(x, t=t, v=volts(x))
    return found


def _volts(windows: list[Trace]) -> Callable[[Trace], Array]:
    """Volts at all readings of a window, from those of its first: the mean of these, and less where more current flows
    through what is in front of the board. How much less, and between which currents, all windows tell."""
    pairs = [(x.a[: len(x.v)], x.v) for x in windows if len(x.v)]
    down = sum(float(((a - a.mean()) ** 2).sum()) for a, _ in pairs)
    drop = -sum(float((a - a.mean()) @ (v - v.mean())) for a, v in pairs) / down if down else 0.0
    low, high = (f([f(a) for a, _ in pairs], default=0.0) for f in (min, max))

    def volts(x: Trace) -> Array:
        n = len(x.v)
        if not n:
            return np.full(len(x.t), np.nan)
        at: Array = x.v.mean() - max(drop, 0.0) * (np.clip(x.a, low, high) - x.a[:n].mean())
        return at

    return volts


def _even(t: Array, cycle: float) -> Array:
    """Times that follow one another in cycles, where they were seen late by turns."""
    k = np.arange(len(t))
    return t.mean() + cycle * (k - k.mean()) if len(k) else t


def _cycle(windows: list[Array]) -> float:
    """Seconds of a conversion by the board's clock: those of a window followed one another."""
    up, down = 0.0, 0.0
    for t in windows:
        k = np.arange(len(t)) - (len(t) - 1) / 2
        up += float(k @ t)
        down += float(k @ k)
    return up / down if down else 0.0


def _accumulated(window: Window) -> Measured:
    seconds = (window.end - window.begin) * 1e-6
    joules = (window.energy_nj or 0) * 1e-9 if seconds else math.nan
    return Measured(window, seconds, joules, window.readings or 0, math.nan, math.nan)


def measure(trace: Trace, window: Window, begin: float, scale: float = 1.0, asleep_around: bool = False) -> Measured:
    """A window that begins at so many seconds of a trace; scale: seconds of the trace in one of the board;
    asleep_around: whether the board sleeps for some readings before and behind it."""
    seconds = (window.end - window.begin) * 1e-6
    end = begin + seconds * scale
    if not seconds or not len(trace.t) or trace.t[0] > begin or trace.t[-1] < end:
        return Measured(window, seconds, math.nan, 0, math.nan, math.nan, trace.saturated)
    part = trace.between(begin, end)
    spent = (_between_sleeps if asleep_around else joules)(trace, begin, end) / scale
    return Measured(
        window, seconds, spent, len(part.t) - 2, float(part.watts.max()), float(part.v.mean()), trace.saturated
    )


def _between_sleeps(trace: Trace, begin: float, end: float) -> float:
    """Joules of a window: all that flowed from one sleep to the other, less what the sleep took of that. Readings
    across an edge are means of both sides; so nothing is lost there."""
    t, watts = trace.t, trace.watts
    step = float(np.median(np.diff(t)))
    before, behind = t < begin - step, t > end + step
    if not before.any() or not behind.any():
        return joules(trace, begin, end)
    first, last = int(before.sum()), len(t) - int(behind.sum())
    edges = (t[1:] + t[:-1]) / 2  # a reading stands for the time until halfway to its neighbours
    whole = float(np.diff(edges[first - 1 : last]) @ watts[first:last])
    asleep = watts[before].mean() * (begin - edges[first - 1]) + watts[behind].mean() * (edges[last - 1] - end)
    return whole - float(asleep)


def _of_sensor(run: Run, s: Sensor, energy: Energy) -> list[str]:
    """What a sensor on the board says against itself."""
    found = []
    windows = run.windows
    errors = sum(w.errors for w in windows)
    lost = sum(w.lost for w in windows)
    if errors:
        found.append(f"the sensor did not answer {errors} times")
    if lost:
        found.append(f"{lost} readings found no room on the board: a larger ring, shorter tests or a lower rate")
    if any(w.overflow for w in windows):
        found.append("the sensor's arithmetic overflowed")
    if s.mode == "accumulator":
        short = [w.test for w in windows if w.end - w.begin < LEAST_CONVERSIONS * s.conversion_us]
        if short:
            found.append(f"{short[0]} is shorter than {LEAST_CONVERSIONS} conversions of {s.conversion_us} us")
        return found
    raw = {i for rows in run.readings.values() for r in rows for i in r.i}
    busy = len({w.test for w in windows}) > 1
    if len(raw) == 1 and busy:
        found.append(
            "the sensor gave the same reading all the time, asleep and at work: it lies, or is not in the supply"
        )
    late = [m for m in energy.windows if m.readings and m.readings < 0.8 * m.seconds * s.rate_hz - 1]
    if late:
        got = min(m.readings / m.seconds for m in late)
        found.append(f"too few readings: {got:.0f} a second where {s.rate_hz} were asked for (interrupts came late)")
    return found


def check(run: Run, energy: Energy) -> list[str]:
    """What stands against the figures of any sensor. Each finding is one line; none is good."""
    found = []
    windows = energy.windows
    if not windows or all(math.isnan(m.joules) for m in windows):
        return ["the sensor was silent: no readings"]
    blind = {m.window.test for m in windows if math.isnan(m.joules)}
    if blind:
        found.append(f"no readings around a whole window of {', '.join(sorted(blind))}")
    saturated = max(m.saturated for m in windows)
    if saturated:
        found.append(f"the shunt was saturated in {saturated} readings of a window: a smaller shunt or a wider range")
    sampled = [m for m in windows if not math.isnan(m.peak)]
    few = {m.window.test: m.readings for m in sampled if m.readings < LEAST_READINGS}
    for test, count in few.items():
        found.append(
            f"too few readings: {count} in a window of {test}, {LEAST_READINGS} are the least:"
            " a longer test or a higher rate"
        )
    for test in _tests(energy):
        own = [m for m in windows if m.window.test == test]
        seconds = sum(m.seconds for m in own)
        if len(own) < LEAST_WINDOWS and seconds < LEAST_SECONDS:
            found.append(
                f"too short: {test} ran {len(own)} times, {seconds:.2g} s; {LEAST_WINDOWS} times or 10 s are due"
            )
    idle = [m for m in windows if m.window.test == IDLE and m.joules > 0]
    if len(idle) > 1:
        volts = abs(idle[-1].volts / idle[0].volts - 1)  # nan where only sums are known
        if volts > GREATEST_DRIFT:
            found.append(f"the supply drifted by {100 * volts:.1f} % from {idle[0].volts:.3f} V")
        watts = [m.joules / m.seconds for m in idle]
        if abs(watts[-1] / watts[0] - 1) > GREATEST_IDLE_DRIFT:
            found.append(f"idle power went from {watts[0] * 1e3:.3g} to {watts[-1] * 1e3:.3g} mW")
    if run.per_second and run.source != "host-clock":
        skew = [m.seconds * run.per_second / m.window.units - 1 for m in windows if m.window.units]
        if skew and abs(float(np.median(skew))) > GREATEST_SKEW:
            found.append(f"the clock of windows is {100 * float(np.median(skew)):.1f} % off the counter")
    if any(m.joules < 0 for m in windows):
        found.append("negative energy: the shunt is wired the other way round")
    return found


def _tests(energy: Energy) -> list[str]:
    return list(dict.fromkeys(m.window.test for m in energy.windows if m.window.test not in (IDLE, OPERATOR)))


def figures(run: Run, energy: Energy) -> "pd.DataFrame":
    """One row a test: medians over its windows. Joules a token as drawn and less what idling would have taken,
    tokens a joule, mean and peak watts, energy-delay product in joule seconds a token squared."""
    rows = []
    for test in _tests(energy):
        own = [m for m in energy.windows if m.window.test == test and m.joules > 0]
        if not own:
            continue
        tokens = max(own[0].window.tokens, 1)
        spent, low, high = median_interval([m.joules / tokens for m in own])
        seconds = float(np.median([m.seconds for m in own])) / tokens
        rows.append(
            {
                "test": test,
                "windows": len(own),
                "joules": spent,
                "low": low,
                "high": high,
                "above_idle": spent - energy.idle * seconds,
                "tokens_per_joule": 1 / spent,
                "watts": float(np.median([m.joules / m.seconds for m in own])),
                "peak": max(m.peak for m in own),
                "seconds": seconds,
                "delay_product": spent * seconds,
                "source": "sensor",
            }
        )
    import pandas as pd

    return pd.DataFrame(rows)


def battery_hours(joules_each: float, seconds_each: float, an_hour: float, idle: float, watt_hours: float) -> float:
    """Hours that a battery lasts for so many pieces of work an hour, asleep at idle watts between them."""
    busy = min(an_hour * seconds_each / 3600, 1.0)
    mean = an_hour * joules_each / 3600 + (1 - busy) * idle
    return watt_hours / mean if mean > 0 else math.inf


def energy_facts(energy: Energy | None) -> list[tuple[str, str]]:
    """How the energy was measured and whether it is valid, as (name, text) lines."""
    if energy is None:
        return []
    idle = "not measured" if math.isnan(energy.idle) else scaled("W")(energy.idle)
    aligned = ""
    if energy.alignment is not None:
        aligned = f"; aligned by {energy.aligned_by} within {scaled('s')(energy.alignment)}"
    lines = [("power", f"{energy.how}; idle {idle}{aligned}")]
    return lines + [("POWER NOT VALID", finding) for finding in energy.findings]
