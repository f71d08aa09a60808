"""Verifies a what-if prediction: measures the change on the same board and shows it next to the prediction."""

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
from ..models.demo import DEMO_MODEL, model_path, read_model
from ..models.requantize import requantize
from ..progress import Progress
from ..records.runs import Run
from ..tables import Column, markdown_table, number, rich_table
from .whatif import Change, Estimate, Prediction


def measure(run: Run, change: Change, model: Path, progress: Progress) -> Run:
    """A new run with the same tests and the change applied.

    run: the original run.
    change: the change.
    model: file of the run's model.

    Raises BadInput if the change cannot be measured here or the model is another one."""
    if run.host is None or run.model is None or run.begin is None:
        raise BadInput(f"{run.path} does not record its board or model; collect it again")
    if run.host.board not in emulators.NAMES:
        raise BadInput(f"--verify cannot run {run.host.board}, only emulated boards and the unix port")
    if hashlib.sha256(read_model(model)).hexdigest() != run.host.model_sha256:
        raise BadInput(f"{model} is not the model of {run.path}; give the same file with --model")
    request = _request(run, change, model)
    with tempfile.TemporaryDirectory() as scratch:
        if change.what == "type":
            request = replace(request, model=Path(scratch) / "model.gguf")
            progress.step(f"requantizing the model's matrices to {change.value}")
            requantize(model, request.model, change.value)
        return collect(request, Path(scratch) / "run.jsonl", progress)[0]


def model_of(run: Run, model: str | None) -> Path:
    """The file of a run's model: the one given, else the demo model if the run is of that. Raises BadInput."""
    name = run.host.model_file if run.host else ""
    if model is None and name != DEMO_MODEL.name:
        raise BadInput(f"--verify needs the model of the run: give {name or 'it'} with --model")
    return model_path(model or "demo")


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
            if len(fields["d"]) > 1:  # lengths and depths would be combined, and only the longest is wanted
                fields |= {"n": lengths["decode"][-1:], "d": (context - lengths["decode"][-1],)}
        case "placement":
            if run.host.board not in emulators.EMULATED or "ram" in (change.value, run.model.placement):
                raise BadInput("--verify placement: only mapped against stream can be measured, on emulated boards")
            fields["stream"] = change.value == "stream"
        case "clock":
            raise BadInput("--verify cannot set the clock of a board; collect a run with --freq")
    return Request(**fields)


def table(predicted: Prediction, measured: Run | None) -> pd.DataFrame:
    """Predictions and measurements, one row per estimate.

    Columns: the fields of Estimate; measured; error (expected / measured - 1); inside (whether measured is in the
    interval). measured and error are NaN if nothing was measured."""
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


def notes_of(predicted: Prediction, measured: Run | None) -> list[str]:
    """What to know about the estimates, and whether the measured run is wrong."""
    wrong = measured is not None and measured.correctness == "WRONG"
    note = "WRONG: the measured run's logits differ from the unix port's, so its figures are invalid"
    return [*predicted.notes, *([note] if wrong else [])]


def printed(run: Run, predicted: Prediction, measured: Run | None) -> tuple[str, pd.DataFrame, list[Column]]:
    """(title, rows, columns) of the estimates, and of the measured run if there is one."""
    frame = table(predicted, measured)
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
    change = f"{predicted.change.what}={predicted.change.value}"
    return f"what if {change}: predicted from this run's figures ({run.source})", frame, columns


def show(run: Run, predicted: Prediction, measured: Run | None, form: str) -> None:
    """Prints a prediction and, if there is one, the measured run.

    form: "table", "md" or "json"."""
    notes = notes_of(predicted, measured)
    if form == "json":
        change = f"{predicted.change.what}={predicted.change.value}"
        frame = table(predicted, measured)
        rows = json.loads(frame.to_json(orient="records"))
        print(
            json.dumps(
                {"change": change, "unit": run.unit, "source": run.source, "rows": rows, "notes": notes}, indent=1
            )
        )
        return
    title, frame, columns = printed(run, predicted, measured)
    if form == "md":
        print(f"# {plain(title)}\n\n{markdown_table(frame, columns)}\n\n" + "".join(f"{n}.  \n" for n in notes), end="")
        return
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(rich_table(frame, columns, title, console.width))
    for note in notes:
        console.print(Text(plain(note), style="dim"))
