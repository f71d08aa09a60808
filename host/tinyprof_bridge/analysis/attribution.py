"""Where the units of a test went: each operator's, split into parts that add up to the whole."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..errors import BadInput
from ..quantize import weight_types
from ..records.metrics import attended, batches, kv_bytes, work
from ..records.runs import Run, Test
from ..records.schema import Event, Op
from ..tables import Rows
from .ceilings import Ceilings

if TYPE_CHECKING:
    import pandas as pd

# In this order: what a part finds taken already it does not get.
PARTS = ("profiler", "calls", "storage", "compute", "memory", "unknown")
BETWEEN = "(between operators)"
STALLS = ("stall-data", "stall-xip0")  # events (device/tinyprof/registers.py) that are cycles spent waiting for memory


@dataclass
class Share:
    """Units of one operator over all repetitions; parts: by name, whole numbers that add up to units.

    roof: the units that ceilings allow for its work, None where no ceiling was measured."""

    role: str
    op: str
    type: str
    units: int = 0
    parts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PARTS, 0))
    roof: float | None = 0.0
    macs: float = 0.0
    bytes: float = 0.0
    calls: float = 0.0


@dataclass
class Attribution:
    """tokens: of all repetitions; units: of all of them."""

    test: Test
    tokens: int
    units: int
    shares: list[Share]

    def part(self, name: str) -> int:
        return sum(share.parts[name] for share in self.shares)

    def per_token(self, units: float) -> float:
        return units / self.tokens


def attribute(run: Run, name: str, roof: Ceilings) -> Attribution:
    """Splits a test. Raises BadInput where the run does not have all of it."""
    test = run.tests.get(name)
    if test is None:
        raise BadInput(f"the run has no test '{name}': it has {', '.join(run.tests) or 'none'}")
    totals = test.totals
    if not len(totals) or test.runs != len(totals) or any(op.i not in test.costs for op in run.ops):
        raise BadInput(f"{run.path}: records of {name} are missing; collect it again")
    shares: dict[str, Share] = {}
    for op in run.ops:
        share = shares.setdefault(op.role, Share(op.role, op.op, op.type))
        _add(run, op, test, roof, share)
    whole = int(totals.sum())
    rest = Share(BETWEEN, "", "", whole - sum(s.units for s in shares.values()))
    rest.parts["calls"] = rest.units
    rest.roof = None
    ordered = sorted(shares.values(), key=lambda s: -s.units)
    return Attribution(test, test.runs * test.tokens, whole, [*ordered, rest])


def _add(run: Run, op: Op, test: Test, roof: Ceilings, share: Share) -> None:
    """One record of the plan to the share of its role."""
    units = test.costs[op.i]
    macs, moved, calls = work(run, op, test)
    times = int(calls) * test.runs
    read = run.counter.read_cost if run.counter else 0
    stalls = stalled(run, test)
    estimates = {
        "profiler": float(read * times),
        "calls": float(max((roof.call or read) - read, 0) * times),
        "storage": float(units) if op.op == "read" else 0.0,
        "compute": 0.0,
        "memory": (stalls.v[op.i] if stalls else memory(run, op, test, roof)) * test.runs,
    }
    ideal = hot(run, op, test, roof)
    if ideal is None or op.op == "read":
        share.roof = None
    else:
        estimates["compute"] = max(ideal * test.runs - (roof.call or read) * times, 0)
        if share.roof is not None:
            share.roof += ideal * test.runs + estimates["memory"]
    left = units
    for part in PARTS[:-1]:
        taken = min(left, round(estimates[part]))
        share.parts[part] += taken
        left -= taken
    share.parts["unknown"] += left
    share.units += units
    share.macs += macs * test.runs
    share.bytes += moved * test.runs
    share.calls += times


def stalled(run: Run, test: Test) -> Event | None:
    """Cycles that the core itself counted as waiting for memory, in each record over one repetition."""
    for name in STALLS:
        event = test.events.get(name)
        if event and event.source == "hw-event" and run.unit == "cycles" and len(event.v) == len(run.ops):
            return event
    return None


def hot(run: Run, op: Op, test: Test, roof: Ceilings) -> float | None:
    """Units of a record over one repetition if all that it reads were hot; None: not measured."""
    twin = next((o.i for o in run.ops if o.role == op.role and o.layer in (-1, 0)), op.i)
    total, pos = 0.0, float(test.depth)
    windows = any(o.window for o in run.ops)
    for n in batches(run, op, test):
        if op.op == "matmul":
            units = roof.product(op.type, op.rows, op.cols, n)
        elif op.op == "attention" and (windows or n not in roof.batches):  # whose cost is no straight line in n
            last = op.window - 1 if op.window else float("inf")
            each = [roof.operator(twin, 1, min(pos + t, last)) for t in range(n)]
            units = None if None in each else sum(filter(None, each)) - (n - 1) * (roof.call or 0)
        else:
            units = roof.operator(twin, n, pos if op.op == "attention" else None)
        if units is None:
            return None
        total += units
        pos += n
    return total


def memory(run: Run, op: Op, test: Test, roof: Ceilings) -> float:
    """Units over one repetition that it takes longer to read weights, keys and values from where they lie than
    it would if they were hot."""
    near = roof.reads.get("hot")
    if near is None or run.model is None:
        return 0.0
    calls = batches(run, op, test)
    ram = max(roof.reads.get("ram", near) - near, 0)
    place = max(roof.reads.get("mapped", near) - near, 0) if run.model.placement == "mapped" else ram
    if op.op == "matmul":
        return op.rows * weight_types.row_bytes(op.type, op.cols) * len(calls) * place
    if op.op == "embed":
        return weight_types.row_bytes(op.type, op.cols) * sum(calls) * place
    if op.op == "attention":
        return 2 * attended(op, test.depth, test.tokens) * op.p2 * kv_bytes(op.type, op.cols) * ram
    return 0.0


def share_rows(found: Attribution) -> Rows:
    """One row an operator, units per token."""
    rows = [
        {"role": s.role, "type": s.type, "units": found.per_token(s.units), "share": s.units / max(found.units, 1)}
        | {part: found.per_token(units) for part, units in s.parts.items()}
        for s in found.shares
    ]
    whole = {"role": "whole", "type": "", "units": found.per_token(found.units), "share": 1.0}
    return [*rows, whole | {part: found.per_token(found.part(part)) for part in PARTS}]


def roofline_rows(found: Attribution, run: Run, roof: Ceilings) -> Rows:
    """One row an operator with MACs: where it stands (MAC/byte, MAC/unit), what the measured ceilings allow there,
    and which of them is the lower."""
    place = run.model.placement if run.model else ""
    rate = roof.reads.get("mapped" if place == "mapped" else "ram")
    n = min(run.model.batch, found.test.tokens) if run.model and found.test.phase == "prefill" else 1
    rows: Rows = []
    for s in found.shares:
        if not s.macs or not s.units:
            continue
        intensity = s.macs / s.bytes
        allowed = {}
        peak = roof.peak(s.type, 1 if s.role == "output" else n) if s.op == "matmul" else None
        if peak is not None:
            allowed["compute"] = 1 / peak
        elif s.roof:
            allowed["compute"] = s.macs / s.roof
        if rate:
            allowed[f"reading {'mapped' if place == 'mapped' else 'RAM'}"] = intensity / rate
        bound = min(allowed, key=lambda k: allowed[k], default="unknown")
        rows.append(
            {
                "role": s.role,
                "op": s.op,
                "type": s.type,
                "intensity": intensity,
                "speed": s.macs / s.units,
                "roof": allowed.get(bound, float("nan")),
                "of_roof": s.macs / s.units / allowed[bound] if allowed else float("nan"),
                "bound": bound,
            }
        )
    return rows


def roofline(found: Attribution, run: Run, roof: Ceilings) -> "pd.DataFrame":
    """roofline_rows as a DataFrame."""
    import pandas as pd

    return pd.DataFrame(roofline_rows(found, run, roof))
