"""What a GGUF file contains and what a board needs to run it, known before it is deployed.

The planner gives arena, KV cache and plan to the byte. The rest of the heap was measured."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType

from ..boards.kernel_variants import VARIANTS
from ..errors import BadInput, plain
from ..quantize import weight_types
from . import planner
from .formats import gguf
from .source import SLAB, sha256

# Measured bytes of heap that package, model and a run take, without arena, KV cache, plan and what grows with the plan.
# tests/models/test_inspect.py compares them with boards.
HEAP = 26_800
JUDGING = 450  # more, for measuring the perplexity of a text, without its tokens
HEAP_BYTE_LEVEL = 1_376  # more, for byte-level BPE
HEAP_STREAM = 304  # more, for streamed weights
HEADER = 16384  # bytes of a streamed file that the device reads first; it doubles them until the header fits
KV_TYPES = ("f32", "f16", "q8")
ACTIVATIONS = {"int8": 8, "int16": 16}
_NAMES = {type_.id: name for name, type_ in weight_types.TYPES.items()}


@dataclass(frozen=True)
class Need:
    """RAM that a model needs with one variant of the kernels.

    variant: of the kernels.
    path: float or fixed.
    kv_type: type of the KV cache.
    activations: int8 or int16.
    context: in tokens.
    batch: tokens of one batch in prefill.
    arena: bytes of the operators' buffers.
    kv: bytes of the KV cache.
    kv_per_100: bytes of the KV cache for 100 tokens.
    plan: bytes of the plan.
    package: bytes of the device package's code and objects.
    weights: bytes of weights in RAM: of a streamed file header and buffer, of a loaded file all, 0 if mapped.
    reads: number of reads from storage for one decoded token.
    read: bytes read from storage for one decoded token."""

    variant: str
    path: str
    kv_type: str
    activations: str
    context: int
    batch: int
    arena: int
    kv: int
    kv_per_100: int
    plan: int
    package: int
    weights: int
    reads: int = 0
    read: int = 0

    @property
    def ram(self) -> int:
        """Bytes of heap in all."""
        return self.arena + self.kv + self.plan + self.package + self.weights


@dataclass(frozen=True)
class Inspection:
    """What a GGUF file contains, and what boards need for it.

    file: its path.
    bytes: of the file.
    sha256: of the file.
    architecture: as llama.cpp names it.
    name: of the model.
    parameters: number of weights in all tensors.
    tensors: for each its name, type, rows, cols and bytes.
    sizes: the model's sizes by name, as the device package has them; empty if no board runs it.
    reason: why no board runs it; empty if boards do.
    mapped: needs with weights mapped from flash, by variant of the kernels.
    streamed: needs with weights streamed from a file, by variant."""

    file: str
    bytes: int
    sha256: str
    architecture: str
    name: str
    parameters: int
    tensors: list[dict[str, Any]]
    sizes: dict[str, int]
    reason: str
    mapped: dict[str, Need]
    streamed: dict[str, Need]


def check_settings(context: int | None, batch: int, kv: str | None, activations: int) -> None:
    """Raises BadInput for settings that no board can load a model with. activations: bits."""
    if context is not None and context < 1:
        raise BadInput(f"context must be positive, not {context}")
    if not 1 <= batch <= 4096:
        raise BadInput(f"batch must be from 1 to 4096, not {batch}")
    if kv not in (None, *KV_TYPES):
        raise BadInput(f"kv takes {', '.join(KV_TYPES)}, not '{kv}'")
    if activations not in ACTIVATIONS.values():
        raise BadInput(f"activations have {' or '.join(map(str, ACTIVATIONS.values()))} bits, not {activations}")


def activation_bits(name: str) -> int:
    """8 for 'int8', 16 for 'int16'. Raises BadInput for any other name."""
    if name not in ACTIVATIONS:
        raise BadInput(f"activations takes {' or '.join(ACTIVATIONS)}, not '{name}'")
    return ACTIVATIONS[name]


def inspect(
    path: Path, context: int | None = None, batch: int = 8, kv: str | None = None, activations: int = 8
) -> Inspection:
    """Returns what a GGUF file contains, and what each variant of the kernels needs to run it.

    context: in tokens; None for 256, or the context of training if that is shorter.
    batch: tokens of one batch in prefill.
    kv: type of the KV cache; None for each variant's default.
    activations: 8 or 16 bits.
    Raises BadInput if it is not a GGUF file, or damaged. A model that no board runs is not an error."""
    check_settings(context, batch, kv, activations)
    data = gguf.open_mapped(path)
    shown = planner.device("portable", any_type=True)
    try:
        header = shown.read(data)
        architecture = header.get("general.architecture", "?", str)
        name = header.get("general.name", "?", str)[:64]
    except shown.error as error:
        raise BadInput(f"{path}: {plain(str(error))}") from None
    tensors = []
    for tensor, (type_, cols, rows, _) in header.tensors.items():
        size = rows * planner.row_bytes(type_, cols)
        tensors.append({"name": tensor, "type": _type_name(type_), "rows": rows, "cols": cols, "bytes": size})
    reason, sizes, streamed = "", {}, {}
    mapped: dict[str, Need] = {}
    values: dict[tuple[int, ...], int] = {}
    for variant in VARIANTS:
        device = planner.device(variant)
        try:
            own = device.read(data, lambda *tensor: _scan(data, values, *tensor))
            if not mapped:  # one check of the tokenizer is enough: it does not depend on the variant
                device.tokenizer.load(own, device.llama.Llama(own, 1, 1).vocab)
            llama = device.llama.Llama(own, context, batch, kv, 0, activations)
            mapped[variant] = need(variant, own, llama)
            streamed[variant] = need_streamed(device, variant, own, context, batch, kv, activations)
            sizes = {
                "layers": llama.layers,
                "dim": llama.dim,
                "hidden": llama.hidden,
                "heads": llama.heads,
                "kv_heads": llama.kv_heads,
                "head_dim": llama.head_dim,
                "vocabulary": llama.vocab,
                "context": llama.trained_context,
                "macs_per_token": llama.macs,
            } | ({"window": llama.keys.window} if llama.keys.window else {})
        except device.error as error:
            reason = str(error)
    return Inspection(
        file=str(path),
        bytes=len(data),
        sha256=sha256(path),
        architecture=architecture,
        name=name,
        parameters=sum(int(t["rows"]) * int(t["cols"]) for t in tensors),
        tensors=tensors,
        sizes=sizes,
        reason="" if mapped else reason,
        mapped=mapped,
        streamed=streamed,
    )


def _type_name(type_: int) -> str:
    if type_ in _NAMES:
        return _NAMES[type_]
    try:
        return GGMLQuantizationType(type_).name
    except ValueError:
        return str(type_)


def need(variant: str, gguf: Any, llama: Any, weights: int = 0, stream: Any = None) -> Need:
    """Returns what one variant of the kernels needs to run a model.

    gguf, llama, stream: the device package's objects of the model; no stream for mapped weights.
    weights: bytes of weights in RAM."""
    byte_level = gguf.get("tokenizer.ggml.model", "", str) == "gpt2"
    return Need(
        variant=variant,
        path=VARIANTS[variant].path,
        kv_type=llama.kv,
        activations=f"int{llama.activations}",
        context=llama.context,
        batch=llama.batch,
        arena=llama.plan.arena_bytes,
        kv=llama.kv_bytes,
        kv_per_100=2 * llama.layers * 100 * llama.kv_row,
        plan=4 * len(llama.plan.words),
        package=HEAP
        + _grown(llama.plan)
        + _steps(gguf)
        + HEAP_BYTE_LEVEL * byte_level
        + (_groups(stream, llama) if stream else 0),
        weights=weights,
        reads=stream.reads if stream else 0,
        read=stream.bytes_per_token if stream else 0,
    )


def need_streamed(
    device: planner.Device,
    variant: str,
    gguf: Any,
    context: int | None,
    batch: int,
    kv: str | None = None,
    activations: int = 8,
) -> Need:
    """Returns what one variant needs to run a model whose weights are streamed from a file.

    Computes the buffer as session.py and stream.py of the device package do.

    gguf: the device package's GGUF of the file. For the other parameters see `inspect`.
    Raises device.error if the device package refuses the model."""
    header = HEADER
    while header < gguf.data_offset and header < gguf.end:
        header *= 2
    some = ("token_embd.weight", "output.weight")
    room = max(
        (min(rows, max(2, device.ops.together(type_)) * max(batch, 1)) if name in some else rows)
        * planner.row_bytes(type_, cols)
        for name, (type_, cols, rows, _) in gguf.tensors.items()
    )
    llama = device.llama.Llama(gguf, context, batch, kv, room, activations)
    stream = device.stream.Stream(io.BytesIO(), lambda size, _: bytearray(size))  # planning reads no weights
    stream.room(room)
    stream.prepare(llama.plan, llama.body, llama.batch)
    return need(variant, gguf, llama, min(header, gguf.end) + room, stream)


def _grown(plan: Any) -> int:
    """Bytes of heap that grow with the plan: for each record a 64-bit count and its place in a list, whose capacity
    doubles; for each buffer its offset."""
    count: int = plan.count
    return 8 * count + 4 * (1 << (count - 1).bit_length()) + 4 * len(plan.offsets)


def _steps(gguf: Any) -> int:
    """Bytes of the offsets of every 256th token and merge."""
    counts = (gguf.arrays.get(f"tokenizer.ggml.{name}", (0, 0))[1] for name in ("tokens", "merges"))
    return sum(4 * (count // 256) for count in counts)


def _groups(stream: Any, llama: Any) -> int:
    """Bytes of heap that a stream takes: for each read a list, a slice of the buffer and a place in a list, whose
    capacity doubles; a slice for each token of a batch."""
    count: int = stream.reads
    return HEAP_STREAM + 48 * count + 4 * (1 << (count - 1).bit_length()) + 24 * int(llama.batch)


def of_run(depth: int, text: int) -> int:
    """Returns the bytes of heap that a run adds to `Need.package`.

    depth: tokens that the KV cache holds before a test.
    text: tokens of the text whose perplexity is measured; they are kept as numbers and in base64."""
    return 4 * depth + JUDGING + 2 * text + (2 * text + 2) // 3 * 4


def _scan(data: memoryview, known: dict[tuple[int, ...], int], *tensor: int) -> int:
    """Returns 0 for a tensor that contains NaN or infinity, else 1, as the device package's scan does.

    known: results so far, so that each tensor is read only once."""
    if tensor not in known:
        offset, type_, rows, cols = tensor
        size = planner.row_bytes(type_, cols)
        raw = np.frombuffer(data, np.uint8, rows * size, offset).reshape(rows, size)
        step = max(SLAB // cols // 4 * 4, 4)
        parts = (weight_types.dequantize(raw[i : i + step], _NAMES[type_], cols) for i in range(0, rows, step))
        with np.errstate(all="ignore"):
            known[tensor] = int(all(np.isfinite(part).all() for part in parts))
    return known[tensor]
