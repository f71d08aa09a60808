"""A run for people: terminal, Markdown, CSV, JSON. All from the same two tables."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from . import counted, operator_energy, power
from .counters import CLASSES, RANGES
from .errors import plain
from .power import Energy
from .table import Run, events, operators, perplexity, profiler_overhead, tests

FORMATS = ("table", "md", "csv", "json")


@dataclass(frozen=True)
class Column:
    """A column of a printed table: heading, field, how to write a value; rank: in a narrow terminal
    columns of the greatest rank go first, those of rank 0 stay."""

    heading: str
    field: str
    show: Callable[[Any], str]
    rank: int = 0


def number(value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:,.2f}"


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.2f} %"


def _ratio(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def test_columns(run: Run) -> list[Column]:
    unit = run.unit
    columns = [Column("test", "test", plain)]
    if run.per_second:
        columns += [Column("tok/s", "tok_s", _ratio), Column("± stddev", "tok_s_stddev", _ratio, 1)]
    columns += [Column(f"{unit}/token", "per_token", number)]
    if not run.per_second:
        columns += [Column("± stddev", "stddev", number, 3)]
    return [
        *columns,
        Column("p50", "p50", number, 2),
        Column("p95", "p95", number, 4),
        Column("p99", "p99", number, 2),
        Column(f"first token ({unit})", "first_token", number, 1),
        Column(f"{unit}/MAC", "per_mac", _ratio),
        Column("interpreter", "interpreter", _percent),
    ]


def operator_columns(run: Run) -> list[Column]:
    return [
        Column("operator", "role", plain),
        Column("kernel", "op", plain, 1),
        Column("type", "type", plain),
        Column("calls/token", "calls", number, 3),
        Column(f"{run.unit}/token", "units", number),
        Column("share", "share", _percent),
        Column("MAC/token", "macs", number),
        Column(f"{run.unit}/MAC", "per_mac", _ratio),
        Column("bytes/token", "bytes", number, 2),
    ]


def scaled(unit: str) -> Callable[[float], str]:
    """A value in SI's thousands: 0.00495 J is 4.95 mJ."""

    def show(value: float) -> str:
        if math.isnan(value):
            return "–"
        for factor, prefix in ((1.0, ""), (1e-3, "m"), (1e-6, "µ")):
            if abs(value) >= factor:
                return f"{value / factor:.3g} {prefix}{unit}"
        return f"{value / 1e-9:.3g} n{unit}"

    return show


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
    Column("of a token's", "share", _percent),
    Column("mean", "watts", scaled("W")),
    Column("found by", "how", plain),
]


SWEEP_COLUMNS = [
    Column("test", "test", plain),
    Column("MHz", "mhz", number),
    Column("time/token", "seconds", scaled("s")),
    Column("energy/token", "joules", scaled("J")),
    Column("energy × delay", "delay_product", scaled("Js")),
]


def _power_facts(energy: Energy | None) -> list[tuple[str, str]]:
    if energy is None:
        return []
    idle = "not measured" if math.isnan(energy.idle) else scaled("W")(energy.idle)
    aligned = ""
    if energy.alignment is not None:
        aligned = f"; aligned by {energy.aligned_by} within {scaled('s')(energy.alignment)}"
    lines = [("power", f"{energy.how}; idle {idle}{aligned}")]
    return lines + [("POWER NOT VALID", finding) for finding in energy.findings]


def power_tables(run: Run, energy: Energy | None) -> list[tuple[str, pd.DataFrame, list[Column]]]:
    """(title, rows, columns) of energy by test and by operator; none for a run without."""
    frame = power.figures(run, energy) if energy else pd.DataFrame()
    if energy is None or frame.empty:
        return []
    tables = [(f"energy (sensor, {energy.how})", frame, POWER_COLUMNS)]
    frame = operator_energy.operators(run, energy)
    if not frame.empty:
        test = operator_energy.main_test(run)
        name = test.name if test else ""
        whole = _percent(float(frame["share"].sum()))
        title = f"energy of operators in {name} (sensor): together {whole} of a token's"
        tables.append((title, frame, OPERATOR_POWER_COLUMNS))
    return tables


def measured_tables(run: Run, energy: Energy | None) -> list[tuple[str, pd.DataFrame, list[Column]]]:
    """(title, rows, columns) of energy, and of the events that the board counted; none for a run without."""
    tables = power_tables(run, energy)
    frame = events(run)
    if not frame.empty:
        source = next(e.source for t in run.tests.values() for e in t.events.values())
        names = [test for test in run.tests if test in frame]
        columns = [Column("event", "event", plain), Column("counter", "counter", plain, 1)]
        columns += [Column(plain(name), name, number, rank) for rank, name in enumerate(names)]
        tables.append((f"events per token ({source})", frame, columns))
    return tables


def counted_columns(run: Run, frame: pd.DataFrame) -> dict[str, list[Column]]:
    """Two tables of what was counted in an emulator, by heading; columns of zeros are left out."""
    core = run.simulated.core if run.simulated else "?"
    name = Column("operator", "role", plain)

    def there(columns: list[Column]) -> list[Column]:
        return [c for c in columns if c.field in frame and frame[c.field].any()]

    instructions = [
        name,
        Column("instr/token", "instr", number),
        Column("cycles/token", "cycles", number),
        Column("share", "share", _percent),
        Column("cycles/instr", "cpi", _ratio, 1),
        Column("cycles/MAC", "cycles_per_mac", _ratio),
        *there([Column(kind, kind, _percent, 2) for kind in CLASSES]),
        Column("taken", "taken_share", _percent, 3),
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


def main_test(run: Run) -> str | None:
    """The test whose operators are shown first: the first decode, else the first of all."""
    for test in run.tests.values():
        if test.phase == "decode" and test.costs:
            return test.name
    return next((t.name for t in run.tests.values() if t.costs), None)


def facts(run: Run, energy: Energy | None) -> list[tuple[str, str]]:
    """What decides the result, as (name, text) lines."""
    lines: list[tuple[str, str]] = []
    if run.model:
        m = run.model
        lines.append(
            (
                "model",
                f"{m.name}, {m.types}, {m.bytes:,} bytes, {m.macs_per_token:,} MAC/token in matrix products",
            )
        )
        lines.append(("weights", f"{m.placement}; context {m.context}, batch {m.batch}, activations {m.activations}"))
    if run.begin:
        b = run.begin
        clock = f", {b.clock_hz / 1e6:g} MHz" if b.clock_hz else ""
        lines.append(("board", f"{b.machine}{clock}; MicroPython {b.micropython}"))
        lines.append(("kernels", f"{b.native.kernels}, {b.native.compiler}, {b.native.flags}"))
        if run.host and run.host.tinyprof != b.tinyprof:
            lines.append(("versions", f"tinyprof {b.tinyprof} on the board, {run.host.tinyprof} on the host"))
    if run.counter:
        c = run.counter
        clock = f"{c.clock}, emulated" if c.source == "emulated-icount" else "the board's own clock"
        rate = f"; {c.rate:,} a second by {clock}" if c.rate else ""
        lines.append(("counted by", f"{c.name}: {c.source}, in {c.unit}, a read costs {c.read_cost}{rate}"))
    if run.check:
        against = {
            "match": "the same bits as the unix port",
            "WRONG": "NOT the bits of the unix port: this result is wrong",
            "not checked": "not checked against another board",
        }[run.correctness]
        lines.append(("logits", f"{run.check.logits_crc32}, {against}"))
    if run.cold:
        how = {"load": "after loading", "cache": "after emptying the caches", "sleep": "after light sleep"}
        said = (
            f"{c.units:,} {run.unit} {how[c.after]}, then {min(c.warm):,} ({c.units / max(min(c.warm), 1):.2f} times)"
            for c in run.cold
        )
        lines.append(("cold start", f"a first token takes {'; '.join(said)}"))
    if run.perplexity:
        judged = run.perplexity
        of = plain(run.host.text_file) if run.host and run.host.text_file else "a text"
        lines.append(
            (
                "perplexity",
                f"{perplexity(judged):.3f} on {judged.tokens:,} tokens of {of}, in windows of {judged.window:,};"
                f" {100 * judged.right / judged.tokens:.1f} % foretold; logits {judged.logits_crc32}",
            )
        )
    if run.memory:
        m2 = run.memory
        lines.append(
            (
                "RAM",
                f"arena {m2.arena:,}, KV cache {m2.kv:,}, plan {m2.plan:,}, model {m2.model_ram:,} bytes;"
                f" heap peak {m2.heap_peak:,} of {m2.heap_total:,};"
                f" allocated while measuring {m2.allocated_in_region:,}",
            )
        )
        lines.append(("storage", f"{m2.model_storage:,} bytes of model"))
    overhead = profiler_overhead(run)
    if overhead:
        lines.append(("profiler", f"{overhead[0]:,.0f} {run.unit}/token, {100 * overhead[1]:.3f} % of a token"))
    lines += _power_facts(energy)
    if not run.complete:
        lines.append(("INCOMPLETE", f"{run.losses}: not for comparison"))
    if run.source == "emulated-icount":
        lines.append(("note", "instructions counted by an emulator; they are not the cycles or seconds of a chip"))
    return [(name, plain(text)) for name, text in lines]


def terminal(run: Run, energy: Energy | None, console: Console) -> None:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(justify="right", style="bold")
    grid.add_column()
    for name, text in facts(run, energy):
        alarming = name in ("INCOMPLETE", "POWER NOT VALID") or "NOT the bits" in text
        grid.add_row(name, Text(text), style="bold red" if alarming else "")
    console.print(grid)
    frame = tests(run)
    if frame.empty:
        console.print("no test finished")
        return
    console.print(rich_table(frame, test_columns(run), f"tests ({run.source})", console.width))
    for title, rows, columns in measured_tables(run, energy):
        console.print(rich_table(rows, columns, title, console.width))
    main = main_test(run)
    if main:
        title = f"operators in {main} ({run.source})"
        console.print(rich_table(operators(run, main), operator_columns(run), title, console.width))
        frame = counted.operators(run, main)
        for what, columns in ({} if frame.empty else counted_columns(run, frame)).items():
            console.print(rich_table(frame, columns, f"{main}: {what}", console.width))


def rich_table(frame: pd.DataFrame, columns: list[Column], title: str, width: int) -> Table:
    cells = {c.field: [c.heading, *(c.show(v) for v in frame[c.field])] for c in columns}
    shown = list(columns)
    while sum(max(map(len, cells[c.field])) + 3 for c in shown) > width and any(c.rank for c in shown):
        shown.remove(max(shown, key=lambda c: c.rank))
    left_out = "" if len(shown) == len(columns) else "more columns in a wider terminal, and with -o md"
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, caption=left_out, pad_edge=False)
    for i, column in enumerate(shown):
        table.add_column(column.heading, justify="right" if i and column.show is not plain else "left", no_wrap=True)
    for row in zip(*(cells[c.field][1:] for c in shown), strict=True):
        table.add_row(*map(Text, row))
    return table


def markdown(run: Run, energy: Energy | None) -> str:
    title = f"{run.model.name if run.model else 'run'} on {run.host.board if run.host else 'a board'}"
    parts = [f"# {plain(title)}\n", "\n".join(f"- **{n}**: {t}" for n, t in facts(run, energy))]
    parts += [f"\n## Tests ({run.source})\n", markdown_table(tests(run), test_columns(run))]
    for title, rows, columns in measured_tables(run, energy):
        parts += [f"\n## {plain(title[0].upper() + title[1:])}\n", markdown_table(rows, columns)]
    for test in run.tests.values():
        if test.costs:
            parts += [
                f"\n## Operators in {plain(test.name)} ({run.source})\n",
                markdown_table(operators(run, test.name), operator_columns(run)),
            ]
        frame = counted.operators(run, test.name)
        for what, columns in ({} if frame.empty else counted_columns(run, frame)).items():
            parts += [f"\n## {plain(test.name)}: {what}\n", markdown_table(frame, columns)]
    return "\n".join(parts) + "\n"


def markdown_table(frame: pd.DataFrame, columns: list[Column]) -> str:
    def cell(text: str) -> str:
        return text.replace("|", "\\|")

    lines = ["| " + " | ".join(c.heading for c in columns) + " |"]
    lines.append("|" + "|".join("---" if c.show is plain else "---:" for c in columns) + "|")
    for _, row in frame.iterrows():
        lines.append("| " + " | ".join(cell(c.show(row[c.field])) for c in columns) + " |")
    return "\n".join(lines)


def csv(run: Run) -> str:
    """The tests, one row each, with what decides them in the first columns."""
    frame = tests(run)
    frame.insert(0, "unit", run.unit)
    frame.insert(0, "model_sha256", run.model.sha256 if run.model else None)
    frame.insert(0, "model", run.model.name if run.model else None)
    frame.insert(0, "machine", run.begin.machine if run.begin else None)
    frame.insert(0, "board", run.host.board if run.host else None)
    return str(frame.to_csv(index=False))


def as_json(run: Run, energy: Energy | None) -> str:
    """Everything: provenance records as they came, tests, operators of every test."""

    def rows(frame: pd.DataFrame) -> list[dict[str, object]]:
        table: list[dict[str, object]] = json.loads(frame.to_json(orient="records"))
        return table

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
            "tests": rows(power.figures(run, energy)),
            "operators": rows(operator_energy.operators(run, energy)),
        },
        "cold": [cold.model_dump() for cold in run.cold],
        "tests": rows(tests(run)),
        "events": rows(events(run)),
        "simulated": run.simulated.model_dump() if run.simulated else None,
        "counted": {t.name: rows(counted.operators(run, t.name)) for t in run.tests.values() if t.counts},
        "operators": {t.name: rows(operators(run, t.name)) for t in run.tests.values() if t.costs},
    }
    return json.dumps(whole, indent=1)
