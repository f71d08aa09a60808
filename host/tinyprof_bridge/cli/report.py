"""The verb report."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from . import options, show

FILES = "Files to write"
SUPPLY = "Energy from a logger's file"

EXAMPLES = options.examples(
    "report results/run.jsonl",
    "report results/run.jsonl -o md   # for a pull request",
    "report results/run.jsonl --html run.html",
)


def report(
    file: options.RunArgument,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="page of charts and tables, all in one file", rich_help_panel=FILES),
    ] = None,
    charts: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="each chart as PNG and SVG", rich_help_panel=FILES)
    ] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FOLDER", help="each table as CSV", rich_help_panel=FILES)] = None,
    trace: Annotated[
        Path | None, typer.Option(metavar="FILE", help="trace for Perfetto and chrome://tracing", rich_help_panel=FILES)
    ] = None,
    speedscope: Annotated[
        Path | None, typer.Option(metavar="FILE", help="profile for speedscope", rich_help_panel=FILES)
    ] = None,
    power_csv: Annotated[
        Path | None,
        typer.Option(
            "--power-csv",
            metavar="FILE",
            help="log of the board's supply, from Otii, Joulescope, PPK2 and others (docs/power.md)",
            rich_help_panel=SUPPLY,
        ),
    ] = None,
    volts: Annotated[
        float | None,
        typer.Option(metavar="V", help="voltage of the supply, if that file has none", rich_help_panel=SUPPLY),
    ] = None,
    o: Annotated[str | None, options.choice(*show.RUN_FORMATS, help="output format (default: table)")] = None,
) -> None:
    """Show a saved run, or write it as a page, charts or traces."""
    from ..energy import run_energy
    from ..records.runs import load, supply_of

    run = load(file)
    beside = supply_of(file)
    if power_csv or beside.exists():
        from ..energy import logger_csv

        run.supply = logger_csv.read_csv(power_csv or beside, volts)
    energy = run_energy.energy(run)
    written = []
    if html or charts or csv or trace or speedscope:
        from ..report import files

        written = files.write(run, energy, files.Wanted(html, charts, csv, trace, speedscope))
    if o or not written:
        show.show_run(run, energy, o or "table")
    for path in written:
        print(path, file=sys.stderr if o else sys.stdout)
