"""What seconds, cycles, multiplications and bytes cost in joules: a plane fitted to many tests of many runs."""

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
_CONDITION = 30.0  # of scaled columns, above which they cannot be told apart (Belsley, Kuh and Welsch, 1980)


@dataclass(frozen=True)
class Coefficient:
    """low to high: where it lies with 95 %."""

    name: str
    unit: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Fit:
    """r2: of all; held_out: the median of relative errors on tests that the fit had not seen; condition: of the
    columns, scaled to one length; machines: whose runs these were."""

    coefficients: list[Coefficient]
    r2: float
    held_out: float
    rows: int
    condition: float
    machines: list[str]

    @property
    def on(self) -> list[str]:
        return [c.name for c in self.coefficients]

    def joules(self, columns: Mapping[str, float]) -> float:
        """columns: by name, as features has them."""
        return sum(c.value * columns[c.name] for c in self.coefficients)

    @property
    def warning(self) -> str:
        if self.condition <= _CONDITION:
            return ""
        return (
            f"the columns hardly differ (condition {self.condition:.0f}): take more lengths, depths, models or clocks"
        )


def rows(runs: list[Run]) -> tuple[pd.DataFrame, list[str]]:
    """One row a test with valid energy: joules, seconds, cycles, MACs and bytes of one repetition; and which runs have
    none, and why."""
    found, left_out = [], []
    for run in runs:
        energy = run_energy.energy(run)
        if energy is None or energy.findings:
            left_out.append(f"{run.path} is left out: {energy.findings[0] if energy else 'it has no energy'}")
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
    """The columns of one repetition of a test that takes so long."""
    done = [work(run, op, test) for op in ops]
    return {
        "seconds": seconds,
        "cycles": seconds * (run.begin.clock_hz if run.begin else 0),
        "macs": sum(macs for macs, _, _ in done),
        "bytes": sum(moved for _, moved, _ in done),
    }


def fit(frame: pd.DataFrame, on: tuple[str, ...] = DEFAULT) -> Fit:
    """Least squares of relative errors, without a constant: no work takes no energy."""
    try:
        import statsmodels.api as sm
    except ImportError:
        raise BadInput("statsmodels is missing: pip install 'tinyprof[power]'") from None
    if unknown := [n for n in on if n not in FEATURES]:
        raise BadInput(f"no column '{unknown[0]}': there are {', '.join(FEATURES)}")
    names = [n for n in on if n in frame and frame[n].any()]
    if len(frame) < len(names) + 5:
        raise BadInput(f"{len(frame)} tests with energy are too few: {len(names) + 5} at least")
    x, y = frame[names].to_numpy(dtype=float), frame["joules"].to_numpy(dtype=float)
    scaled = x / y[:, None]  # a test of 1 mJ counts as much as one of 1 J
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of columns that are alike: we say so ourselves
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
    order = np.random.default_rng(1).permutation(len(scaled))
    errors = []
    for k in range(FOLDS):
        out = order[k::FOLDS]
        kept = np.setdiff1d(order, out)
        guess, *_ = np.linalg.lstsq(scaled[kept], np.ones(len(kept)), rcond=None)
        errors += list(abs(scaled[out] @ guess - 1))
    return float(np.median(errors))


def markdown(found: Fit) -> str:
    lines = ["| | value | 95 % from | to |", "|---|---:|---:|---:|"]
    lines += [f"| {c.name} | {c.value:.4g} {c.unit} | {c.low:.4g} | {c.high:.4g} |" for c in found.coefficients]
    lines.append("")
    lines.append(
        f"{found.rows} tests; R² {found.r2:.4f}; error on tests held out {100 * found.held_out:.2f} % (median)"
    )
    return "\n".join([*lines, *([found.warning] if found.warning else [])])


def as_json(found: Fit) -> str:
    return json.dumps(asdict(found) | {"warning": found.warning}, indent=1)


def read(path: Path) -> Fit:
    """What as_json wrote. Raises BadInput."""
    try:
        found = TypeAdapter(Fit).validate_json(path.read_bytes())
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from None
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise BadInput(f"{path} is no fit: {where or error.errors()[0]['msg']}; `power fit --out` writes one") from None
    figures = [found.held_out, *(c.value for c in found.coefficients)]
    if not figures[1:] or len(set(found.on)) < len(found.on) or not set(found.on) <= FEATURES.keys():
        raise BadInput(f"{path} is no fit: its columns must be some of {', '.join(FEATURES)}, each once")
    if not all(map(math.isfinite, figures)):
        raise BadInput(f"{path} is no fit: it has what is no number")
    return found
