"""Attribution: where the units of a test went. Each operator's units are split into parts that add up to the total.

Units are those of the run's counter (cycles, nanoseconds, instructions). "Hot" data is in the fastest memory."""

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

# In order of priority: a part gets at most what the parts before it left.
PARTS = ("profiler", "calls", "storage", "compute", "memory", "unknown")
BETWEEN = "(between operators)"
STALLS = ("stall-data", "stall-xip0")  # events (device/tinyprof/registers.py) that are cycles spent waiting for memory


@dataclass
class Share:
    """The units of one operator role over all repetitions of a test.

    role, op, type: as in the op records.
    units: total.
    parts: units by part, whole numbers that add up to units.
    roof: units that the measured ceilings allow for this work; None if no ceiling was measured.
    macs, bytes, calls: work done, over all repetitions."""

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
    """The attribution of one test.

    test: the test.
    tokens: tokens of all repetitions.
    units: units of all repetitions.
    shares: one per operator role, largest first; the last is the time between operators."""

    test: Test
    tokens: int
    units: int
    shares: list[Share]

    def part(self, name: str) -> int:
        """Units of one part, over all operators. name: one of PARTS."""
        return sum(share.parts[name] for share in self.shares)

    def per_token(self, units: float) -> float:
        """Units per token, from units of all repetitions."""
        return units / self.tokens


def attribute(run: Run, name: str, roof: Ceilings) -> Attribution:
    """The attribution of one test.

    name: the test.
    roof: the run's ceilings.

    Raises BadInput if the run has no such test or its records are incomplete."""
    test = run.tests.get(name)
    if test is None:
        raise BadInput(f"{run.path}: no test '{name}'; its tests are {', '.join(run.tests) or 'none'}")
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
    """Adds one operator of the plan to the share of its role."""
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
    """The event record of memory stalls: cycles per operator in one repetition that the core waited for memory.

    None unless the chip's own counter measured them."""
    for name in STALLS:
        event = test.events.get(name)
        if event and event.source == "hw-event" and run.unit == "cycles" and len(event.v) == len(run.ops):
            return event
    return None


def hot(run: Run, op: Op, test: Test, roof: Ceilings) -> float | None:
    """Units of an operator in one repetition if all data it reads were hot; None if that was not measured."""
    twin = next((o.i for o in run.ops if o.role == op.role and o.layer in (-1, 0)), op.i)
    total, pos = 0.0, float(test.depth)
    windows = any(o.window for o in run.ops)
    for n in batches(run, op, test):
        if op.op == "matmul":
            units = roof.product(op.type, op.rows, op.cols, n)
        elif op.op == "attention" and (windows or n not in roof.batches):  # its cost is not linear in n
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
    """Extra units of an operator in one repetition for reading weights, keys and values from their actual memory
    instead of hot memory: bytes x the difference of the measured rates."""
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
    """The attribution as a table in units per token: one row per operator role, then "whole".

    Columns: role, type, units, share (of the total), and one for each of PARTS."""
    rows = [
        {"role": s.role, "type": s.type, "units": found.per_token(s.units), "share": s.units / max(found.units, 1)}
        | {part: found.per_token(units) for part, units in s.parts.items()}
        for s in found.shares
    ]
    whole = {"role": "whole", "type": "", "units": found.per_token(found.units), "share": 1.0}
    return [*rows, whole | {part: found.per_token(found.part(part)) for part in PARTS}]


def roofline_rows(found: Attribution, run: Run, roof: Ceilings) -> Rows:
    """The roofline of a test: one row per operator role that has MACs.

    Columns: role, op, type; intensity (MAC/byte); speed (MAC/unit); roof (MAC/unit that the lower of the measured
    ceilings allows); of_roof (speed / roof); bound (the name of the lower ceiling).

    Source: Williams, Waterman and Patterson, "Roofline", CACM 52(4), 2009."""
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
