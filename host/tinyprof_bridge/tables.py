"""Columns of a DataFrame as a table for the terminal or in Markdown. NaN is shown as a dash."""

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
    """One column of a printed table.

    heading: text at the top.
    field: name of the DataFrame's column.
    show: formats a value. errors.plain marks a column of text, which is aligned left.
    rank: in a narrow terminal, columns of the highest rank are left out first; those of rank 0 always stay."""

    heading: str
    field: str
    show: Callable[[Any], str]
    rank: int = 0


def number(value: float) -> str:
    """Returns a number with thousands separators; two decimals if it is below 100 and not whole."""
    if math.isnan(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:,.2f}"


def percent(value: float) -> str:
    """Returns a fraction as a percentage: 0.125 is "12.50 %"."""
    return "–" if math.isnan(value) else f"{100 * value:.2f} %"


def ratio(value: float) -> str:
    """Returns a number with two decimals."""
    return "–" if math.isnan(value) else f"{value:.2f}"


def scaled(unit: str) -> Callable[[float], str]:
    """Returns a formatter that picks the SI prefix of a value in this unit: for "J", 0.00495 is "4.95 mJ"."""

    def show(value: float) -> str:
        if math.isnan(value):
            return "–"
        for factor, prefix in ((1.0, ""), (1e-3, "m"), (1e-6, "µ")):
            if abs(value) >= factor:
                return f"{value / factor:.3g} {prefix}{unit}"
        return f"{value / 1e-9:.3g} n{unit}"

    return show


def shown(table: "pd.DataFrame | Rows", column: Column) -> list[str]:
    """Returns the cells of a column as text."""
    values = [row.get(column.field, math.nan) for row in table] if isinstance(table, list) else table[column.field]
    return [column.show(value) for value in values]


def rich_table(frame: "pd.DataFrame | Rows", columns: list[Column], title: str, width: int) -> Table:
    """Returns a table for the terminal. A caption says when columns were left out.

    width: of the terminal, in characters; columns are left out by their rank until the rest fits."""
    cells = {c.field: [c.heading, *shown(frame, c)] for c in columns}
    fitting = list(columns)
    while sum(max(map(len, cells[c.field])) + 3 for c in fitting) > width and any(c.rank for c in fitting):
        fitting.remove(max(fitting, key=lambda c: c.rank))
    left_out = "" if len(fitting) == len(columns) else "a wider terminal, or -o md, shows more columns"
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, caption=left_out, pad_edge=False)
    for i, column in enumerate(fitting):
        table.add_column(column.heading, justify="right" if i and column.show is not plain else "left", no_wrap=True)
    for row in zip(*(cells[c.field][1:] for c in fitting), strict=True):
        table.add_row(*map(Text, row))
    return table


def markdown_table(frame: "pd.DataFrame | Rows", columns: list[Column]) -> str:
    """Returns a Markdown table with all columns, without a final newline."""

    def cell(text: str) -> str:
        return text.replace("|", "\\|")

    lines = ["| " + " | ".join(c.heading for c in columns) + " |"]
    lines.append("|" + "|".join("---" if c.show is plain else "---:" for c in columns) + "|")
    for row in zip(*(shown(frame, c) for c in columns), strict=True):
        lines.append("| " + " | ".join(map(cell, row)) + " |")
    return "\n".join(lines)
