"""What a token costs on a board with its matrices in any type: from one run, which is kept for the next time.

The run's ceilings give the products, by type and shape, and where weights are streamed what a byte from storage
costs; its tests all the rest, and what positions and reads cost."""

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import cache, device_package
from ..analysis.ceilings import Ceilings, ceilings
from ..boards import deploy, emulators
from ..boards.transport import SerialBoard
from ..errors import BadInput
from ..measure.collect import Request, collect
from ..models.source import sha256
from ..progress import Progress
from ..quantize import weight_types
from ..records.runs import Run, Test, load
from ..records.schema import Op
from .matrix_types import Matrix

TOKENS = 8  # decoded, at the end of what is in the cache
SHORTEST, DEEPEST = 32, 1024  # contexts at whose ends is measured: the longest, and its halves
_CHANGING = ("matmul", "embed", "quantize")


@dataclass(frozen=True)
class Costs:
    """rest: units of a token without products and what goes with them, in the first positions; more: than these, by
    context, at its end; byte, read: of a byte from storage, and of a read, the interpreter's work around it included;
    reads: of a token, whose units are in rest; correction: what the ceilings leave unexplained, as a factor. when: the
    run is from; kept: it was made earlier."""

    run: Run
    roof: Ceilings
    rest: float
    more: Mapping[int, float]
    byte: float
    read: float
    reads: int
    correction: float
    kept: bool

    @property
    def when(self) -> str:
        return self.run.host.time if self.run.host else "?"

    @property
    def machine(self) -> str:
        return self.run.begin.machine if self.run.begin else "?"

    @property
    def kernels(self) -> str:
        return self.run.begin.native.kernels if self.run.begin else "?"

    @property
    def path(self) -> str:
        return self.run.begin.native.path if self.run.begin else "?"

    @property
    def placement(self) -> str:
        return self.run.model.placement if self.run.model else "?"

    @property
    def heap(self) -> int:
        return self.run.memory.heap_total if self.run.memory else 0

    @property
    def unit(self) -> str:
        """In which latency is told: milliseconds where the counter knows seconds."""
        return "ms" if self.run.per_second else self.run.unit

    def told(self, units: float) -> float:
        return units * 1e3 / self.run.per_second if self.run.per_second else units

    @property
    def held(self) -> int:
        """Bytes of heap that were in use, without the tokens that were decoded behind."""
        deepest = max(test.depth for test in self.run.tests.values())
        return self.run.memory.heap_live - 4 * deepest if self.run.memory else 0

    def outside(self, context: int) -> float:
        """Units of one of the last tokens of a context, without products and what goes with them."""
        known = list(self.more)  # beside what was measured as the two nearest to it say
        i = min(max(bisect_left(known, context), 1), len(known) - 1)
        low, high = known[i - 1], known[i]
        slope = (self.more[high] - self.more[low]) / (high - low)
        return self.rest + self.more[low] + slope * (context - low)

    def storage(self, matrix: Matrix, type_: str) -> float:
        """Units of reading it for its product, if it is streamed."""
        return self.byte * matrix.bytes(type_) * matrix.multiplied

    def stream(self, reads: int, size: int) -> float:
        """Units of so many reads of so many bytes in all, beside those reads that are in rest."""
        return self.read * (reads - self.reads) + self.byte * size

    def matrix(self, matrix: Matrix, type_: str) -> float | None:
        """Units of its product, and of reading its rows; None where that was not measured."""
        records = ["embed"] * matrix.read_by_row + ["matmul"] * matrix.multiplied
        units = [self.record(op, type_, matrix.rows, matrix.cols) for op in records]
        return None if None in units else sum(filter(None, units)) * self.correction

    def inputs(self, matrix: Matrix, type_: str) -> float | None:
        """Units of quantizing what goes into its product."""
        units = self.record("quantize", type_, 1, matrix.cols) if matrix.multiplied else 0.0
        return None if units is None else units * self.correction

    def record(self, op: str, type_: str, rows: int, cols: int) -> float | None:
        """Units of a record with one token, as the ceilings have it, its weights where they lie; those that are
        streamed were just read into RAM."""
        if op == "quantize":
            return self.roof.quantize(type_, cols, 1)
        units = self.roof.product(type_, rows, cols, 1) if op == "matmul" else self.roof.embed(type_, cols, 1)
        reads = self.roof.reads
        moved = weight_types.row_bytes(type_, cols) * (rows if op == "matmul" else 1)
        return None if units is None else units + moved * max(reads.get(self.placement, 0) - reads.get("hot", 0), 0)


def measure(
    board: str, model: Path, shapes: Mapping[str, Any], context: int, batch: int, stream: bool, progress: Progress
) -> Costs:
    """model: in a quantized type; shapes: its sizes, all that costs depend on beside types; stream: even where weights
    could lie in flash or in RAM."""
    context = min(context, DEEPEST)
    key = {
        "identity": _identity(board), "shapes": dict(shapes), "context": context, "batch": batch, "stream": stream,
    }  # fmt: skip
    place = cache.place("costs", key, ".jsonl")
    kept = _load(place)
    return _costs(kept or _run(board, model, context, batch, stream, place, progress), kept is not None)


def _run(board: str, model: Path, context: int, batch: int, stream: bool, place: Path, progress: Progress) -> Run:
    """At the ends of a context and of its halves: attention's cost need not grow evenly, as without FPU it skips what
    has no weight."""
    depths = [context - TOKENS]
    while (context := context // 2) >= SHORTEST:
        depths.append(context - TOKENS)
    d = (0, *reversed(depths))
    while True:
        try:
            request = Request(
                board, model, p=(), n=(TOKENS,), d=d, r=2, context=d[-1] + TOKENS, batch=batch, stream=stream
            )
            return collect(request, place, progress)[0]
        except BadInput:  # so long a context has no room in the board's RAM
            if len(d) == 2:
                raise
            d = d[:-1]


def _load(place: Path) -> Run | None:
    try:
        run = load(place)
    except BadInput:
        return None
    return run if run.complete and run.correctness != "WRONG" else None


def _identity(board: str) -> list[Any]:
    """What tells a board with its firmware from all others, as far as it can say."""
    files = {f"tinyprof/{file.name}": file.read_bytes() for file in device_package.folder().glob("*.py")}
    if board in emulators.EMULATED:
        spec = emulators.EMULATED[board]
        module = deploy.native_module(spec.arch) if spec.stock else {}
        return [spec.about, sha256(emulators.firmware(board)), *deploy.hashes(files | module)]
    if board in emulators.NAMES:
        return [board, sha256(emulators.firmware(board)), *deploy.hashes(files)]
    link = SerialBoard(emulators.serial_port(board))
    try:
        about = deploy.survey(link)
        build = link.execute("import sys\nprint(sys.version)").decode(errors="replace").strip()
    finally:
        link.close()
    module = deploy.module_for(about)
    return [about.machine, about.arch, about.built_in, build, *deploy.hashes(files | module)]


def _costs(run: Run, kept: bool) -> Costs:
    roof = ceilings(run)
    shallow, *_ = tests = sorted(run.tests.values(), key=lambda test: test.depth)
    more = {test.depth + TOKENS: token(run, test) - token(run, shallow) for test in tests}
    changing = [op for op in run.ops if op.op in _CHANGING]
    spent = _spent(shallow, changing)
    costs = Costs(run, roof, token(run, shallow) - spent, more, 0.0, 0.0, 0, 1.0, kept)
    ideal = sum(costs.record(op.op, op.type, op.rows, op.cols) or 0 for op in changing)
    if not ideal:
        raise BadInput(f"there is no RAM on this board to measure products: {'; '.join(roof.skipped)}")
    if run.source == "host-clock":  # whose sums hold what other programs took
        costs = replace(costs, rest=token(run, shallow) - ideal)
    else:
        costs = replace(costs, correction=spent / ideal)
    return replace(costs, **_storage(run, shallow, roof, costs.rest)) if costs.placement == "stream" else costs


def _storage(run: Run, test: Test, roof: Ceilings, rest: float) -> dict[str, Any]:
    """What a stream makes of costs: bytes at the rate of long reads, and all that no operator explains by the read."""
    (op,) = (op for op in run.ops if op.op == "read")
    around = max(token(run, test) - _spent(test, (other for other in run.ops if other is not op)), 0)
    byte = min(roof.reads.get("storage", math.inf), around / op.p2)
    return {"byte": byte, "read": (around - byte * op.p2) / op.rows, "reads": op.rows, "rest": rest - byte * op.p2}


def _spent(test: Test, ops: Iterable[Op]) -> float:
    """Units a token."""
    return sum(test.costs[op.i] for op in ops) / test.runs / test.tokens


def token(run: Run, test: Test) -> float:
    """Units of a token of a decode: the mean, on a host with other programs the median."""
    return float(np.median(test.latencies) if run.source == "host-clock" else test.latencies.mean())
