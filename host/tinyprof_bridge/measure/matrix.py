"""A matrix of runs: every board with every model, several at a time, each in its own `collect` process.

The folder holds one file per run and a manifest. Finished runs are not repeated: the same command continues after an
interruption."""

import contextlib
import hashlib
import os
import pickle
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel

from .. import __version__
from ..boards import emulators
from ..errors import RunFailed
from ..models.demo import read_model
from ..progress import Progress
from ..records.runs import load
from .collect import Request, partial_of


@dataclass(frozen=True)
class Cell:
    """One run of the matrix.

    request: what to measure, on which board.
    model_sha256: hash of the model file, in hexadecimal."""

    request: Request
    model_sha256: str

    @property
    def file(self) -> str:
        """Name of the run's file."""
        name = "-".join((self.request.board, self.request.model.stem, self.model_sha256[:6]))
        return re.sub(r"[^\w.-]+", "_", name).strip("_") + ".jsonl"


@dataclass(frozen=True)
class Outcome:
    """The outcome of one run.

    cell: the run.
    file: name of the file with its records, *.partial.jsonl after a failed run; "" without one.
    sha256: hash of that file.
    tinyprof, firmware_sha256, module_sha256, package_sha256: as in its host record.
    error: the error message of `collect`; "" for a good run."""

    cell: Cell
    file: str
    sha256: str
    tinyprof: str
    firmware_sha256: str | None
    module_sha256: str | None
    package_sha256: str | None
    error: str


class _Manifest(BaseModel):
    runs: list[Outcome]


def cells(request: Request, boards: list[str], models: list[Path]) -> list[Cell]:
    """One cell per board and model. Consecutive cells are on different boards.

    Raises BadInput for a file that is not a model."""
    hashes = {model: hashlib.sha256(read_model(model)).hexdigest() for model in models}
    return [Cell(replace(request, board=board, model=model), hashes[model]) for model in models for board in boards]


def run(wanted: list[Cell], folder: Path, jobs: int, progress: Progress) -> list[Outcome]:
    """The outcomes of all cells, in their order, after running those that the folder's manifest lacks.

    wanted: the cells.
    jobs: runs at a time.

    Raises RunFailed if it is interrupted; finished runs are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    done = {o.cell: o for o in _manifest(folder) if not o.error and (folder / o.file).is_file()}
    left = [cell for cell in wanted if cell not in done]
    if len(left) < len(wanted):
        progress.step(f"{len(wanted) - len(left)} of {len(wanted)} runs are already finished")
    outcomes = {cell: done[cell] for cell in wanted if cell in done}
    began = time.monotonic()
    # one run at a time on a serial port; emulated boards start an emulator for each run
    ports = {cell.request.board: threading.Lock() for cell in left if cell.request.board not in emulators.NAMES}
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        futures = [
            pool.submit(_one, cell, folder, ports.get(cell.request.board, contextlib.nullcontext())) for cell in left
        ]
        try:
            for finished, future in enumerate(as_completed(futures), 1):
                outcome = future.result()
                outcomes[outcome.cell] = outcome
                _keep(list(outcomes.values()), folder)
                to_go = (time.monotonic() - began) / finished * (len(left) - finished)
                request = outcome.cell.request
                text = f"{request.board}, {request.model.name}: {outcome.error or 'done'}"
                progress.step(f"{finished} of {len(left)}, about {to_go:.0f} s left: {text}")
        except KeyboardInterrupt:  # the terminal has interrupted the runs themselves too
            pool.shutdown(cancel_futures=True)
            raise RunFailed(f"interrupted; run the same command with --out {folder} to continue") from None
    return [outcomes[cell] for cell in wanted]


def _one(cell: Cell, folder: Path, port: contextlib.AbstractContextManager[object]) -> Outcome:
    out = folder / cell.file
    # a process of its own: Ctrl-C reaches each, and stops its board
    command = [sys.executable, "-m", "tinyprof_bridge", "collect-cell", str(out)]
    with port:
        result = subprocess.run(command, input=pickle.dumps((cell.request, sys.argv)), capture_output=True)
    error = ""
    if result.returncode != 0:
        lines = result.stderr.decode(errors="replace").splitlines()
        said = [line for line in lines if line.startswith("tinyprof-bridge: ")]
        error = said[-1].partition(": ")[2] if said else f"exit code {result.returncode}"
    if not out.exists():
        out = partial_of(out)
    if not out.exists():
        return Outcome(cell, "", "", __version__, None, None, None, error)
    host = load(out).host
    hashes = (host.firmware_sha256, host.module_sha256, host.package_sha256) if host else (None, None, None)
    return Outcome(cell, out.name, hashlib.sha256(out.read_bytes()).hexdigest(), __version__, *hashes, error)


def _keep(outcomes: list[Outcome], folder: Path) -> None:
    temporary = folder / ".manifest.json.tmp"
    temporary.write_text(_Manifest(runs=outcomes).model_dump_json(indent=1) + "\n")
    os.replace(temporary, folder / "manifest.json")


def _manifest(folder: Path) -> list[Outcome]:
    try:
        return _Manifest.model_validate_json((folder / "manifest.json").read_bytes()).runs
    except (OSError, ValueError):  # no manifest yet, or not one of ours: run everything
        return []
