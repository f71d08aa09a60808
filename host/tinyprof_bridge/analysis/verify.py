"""What a change really makes of a run: measured on the same board, beside what was predicted."""

import hashlib
import json
import math
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.text import Text

from ..boards import emulators
from ..errors import BadInput, plain
from ..measure.collect import Request, collect
from ..models.demo import read_model
from ..models.requantize import requantize
from ..progress import Progress
from ..records.runs import Run
from ..tables import Column, markdown_table, number, rich_table
from .whatif import Change, Estimate, Prediction


def measure(run: Run, change: Change, model: Path, progress: Progress) -> Run:
    """Runs the tests of a run with the change. Raises BadInput where that is not possible here."""
    if run.host is None or run.model is None or run.begin is None:
        raise BadInput(f"{run.path} does not say on which board it ran")
    if run.host.board not in emulators.NAMES:
        raise BadInput(f"--verify runs emulated boards and the unix port, not {run.host.board}")
    if hashlib.sha256(read_model(model)).hexdigest() != run.host.model_sha256:
        raise BadInput(f"{model} is not the model of the run")
    request = _request(run, change, model)
    with tempfile.TemporaryDirectory() as scratch:
        if change.what == "type":
            request = replace(request, model=Path(scratch) / "model.gguf")
            progress.step(f"making the model's matrices {change.value}")
            requantize(model, request.model, change.value)
        return collect(request, Path(scratch) / "run.jsonl", progress)[0]


def _request(run: Run, change: Change, model: Path) -> Request:
    assert run.host is not None and run.model is not None and run.begin is not None
    tests = list(run.tests.values())
    lengths = {phase: tuple(sorted({t.tokens for t in tests if t.phase == phase})) for phase in ("prefill", "decode")}
    fields: dict[str, Any] = {
        "board": run.host.board,
        "model": model,
        "p": lengths["prefill"],
        "n": lengths["decode"],
        "d": tuple(sorted({t.depth for t in tests})),
        "r": run.begin.repetitions,
        "warmup": run.begin.warmup,
        "context": run.model.context,
        "batch": run.model.batch,
        "kv": run.model.kv,
        "activations": int(run.model.activations.removeprefix("int")),
        "stream": run.model.placement == "stream",
    }
    match change.what:
        case "context":
            context = int(change.number)
            fields |= {"p": (), "d": tuple(sorted({context - n for n in lengths["decode"]})), "context": context}
            if len(fields["d"]) > 1:  # not all lengths with all depths: the longest alone
                fields |= {"n": lengths["decode"][-1:], "d": (context - lengths["decode"][-1],)}
        case "placement":
            if run.host.board not in emulators.EMULATED or "ram" in (change.value, run.model.placement):
                raise BadInput("--verify can hold mapped and streamed weights against each other, on emulated boards")
            fields["stream"] = change.value == "stream"
        case "clock":
            raise BadInput("--verify cannot change the clock of a board")
    return Request(**fields)


def table(predicted: Prediction, measured: Run | None) -> pd.DataFrame:
    """One row an estimate; measured and error are nan where nothing was measured."""
    rows = []
    for estimates in (predicted.tests, predicted.memory):
        for e in estimates:
            found = _measured(e, measured) if measured else math.nan
            row = {**asdict(e), "measured": found, "error": e.expected / found - 1 if found else math.nan}
            rows.append(row | {"inside": e.low <= found <= e.high if found == found else None})
    return pd.DataFrame(rows)


def _measured(estimate: Estimate, run: Run) -> float:
    if estimate.unit == "bytes":
        return float(getattr(run.memory, estimate.name)) if run.memory else math.nan
    test = run.tests.get(estimate.name)
    return float(test.totals.mean()) / test.tokens if test and len(test.totals) else math.nan


def _value(value: float) -> str:
    return "unknown" if math.isnan(value) else number(round(value)) if value >= 100 else f"{value:.4g}"


def _error(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:+.2f} %"


def show(run: Run, predicted: Prediction, measured: Run | None, form: str) -> None:
    frame = table(predicted, measured)
    change = f"{predicted.change.what}={predicted.change.value}"
    notes = [*predicted.notes]
    if measured is not None and measured.correctness == "WRONG":
        notes.append("NOT the bits of the unix port: what was measured is wrong")
    if form == "json":
        rows = json.loads(frame.to_json(orient="records"))
        print(
            json.dumps(
                {"change": change, "unit": run.unit, "source": run.source, "rows": rows, "notes": notes}, indent=1
            )
        )
        return
    frame["what"] = frame["name"] + ", " + frame["unit"] + frame["unit"].map(lambda u: "" if u == "bytes" else "/token")
    columns = [
        Column("", "what", plain),
        Column("now", "now", _value),
        Column("predicted", "expected", _value),
        Column("from", "low", _value),
        Column("to", "high", _value),
    ]
    if measured is not None:
        columns += [Column("measured", "measured", _value), Column("error", "error", _error)]
    title = f"what if {change}: computed from the run's own numbers ({run.source})"
    if form == "md":
        print(f"# {plain(title)}\n\n{markdown_table(frame, columns)}\n\n" + "".join(f"{n}.  \n" for n in notes), end="")
        return
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(rich_table(frame, columns, title, console.width))
    for note in notes:
        console.print(Text(plain(note), style="dim"))
