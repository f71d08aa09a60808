"""Explains why a run is slow: findings, attribution and roofline, as text, Markdown or JSON."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from ..energy import run_energy
from ..errors import BadInput, plain
from ..records.facts import facts, main_test
from ..records.runs import Run
from ..tables import Column, Rows, markdown_table, number, rich_table
from . import attribution, findings
from .attribution import PARTS, Attribution
from .ceilings import Ceilings, ceilings
from .findings import Finding

_PLACES = {
    "hot": "reading hot RAM",
    "ram": "reading RAM",
    "mapped": "reading mapped flash",
    "storage": "reading storage",
    "copy": "copying into RAM",
}


@dataclass
class Explanation:
    """The explanation of one test.

    run: the run.
    roof: its ceilings.
    found: attribution of the test.
    findings: alarms first, then by gain."""

    run: Run
    roof: Ceilings
    found: Attribution
    findings: list[Finding]


def explain(run: Run, test: str | None = None) -> Explanation:
    """The explanation of one test of a run.

    test: its name; None for the test that a report shows first.

    Raises BadInput if there is no such test or its records are incomplete."""
    name = test or main_test(run)
    if name is None:
        raise BadInput(f"{run.path}: no test has per-operator records; collect the run again")
    roof = ceilings(run)
    found = attribution.attribute(run, name, roof)
    return Explanation(run, roof, found, findings.find(run, found, roof))


def notes(why: Explanation) -> list[str]:
    """Notes on how the figures were obtained and what is missing, one line each."""
    run, roof = why.run, why.roof
    lines = [
        f"units: {run.unit}, from {run.source}. Compute: what the same work costs on this board with all data hot;"
        " memory: the extra cost of reading weights, keys and values from where they are stored, by the measured"
        " rates; unknown: the rest"
    ]
    stalls = attribution.stalled(run, why.found.test)
    if stalls:
        lines.append(f"memory is measured here: stall cycles counted by the core, {stalls.event} of {stalls.counter}")
    if run.source == "emulated-icount":
        lines.append("an instruction counter does not see stalls: all memory costs the same")
    if roof.call is None:
        lines.append("this run has no measured ceilings: compute and memory are part of unknown")
    if roof.skipped:
        more = f"; and {len(roof.skipped) - 3} more" if len(roof.skipped) > 3 else ""
        lines.append(f"ceilings not measured for lack of RAM: {plain('; '.join(roof.skipped[:3]))}{more}")
    return lines


def _share(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f} %"


def _rate(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _part(value: float) -> str:
    return number(round(value)) if value else "·"


def tables(why: Explanation) -> Iterator[tuple[str, Rows, list[Column]]]:
    """(title, rows, columns) of each table: attribution, roofline, ceilings."""
    run, name = why.run, why.found.test.name
    columns = [Column("operator", "role", plain), Column("type", "type", plain, 2)]
    columns += [Column(f"{run.unit}/token", "units", _part), Column("share", "share", _share)]
    columns += [Column(part, part, _part) for part in PARTS]
    yield f"attribution of {name} ({run.source})", attribution.share_rows(why.found), columns
    under = attribution.roofline_rows(why.found, run, why.roof)
    if under:
        yield (
            f"{name} under the measured ceilings ({run.source})",
            under,
            [
                Column("operator", "role", plain),
                Column("type", "type", plain),
                Column("MAC/byte", "intensity", _rate),
                Column(f"MAC/{run.unit}", "speed", _rate),
                Column("ceiling", "roof", _rate),
                Column("of ceiling", "of_roof", _share),
                Column("bound by", "bound", plain),
            ],
        )
    rows = [
        {"what": f"{_PLACES.get(place, place)}, per byte", "units": units} for place, units in why.roof.reads.items()
    ]
    used = {s.type for s in why.found.shares if s.op == "matmul"}
    for type_ in sorted(used):
        for n in why.roof.batches:
            peak = why.roof.peak(type_, n)
            if peak is not None:
                rows.append({"what": f"{type_} product, {n} token{'s' * (n > 1)}, per MAC", "units": peak})
    if rows:
        yield (
            f"ceilings ({run.source})",
            rows,
            [Column("measured", "what", plain), Column(run.unit, "units", lambda v: f"{v:.4f}")],
        )


def gain(why: Explanation, finding: Finding) -> str:
    """What fixing a finding would gain, as text; "" if that is unknown."""
    if finding.gain is None:
        return ""
    share = finding.gain / (finding.whole or why.found.per_token(why.found.units))
    return f"up to {number(round(finding.gain))} {why.run.unit}/token, {100 * share:.1f} %"


def terminal(why: Explanation, console: Console) -> None:
    """Prints the explanation."""
    for name, text in facts(why.run):
        if name in ("model", "weights", "board", "kernels", "INCOMPLETE"):
            console.print(Text.assemble((f"{name:>10}  ", "bold"), text))
    console.print()
    console.print(Text(f"findings in {why.found.test.name}", style="italic"))
    if not why.findings:
        console.print(" nothing stands out")
    for i, finding in enumerate(why.findings, 1):
        mark = ("! ", "bold red") if finding.alarm else ("", "")
        console.print(Padding(Text.assemble(f"{i}. ", mark, (plain(finding.what), "bold")), (0, 1), expand=False))
        for what, text in (("evidence", finding.evidence), ("gain", gain(why, finding)), ("try", finding.step)):
            if text:
                console.print(Padding(Text.assemble((f"{what}: ", "dim"), plain(text)), (0, 4), expand=False))
    console.print()
    for title, rows, columns in tables(why):
        console.print(rich_table(rows, columns, title, console.width))
    for line in notes(why):
        console.print(Text(line, style="dim"))


def markdown(why: Explanation) -> str:
    """The explanation as a Markdown document."""
    run = why.run
    title = f"{run.model.name if run.model else 'run'} on {run.host.board if run.host else 'a board'}: explanation"
    parts = [
        f"# {plain(title)}\n",
        *(f"- **{n}**: {t}" for n, t in facts(run, run_energy.energy_facts(run_energy.energy(run)))),
        "\n## Findings\n",
    ]
    for i, finding in enumerate(why.findings, 1):
        parts.append(f"{i}. **{plain(finding.what)}**{' (alarm)' * finding.alarm}  ")
        parts.append(f"   Evidence: {plain(finding.evidence)}.  ")
        if gain(why, finding):
            parts.append(f"   Gain: {gain(why, finding)}.  ")
        parts.append(f"   Try: {plain(finding.step)}.")
    if not why.findings:
        parts.append("Nothing stands out.")
    for heading, rows, columns in tables(why):
        parts += [f"\n## {heading[0].upper()}{heading[1:]}\n", markdown_table(rows, columns)]
    return "\n".join([*parts, "", *(f"{line}.  " for line in notes(why))]) + "\n"


def as_json(why: Explanation) -> str:
    """The explanation as JSON."""
    import pandas as pd

    def rows(table: Rows) -> Any:
        return json.loads(pd.DataFrame(table).to_json(orient="records"))

    whole = {
        "test": why.found.test.name,
        "unit": why.run.unit,
        "source": why.run.source,
        "findings": [asdict(finding) for finding in why.findings],
        "attribution": rows(attribution.share_rows(why.found)),
        "roofline": rows(attribution.roofline_rows(why.found, why.run, why.roof)),
        "reads": why.roof.reads,
        "notes": notes(why),
    }
    return json.dumps(whole, indent=1)
