"""Runs on standard output, in the format that -o names."""

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import RunFailed

if TYPE_CHECKING:  # each of these takes longer to load than the help takes to print
    from rich.console import Console

    from ..energy.run_energy import Energy
    from ..records.runs import Run

RUN_FORMATS = ("table", "md", "csv", "json", "jsonl")


def console() -> "Console":
    """Standard output: as wide as the terminal, 150 columns in a file."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 150)


def show_run(run: "Run", energy: "Energy | None", form: str) -> None:
    """Prints one run. form: one of RUN_FORMATS; energy: of the run, None without a sensor."""
    from ..report import run_report

    match form:
        case "table":
            run_report.terminal(run, energy, console())
        case "md":
            print(run_report.markdown(run, energy), end="")
        case "csv":
            print(run_report.csv(run), end="")
        case "json":
            print(run_report.as_json(run, energy))
        case "jsonl":
            with Path(run.path).open("rb") as lines:
                sys.stdout.flush()
                shutil.copyfileobj(lines, sys.stdout.buffer)


def show_runs(runs: "Sequence[Run]", form: str) -> None:
    """Prints several runs: one JSON array, one CSV table, or each run after the other."""
    from ..energy import run_energy
    from ..report import run_report

    match form:
        case "json":
            whole = [json.loads(run_report.as_json(run, run_energy.energy(run))) for run in runs]
            print(json.dumps(whole, indent=1))
        case "csv":
            for i, run in enumerate(runs):
                heading, _, rows = run_report.csv(run).partition("\n")
                print(rows if i else f"{heading}\n{rows}", end="")
        case _:
            for i, run in enumerate(runs):
                if i and form != "jsonl":
                    print()
                if form == "table":
                    print(f"{Path(run.path).stem}:")
                show_run(run, run_energy.energy(run), form)


def judge(run: "Run", energy: "Energy | None") -> None:
    """Raises RunFailed where the figures of a run do not count."""
    from ..measure.collect import problems

    if found := problems(run, energy):
        raise RunFailed("; ".join(found))
