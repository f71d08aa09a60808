"""Energy model: joules as a linear function of seconds, cycles, MACs and bytes, fitted to the tests of many runs."""

import json
import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import TypeAdapter, ValidationError

from ..errors import BadInput
from ..records.metrics import work
from ..records.power_trace import Array
from ..records.runs import Run, Test
from ..records.schema import Op
from . import run_energy

FEATURES = {"seconds": "J/s", "cycles": "J/cycle", "macs": "J/MAC", "bytes": "J/byte"}
DEFAULT = ("seconds", "macs", "bytes")
FOLDS = 5
_CONDITION = 30.0  # condition number above which columns are collinear (Belsley, Kuh and Welsch, 1980)


@dataclass(frozen=True)
class Coefficient:
    """The energy cost of one feature.

    name: the feature, a key of FEATURES.
    unit: for example J/MAC.
    value: the estimate.
    low, high: its 95 % confidence interval."""

    name: str
    unit: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Fit:
    """A fitted energy model.

    coefficients: one per feature.
    r2: coefficient of determination over all tests.
    held_out: median relative error on held-out tests (cross-validation with FOLDS folds).
    rows: number of tests.
    condition: condition number of the columns, each scaled to length 1.
    machines: the boards of the runs."""

    coefficients: list[Coefficient]
    r2: float
    held_out: float
    rows: int
    condition: float
    machines: list[str]

    @property
    def on(self) -> list[str]:
        """Names of the fitted features."""
        return [c.name for c in self.coefficients]

    def joules(self, columns: Mapping[str, float]) -> float:
        """Predicted energy of one repetition in joules. columns: feature values by name, as from `features`."""
        return sum(c.value * columns[c.name] for c in self.coefficients)

    @property
    def warning(self) -> str:
        """A warning that the features are collinear, or ""."""
        if self.condition <= _CONDITION:
            return ""
        return (
            f"the fitted columns are nearly collinear (condition number {self.condition:.0f}), so their coefficients"
            " are uncertain; add runs with other lengths, depths, models or clocks"
        )


def rows(runs: list[Run]) -> tuple[pd.DataFrame, list[str]]:
    """(one row per test with valid energy, one message per run that is left out).

    Columns: test, machine, and joules, seconds, cycles, macs and bytes of one repetition."""
    found, left_out = [], []
    for run in runs:
        energy = run_energy.energy(run)
        if energy is None or energy.findings:
            left_out.append(f"{run.path} is left out: {energy.findings[0] if energy else 'no energy was measured'}")
            continue
        for _, row in run_energy.figures(run, energy).iterrows():
            test = run.tests.get(str(row["test"]))
            if test is None:
                continue
            machine = run.begin.machine if run.begin else "?"
            joules, seconds = (row[name] * test.tokens for name in ("joules", "seconds"))
            found.append(
                {"test": test.name, "machine": machine, "joules": joules} | features(run, run.ops, test, seconds)
            )
    return pd.DataFrame(found), left_out


def features(run: Run, ops: Iterable[Op], test: Test, seconds: float) -> dict[str, float]:
    """Seconds, cycles, MACs and bytes of one repetition of a test, by name.

    ops: the operators to count.
    seconds: duration of the repetition."""
    done = [work(run, op, test) for op in ops]
    return {
        "seconds": seconds,
        "cycles": seconds * (run.begin.clock_hz if run.begin else 0),
        "macs": sum(macs for macs, _, _ in done),
        "bytes": sum(moved for _, moved, _ in done),
    }


def fit(frame: pd.DataFrame, on: tuple[str, ...] = DEFAULT) -> Fit:
    """Least-squares fit of joules, minimizing relative errors, without a constant term: no work costs no energy.

    frame: rows as from `rows`.
    on: features to fit; those that are zero in all rows are dropped.

    Raises BadInput if statsmodels is missing, a feature is unknown or there are too few rows."""
    try:
        import statsmodels.api as sm
    except ImportError:
        raise BadInput("statsmodels is missing: pip install 'tinyprof[power]'") from None
    if unknown := [n for n in on if n not in FEATURES]:
        raise BadInput(f"no column '{unknown[0]}'; choose from {', '.join(FEATURES)}")
    names = [n for n in on if n in frame and frame[n].any()]
    if len(frame) < len(names) + 5:
        raise BadInput(f"{len(frame)} tests with valid energy are too few to fit; add runs: at least {len(names) + 5}")
    x, y = frame[names].to_numpy(dtype=float), frame["joules"].to_numpy(dtype=float)
    scaled = x / y[:, None]  # a test of 1 mJ counts as much as one of 1 J
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about collinear columns: Fit.warning covers that
        fitted = sm.OLS(np.ones(len(y)), scaled).fit()
    limits = fitted.conf_int(0.05)
    coefficients = [
        Coefficient(n, FEATURES[n], float(v), float(low), float(high))
        for n, v, (low, high) in zip(names, fitted.params, limits, strict=True)
    ]
    off = y - x @ fitted.params
    r2 = 1 - float((off**2).sum() / ((y - y.mean()) ** 2).sum())
    columns = scaled / np.linalg.norm(scaled, axis=0)
    condition = float(np.linalg.cond(columns))
    return Fit(coefficients, r2, _held_out(scaled), len(y), condition, sorted(set(frame["machine"])))


def _held_out(scaled: Array) -> float:
    """Median relative error on held-out rows. scaled: features divided by joules, shape (tests, features)."""
    order = np.random.default_rng(1).permutation(len(scaled))
    errors = []
    for k in range(FOLDS):
        out = order[k::FOLDS]
        kept = np.setdiff1d(order, out)
        guess, *_ = np.linalg.lstsq(scaled[kept], np.ones(len(kept)), rcond=None)
        errors += list(abs(scaled[out] @ guess - 1))
    return float(np.median(errors))


def markdown(found: Fit) -> str:
    """The fit as a Markdown table, followed by its quality and warning."""
    lines = ["| | value | 95 % from | to |", "|---|---:|---:|---:|"]
    lines += [f"| {c.name} | {c.value:.4g} {c.unit} | {c.low:.4g} | {c.high:.4g} |" for c in found.coefficients]
    lines.append("")
    lines.append(f"{found.rows} tests; R² {found.r2:.4f}; median error on held-out tests {100 * found.held_out:.2f} %")
    return "\n".join([*lines, *([found.warning] if found.warning else [])])


def as_json(found: Fit) -> str:
    """The fit as JSON, which `read_fit` reads."""
    return json.dumps(asdict(found) | {"warning": found.warning}, indent=1)


def read_fit(path: Path) -> Fit:
    """The fit in a JSON file that `as_json` wrote. Raises BadInput if it is not a valid fit."""
    try:
        found = TypeAdapter(Fit).validate_json(path.read_bytes())
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from None
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        why = where or error.errors()[0]["msg"]
        raise BadInput(f"{path} is not an energy fit: {why}; write one with `power fit --out`") from None
    figures = [found.held_out, *(c.value for c in found.coefficients)]
    if not figures[1:] or len(set(found.on)) < len(found.on) or not set(found.on) <= FEATURES.keys():
        raise BadInput(f"{path} is not an energy fit: its columns must be some of {', '.join(FEATURES)}, each once")
    if not all(map(math.isfinite, figures)):
        raise BadInput(f"{path} is not an energy fit: it contains NaN or infinity; run `power fit --out` again")
    return found
