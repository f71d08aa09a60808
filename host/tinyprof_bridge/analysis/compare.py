"""Compares runs: medians with their intervals, changes, and whether a change is statistically significant."""

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.text import Text

from ..errors import BadInput, plain
from ..records.facts import main_test
from ..records.metrics import operators
from ..records.runs import Run, load
from ..records.stats import ALPHA, geomean, least_p, mann_whitney, median_interval
from ..tables import Column, markdown_table, number, rich_table

MEMORY = ("model_storage", "model_ram", "arena", "kv", "plan", "heap_peak")
LONG_NAME = 24  # characters; longer group names become #1, #2, ... in tables
# Runs per group from which one run is one sample. Repetitions of one run share its conditions, so they say
# little about whether two runs differ by more than runs of the same program do.
RUNS = 4
# recorded facts to list if the groups differ in them, by their names for --by
FACTS = (
    *("board", "machine", "micropython", "firmware_sha256", "clock_hz", "path", "kernels", "compiler", "flags"),
    *("model.name", "types", "kv", "activations", "placement", "context", "batch"),
    *("begin.tinyprof", "repetitions", "warmup"),
)


@dataclass
class Group:
    """A group of runs, one column of the tables.

    name: its heading.
    runs: its runs."""

    name: str
    runs: list[Run]


@dataclass(frozen=True)
class Change:
    """The change of one figure from the first group to another.

    ratio: median of the other group / median of the first.
    p: p-value of the Mann-Whitney U test; None if it was not tested.
    real: whether there is a change that is exact or significant (p < ALPHA)."""

    ratio: float
    p: float | None
    real: bool


@dataclass
class Row:
    """One figure in all groups.

    name: the test, operator role or field of the memory record.
    samples: values by group; empty for a group without this figure.
    exact: whether it is a count without noise."""

    name: str
    samples: list[list[float]]
    exact: bool

    def change(self, i: int) -> Change | None:
        """The change from group 0 to group i; None if one of them lacks the figure or it is 0."""
        before, after = self.samples[0], self.samples[i]
        if not before or not after:
            return None
        base, median = median_interval(before)[0], median_interval(after)[0]
        if base <= 0 or median <= 0:
            return None
        if self.exact:
            return Change(median / base, None, median != base)
        if min(len(before), len(after)) < 2:
            return Change(median / base, None, False)
        p = mann_whitney(before, after)
        return Change(median / base, p, p < ALPHA)


@dataclass
class Comparison:
    """The comparison of groups.

    groups: the first is the reference.
    unit, source: of the counter; several are joined by " | ".
    notes: differences and warnings, one line each.
    tests: units per token, one row per test.
    operators: units per token, one row per operator role, by test.
    memory: bytes, one row per field of the memory record."""

    groups: list[Group]
    unit: str
    source: str
    notes: list[str] = field(default_factory=list)
    tests: list[Row] = field(default_factory=list)
    operators: dict[str, list[Row]] = field(default_factory=dict)
    memory: list[Row] = field(default_factory=list)

    @property
    def one_unit(self) -> bool:
        """Whether all runs have the same unit. --allow permits others; a chart cannot show them on one axis."""
        return len({run.unit for group in self.groups for run in group.runs}) == 1

    def geomean(self, i: int) -> float:
        """Geometric mean of all tests' ratios from group 0 to group i; NaN without any."""
        changes = [row.change(i) for row in self.tests]
        return geomean([c.ratio for c in changes if c is not None])


def compare(files: Sequence[Path], by: str, allow: bool) -> Comparison:
    """The comparison of runs.

    files: saved runs.
    by: recorded fields to group runs by, with commas between; empty for one group per file.
    allow: compare runs of different kinds with a warning instead of an error.

    Raises BadInput if the runs cannot be compared."""
    return compare_runs([load(file) for file in files], by, allow)


def compare_runs(runs: Sequence[Run], by: str, allow: bool) -> Comparison:
    """The comparison of runs that are already loaded; parameters as in compare."""
    for run in runs:
        _check_whole(run)
    runs = list(runs)
    names = [name.strip() for name in by.split(",") if name.strip()]
    groups = _groups(runs, names)
    if len(groups) < 2:
        same = f"{by} is the same in all of them" if names else "give two or more"
        raise BadInput(f"nothing to compare in {len(runs)} run{'s' * (len(runs) > 1)}: {same}")
    notes = []
    for reason, hint in _objections(runs, names):
        if not allow:
            raise BadInput(f"{reason}: {hint}, or use --allow to compare them with a warning")
        notes.append(f"NOT COMPARABLE, shown because of --allow: {reason}")
    notes += _differences(groups)
    for i, group in enumerate(groups):
        if len(group.name) > LONG_NAME:
            notes.append(f"#{i + 1}: {group.name}")
            group.name = f"#{i + 1}"
    units = sorted({run.unit for run in runs})
    sources = sorted({run.source for run in runs})
    result = Comparison(groups, " | ".join(units), " | ".join(sources), notes)
    _fill(result, exact=sources == ["emulated-icount"])
    if all(sum(map(bool, row.samples)) < 2 for row in result.tests):
        raise BadInput("the runs have no test in common; collect them with the same -p, -n and -d")
    return result


def _check_whole(run: Run) -> None:
    if not run.complete:
        raise BadInput(f"{run.path} is incomplete and cannot be compared; collect it again")
    if run.correctness == "WRONG":
        raise BadInput(f"{run.path} has wrong logits, so its figures are invalid; fix the kernel and collect it again")


def _recorded(run: Run) -> dict[str, object]:
    """Recorded facts of a run by dotted name: host.board, begin.native.kernels, model.types, ..."""
    found: dict[str, object] = {}

    def walk(prefix: str, value: object) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                walk(f"{prefix}.{key}", item)
        else:
            found[prefix] = value

    for record in (run.host, run.begin, run.counter, run.model):
        if record is not None:
            walk(record.kind, record.model_dump(exclude={"tp", "run", "seq", "kind"}))
    return found


def _dotted(name: str, known: set[str]) -> str:
    """The full name of a recorded field, from its full name or the last part of it.

    known: all full names. Raises BadInput if none or several match."""
    matches = sorted(k for k in known if k == name or k.endswith(f".{name}"))
    if name in known or len(matches) == 1:
        return name if name in known else matches[0]
    if matches:
        raise BadInput(f"--by {name} is ambiguous: use {' or '.join(matches)}")
    raise BadInput(f"--by {name}: no run records that field; choose from {', '.join(sorted(known))}")


def _groups(runs: list[Run], names: list[str]) -> list[Group]:
    if not names:
        stems = [Path(run.path).stem for run in runs]
        unique = len(set(stems)) == len(stems)
        return [Group(stem if unique else run.path, [run]) for stem, run in zip(stems, runs, strict=True)]
    recorded = [_recorded(run) for run in runs]
    fields = [_dotted(name, set().union(*recorded)) for name in names]
    groups: dict[str, Group] = {}
    for run, facts in zip(runs, recorded, strict=True):
        name = ", ".join(str(facts.get(f, "–")) for f in fields)
        groups.setdefault(name, Group(name, [])).runs.append(run)
    return list(groups.values())


def _objections(runs: list[Run], names: list[str]) -> Iterator[tuple[str, str]]:
    """(reason, remedy) for each difference that makes a comparison of these runs meaningless."""

    def differ(of: Callable[[Run], object], alike: Callable[[Run], object] = lambda _: 0) -> tuple[Run, Run] | None:
        """The first two runs with the same `alike` and different `of`; None without such runs."""
        first: dict[object, Run] = {}
        for run in runs:
            other = first.setdefault(alike(run), run)
            if of(run) != of(other):
                return other, run
        return None

    def arithmetic(run: Run) -> object:
        """What determines the logits' bits: runs that agree in it must agree in the logits, on every board."""
        return run.begin and run.begin.native.path, run.model and (run.model.kv, run.model.activations)

    def model(run: Run) -> str | None:
        recorded = run.model.sha256 if run.model else None
        return recorded or (run.host.model_sha256 if run.host else None)

    if pair := differ(lambda run: (run.source, run.unit)):
        figures = ", ".join(f"{run.path} has {run.unit} from {run.source}" for run in pair)
        yield f"the counters differ: {figures}", "compare runs of the same kind of counter"
    fields = {_dotted(name, set().union(*map(_recorded, runs))) for name in names}
    model_varies = any(f.startswith("model.") or f in ("host.model_file", "host.model_sha256") for f in fields)
    if pair := differ(model):
        if not model_varies:
            yield f"{pair[0].path} and {pair[1].path} ran different models", "group by the model (--by types)"
    elif pair := differ(lambda run: run.check and run.check.prompt):
        yield f"{pair[0].path} and {pair[1].path} ran different prompts", "load the model with the same context"
    elif pair := differ(lambda run: run.check and run.check.logits_crc32, arithmetic):
        paths = f"{pair[0].path} and {pair[1].path}"
        yield f"{paths} have different logits of the same model", "find out which kernel is wrong"


def _differences(groups: list[Group]) -> list[str]:
    """The facts in which the groups differ, one line each."""
    lines = []
    recorded = [[_recorded(run) for run in group.runs] for group in groups]
    known = set().union(*(facts for group in recorded for facts in group))
    for fact in FACTS:
        name = next((k for k in sorted(known) if k == fact or k.endswith(f".{fact}")), None)
        values = [", ".join(dict.fromkeys(str(facts.get(name or "")) for facts in group)) for group in recorded]
        if len(set(values)) > 1:
            lines.append(f"{fact}: {' | '.join(v[:40] for v in values)}")
    return lines


def _fill(result: Comparison, exact: bool) -> None:
    """Adds the figures of all groups. exact: whether the counter has no noise."""
    groups = result.groups

    def rows(names: Sequence[str], exact: bool, samples: Callable[[Run, str], list[float]]) -> list[Row]:
        table = [[[v for run in g.runs for v in samples(run, name)] for g in groups] for name in names]
        return [Row(name, values, exact) for name, values in zip(names, table, strict=True) if any(map(any, values))]

    every = [run for group in groups for run in group.runs]
    names = list(dict.fromkeys(name for run in every for name in run.tests))
    by_run = all(len(group.runs) >= RUNS for group in groups)

    def test_samples(run: Run, name: str) -> list[float]:
        test = run.tests.get(name)
        per_token = (test.totals / test.tokens).tolist() if test else []
        return [median_interval(per_token)[0]] if by_run and per_token else per_token

    result.tests = rows(names, exact, test_samples)
    for name in names:
        units = {id(run): _operator_units(run, name) for run in every}
        roles = list(dict.fromkeys(role for per_role in units.values() for role in per_role))

        def role_samples(run: Run, role: str, units: dict[int, dict[str, float]] = units) -> list[float]:
            return [units[id(run)][role]] if role in units[id(run)] else []

        result.operators[name] = rows(roles, exact, role_samples)

    def memory_samples(run: Run, name: str) -> list[float]:
        return [float(getattr(run.memory, name))] if run.memory else []

    result.memory = rows(MEMORY, True, memory_samples)


def _operator_units(run: Run, test: str) -> dict[str, float]:
    frame = operators(run, test) if test in run.tests else pd.DataFrame()
    return {} if frame.empty else dict(zip(frame["role"], frame["units"], strict=True))


def limit(text: str) -> float:
    """The fraction that a percentage such as "5%" or "5" means. Raises BadInput if it is not a percentage."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?%?", text.strip())
    if match is None:
        raise BadInput(f"--fail-on takes a percentage such as 5%, not '{text}'")
    return float(match[1]) / 100


def regressions(result: Comparison, limit: float) -> list[str]:
    """Tests that became significantly slower by more than a limit, one line each.

    limit: a fraction.

    Raises BadInput if that cannot be decided: a test is missing or there are too few samples."""
    slower = []
    for row in result.tests:
        for i, group in enumerate(result.groups[1:], 1):
            change = row.change(i)
            if change is None:
                raise BadInput(f"cannot judge {row.name}: some runs lack it; collect all with the same tests")
            n, m = len(row.samples[0]), len(row.samples[i])
            if not row.exact and least_p(n, m) >= ALPHA:
                raise BadInput(f"cannot judge {row.name} with {n} and {m} samples; collect with -r 10")
            if change.real and change.ratio > 1 + limit:
                slower.append(f"{row.name} {_percent(change.ratio)} in {group.name}")
    return slower


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.2f} %"


def _value(samples: list[float], exact: bool) -> str:
    if not samples:
        return "–"
    median, low, high = median_interval(samples)
    if exact or len(samples) == 1:
        return number(median)
    if math.isnan(low):
        return f"{number(median)} ± ?"
    return f"{number(median)} ± {100 * max(high - median, median - low) / median:.1f} %"


def _change(row: Row, i: int) -> str:
    change = row.change(i)
    if change is None:
        return "–"
    if row.exact:
        return "=" if change.ratio == 1 else _percent(change.ratio)
    n = f"n={len(row.samples[0])}+{len(row.samples[i])}"
    if change.p is None:
        return f"{_percent(change.ratio)} (not tested, {n})"
    return f"{_percent(change.ratio) if change.real else '~'} (p={change.p:.3f} {n})"


def _table(result: Comparison, rows: list[Row], heading: str, mean: bool) -> tuple[pd.DataFrame, list[Column]]:
    """(rows as text, columns). mean: whether the last row is the geometric mean of the ratios."""
    columns = [Column(heading, "name", plain), Column(result.groups[0].name, "0", str)]
    for i, group in enumerate(result.groups[1:], 1):
        # a narrow terminal drops the last groups first
        columns += [Column(group.name, f"{i}", str, i - 1), Column("change", f"change {i}", str, i - 1)]
    lines = []
    for row in rows:
        line = {"name": row.name} | {f"{i}": _value(s, row.exact) for i, s in enumerate(row.samples)}
        lines.append(line | {f"change {i}": _change(row, i) for i in range(1, len(result.groups))})
    if mean and len(rows) > 1:
        ratios = [result.geomean(i) for i in range(len(result.groups))]
        changes = {f"change {i}": "–" if math.isnan(r) else _percent(r) for i, r in enumerate(ratios)}
        lines.append({"name": "geomean"} | {f"{i}": "" for i in range(len(ratios))} | changes)
    return pd.DataFrame(lines), columns


def parts(result: Comparison, every_test: bool) -> Iterator[tuple[str, pd.DataFrame, list[Column]]]:
    """(title, rows, columns) of each table: tests, operators, memory.

    every_test: operators of all tests, instead of the main test only."""
    per = f"{result.unit}/token ({result.source})"
    yield f"tests, {per}", *_table(result, result.tests, "test", True)
    main = main_test(result.groups[0].runs[0])
    for name, rows in result.operators.items():
        if rows and (every_test or name == main):
            yield f"operators in {name}, {per}", *_table(result, rows, "operator", False)
    if result.memory:
        yield "memory, bytes", *_table(result, result.memory, "memory", False)


def footnote(result: Comparison) -> str:
    """How to read the tables, in one line."""
    if all(row.exact for row in result.tests):
        return "counts are exact, without noise; instructions are not the cycles or seconds of a chip"
    text = f"median ± 95 % interval (?: fewer than 6 samples); p: Mann-Whitney U; ~: no difference found (p ≥ {ALPHA})"
    if all(len(group.runs) >= RUNS for group in result.groups):
        return f"{text}; a sample is the median of a run"
    return f"{text}; a sample is a repetition (with {RUNS} or more runs per group it is the median of a run)"


def terminal(result: Comparison, console: Console) -> None:
    """Prints the comparison."""
    for note in result.notes:
        console.print(Text(plain(note), style="bold red" if note.startswith("NOT COMPARABLE") else ""))
    for title, frame, columns in parts(result, every_test=False):
        console.print(rich_table(frame, columns, title, console.width))
    console.print(Text(footnote(result), style="dim"), soft_wrap=True)


def markdown(result: Comparison) -> str:
    """The comparison as a Markdown document."""
    lines = [f"# {plain(' | '.join(g.name for g in result.groups))}\n"]
    lines += [f"- {plain(note)}" for note in result.notes]
    for title, frame, columns in parts(result, every_test=True):
        lines.append(f"\n## {plain(title)}\n\n{markdown_table(frame, columns)}")
    return "\n".join(lines) + f"\n\n{footnote(result)}\n"


def records(result: Comparison) -> list[dict[str, Any]]:
    """The figures as flat records, one per figure and group."""
    tables = [("test", "", row) for row in result.tests]
    tables += [("operator", test, row) for test, rows in result.operators.items() for row in rows]
    tables += [("memory", "", row) for row in result.memory]
    made = []
    for kind, test, row in tables:
        for i, group in enumerate(result.groups):
            if not row.samples[i]:
                continue
            median, low, high = median_interval(row.samples[i])
            change = row.change(i) if i else None
            made.append(
                {
                    "kind": kind,
                    "in_test": test,
                    "name": row.name,
                    "group": group.name,
                    "unit": "bytes" if kind == "memory" else f"{result.unit}/token",
                    "n": len(row.samples[i]),
                    "median": median,
                    "low": None if math.isnan(low) else low,
                    "high": None if math.isnan(high) else high,
                    "ratio": change.ratio if change else None,
                    "p": change.p if change else None,
                    "real": change.real if change else None,
                }
            )
    return made


def as_json(result: Comparison) -> str:
    """The comparison as JSON."""
    means = {g.name: result.geomean(i) for i, g in enumerate(result.groups) if i}
    whole = {
        "groups": {g.name: [run.path for run in g.runs] for g in result.groups},
        "source": result.source,
        "notes": result.notes,
        "geomean": {name: None if math.isnan(mean) else mean for name, mean in means.items()},
        "figures": records(result),
    }
    return json.dumps(whole, indent=1)


def csv(result: Comparison) -> str:
    """The figures as CSV, one row per figure and group. Each row repeats source and notes, so it can stand alone."""
    frame = pd.DataFrame(records(result))
    frame["source"] = result.source
    frame["notes"] = "; ".join(result.notes)
    return str(frame.to_csv(index=False))
