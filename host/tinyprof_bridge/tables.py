"""Tables of a DataFrame's columns for the terminal and Markdown."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from .errors import plain

if TYPE_CHECKING:
    import pandas as pd


Rows = list[dict[str, Any]]  # of a table: each row by field; a field that is missing is NaN


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


def percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.2f} %"


def ratio(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


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


def shown(table: "pd.DataFrame | Rows", column: Column) -> list[str]:
    """The cells of a column as text."""
    values = [row.get(column.field, math.nan) for row in table] if isinstance(table, list) else table[column.field]
    return [column.show(value) for value in values]


def rich_table(frame: "pd.DataFrame | Rows", columns: list[Column], title: str, width: int) -> Table:
    cells = {c.field: [c.heading, *shown(frame, c)] for c in columns}
    fitting = list(columns)
    while sum(max(map(len, cells[c.field])) + 3 for c in fitting) > width and any(c.rank for c in fitting):
        fitting.remove(max(fitting, key=lambda c: c.rank))
    left_out = "" if len(fitting) == len(columns) else "more columns in a wider terminal, and with -o md"
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, caption=left_out, pad_edge=False)
    for i, column in enumerate(fitting):
        table.add_column(column.heading, justify="right" if i and column.show is not plain else "left", no_wrap=True)
    for row in zip(*(cells[c.field][1:] for c in fitting), strict=True):
        table.add_row(*map(Text, row))
    return table


def markdown_table(frame: "pd.DataFrame | Rows", columns: list[Column]) -> str:
    def cell(text: str) -> str:
        return text.replace("|", "\\|")

    lines = ["| " + " | ".join(c.heading for c in columns) + " |"]
    lines.append("|" + "|".join("---" if c.show is plain else "---:" for c in columns) + "|")
    for row in zip(*(shown(frame, c) for c in columns), strict=True):
        lines.append("| " + " | ".join(map(cell, row)) + " |")
    return "\n".join(lines)
