"""The report as one self-contained HTML file, for light and dark screens, phones and paper."""

from dataclasses import dataclass

import pandas as pd
from jinja2 import Environment, PackageLoader

from ..analysis import explain
from ..analysis.compare import Comparison, footnote, parts
from ..energy.run_energy import Energy, energy_facts
from ..errors import BadInput, plain
from ..records.facts import facts, main_test
from ..records.metrics import operators, tests
from ..records.runs import Run
from ..tables import Column, Rows, number, shown
from .charts import TITLES, draw, side_by_side
from .run_report import counted_tables, measured_tables, operator_columns, test_columns


@dataclass(frozen=True)
class Cells:
    """A table as text.

    title: its heading.
    headings: of its columns.
    numbers: whether each column holds numbers.
    rows: cells.
    shares: 0 to 1 per row, drawn as a bar in the first cell; None for no bars."""

    title: str
    headings: list[str]
    numbers: list[bool]
    rows: list[list[str]]
    shares: list[float] | None


def _cells(title: str, table: pd.DataFrame | Rows, columns: list[Column]) -> Cells:
    rows = [list(row) for row in zip(*(shown(table, c) for c in columns), strict=True)]
    frame = pd.DataFrame(table)
    shares = [float(v) for v in frame["share"]] if "share" in frame else None
    return Cells(title, [c.heading for c in columns], [c.show is not plain for c in columns], rows, shares)


def _why(run: Run) -> tuple[list[tuple[str, str, str, str]], list[Cells], list[str]]:
    """(findings as (what, evidence, gain, step), tables, notes) of the explanation; all empty for an incomplete run."""
    try:
        why = explain.explain(run)
    except BadInput:
        return [], [], []
    found = [(plain(f.what), plain(f.evidence), explain.gain(why, f), plain(f.step)) for f in why.findings]
    tables = [_cells(title[0].upper() + title[1:], frame, columns) for title, frame, columns in explain.tables(why)]
    return found, tables, explain.notes(why)


def _headline(run: Run) -> list[tuple[str, str, str]]:
    """(what, figure, unit) of each card: the tests and the RAM for the model."""
    found = []
    for _, row in tests(run).iterrows():
        if run.per_second:
            found.append((str(row["test"]), f"{row['tok_s']:.2f}", "tok/s"))
        else:
            found.append((str(row["test"]), number(row["per_token"]), f"{run.unit} per token"))
    if run.memory:
        used = run.memory.arena + run.memory.kv + run.memory.plan + run.memory.model_ram
        found.append(("RAM for the model", f"{used / 1024:,.0f}", "KiB"))
    return found


def html(run: Run, energy: Energy | None) -> str:
    """The page of a run. energy: of the run, or None."""
    main = main_test(run)
    tables = [_cells("Tests", tests(run), test_columns(run))] if not tests(run).empty else []
    measured = [
        _cells(title[0].upper() + title[1:], frame, columns) for title, frame, columns in measured_tables(run, energy)
    ]
    for test in sorted(run.tests.values(), key=lambda t: t.name != main):
        if test.costs:
            tables.append(_cells(f"Operators in {test.name}", operators(run, test.name), operator_columns(run)))
        for what, frame, columns in counted_tables(run, test.name):
            tables.append(_cells(f"{test.name}: {what}", frame, columns))
    findings, why, notes = _why(run)
    charts = [(TITLES[name], forms["inline"].decode()) for name, forms in draw(run, energy, png=False).items()]
    return _render(
        "page.html.j2",
        title=f"{run.model.name if run.model else 'run'} on {run.host.board if run.host else 'a board'}",
        when=run.host.time if run.host else "",
        run=run,
        facts=facts(run, energy_facts(energy)),
        headline=_headline(run),
        charts=charts,
        tables=tables,
        measured=measured,
        findings=findings,
        why=why,
        notes=notes,
    )


def comparison(result: Comparison) -> str:
    """The page of a comparison."""
    return _render(
        "comparison.html.j2",
        title=" | ".join(group.name for group in result.groups),
        result=result,
        footnote=footnote(result),
        chart=side_by_side(result)["inline"].decode() if result.one_unit else "",
        tables=[_cells(title, frame, columns) for title, frame, columns in parts(result, every_test=True)],
    )


def _render(template: str, **values: object) -> str:
    loader = PackageLoader("tinyprof_bridge.report")
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template(template).render(values)
