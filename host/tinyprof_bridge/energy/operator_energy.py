"""Energy of each operator: from the sensor's readings during its calls where they are long enough, otherwise from
separate windows in which the board ran only that operator."""

from typing import TYPE_CHECKING

import numpy as np

from ..records.power_trace import Array
from ..records.runs import Run, Test
from ..records.schema import Op
from .run_energy import OPERATOR, Energy, figures

if TYPE_CHECKING:
    import pandas as pd

MOST_PLACES = 5_000_000  # operator calls in a test above which their times are not computed (memory)
LEAST_READINGS = 5  # per call: with fewer, the uncertain readings at its edges dominate
SAMPLES, REPEATED = "samples", "repeated"


def energy_test(run: Run) -> Test | None:
    """The first decode test with per-operator times. Operators run alone at its middle position. None without one."""
    return next((t for t in run.tests.values() if t.phase == "decode" and t.costs and t.runs), None)


def operators(run: Run, energy: Energy) -> "pd.DataFrame":
    """Energy of each operator role in the test of `energy_test`, one row per role, largest first.

    Columns: role; joules per token; watts while it runs; share of the token's energy; how ("samples", "repeated", or
    "" with NaN where neither method works); source. Empty if no role could be measured."""
    import pandas as pd

    test = energy_test(run)
    whole = figures(run, energy)
    if test is None or whole.empty or test.name not in set(whole["test"]):
        return pd.DataFrame()
    token = float(whole.set_index("test")["joules"].to_dict()[test.name])
    alone = {
        _kind(run.ops[m.window.rep]): (m.joules / m.window.tokens, m.joules / m.seconds)
        for m in energy.windows
        if m.window.test == OPERATOR and m.window.rep < len(run.ops) and m.window.tokens and m.joules > 0
    }
    seen = _sampled(run, energy, test)
    rows = []
    for role in dict.fromkeys(op.role for op in run.ops):
        own = [op for op in run.ops if op.role == role]
        if role in seen:
            joules, watts, how = *seen[role], SAMPLES
        elif all(_kind(op) in alone for op in own):
            joules, watts, how = sum(alone[_kind(op)][0] for op in own), alone[_kind(own[0])][1], REPEATED
        else:
            joules, watts, how = np.nan, np.nan, ""
        rows.append({"role": role, "joules": joules, "watts": watts, "share": joules / token, "how": how})
    frame = pd.DataFrame(rows)
    if frame.empty or frame["joules"].isna().all():
        return pd.DataFrame()
    return frame.assign(source="sensor").sort_values("joules", ascending=False, ignore_index=True)


def _kind(op: Op) -> tuple[object, ...]:
    return op.op, op.role, op.type, op.rows, op.cols, op.p2, op.window


def _sampled(run: Run, energy: Energy, test: Test) -> dict[str, tuple[float, float]]:
    """(joules per token, watts) by role, for roles whose calls last long enough to be seen in the trace."""
    windows = [m for m in energy.windows if m.window.test == test.name and m.joules > 0]
    many = test.tokens * len(run.ops) > MOST_PLACES
    if energy.trace is None or not windows or many or not run.per_second:
        return {}
    if not test.totals.sum() or any(op.i not in test.costs for op in run.ops):
        return {}
    begins, ends = _places(run, test)
    period = 1 / energy.trace.rate
    margin = max(period, energy.alignment or 0.0)
    t, watts = energy.trace.t, energy.trace.watts
    area = np.concatenate(([0.0], np.cumsum(np.diff(t) * (watts[1:] + watts[:-1]) / 2)))
    found = {}
    for role in dict.fromkeys(op.role for op in run.ops):
        own = [k for k, op in enumerate(run.ops) if op.role == role]
        first, last = begins[:, own], ends[:, own]
        seconds = (last - first) * min(m.seconds for m in windows)
        if seconds.min() < LEAST_READINGS * margin:
            continue
        spent, power = [], []
        for m in windows:
            low = m.window.begin * 1e-6 + first * m.seconds + margin
            high = m.window.begin * 1e-6 + last * m.seconds - margin
            mean = (np.interp(high, t, area) - np.interp(low, t, area)) / (high - low)
            joules = float((mean * (last - first)).sum()) * m.seconds
            spent.append(joules / test.tokens)
            power.append(joules / (float((last - first).sum()) * m.seconds))
        found[role] = float(np.median(spent)), float(np.median(power))
    return found


def _places(run: Run, test: Test) -> tuple[Array, Array]:
    """(starts, ends) of each operator call, both of shape (tokens, operators), as fractions of one repetition.

    They come from the timed repetitions. Attention gets the difference between a token's time and the mean, as its
    cost grows with the position. Time between operators is split evenly before and after a token's operators."""
    samples = test.samples
    lasts = np.bincount(samples.positions, samples.units, test.tokens)[: test.tokens] / test.runs
    costs = np.array([test.costs[op.i] / (test.runs * test.tokens) for op in run.ops])
    grows = np.array([op.op == "attention" for op in run.ops]) * costs
    each = np.tile(costs, (test.tokens, 1))
    if grows.sum():
        each = np.maximum(each + np.outer(lasts - lasts.mean(), grows / grows.sum()), 0)
    ends = np.cumsum(each, axis=1)
    around = (lasts - ends[:, -1]) / 2
    ends += (np.cumsum(lasts) - lasts + around)[:, None]
    return (ends - each) / lasts.sum(), ends / lasts.sum()
