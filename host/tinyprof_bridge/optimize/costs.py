"""Predicts the cost of a token on a board, with any weight type for each matrix, from one run.

The run is cached. Its ceilings give the cost of products by type and shape, and of a byte from storage for streamed
weights. Its tests give the rest: other operators, positions in the KV cache, and reads."""

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

TOKENS = 8  # decode length: the last positions of a context
SHORTEST, DEEPEST = 32, 1024  # contexts at whose end to measure: from the longest, in halves
_CHANGING = ("matmul", "embed", "quantize")


@dataclass(frozen=True)
class Costs:
    """The cost model of a board, in units of its counter. Products here include embedding and quantizing inputs.

    run: the run that it comes from.
    roof: ceilings of that run.
    rest: units per token without products, at the first positions.
    more: additional units per token at the end of a context, by context.
    byte: units per byte read from storage (streamed weights only).
    read: units per read, including the interpreter's work around it.
    reads: reads per token in the run; their units are in rest.
    correction: measured units of products / units by the ceilings.
    kept: whether the run came from the cache."""

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
        """Time of the run, ISO 8601."""
        return self.run.host.time if self.run.host else "?"

    @property
    def machine(self) -> str:
        """Name of the board, from MicroPython."""
        return self.run.begin.machine if self.run.begin else "?"

    @property
    def kernels(self) -> str:
        """Kernel variant of the board."""
        return self.run.begin.native.kernels if self.run.begin else "?"

    @property
    def path(self) -> str:
        """Arithmetic of the board: "float" or "fixed"."""
        return self.run.begin.native.path if self.run.begin else "?"

    @property
    def placement(self) -> str:
        """Where the weights are: "mapped", "ram" or "stream"."""
        return self.run.model.placement if self.run.model else "?"

    @property
    def heap(self) -> int:
        """Bytes of the board's heap."""
        return self.run.memory.heap_total if self.run.memory else 0

    @property
    def unit(self) -> str:
        """Unit in which to show latency: "ms" if the counter measures time, otherwise its own unit."""
        return "ms" if self.run.per_second else self.run.unit

    def shown(self, units: float) -> float:
        """A latency in `unit`, from units of the counter."""
        return units * 1e3 / self.run.per_second if self.run.per_second else units

    @property
    def held(self) -> int:
        """Bytes of heap in use in the run, without the list of tokens that filled its KV cache."""
        deepest = max(test.depth for test in self.run.tests.values())
        return self.run.memory.heap_live - 4 * deepest if self.run.memory else 0

    def outside(self, context: int) -> float:
        """Units per token without products at the end of a context, interpolated between the measured contexts."""
        known = list(self.more)  # outside their range, the two nearest are extrapolated
        i = min(max(bisect_left(known, context), 1), len(known) - 1)
        low, high = known[i - 1], known[i]
        slope = (self.more[high] - self.more[low]) / (high - low)
        return self.rest + self.more[low] + slope * (context - low)

    def storage(self, matrix: Matrix, type_: str) -> float:
        """Units of reading a matrix of that type from storage for its product; 0 unless weights are streamed."""
        return self.byte * matrix.bytes(type_) * matrix.multiplied

    def stream(self, reads: int, size: int) -> float:
        """Units of a number of reads with a total size in bytes, minus the reads that are in `rest`."""
        return self.read * (reads - self.reads) + self.byte * size

    def matrix(self, matrix: Matrix, type_: str) -> float | None:
        """Units per token of a matrix of that type: its product and its embedding; None if it was not measured."""
        records = ["embed"] * matrix.read_by_row + ["matmul"] * matrix.multiplied
        units = [self.record(op, type_, matrix.rows, matrix.cols) for op in records]
        return None if None in units else sum(filter(None, units)) * self.correction

    def inputs(self, matrix: Matrix, type_: str) -> float | None:
        """Units of quantizing the input of a matrix of that type; None if it was not measured."""
        units = self.record("quantize", type_, 1, matrix.cols) if matrix.multiplied else 0.0
        return None if units is None else units * self.correction

    def record(self, op: str, type_: str, rows: int, cols: int) -> float | None:
        """Units of an operator for one token by the ceilings, with weights in their placement; None if not measured.

        Streamed weights count as hot, since they were just read into RAM. op: "matmul", "embed" or "quantize"."""
        if op == "quantize":
            return self.roof.quantize(type_, cols, 1)
        units = self.roof.product(type_, rows, cols, 1) if op == "matmul" else self.roof.embed(type_, cols, 1)
        reads = self.roof.reads
        moved = weight_types.row_bytes(type_, cols) * (rows if op == "matmul" else 1)
        return None if units is None else units + moved * max(reads.get(self.placement, 0) - reads.get("hot", 0), 0)


def measure_costs(
    board: str, model: Path, shapes: Mapping[str, Any], context: int, batch: int, stream: bool, progress: Progress
) -> Costs:
    """The cost model of a board, from a cached run or a new one.

    board: name of an emulated board or a serial port.
    model: the model in a quantized type.
    shapes: its sizes; with the types, all that costs depend on.
    context: the longest context of interest.
    batch: tokens per prefill call.
    stream: read weights from storage even if they fit in flash or RAM."""
    context = min(context, DEEPEST)
    key = {
        "identity": _identity(board), "shapes": dict(shapes), "context": context, "batch": batch, "stream": stream,
    }  # fmt: skip
    place = cache.place("costs", key, ".jsonl")
    kept = _load(place)
    return _costs(kept or _run(board, model, context, batch, stream, place, progress), kept is not None)


def _run(board: str, model: Path, context: int, batch: int, stream: bool, place: Path, progress: Progress) -> Run:
    """A new run, measured at the end of the context, of its half, quarter and so on.

    Two contexts are not enough: without FPU, attention skips values of zero weight, so its cost is not linear."""
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
        except BadInput:  # this context does not fit in the board's RAM
            if len(d) == 2:
                raise
            d = d[:-1]


def _load(place: Path) -> Run | None:
    """The cached run; None if it is missing, incomplete or wrong."""
    try:
        run = load(place)
    except BadInput:
        return None
    return run if run.complete and run.correctness != "WRONG" else None


def _identity(board: str) -> list[Any]:
    """What identifies a board with its firmware, as far as it reports that; part of the cache key."""
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
    """The cost model from a run. Raises BadInput if no product was measured."""
    roof = ceilings(run)
    shallow, *_ = tests = sorted(run.tests.values(), key=lambda test: test.depth)
    more = {test.depth + TOKENS: token(run, test) - token(run, shallow) for test in tests}
    changing = [op for op in run.ops if op.op in _CHANGING]
    spent = _spent(shallow, changing)
    costs = Costs(run, roof, token(run, shallow) - spent, more, 0.0, 0.0, 0, 1.0, kept)
    ideal = sum(costs.record(op.op, op.type, op.rows, op.cols) or 0 for op in changing)
    if not ideal:
        raise BadInput(
            f"the board has too little RAM to measure products: {'; '.join(roof.skipped)}; use another board"
        )
    if run.source == "host-clock":  # its sums include the time of other programs
        costs = replace(costs, rest=token(run, shallow) - ideal)
    else:
        costs = replace(costs, correction=spent / ideal)
    return replace(costs, **_storage(run, shallow, roof, costs.rest)) if costs.placement == "stream" else costs


def _storage(run: Run, test: Test, roof: Ceilings, rest: float) -> dict[str, Any]:
    """Fields of Costs for streamed weights: bytes at the rate of long reads; the time outside operators per read."""
    (op,) = (op for op in run.ops if op.op == "read")
    around = max(token(run, test) - _spent(test, (other for other in run.ops if other is not op)), 0)
    byte = min(roof.reads.get("storage", math.inf), around / op.p2)
    return {"byte": byte, "read": (around - byte * op.p2) / op.rows, "reads": op.rows, "rest": rest - byte * op.p2}


def _spent(test: Test, ops: Iterable[Op]) -> float:
    """Units per token of some operators."""
    return sum(test.costs[op.i] for op in ops) / test.runs / test.tokens


def token(run: Run, test: Test) -> float:
    """Units per token of a decode test: the mean, or on a host's clock the median (other programs disturb it less)."""
    return float(np.median(test.latencies) if run.source == "host-clock" else test.latencies.mean())
