"""A matrix of runs: every board with every model, several at a time, each in its own `collect` process.

The folder holds one file per run and a manifest. Finished runs are not repeated: the same command continues after an
interruption."""

import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

from .. import __version__
from ..boards import emulators
from ..errors import RunFailed
from ..progress import Progress
from ..records.runs import load
from .collect import partial_of


@dataclass(frozen=True)
class Cell:
    """One run of the matrix.

    board, model: its board and the path of its model.
    model_sha256: hash of the model file.
    options: options of `collect`, the same in all cells."""

    board: str
    model: str
    model_sha256: str
    options: tuple[str, ...]

    @property
    def file(self) -> str:
        """Name of the run's file."""
        name = "-".join((self.board, Path(self.model).stem, self.model_sha256[:6]))
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


def cells(names: list[str], models: list[str], options: tuple[str, ...]) -> list[Cell]:
    """One cell per board and model. Consecutive cells are on different boards."""
    hashes = {model: hashlib.sha256(Path(model).read_bytes()).hexdigest() for model in models}
    return [Cell(board, model, hashes[model], options) for model in models for board in names]


def run(wanted: list[Cell], folder: Path, jobs: int, progress: Progress) -> list[Outcome]:
    """The outcomes of all cells, after running those that the folder's manifest lacks.

    wanted: the cells.
    jobs: runs at a time.

    Raises RunFailed at the end if a cell failed; the other runs are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    done = {o.cell: o for o in _manifest(folder) if not o.error and (folder / o.file).is_file()}
    left = [cell for cell in wanted if cell not in done]
    if len(left) < len(wanted):
        progress.step(f"{len(wanted) - len(left)} of {len(wanted)} runs are already finished")
    outcomes = [done[cell] for cell in wanted if cell in done]
    began = time.monotonic()
    # one run at a time on a serial port; emulated boards start an emulator for each run
    ports = {cell.board: threading.Lock() for cell in left if cell.board not in emulators.NAMES}
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        futures = [pool.submit(_one, cell, folder, ports.get(cell.board, contextlib.nullcontext())) for cell in left]
        try:
            for finished, future in enumerate(as_completed(futures), 1):
                outcome = future.result()
                outcomes.append(outcome)
                _keep(outcomes, folder)
                to_go = (time.monotonic() - began) / finished * (len(left) - finished)
                text = f"{outcome.cell.board}, {Path(outcome.cell.model).name}: {outcome.error or 'done'}"
                progress.step(f"{finished} of {len(left)}, about {to_go:.0f} s left: {text}")
        except KeyboardInterrupt:  # the terminal has interrupted the runs themselves too
            pool.shutdown(cancel_futures=True)
            raise RunFailed(f"interrupted; run the same command with --out {folder} to continue") from None
    failed = [o for o in outcomes if o.error]
    if failed:
        raise RunFailed(f"{len(failed)} of {len(wanted)} runs failed; see the errors in {folder}/manifest.json")
    return outcomes


def _one(cell: Cell, folder: Path, port: contextlib.AbstractContextManager[object]) -> Outcome:
    out = folder / cell.file
    command = [sys.executable, "-m", "tinyprof_bridge", "collect", "--board", cell.board, "--model", cell.model]
    command += [*cell.options, "--out", str(out), "-o", "json"]
    with port:
        result = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace")
    error = ""
    if result.returncode != 0:
        said = [line for line in result.stderr.splitlines() if line.startswith("tinyprof-bridge: ")]
        error = said[-1].partition(": ")[2] if said else f"exit code {result.returncode}"
        out = partial_of(out)
    if not out.exists():
        return Outcome(cell, "", "", __version__, None, None, None, error)
    host = load(out).host
    hashes = (host.firmware_sha256, host.module_sha256, host.package_sha256) if host else (None, None, None)
    return Outcome(cell, out.name, hashlib.sha256(out.read_bytes()).hexdigest(), __version__, *hashes, error)


def _keep(outcomes: list[Outcome], folder: Path) -> None:
    temporary = folder / ".manifest.json.tmp"
    temporary.write_text(json.dumps({"runs": [asdict(o) for o in outcomes]}, indent=1) + "\n")
    os.replace(temporary, folder / "manifest.json")


def _manifest(folder: Path) -> list[Outcome]:
    try:
        runs = json.loads((folder / "manifest.json").read_text())["runs"]
        found = []
        for entry in runs:
            cell = entry.pop("cell")
            cell["options"] = tuple(cell["options"])
            found.append(Outcome(Cell(**cell), **entry))
        return found
    except (OSError, ValueError, KeyError, TypeError):  # no manifest yet, or not one of ours: run everything
        return []
