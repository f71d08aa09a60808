"""Models: converting them, what they need, and which types and context fit a board best."""

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

import pandas as pd

from ..errors import BadInput, RunFailed, plain
from ..models import board_fit, inspection
from ..models import convert as converting
from ..models.demo import model_path
from ..progress import CallbackProgress
from ..quantize import recipe as recipes
from ..report.files import write_whole
from ..tables import Column, number
from . import notebook
from .runs import Callback, FilePath, Lengths, interruptible, lengths, names

if TYPE_CHECKING:
    from ..optimize import optimizer


class Conversion:
    """A model that was converted.

    Attributes:
        path: the GGUF file that was written.
        parameters: of the source.
        bytes: of the file.
        tensors: how many there are of each type.
        notes: what to know of the file, e.g. why boards refuse it.
    """

    def __init__(self, path: Path, record: converting.Summary) -> None:
        self.path = path
        self.parameters, self.bytes = record.parameters, record.bytes
        self.tensors, self.notes = record.tensors, list(record.notes)
        if record.padded_to != record.padded_from:
            self.notes.append(f"hidden size padded with zeros from {record.padded_from} to {record.padded_to}")

    def __repr__(self) -> str:
        return f"<Conversion: {self.path}, {self.parameters:,} parameters, {self.bytes:,} bytes>"

    def _repr_html_(self) -> str:
        held = ", ".join(f"{count} {type_}" for type_, count in self.tensors.items())
        lines = [("parameters", f"{self.parameters:,}"), ("bytes", f"{self.bytes:,}"), ("tensors", held)]
        return notebook.page(str(self.path), [], [notebook.pairs(lines), notebook.notes(self.notes)])


class Inspection:
    """What a model holds and needs.

    Attributes:
        record: the inspection as the package has it, `tinyprof_bridge.models.inspection.Inspection`.
    """

    def __init__(self, record: inspection.Inspection) -> None:
        self.record = record

    @property
    def reason(self) -> str:
        """Why no board runs the model; empty where boards do."""
        return self.record.reason

    @property
    def tensors(self) -> pd.DataFrame:
        """One row per tensor: name, type, rows, cols, bytes."""
        return pd.DataFrame(self.record.tensors, columns=["name", "type", "rows", "cols", "bytes"])

    @property
    def memory(self) -> pd.DataFrame:
        """One row per variant of the kernels and a placement of the weights, mapped or streamed: bytes of RAM."""
        rows = [
            {"kernels": variant, "placement": placement, **vars(need), "ram": need.ram}
            for placement in ("mapped", "streamed")
            for variant, need in getattr(self.record, placement).items()
        ]
        return pd.DataFrame(rows).drop(columns="variant", errors="ignore")

    @property
    def boards(self) -> pd.DataFrame:
        """One row per known board: whether the model fits and how; bytes of RAM and flash needed and there. measured:
        whether the board's free RAM was measured, or is an estimate."""
        fits = board_fit.of(self.record)
        columns = [*board_fit.Fit.__dataclass_fields__]
        return pd.DataFrame([vars(fit) | {"fits": fit.good} for fit in fits], columns=[*columns, "fits"])

    def __repr__(self) -> str:
        found = self.record
        fitting = (
            f"no board runs it: {found.reason}" if found.reason else f"fits {self.boards['fits'].sum()} known boards"
        )
        name, kind = plain(found.name), plain(found.architecture)
        return f"<Inspection of {name}: {kind}, {found.parameters:,} parameters, {found.bytes:,} bytes; {fitting}>"

    def _repr_html_(self) -> str:
        found = self.record
        sizes = ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in found.sizes.items())
        about = [("architecture", found.architecture), ("parameters", f"{found.parameters:,}")]
        about += [("file", f"{found.bytes:,} bytes"), ("sizes", sizes)]
        if found.reason:
            badges = [(f"no board runs it: {found.reason}", "bad")]
            return notebook.page(found.name, badges, [notebook.pairs(about)])
        boards = self.boards.sort_values("fits", ascending=False, kind="stable")
        columns = [Column("board", "board", plain), Column("chip", "chip", plain), Column("kernels", "kernels", plain)]
        columns += [
            Column("RAM needed", "ram_needed", _kib),
            Column("RAM", "ram", _kib),
            Column("flash", "flash", _kib),
        ]
        columns += [Column("fits", "how", plain)]
        fits, flash = int(boards["fits"].sum()), _kib(boards["flash_needed"].max())
        need = [Column("kernels", "kernels", plain), Column("weights", "placement", plain)]
        need += [Column("KV cache type", "kv_type", plain)]
        need += [Column(c, c, number) for c in ("arena", "kv", "plan", "package", "weights", "ram")]
        parts = [
            notebook.pairs(about),
            notebook.section(f"known boards, in KiB; {flash} of flash needed", notebook.table(boards, columns)),
            notebook.section("RAM in bytes, predicted", notebook.table(self.memory, need), opened=False),
        ]
        badges = [(f"fits {fits} of {len(boards)} known boards", "good" if fits else "bad"), ("predicted", "")]
        return notebook.page(found.name, badges, parts)


class Optimization:
    """Types of weights and a context for a board, within bounds.

    Attributes:
        record: what was found as the package has it, `tinyprof_bridge.optimize.optimizer.Found`.
    """

    def __init__(self, record: "optimizer.Found", scratch: TemporaryDirectory[str]) -> None:
        self.record = record
        self._scratch = scratch  # holds the models until this object goes

    @property
    def feasible(self) -> bool:
        """Whether something is within the bounds."""
        return self.record.best is not None

    @property
    def problems(self) -> list[str]:
        """Why nothing is within the bounds, or why the choice did not run on the board; empty where all is well."""
        from ..optimize import front_report

        found = [] if self.feasible else [front_report.verdict(self.record)]
        return [*found, str(self.record.failed)] if self.record.failed else found

    @property
    def types(self) -> dict[str, str]:
        """The type of each matrix that was chosen, or of what is nearest to the bounds."""
        return dict(self._plan().types)

    @property
    def context(self) -> int:
        """The context that was chosen, in tokens."""
        return self._plan().context

    @property
    def front(self) -> pd.DataFrame:
        """One row per plan of which none is better in all: context, units per token, flash and RAM in bytes, loss (KL
        divergence from F32 in nats), joules, types. All are predictions."""
        from ..optimize import front_report

        rows = [front_report.row(plan) for plan in self.record.front]
        run = self.record.costs.run
        return pd.DataFrame(rows).drop(columns="what", errors="ignore").assign(unit=run.unit, source="predicted")

    def save(self, path: FilePath) -> Path:
        """Writes the chosen model as a GGUF file, and returns its path.

        Raises RunFailed where nothing is within the bounds, BadInput where the file cannot be written."""
        write_whole(Path(path), self._best().model.read_bytes())
        return Path(path)

    def recipe(self) -> str:
        """The chosen types as TOML, for `convert(recipe=...)`. Raises RunFailed where nothing is within the bounds."""
        from ..optimize import front_report

        return front_report.recipe(self.record, self._best().plan)

    def _best(self) -> "optimizer.Finalist":
        if self.record.best is None:
            raise RunFailed("; ".join(self.problems))
        return self.record.best

    def _plan(self) -> "optimizer.Plan":
        found = self.record.best.plan if self.record.best else self.record.nearest
        assert found is not None
        return found

    def __repr__(self) -> str:
        from ..optimize import front_report

        wanted, plan = self.record.wanted, self._plan()
        state = "; ".join(self.problems) or f"context {plan.context}, {front_report.types_of(plan)}"
        return f"<Optimization of {plain(wanted.source.name)} for {wanted.board}: {plain(state)}>"

    def _repr_html_(self) -> str:
        from ..optimize import front_report

        wanted, run = self.record.wanted, self.record.costs.run
        parts = [notebook.alarms(self.problems), notebook.notes(front_report.about(self.record))]
        for title, frame, columns in front_report.sections(self.record):
            parts.append(notebook.section(title, notebook.table(frame, columns, len(frame))))
        state = ("within the bounds", "good") if self.feasible else ("nothing within the bounds", "bad")
        badges = [state, (f"{run.unit} by {run.source}", "")]
        return notebook.page(f"{wanted.source.name} for {wanted.board}", badges, parts)


def convert(
    source: FilePath,
    out: FilePath,
    type: str = "Q4_0",
    *,
    tokenizer: FilePath | None = None,
    name: str | None = None,
    recipe: FilePath | None = None,
    calibration: FilePath | None = None,
    method: Literal["gptq", "imatrix", "nearest"] = "gptq",
    tokens: int = 16384,
) -> Conversion:
    """A model converted into a GGUF file.

    Args:
        source: a GGUF file, a Hugging Face folder, a checkpoint of llama2.c or PyTorch, .pt2, .onnx, or 'demo'.
        out: the GGUF file to write.
        type: of the matrices, e.g. Q4_0, Q8_0, Q4_K_M, TP3; 'keep' keeps the types of a GGUF file.
        tokenizer: the tokenizer's file, of a checkpoint that has none in it.
        name: the model's name in the file; None: the source's.
        recipe: a file of TOML or JSON with other types for some matrices.
        calibration: a text that rounding is fitted to; None: weights are rounded to the nearest.
        method: how rounding is fitted to the text.
        tokens: of that text, at most.

    Raises:
        BadInput: an argument or the source cannot be used.
        RunFailed: the file cannot be written; it is then as it was before.

    >>> tp.convert("demo", "demo-q8_0.gguf", "Q8_0").tensors
    {'Q8_0': 29, 'F32': 9}
    """
    written = converting.convert_calibrated(
        model_path(str(source)),
        _path(tokenizer),
        Path(out),
        type,
        name,
        recipes.read(Path(recipe)) if recipe is not None else {},
        _path(calibration),
        method,
        tokens,
    )
    return Conversion(Path(out), written)


def inspect(
    model: FilePath = "demo",
    context: int | None = None,
    batch: int = 8,
    kv: Literal["f32", "f16", "q8"] | None = None,
    activations: Literal["int8", "int16"] = "int8",
) -> Inspection:
    """What a model holds and needs, and which known boards have room for it.

    Args:
        model: a GGUF file, or 'demo'.
        context: positions in the KV cache; None: the model's own, at most 256.
        batch: tokens that prefill takes at once.
        kv: type of the KV cache; None: that of each path.
        activations: type of what meets quantized weights.

    Raises:
        BadInput: the file is not GGUF or is damaged, or no board can use the settings.

    >>> tp.inspect("demo").tensors["type"].value_counts().to_dict()
    {'Q4_0': 29, 'F32': 9}
    """
    bits = inspection.activation_bits(activations)
    return Inspection(inspection.inspect(model_path(str(model)), context, batch, kv, bits))


def optimize(
    model: FilePath,
    text: FilePath,
    board: str = "m4",
    *,
    max_ram: int | None = None,
    max_flash: int | None = None,
    max_ms_per_token: float | None = None,
    max_instr_per_token: float | None = None,
    max_ppl: float | None = None,
    context: Lengths = (),
    types: str | Iterable[str] = (),
    tokenizer: FilePath | None = None,
    held_out: FilePath | None = None,
    energy: FilePath | None = None,
    batch: int = 8,
    tokens: int = 1024,
    stream: bool = False,
    verify: bool = False,
    timeout: float = 120.0,
    progress: Callback | None = None,
) -> Optimization:
    """The types of weights and the context that lose least within bounds of a board.

    Where nothing is within the bounds, `feasible` is False and `problems` says why.

    Args:
        model: what `convert` takes, in F32 if there is such a file.
        text: a text to calibrate with, of the kind that the model is for.
        board: as for `collect`.
        max_ram: bytes of heap; None: the board's.
        max_flash: bytes of the model's file; None: the board's.
        max_ms_per_token: milliseconds a token at the end of the context, for boards with a clock.
        max_instr_per_token: instructions per token at the end of the context, for emulated boards.
        max_ppl: percent by which the perplexity may exceed that of F32.
        context: contexts in tokens, of which the longest that fits is chosen; (): 256, 128, 64, 32.
        types: weight types to choose from; (): all quantized ones.
        tokenizer: the tokenizer's file, of a checkpoint that has none in it.
        held_out: a text by which max_ppl is judged; None: the calibration text.
        energy: a file that `tinyprof-bridge power fit --out` wrote, for joules per token.
        batch: tokens that prefill takes at once.
        tokens: of a text to judge by, at most.
        stream: whether weights are read from storage while the model runs.
        verify: whether to run the finalists on the board.
        timeout: seconds of silence after which a board is given up.
        progress: called with one line of text a step; None: silent.

    Raises:
        BadInput: an argument or a file cannot be used, or a package is missing.
        RunFailed: the board failed while costs were measured.
        KeyboardInterrupt: as the user asked; no emulator is left.
    """
    try:
        from ..optimize import optimizer
    except ImportError as error:
        raise BadInput(f"{error.name} is missing: pip install 'tinyprof[optimize]'") from None
    wanted = optimizer.Wanted(
        source=model_path(str(model)),
        tokenizer=_path(tokenizer),
        board=board,
        text=Path(text),
        bounds=optimizer.Bounds(
            max_ram, max_flash, max_instr_per_token, max_ms_per_token, None if max_ppl is None else max_ppl / 100
        ),
        held_out=_path(held_out),
        energy=_path(energy),
        contexts=lengths("context", context),
        types=tuple(name.upper() for name in names(types)),
        batch=batch,
        tokens=tokens,
        stream=stream,
        timeout=timeout,
    )
    scratch = TemporaryDirectory()
    with interruptible():
        found = optimizer.optimize(wanted, Path(scratch.name), verify, CallbackProgress(progress))
        if isinstance(found.failed, RunFailed) and isinstance(found.failed.__cause__, KeyboardInterrupt):
            raise found.failed
    return Optimization(found, scratch)


def _path(path: FilePath | None) -> Path | None:
    return None if path is None else Path(path)


def _kib(size: float) -> str:
    return f"{size / 1024:,.0f}"
