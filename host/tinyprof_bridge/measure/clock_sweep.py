"""Latency and energy against the clock of a board."""

import math

import pandas as pd

from ..energy import run_energy
from ..records.metrics import tests
from ..records.runs import Run


def figures(runs: list[Run]) -> pd.DataFrame:
    """One row a test and clock: MHz, seconds and joules a token, energy-delay product (nan without a sensor)."""
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
    """Of each test the clock of least energy whose tokens take at most bound seconds; without a bound that of the
    least energy-delay product, without energy that of the least time."""
    rows = []
    for _, group in frame.groupby("test", sort=False):
        fits = group if bound is None else group[group["seconds"] <= bound]
        by = "joules" if bound is not None else "delay_product"
        if fits[by].isna().all():
            by = "seconds"
        if not fits.empty:
            rows.append(fits.sort_values(by).iloc[0])
    return pd.DataFrame(rows, columns=frame.columns)
