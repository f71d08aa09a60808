"""Report on a run for the terminal, as Markdown, CSV or JSON."""

import json
import math
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..boards.qemu_counters import CLASSES, RANGES
from ..energy import operator_energy, run_energy
from ..energy.run_energy import Energy, energy_facts
from ..errors import plain
from ..records.facts import facts, main_test
from ..records.metrics import event_rows, operator_rows, profiler_overhead, test_rows, tests
from ..records.runs import Run
from ..tables import Column, Rows, markdown_table, number, percent, ratio, rich_table, scaled
from . import qemu_table

if TYPE_CHECKING:
    import pandas as pd


def test_columns(run: Run) -> list[Column]:
    """Columns of the table of tests (metrics.tests)."""
    unit = run.unit
    columns = [Column("test", "test", plain)]
    if run.per_second:
        columns += [Column("tok/s", "tok_s", ratio), Column("± stddev", "tok_s_stddev", ratio, 1)]
    columns += [Column(f"{unit}/token", "per_token", number)]
    if not run.per_second:
        columns += [Column("± stddev", "stddev", number, 3)]
    return [
        *columns,
        Column("p50", "p50", number, 2),
        Column("p95", "p95", number, 4),
        Column("p99", "p99", number, 2),
        Column(f"first token ({unit})", "first_token", number, 1),
        Column(f"{unit}/MAC", "per_mac", ratio),
        Column("interpreter", "interpreter", percent),
    ]


def operator_columns(run: Run) -> list[Column]:
    """Columns of the table of operators (metrics.operators)."""
    return [
        Column("operator", "role", plain),
        Column("kernel", "op", plain, 1),
        Column("type", "type", plain),
        Column("calls/token", "calls", number, 3),
        Column(f"{run.unit}/token", "units", number),
        Column("share", "share", percent),
        Column("MAC/token", "macs", number),
        Column(f"{run.unit}/MAC", "per_mac", ratio),
        Column("bytes/token", "bytes", number, 2),
    ]


POWER_COLUMNS = [
    Column("test", "test", plain),
    Column("energy/token", "joules", scaled("J")),
    Column("95 % from", "low", scaled("J"), 3),
    Column("to", "high", scaled("J"), 3),
    Column("above idle", "above_idle", scaled("J"), 1),
    Column("tokens/J", "tokens_per_joule", number),
    Column("mean", "watts", scaled("W")),
    Column("peak", "peak", scaled("W"), 2),
    Column("time/token", "seconds", scaled("s"), 1),
    Column("energy × delay", "delay_product", scaled("Js"), 2),
    Column("windows", "windows", number, 4),
]


OPERATOR_POWER_COLUMNS = [
    Column("operator", "role", plain),
    Column("energy/token", "joules", scaled("J")),
    Column("share", "share", percent),
    Column("mean", "watts", scaled("W")),
    Column("method", "how", plain),
]


SWEEP_COLUMNS = [
    Column("test", "test", plain),
    Column("MHz", "mhz", number),
    Column("time/token", "seconds", scaled("s")),
    Column("energy/token", "joules", scaled("J")),
    Column("energy × delay", "delay_product", scaled("Js")),
]


def power_tables(run: Run, energy: Energy | None) -> "list[tuple[str, pd.DataFrame, list[Column]]]":
    """(title, rows, columns) of the tables of energy: by test, and by operator if that was measured."""
    if energy is None:
        return []
    frame = run_energy.figures(run, energy)
    if frame.empty:
        return []
    tables = [(f"energy (sensor, {energy.how})", frame, POWER_COLUMNS)]
    frame = operator_energy.operators(run, energy)
    if not frame.empty:
        test = operator_energy.energy_test(run)
        name = test.name if test else ""
        whole = percent(float(frame["share"].sum()))
        title = f"energy of operators in {name} (sensor): {whole} of a token's energy"
        tables.append((title, frame, OPERATOR_POWER_COLUMNS))
    return tables


def measured_tables(run: Run, energy: Energy | None) -> "list[tuple[str, pd.DataFrame | Rows, list[Column]]]":
    """(title, rows, columns) of the tables of energy and of hardware events, if the run has them."""
    tables: list[tuple[str, pd.DataFrame | Rows, list[Column]]] = [*power_tables(run, energy)]
    rows = event_rows(run)
    if rows:
        source = next(e.source for t in run.tests.values() for e in t.events.values())
        names = [test for test in run.tests if any(test in row for row in rows)]
        columns = [Column("event", "event", plain), Column("counter", "counter", plain, 1)]
        columns += [Column(plain(name), name, number, rank) for rank, name in enumerate(names)]
        tables.append((f"events per token ({source})", rows, columns))
    return tables


def counted_tables(run: Run, test_name: str) -> "list[tuple[str, pd.DataFrame, list[Column]]]":
    """(title, rows, columns) of an emulator's counts of a test, if the run has them."""
    if not run.tests[test_name].counts:
        return []
    frame = qemu_table.operators(run, test_name)
    return [(title, frame, columns) for title, columns in counted_columns(run, frame).items()]


def counted_columns(run: Run, frame: "pd.DataFrame") -> dict[str, list[Column]]:
    """Columns of two tables of an emulator's counts, by title: instructions and memory.

    frame: from qemu_table.operators. Columns that are all zero are left out."""
    core = run.simulated.core if run.simulated else "?"
    name = Column("operator", "role", plain)

    def there(columns: list[Column]) -> list[Column]:
        return [c for c in columns if c.field in frame and frame[c.field].any()]

    instructions = [
        name,
        Column("instr/token", "instr", number),
        Column("cycles/token", "cycles", number),
        Column("share", "share", percent),
        Column("cycles/instr", "cpi", ratio, 1),
        Column("cycles/MAC", "cycles_per_mac", ratio),
        *there([Column(kind, kind, percent, 2) for kind in CLASSES]),
        Column("taken", "taken_share", percent, 3),
    ]
    memory = [
        name,
        *there([Column(f"{r} read", f"loaded_{r}", number, 3 if r in ("plan", "code") else 0) for r in RANGES]),
        *there([Column(f"{r} written", f"stored_{r}", number, 2) for r in RANGES]),
        *there([Column("I misses", "icache_misses", number), Column("D misses", "dcache_misses", number)]),
    ]
    return {
        f"instructions (counted) and cycles (modelled, {core})": instructions,
        f"bytes and cache misses per token (counted{_caches(run)})": memory,
    }


def _caches(run: Run) -> str:
    if run.simulated is None:
        return ""
    known = (("I", run.simulated.icache), ("D", run.simulated.dcache))
    return "".join(f"; {n} cache {c[0]:,} bytes, {c[1]} ways of {c[2]}" for n, c in known if c)


def terminal(run: Run, energy: Energy | None, console: Console) -> None:
    """Prints the report. energy: of the run, or None."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(justify="right", style="bold")
    grid.add_column()
    for name, text in facts(run, energy_facts(energy)):
        alarming = name in ("INCOMPLETE", "POWER NOT VALID") or "NOT the bits" in text
        grid.add_row(name, Text(text), style="bold red" if alarming else "")
    console.print(grid)
    measured = test_rows(run)
    if not measured:
        console.print("no test finished")
        return
    console.print(rich_table(measured, test_columns(run), f"tests ({run.source})", console.width))
    for title, rows, columns in measured_tables(run, energy):
        console.print(rich_table(rows, columns, title, console.width))
    main = main_test(run)
    if main:
        title = f"operators in {main} ({run.source})"
        console.print(rich_table(operator_rows(run, main), operator_columns(run), title, console.width))
        for what, frame, columns in counted_tables(run, main):
            console.print(rich_table(frame, columns, f"{main}: {what}", console.width))


def markdown(run: Run, energy: Energy | None) -> str:
    """The report as a Markdown document. energy: of the run, or None."""
    title = f"{run.model.name if run.model else 'run'} on {run.host.board if run.host else 'a board'}"
    parts = [f"# {plain(title)}\n", "\n".join(f"- **{n}**: {t}" for n, t in facts(run, energy_facts(energy)))]
    parts += [f"\n## Tests ({run.source})\n", markdown_table(test_rows(run), test_columns(run))]
    for title, rows, columns in measured_tables(run, energy):
        parts += [f"\n## {plain(title[0].upper() + title[1:])}\n", markdown_table(rows, columns)]
    for test in run.tests.values():
        if test.costs:
            parts += [
                f"\n## Operators in {plain(test.name)} ({run.source})\n",
                markdown_table(operator_rows(run, test.name), operator_columns(run)),
            ]
        for what, frame, columns in counted_tables(run, test.name):
            parts += [f"\n## {plain(test.name)}: {what}\n", markdown_table(frame, columns)]
    return "\n".join(parts) + "\n"


def csv(run: Run) -> str:
    """The tests as CSV, one row each; the first columns are board, machine, model and unit."""
    frame = tests(run)
    frame.insert(0, "unit", run.unit)
    frame.insert(0, "model_sha256", run.model.sha256 if run.model else None)
    frame.insert(0, "model", run.model.name if run.model else None)
    frame.insert(0, "machine", run.begin.machine if run.begin else None)
    frame.insert(0, "board", run.host.board if run.host else None)
    return str(frame.to_csv(index=False))


def as_json(run: Run, energy: Energy | None) -> str:
    """The report as JSON: provenance records unchanged, tests, operators of every test, energy."""

    import pandas as pd

    def rows(table: pd.DataFrame | Rows) -> Rows:
        """As JSON has them: None for NaN, 10 decimals."""
        found: Rows = json.loads(pd.DataFrame(table).to_json(orient="records"))
        return found

    whole = {
        "complete": run.complete,
        "source": run.source,
        "unit": run.unit,
        "logits": run.correctness,
        "host": run.host.model_dump() if run.host else None,
        "begin": run.begin.model_dump() if run.begin else None,
        "counter": run.counter.model_dump() if run.counter else None,
        "model": run.model.model_dump() if run.model else None,
        "check": run.check.model_dump() if run.check else None,
        "perplexity": run.perplexity.model_dump() if run.perplexity else None,
        "memory": run.memory.model_dump() if run.memory else None,
        "overhead": run.overhead.model_dump() if run.overhead else None,
        "end": run.end.model_dump() if run.end else None,
        "overhead_per_token": (profiler_overhead(run) or (None,))[0],
        "power": energy
        and {
            "source": "sensor",
            "how": energy.how,
            "valid": not energy.findings,
            "findings": energy.findings,
            "idle_watts": None if math.isnan(energy.idle) else energy.idle,
            "alignment_error_s": energy.alignment,
            "aligned_by": energy.aligned_by,
            "tests": rows(run_energy.figures(run, energy)),
            "operators": rows(operator_energy.operators(run, energy)),
        },
        "cold": [cold.model_dump() for cold in run.cold],
        "tests": rows(test_rows(run)),
        "events": rows(event_rows(run)),
        "simulated": run.simulated.model_dump() if run.simulated else None,
        "counted": {t.name: rows(qemu_table.operators(run, t.name)) for t in run.tests.values() if t.counts},
        "operators": {t.name: rows(operator_rows(run, t.name)) for t in run.tests.values() if t.costs},
    }
    return json.dumps(whole, indent=1)
