"""Chooses the type of each matrix: the exact minimum of the loss within limits of bytes and latency.

A multiple-choice knapsack with two bounds, solved as an integer program by HiGHS (scipy.optimize.milp). An input that
several matrices share is quantized once for each type among them."""

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, milp

SECONDS = 60.0  # time limit; after it the best so far is used and marked as not proven


@dataclass(frozen=True)
class Option:
    """One type for one matrix.

    matrix, type: names.
    bytes: size in the file.
    units: cost per token of its product.
    loss: KL divergence that it adds, in nats per token.
    inputs: name of the input that it reads.
    quantizing: units of quantizing that input for this type, paid once by all matrices that share it."""

    matrix: str
    type: str
    bytes: int
    units: float
    loss: float
    inputs: str
    quantizing: float


@dataclass(frozen=True)
class Choice:
    """A type for every matrix.

    types: by matrix name.
    bytes, units: total, including the fixed part.
    loss: sum of the options' losses.
    proven: whether it is proven optimal.
    over: largest relative excess over a bound; 0 within the bounds."""

    types: dict[str, str]
    bytes: int
    units: float
    loss: float
    proven: bool = True
    over: float = 0.0


class Search:
    """The search over all choices.

    options: at least one for each matrix.
    fixed: bytes and units that every choice has in addition."""

    def __init__(self, options: Sequence[Option], fixed: tuple[int, float]) -> None:
        self._options, self._fixed = options, fixed
        names = list(dict.fromkeys(option.matrix for option in options))
        # variables: for each option whether it is taken, for each (input, type) whether it is quantized
        made = {(option.inputs, option.type): option.quantizing for option in options}
        self._count, more = len(options), (0, len(made))
        one = [[float(option.matrix == name) for option in options] for name in names]
        self._one = LinearConstraint(np.pad(one, ((0, 0), more)), 1, 1)
        uses = [[float((option.inputs, option.type) == pair) for pair in made] for option in options]
        self._makes = LinearConstraint(np.column_stack([np.eye(len(options)), -np.array(uses)]), ub=0)
        self._bytes = np.pad([float(option.bytes) for option in options], more)
        self._units = np.array([*(option.units for option in options), *made.values()])
        losses = np.pad([option.loss for option in options], more)
        # scaled far above the solver's tolerances; among equal losses, smaller and faster choices win
        self._losses = losses / max(losses.max(), 1e-30) * 1e3
        self._losses += 1e-6 * (self._bytes / self._bytes.max() + self._units / max(self._units.max(), 1e-30))

    def best(self, most_bytes: float, most_units: float) -> Choice | None:
        """The choice with the least loss within the bounds; None if there is none."""
        if min(most_bytes, most_units) <= 0:  # the constraints are divided by the bounds
            return None
        return self._solve(self._losses, self._limits(most_bytes, most_units))

    def nearest(self, most_bytes: float, most_units: float) -> Choice:
        """The choice that exceeds the bounds by the smallest factor, with the least loss among those."""
        rows, left = self._rows(most_bytes, most_units)
        slack = np.append(np.zeros(len(self._units)), 1.0)
        found = self._solve(slack, LinearConstraint(np.column_stack([rows, -np.ones(len(rows))]), ub=left), free=1)
        assert found is not None
        factor = (1 + found.over) * (1 + 1e-9)
        best = self.best(most_bytes * factor, most_units * factor)
        return replace(best, over=found.over) if best else found

    def front(self, most_bytes: float, most_units: float, steps: int) -> list[Choice]:
        """The Pareto front of bytes, units and loss, sampled at a number of steps of each bound, by units."""
        limits = self._limits(most_bytes, most_units)
        ends = [self._solve(cost, limits) for cost in (self._bytes, self._units, self._losses)]
        there = [end for end in ends if end is not None]
        if not there:
            return []
        fastest = min(c.units for c in there)
        solved: list[tuple[float, float, Choice]] = []
        for most in np.ceil(np.linspace(max(c.bytes for c in there), min(c.bytes for c in there), steps)):
            slowest = self.best(most, most_units)
            for units in np.geomspace(slowest.units, fastest, steps) * (1 + 1e-9) if slowest else ():
                # the best choice within wider bounds is also the best here, if it is within these
                if any(c.bytes <= most <= b and c.units <= units <= u for b, u, c in solved):
                    continue
                if choice := self.best(most, units):
                    solved.append((most, units, choice))
        unique = {tuple(c.types.items()): c for _, _, c in solved}.values()
        kept = [c for c in unique if not any(better(other, c) for other in unique)]
        return sorted(kept, key=lambda c: (c.units, c.bytes))

    def _rows(self, most_bytes: float, most_units: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """(share of each finite bound that a variable takes, share that the fixed part leaves)."""
        pairs = ((self._bytes, self._fixed[0], most_bytes), (self._units, self._fixed[1], most_units))
        finite = [(values / most, 1 - fixed / most) for values, fixed, most in pairs if np.isfinite(most)]
        if not finite:
            return np.zeros((1, len(self._units))), np.zeros(1)
        return np.array([row for row, _ in finite]), np.array([left for _, left in finite])

    def _limits(self, most_bytes: float, most_units: float) -> LinearConstraint:
        rows, left = self._rows(most_bytes, most_units)
        return LinearConstraint(rows, ub=left)

    def _solve(self, cost: npt.NDArray[np.float64], limits: LinearConstraint, free: int = 0) -> Choice | None:
        """The choice with the least cost within limits; None without one.

        cost: per variable.
        free: number of continuous variables >= 0 at the end (the excess)."""
        there = len(self._units)
        constraints = [LinearConstraint(np.pad(c.A, ((0, 0), (0, free))), c.lb, c.ub) for c in (self._one, self._makes)]
        with _silence():
            result = milp(
                cost,
                integrality=np.arange(there + free) < self._count,  # the others follow from the options taken
                bounds=Bounds(0, np.append(np.ones(there), np.full(free, np.inf))),
                constraints=[*constraints, limits],
                options={"mip_rel_gap": 0, "time_limit": SECONDS},
            )
        if result.x is None:
            return None
        taken = [option for option, x in zip(self._options, result.x, strict=False) if x > 0.5]
        over = float(result.x[-1]) if free else 0.0
        made = {(option.inputs, option.type): option.quantizing for option in taken}
        return Choice(
            {option.matrix: option.type for option in taken},
            self._fixed[0] + sum(option.bytes for option in taken),
            self._fixed[1] + sum(option.units for option in taken) + sum(made.values()),
            sum(option.loss for option in taken),
            result.status == 0,
            over,
        )


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """A context in which C code cannot print to standard output, as HiGHS does."""
    sys.stdout.flush()
    saved, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(nowhere)


def better(a: Choice, b: Choice) -> bool:
    """Whether a dominates b: nowhere worse and somewhere better, in bytes, units and loss."""
    pairs = ((a.bytes, b.bytes), (a.units, b.units), (a.loss, b.loss))
    return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)
