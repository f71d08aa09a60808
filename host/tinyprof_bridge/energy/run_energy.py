"""Energy of a run: from sensor readings to joules per token, and whether they are valid."""

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

# As in MLPerf Tiny: a test needs this many repetitions or this many seconds
LEAST_WINDOWS = 10
LEAST_SECONDS = 10.0
LEAST_READINGS = 20  # per window
LEAST_CONVERSIONS = 100  # per window, of a sensor that accumulates energy itself
GREATEST_DRIFT = 0.02  # relative change of the supply voltage from the first idle window to the last
GREATEST_IDLE_DRIFT = 0.1  # the same for idle power
GREATEST_SKEW = 0.01  # relative difference between two clocks
GREATEST_OFF = 0.02  # alignment error, as a fraction of the shortest window
IDLE = "idle"
OPERATOR = "operator"  # a window that runs one operator: its rep is the operator's number, its tokens the calls


@dataclass
class Measured:
    """The energy of one window.

    window: its record.
    seconds: its duration by the board's clock.
    joules: NaN if it is not covered by readings.
    readings: sensor readings inside it.
    peak: watts of the largest reading; NaN from a sensor that reports a sum only.
    volts: mean supply voltage; NaN likewise.
    saturated: readings at the end of the sensor's range."""

    window: Window
    seconds: float
    joules: float
    readings: int
    peak: float
    volts: float
    saturated: int = 0


@dataclass
class Energy:
    """The energy of a run.

    how: the sensor and its rate, for display.
    windows: one per window record.
    findings: reasons why the energy is not valid; empty if it is.
    trace: the readings, in seconds of the board's clock; None from a sensor that reports sums only.
    alignment: 95 % error in seconds of aligning an external sensor's clock; None for a sensor on the board.
    aligned_by: what it was aligned by."""

    how: str
    windows: list[Measured]
    findings: list[str] = field(default_factory=list)
    trace: Trace | None = None
    alignment: float | None = None
    aligned_by: str = ""

    @property
    def idle(self) -> float:
        """Idle power in watts: the mean over the idle windows; NaN without any."""
        idle = [m for m in self.windows if m.window.test == IDLE]
        seconds = sum(m.seconds for m in idle)
        return sum(m.joules for m in idle) / seconds if seconds else math.nan


def energy(run: Run) -> Energy | None:
    """The energy of a run, from the external sensor's trace if it has one, otherwise from the sensor on the board.
    None without either."""
    return elsewhere(run, run.supply) if run.supply is not None else on_board(run)


def elsewhere(run: Run, trace: Trace) -> Energy:
    """The energy of a run from an external sensor. trace: its readings, by its own clock."""
    result = Energy(f"{trace.name} at {trace.rate:,.0f} Hz", [])
    try:
        found = _aligned(run, trace)
    except NotFound as error:
        result.findings = [str(error)]
        return result
    result.alignment, result.aligned_by = found.error, found.by
    result.windows = [window_energy(trace, w, found.at(w.begin * 1e-6), found.scale) for w in run.windows]
    result.trace = Trace((trace.t - found.offset) / found.scale, trace.a, trace.v, trace.saturated, trace.name)
    if abs(found.scale - 1) > GREATEST_SKEW:
        result.findings.append(
            f"the sensor's clock is {100 * (found.scale - 1):.1f} % off the board's; use an accurate logger"
        )
    shortest = min((m.seconds for m in result.windows), default=math.inf)
    if found.error > GREATEST_OFF * shortest:
        result.findings.append(
            f"the alignment may be {found.error * 1e3:.2g} ms off, too much for the shortest window of"
            f" {shortest * 1e3:.2g} ms: use a faster logger or longer tests"
        )
    result.findings += check(run, result)
    return result


def _aligned(run: Run, trace: Trace) -> Alignment:
    """The alignment by the edges of a pin if one is wired, otherwise by the markers."""
    try:
        return sync_pin.align(trace, run.windows)
    except NotFound:
        return align(trace, run.markers)


def on_board(run: Run) -> Energy | None:
    """The energy of a run from the sensor on the board; None if it has none."""
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
        energy = Energy(how, [window_energy(parts[w.test, w.rep], w, 0.0, asleep_around=True) for w in run.windows])
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
    """The readings of each window by (test, rep). Time 0 is the window's start; a reading is at the middle of its
    conversion."""
    found = {}
    for w in run.windows:
        rows = sorted(run.readings.get((w.test, w.rep), []), key=lambda r: r.at)
        t, i, v = (np.array([x for r in rows for x in getattr(r, name)], dtype=float) for name in "tiv")
        saturated = int((abs(i) >= s.full_scale).sum())
        found[w.test, w.rep] = Trace(t * 1e-6, i * s.shunt_pv / s.shunt_uohm * 1e-6, v * s.bus_pv * 1e-12, saturated)
    # a window starts with alternating conversions of shunt and bus; then the shunt alone, with another cycle time
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
    """A function that returns the supply voltage at each reading of a window.

    Only the first readings of a window include the voltage. Their mean holds for the whole window, corrected for the
    voltage drop across the supply's resistance. All windows together give that resistance by linear regression."""
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
    """Times one cycle apart with the mean of t: interrupts delay the recorded times by varying amounts."""
    k = np.arange(len(t))
    return t.mean() + cycle * (k - k.mean()) if len(k) else t


def _cycle(windows: list[Array]) -> float:
    """Seconds per conversion by the board's clock: the slope of a line through the times of all windows."""
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


def window_energy(
    trace: Trace, window: Window, begin: float, scale: float = 1.0, asleep_around: bool = False
) -> Measured:
    """The energy of one window.

    begin: its start, in seconds of the trace.
    scale: seconds of the trace per second of the board.
    asleep_around: whether the trace has readings of the sleeping board before and after the window."""
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
    """Joules of a window: the energy from the sleep before it to the sleep after it, less the sleep's share.

    A reading across an edge is the mean of both sides, so that no energy is lost at the edges."""
    t, watts = trace.t, trace.watts
    step = float(np.median(np.diff(t)))
    before, after = t < begin - step, t > end + step
    if not before.any() or not after.any():
        return joules(trace, begin, end)
    first, last = int(before.sum()), len(t) - int(after.sum())
    edges = (t[1:] + t[:-1]) / 2  # a reading holds until halfway to its neighbours
    whole = float(np.diff(edges[first - 1 : last]) @ watts[first:last])
    asleep = watts[before].mean() * (begin - edges[first - 1]) + watts[after].mean() * (edges[last - 1] - end)
    return whole - float(asleep)


def _of_sensor(run: Run, s: Sensor, energy: Energy) -> list[str]:
    """Findings that only a sensor on the board can have, one line each."""
    found = []
    windows = run.windows
    errors = sum(w.errors for w in windows)
    lost = sum(w.lost for w in windows)
    if errors:
        found.append(f"the sensor did not answer {errors} times; check its wiring and address")
    if lost:
        found.append(
            f"{lost} readings did not fit in the board's ring: use a larger ring, shorter tests or a lower rate"
        )
    if any(w.overflow for w in windows):
        found.append("the sensor's arithmetic overflowed: use a smaller shunt, a larger `max` or shorter tests")
    if s.mode == "accumulator":
        short = [w.test for w in windows if w.end - w.begin < LEAST_CONVERSIONS * s.conversion_us]
        if short:
            found.append(
                f"too short: {short[0]} lasts less than {LEAST_CONVERSIONS} conversions of {s.conversion_us} µs;"
                " make the test longer"
            )
        return found
    raw = {i for rows in run.readings.values() for r in rows for i in r.i}
    busy = len({w.test for w in windows}) > 1
    if len(raw) == 1 and busy:
        found.append(
            "the sensor gave the same reading all the time, idle and busy: it is faulty, or not wired into the supply"
        )
    late = [m for m in energy.windows if m.readings and m.readings < 0.8 * m.seconds * s.rate_hz - 1]
    if late:
        got = min(m.readings / m.seconds for m in late)
        found.append(
            f"too few readings: {got:.0f} per second instead of {s.rate_hz}, because timer interrupts came late;"
            " use a lower rate"
        )
    return found


def check(run: Run, energy: Energy) -> list[str]:
    """Findings that any sensor can have, one line each: why the energy is not valid. Empty if it is."""
    found = []
    windows = energy.windows
    if not windows or all(math.isnan(m.joules) for m in windows):
        return ["the sensor gave no readings; check its wiring and power"]
    blind = {m.window.test for m in windows if math.isnan(m.joules)}
    if blind:
        found.append(f"the readings do not cover a whole window of {', '.join(sorted(blind))}; measure again")
    saturated = max(m.saturated for m in windows)
    if saturated:
        found.append(f"{saturated} readings of a window are saturated: use a smaller shunt or a larger range")
    sampled = [m for m in windows if not math.isnan(m.peak)]
    few = {m.window.test: m.readings for m in sampled if m.readings < LEAST_READINGS}
    for test, count in few.items():
        found.append(
            f"too few readings: {count} in a window of {test}, at least {LEAST_READINGS} are needed:"
            " use a longer test or a higher rate"
        )
    for test in _tests(energy):
        own = [m for m in windows if m.window.test == test]
        seconds = sum(m.seconds for m in own)
        if len(own) < LEAST_WINDOWS and seconds < LEAST_SECONDS:
            found.append(
                f"too short: {test} ran {len(own)} times in {seconds:.2g} s; at least {LEAST_WINDOWS} times or"
                f" {LEAST_SECONDS:.0f} s are needed (reps)"
            )
    idle = [m for m in windows if m.window.test == IDLE and m.joules > 0]
    if len(idle) > 1:
        volts = abs(idle[-1].volts / idle[0].volts - 1)  # NaN where only sums are known
        if volts > GREATEST_DRIFT:
            found.append(
                f"the supply drifted by {100 * volts:.1f} % from {idle[0].volts:.3f} V; use a regulated supply"
            )
        watts = [m.joules / m.seconds for m in idle]
        if abs(watts[-1] / watts[0] - 1) > GREATEST_IDLE_DRIFT:
            found.append(
                f"idle power changed from {watts[0] * 1e3:.3g} to {watts[-1] * 1e3:.3g} mW during the run;"
                " measure again when the board is warm"
            )
    if run.per_second and run.source != "host-clock":
        skew = [m.seconds * run.per_second / m.window.units - 1 for m in windows if m.window.units]
        if skew and abs(float(np.median(skew))) > GREATEST_SKEW:
            found.append(
                f"the board's two clocks disagree: windows are {100 * float(np.median(skew)):.1f} % off the counter;"
                " check the clock frequency in the run"
            )
    if any(m.joules < 0 for m in windows):
        found.append("negative energy: the shunt is wired in reverse; swap VIN+ and VIN-")
    return found


def _tests(energy: Energy) -> list[str]:
    return list(dict.fromkeys(m.window.test for m in energy.windows if m.window.test not in (IDLE, OPERATOR)))


def figures(run: Run, energy: Energy) -> "pd.DataFrame":
    """Energy of each test, one row per test: medians over its windows.

    Columns: test; windows (number of them); joules per token with its 95 % interval low to high; above_idle (joules
    per token less idle power x time); tokens_per_joule; watts (mean); peak (watts); seconds per token; delay_product
    (joules per token x seconds per token); source."""
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
    """Hours that a battery lasts.

    joules_each, seconds_each: energy and duration of one piece of work.
    an_hour: pieces of work per hour.
    idle: watts between them.
    watt_hours: capacity of the battery."""
    busy = min(an_hour * seconds_each / 3600, 1.0)
    mean = an_hour * joules_each / 3600 + (1 - busy) * idle
    return watt_hours / mean if mean > 0 else math.inf


def energy_facts(energy: Energy | None) -> list[tuple[str, str]]:
    """(name, text) lines for a report: how the energy was measured, and each reason why it is not valid."""
    if energy is None:
        return []
    idle = "not measured" if math.isnan(energy.idle) else scaled("W")(energy.idle)
    aligned = ""
    if energy.alignment is not None:
        aligned = f"; aligned by {energy.aligned_by} within {scaled('s')(energy.alignment)}"
    lines = [("power", f"{energy.how}; idle {idle}{aligned}")]
    return lines + [("POWER NOT VALID", finding) for finding in energy.findings]
