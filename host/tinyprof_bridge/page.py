"""One HTML file for people: no network, light and dark, on paper and on a phone."""

from dataclasses import dataclass
from importlib.resources import files

import pandas as pd
from jinja2 import Environment

from . import counted
from .charts import CHARTS, draw
from .report import Column, counted_columns, facts, main_test, number, operator_columns, test_columns
from .table import Run, operators, tests


@dataclass(frozen=True)
class Cells:
    """A table as text. shares: per row, 0 to 1, for a bar behind it; None without."""

    title: str
    headings: list[str]
    numbers: list[bool]
    rows: list[list[str]]
    shares: list[float] | None


def _cells(title: str, frame: pd.DataFrame, columns: list[Column]) -> Cells:
    rows = [[c.show(row[c.field]) for c in columns] for _, row in frame.iterrows()]
    shares = [float(v) for v in frame["share"]] if "share" in frame else None
    return Cells(
        title, [c.heading for c in columns], [c.field in frame.select_dtypes("number") for c in columns], rows, shares
    )


def _headline(run: Run) -> list[tuple[str, str, str]]:
    """(what, figure, unit) of the first prefill and the first decode."""
    found = []
    for _, row in tests(run).iterrows():
        if run.per_second:
            found.append((str(row["test"]), f"{row['tok_s']:.2f}", "tok/s"))
        else:
            found.append((str(row["test"]), number(row["per_token"]), f"{run.unit} a token"))
    if run.memory:
        used = run.memory.arena + run.memory.kv + run.memory.plan + run.memory.model_ram
        found.append(("RAM for the model", f"{used / 1024:,.0f}", "KiB"))
    return found


def html(run: Run) -> str:
    """The page. Every figure stands beside its source."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((files("tinyprof_bridge") / "page.html.j2").read_text("utf-8"))
    main = main_test(run)
    tables = [_cells("Tests", tests(run), test_columns(run))] if not tests(run).empty else []
    for test in sorted(run.tests.values(), key=lambda t: t.name != main):
        if test.costs:
            tables.append(_cells(f"Operators in {test.name}", operators(run, test.name), operator_columns(run)))
        frame = counted.operators(run, test.name)
        for what, columns in ({} if frame.empty else counted_columns(run, frame)).items():
            tables.append(_cells(f"{test.name}: {what}", frame, columns))
    charts = [(CHARTS[name][0], forms["inline"].decode()) for name, forms in draw(run).items()]
    return template.render(
        title=f"{run.model.name if run.model else 'run'} on {run.host.board if run.host else 'a board'}",
        when=run.host.time if run.host else "",
        run=run,
        facts=facts(run),
        headline=_headline(run),
        charts=charts,
        tables=tables,
    )
