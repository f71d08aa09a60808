"""Latency and energy as a function of a board's clock."""

import math

import pandas as pd

from ..energy import run_energy
from ..records.metrics import tests
from ..records.runs import Run


def figures(runs: list[Run]) -> pd.DataFrame:
    """Latency and energy of runs at several clocks, one row per test and clock.

    Columns: test; mhz; seconds per token; joules per token; delay_product (joules x seconds). The last two are NaN
    without valid energy. Runs that do not record their clock are left out."""
    rows = []
    for run in runs:
        if run.begin is None or not run.begin.clock_hz or not run.per_second:
            continue
        energy = run_energy.energy(run)
        valid = energy is not None and not energy.findings
        joules = run_energy.figures(run, energy).set_index("test")["joules"].to_dict() if valid and energy else {}
        for _, row in tests(run).iterrows():
            seconds = row["per_token"] / run.per_second
            spent = joules.get(row["test"], math.nan)
            rows.append(
                {
                    "test": row["test"],
                    "mhz": run.begin.clock_hz / 1e6,
                    "seconds": seconds,
                    "joules": spent,
                    "delay_product": spent * seconds,
                }
            )
    columns = ["test", "mhz", "seconds", "joules", "delay_product"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.sort_values(["test", "mhz"], ignore_index=True)


def best(frame: pd.DataFrame, bound: float | None) -> pd.DataFrame:
    """The best clock for each test, one row per test.

    With a bound: the least energy among the clocks that meet it. Without: the least energy-delay product. If there is
    no energy: the least time.

    frame: from `figures`.
    bound: largest seconds per token, or None."""
    rows = []
    for _, group in frame.groupby("test", sort=False):
        fits = group if bound is None else group[group["seconds"] <= bound]
        by = "joules" if bound is not None else "delay_product"
        if fits[by].isna().all():
            by = "seconds"
        if not fits.empty:
            rows.append(fits.sort_values(by).iloc[0])
    return pd.DataFrame(rows, columns=frame.columns)
