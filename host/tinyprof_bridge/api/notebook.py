"""Results as HTML for notebooks: escaped, compact, in the colours of the text around them, light or dark."""

from collections.abc import Iterable, Sequence
from html import escape

import pandas as pd

from ..errors import plain
from ..tables import Column, Rows

ROWS = 12  # of a table that are shown, if not told otherwise; the DataFrame has all
RANK = 2  # of the least important column that is shown

# Colours are transparent greys and blues, which suit any background: notebooks have themes of their own.
_STYLE = """<style>
.tinyprof { font-size: 13px; line-height: 1.45; max-width: 72rem; }
.tinyprof .tp-title { font-size: 1.1em; font-weight: 600; margin: .2em 0; }
.tinyprof .tp-badge { display: inline-block; border-radius: 3px; padding: 0 .5em; margin-right: .4em;
  font-size: .9em; background: rgba(128,128,128,.2); }
.tinyprof .tp-good { background: #1b7f4d; color: #fff; }
.tinyprof .tp-bad { background: #b3261e; color: #fff; font-weight: 600; }
.tinyprof .tp-soft { opacity: .7; }
.tinyprof .tp-scroll { overflow-x: auto; }
.tinyprof details { margin: .5em 0; }
.tinyprof summary { cursor: pointer; font-weight: 600; }
.tinyprof table.tp-table { border-collapse: collapse; border: none; margin: .2em 0 .6em; font-size: 12px;
  font-variant-numeric: tabular-nums; color: inherit; }
.tinyprof table.tp-table th, .tinyprof table.tp-table td { border: none; padding: .15em .7em; white-space: nowrap;
  border-bottom: 1px solid rgba(128,128,128,.3); text-align: left; vertical-align: top; background: none; }
.tinyprof table.tp-table tr { background: none; }
.tinyprof table.tp-table th { font-weight: 500; opacity: .7; }
.tinyprof table.tp-table .tp-number { text-align: right; }
.tinyprof table.tp-table .tp-wrap { white-space: normal; overflow-wrap: anywhere; }
.tinyprof ol { margin: .3em 0; padding-left: 1.6em; }
.tinyprof li { margin: .3em 0; }
.tinyprof p { margin: .3em 0; }
</style>"""


def page(title: str, badges: Iterable[tuple[str, str]], parts: Iterable[str]) -> str:
    """A result as HTML.

    badges: (text, kind) after the title; kind is good, bad or empty. parts: HTML of the functions below."""
    shown = "".join(f'<span class="tp-badge{f" tp-{kind}" * bool(kind)}">{_text(text)}</span>' for text, kind in badges)
    body = "\n".join(parts)
    head = f'<div class="tp-title">{_text(title)}</div>\n<div>{shown}</div>'
    return f'<div class="tinyprof">{_STYLE}\n{head}\n{body}\n</div>'


def table(rows: "pd.DataFrame | Rows", columns: Sequence[Column], most: int = ROWS) -> str:
    """The rows as a table. Where they have shares, a bar in the first column shows them. most: rows that are shown."""
    frame = pd.DataFrame(rows)
    chosen = [c for c in columns if c.rank <= RANK]
    kinds = ["tp-text" if c.show is plain else "tp-number" for c in chosen]
    head = "".join(f'<th class="{kind}">{_text(c.heading)}</th>' for c, kind in zip(chosen, kinds, strict=True))
    lines = [f"<tr>{head}</tr>"]
    for _, row in frame.head(most).iterrows():
        cells = [
            f'<td class="{kind}">{_text(c.show(row[c.field]))}</td>' for c, kind in zip(chosen, kinds, strict=True)
        ]
        if "share" in frame:
            end = f"{100 * max(float(row['share']), 0):.1f}%"
            bar = f"linear-gradient(90deg,rgba(86,180,233,.35) {end},transparent {end})"
            cells[0] = cells[0].replace("<td ", f'<td style="background:{bar}" ', 1)
        lines.append(f"<tr>{''.join(cells)}</tr>")
    left = len(frame) - most
    more = f'<p class="tp-soft">{left:,} more rows</p>' if left > 0 else ""
    return f'<div class="tp-scroll"><table class="tp-table">{"".join(lines)}</table></div>{more}'


def section(title: str, content: str, opened: bool = True) -> str:
    """A part with a title that opens and closes."""
    return f"<details{' open' * opened}><summary>{_text(title)}</summary>{content}</details>"


def pairs(lines: Iterable[tuple[str, str]]) -> str:
    """Names and texts, one pair a row."""
    rows = (f'<tr><th>{_text(name)}</th><td class="tp-wrap">{_text(text)}</td></tr>' for name, text in lines)
    return f'<table class="tp-table">{"".join(rows)}</table>'


def notes(lines: Iterable[str]) -> str:
    """Lines of small text."""
    return "".join(f'<p class="tp-soft">{_text(line)}</p>' for line in lines)


def alarms(lines: Iterable[str]) -> str:
    """Lines that say why a result must not be used."""
    return "".join(f'<p><span class="tp-badge tp-bad">{_text(line)}</span></p>' for line in lines)


def numbered(items: Iterable[tuple[str, Iterable[tuple[str, str]]]]) -> str:
    """A numbered list: of each item its text, and (name, text) of what belongs to it."""
    found = []
    for text, more in items:
        lines = "".join(f'<br><span class="tp-soft">{_text(name)}:</span> {_text(line)}' for name, line in more if line)
        found.append(f"<li><b>{_text(text)}</b>{lines}</li>")
    return f"<ol>{''.join(found)}</ol>"


def _text(text: str) -> str:
    return escape(plain(text))
