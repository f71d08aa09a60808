"""Table of what QEMU's plugin counted, one row per operator and user-defined region."""

from typing import TYPE_CHECKING

from ..boards.qemu_counters import CLASSES, RANGES
from ..records.metrics import work
from ..records.runs import Run

if TYPE_CHECKING:
    import pandas as pd

AROUND = "(interpreter)"


def operators(run: Run, test_name: str) -> "pd.DataFrame":
    """Counts per token of a test, one row per operator role and user-defined region, most cycles first.

    Columns: role; calls; instr; cycles (modelled); taken, not_taken (branches); icache_misses, dcache_misses; a
    fraction of the instructions for each of CLASSES; bytes as loaded_R and stored_R for each memory range R of RANGES;
    macs; cpi; cycles_per_mac; taken_share; share (of all cycles). Empty if nothing was counted."""
    import pandas as pd

    test = run.tests[test_name]
    rows: dict[tuple[str, int], dict[str, float | str]] = {}
    for counts in test.counts:
        op = run.ops[counts.i] if 0 <= counts.i < len(run.ops) else None
        name = op.role if op else AROUND
        key = (name, counts.region)
        row = rows.setdefault(key, {"role": name + (f"/{counts.region}" if counts.region else "")})
        values: dict[str, float | None] = {
            "calls": counts.calls,
            "instr": counts.instr,
            "cycles": counts.cycles,
            "taken": counts.taken,
            "not_taken": counts.not_taken,
            "icache_misses": counts.icache_misses,
            "dcache_misses": counts.dcache_misses,
        }
        values |= {kind: counts.classes.get(kind, 0) for kind in CLASSES}
        values |= {f"loaded_{name}": counts.loaded.get(name, 0) for name in RANGES}
        values |= {f"stored_{name}": counts.stored.get(name, 0) for name in RANGES}
        values["macs"] = work(run, op, test)[0] * counts.runs if op and not counts.region else 0
        for field, value in values.items():
            if value is not None:
                row[field] = float(row.get(field, 0)) + value / test.tokens / counts.runs
    frame = pd.DataFrame(list(rows.values()))
    if frame.empty:
        return frame
    for kind in CLASSES:
        frame[kind] /= frame["instr"]
    frame["cpi"] = frame["cycles"] / frame["instr"]
    frame["cycles_per_mac"] = frame["cycles"] / frame["macs"].where(frame["macs"] > 0)
    branches = frame["taken"] + frame["not_taken"]
    frame["taken_share"] = frame["taken"] / branches.where(branches > 0)
    frame["share"] = frame["cycles"] / max(frame["cycles"].sum(), 1)
    return frame.sort_values("cycles", ascending=False, ignore_index=True)
