"""Converts a model of another format, or of other types, to a GGUF file.

What reads a format is in a module of its own and gives a Source. The result is GGUF version 3 (ggml's docs/gguf.md)
with the architecture that llama.cpp has for the model.
"""

import contextlib
import errno
import os
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf import GGUFWriter, RopeScalingType
from gguf.constants import GGML_QUANT_VERSION, GGUFValueType

from ..errors import BadInput, RunFailed
from ..quantize import recipe, weight_types
from ..quantize.calibrated import METHODS, Rounding
from ..quantize.recipe import Recipe
from . import calibration_stats, planner
from .formats import gguf, huggingface, llama2c, onnx, pytorch
from .source import SLAB, Floats, Shape, Sizes, Source, Tensor, Vocabulary, file_size

KEEP = "KEEP"
INDEXED = 4096  # strings from which on they have an index: fewer are walked in no time


@dataclass(frozen=True)
class Summary:
    """What was converted. The padded sizes are the feed-forward length before and after."""

    parameters: int  # of the source: without padding, shared output counted once
    bytes: int  # of the GGUF file
    padded_from: int
    padded_to: int
    tensors: dict[str, int]  # tensors of each type
    notes: tuple[str, ...] = ()


def convert(
    source: Path,
    tokenizer: Path | None,
    out: Path,
    type_: str,
    name: str | None = None,
    mix: Recipe | None = None,
    rounding: Rounding | None = None,
) -> Summary:
    """As write, of the model `source`. tokenizer: of a source that has none in it."""
    mix = mix or {}
    return write(check(source, tokenizer, out, type_, mix), out, type_, name, mix, rounding)


def convert_calibrated(
    source: Path,
    tokenizer: Path | None,
    out: Path,
    type_: str,
    name: str | None = None,
    mix: Recipe | None = None,
    calibration: Path | None = None,
    method: str = "gptq",
    tokens: int = 16384,
) -> Summary:
    """As convert, rounded for a text.

    calibration: the text, None: weights are rounded to the nearest; method: one of calibrated.METHODS;
    tokens: of the text, at most."""
    type_ = type_.upper()
    if method not in METHODS:
        raise BadInput(f"method takes {', '.join(METHODS)}, not '{method}'")
    if tokens < 1:
        raise BadInput("tokens must be positive")
    if type_ == KEEP and calibration:
        raise BadInput("calibration and type keep: give one of them")
    model = check(source, tokenizer, out, type_, mix or {})
    rounding = None
    if calibration and method != "nearest":
        with tempfile.TemporaryDirectory() as scratch:
            exact = Path(scratch) / "f32.gguf"
            write(model, exact, "F32")
            rounding = Rounding(method, calibration_stats.moments(exact, calibration, tokens))
    return write(model, out, type_, name, mix, rounding)


def write(
    model: Source,
    out: Path,
    type_: str,
    name: str | None = None,
    mix: Recipe | None = None,
    rounding: Rounding | None = None,
) -> Summary:
    """Write a model that was checked as the GGUF file `out`.

    type_: for matrices, one of quants.TYPES or quants.MIXES; norms stay F32, and a matrix that does
    not fit the type gets its fallback. KEEP: types and bytes as they are.
    name: the model's name in the file; the source's name if not given.
    mix: other types for some matrices; rounding: of all, to the nearest if not given.
    Raises BadInput for input that cannot be used and RunFailed if writing fails; `out` is then
    as it was before.
    """
    mix, rounding = mix or {}, rounding or Rounding()
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    writer = GGUFWriter(partial, model.sizes.architecture)
    try:
        hidden_dim = padded(model.sizes, type_, mix)
        name = name or model.name or model.path.stem or model.path.name
        add_model(writer, model, hidden_dim, type_, mix, printable(name))
        add_vocabulary(writer, model.vocabulary)
        writer.add_string("tinyprof.source.file", printable(model.path.name))
        writer.add_string("tinyprof.source.sha256", model.digest)
        stored = write_tensors(writer, model, hidden_dim, type_, mix, rounding)
        writer.close()
        size = partial.stat().st_size
        os.replace(partial, out)
    except OSError as error:
        why = error.strerror or f"{error}: is the disk full?"  # numpy gives numbers only
        raise RunFailed(f"{out}: cannot be written: {why}") from error
    finally:
        with contextlib.suppress(OSError):  # a full disk stops this as well
            writer.close()
        partial.unlink(missing_ok=True)
    types = Counter(stored.values())
    notes = (*model.notes, *refusal(out))
    return Summary(model.parameters, size, model.sizes.hidden_dim, hidden_dim, dict(types), notes)


def check(source: Path, tokenizer: Path | None, out: Path, type_: str, mix: Recipe) -> Source:
    """The model, once all that can be told before its weights are read is found good. Raises BadInput."""
    if type_ not in (*weight_types.TYPES, *weight_types.MIXES, KEEP):
        known = ", ".join([*weight_types.TYPES, *weight_types.MIXES, KEEP.lower()])
        raise BadInput(f"type {type_} is not known: use one of {known}")
    if type_ == KEEP and mix:
        raise BadInput("a recipe and --type keep: give one of them")
    check_out(out, source, *([tokenizer] if tokenizer else []))
    model = read(source, tokenizer)
    if type_ == KEEP:
        check_kept(model)
    else:
        check_row_length(model, type_, mix)
    return model


def refusal(out: Path) -> list[str]:
    """What boards would say of the file if they refuse it: llama.cpp may run it all the same."""
    device = planner.device("portable")
    try:
        opened = device.read(gguf.open_mapped(out))
        device.tokenizer.load(opened, device.llama.Llama(opened, 1, 1).vocab)
    except device.error as error:
        return [f"boards refuse this model: {error}"]
    return []


def read(source: Path, tokenizer: Path | None) -> Source:
    """The model in a file or folder of any format that is known."""
    if source.is_dir():
        if tokenizer is not None:
            raise BadInput(f"{source}: a folder has its tokenizer in it: leave --tokenizer out")
        return huggingface.read(source)
    try:
        file_size(source)  # a pipe must not be opened
        with source.open("rb") as file:
            head = file.read(4)
    except OSError as error:
        raise BadInput(f"{source}: cannot be read: {error.strerror or error}") from error
    if head == gguf.MAGIC:
        if tokenizer is not None:
            raise BadInput(f"{source}: has its tokenizer in it: leave --tokenizer out")
        return gguf.read(source)
    if source.suffix == ".safetensors":
        raise BadInput(f"{source}: does not say its sizes: give the folder, with config.json and tokenizer in it")
    if head == pytorch.OLD_MAGIC:
        raise BadInput(f"{source}: as PyTorch wrote before 1.6: load it, and save its state_dict again")
    if source.suffix == onnx.SUFFIX:
        return onnx.read(source, tokenizer)
    if head == pytorch.MAGIC:
        return pytorch.read(source, tokenizer)
    return llama2c.read(source, tokenizer)


def check_kept(model: Source) -> None:
    for name, tensor in model.tensors.items():
        if tensor.raw is None:
            raise BadInput(f"{model.path}: only a GGUF file has types to keep: give --type")
        if tensor.type is None:
            raise BadInput(f"{model.path}: no board has kernels for the type of {name}: give --type")


def check_row_length(model: Source, type_: str, mix: Recipe) -> None:
    """Only the rows of ffn_down can be padded."""
    matrices = {name: tensor.shape for name, tensor in model.tensors.items() if len(tensor.shape) == 2}
    recipe.check(mix, list(matrices))
    for name, shape in matrices.items():
        try:
            if not name.endswith(".ffn_down.weight"):
                stored_type(name, shape, model.sizes.n_layers, type_, mix)
        except ValueError as error:
            raise BadInput(f"{model.path}: {name}: {error}; use F16 or F32") from None


def check_out(out: Path, *inputs: Path) -> None:
    if out.is_dir():
        raise BadInput(f"{out}: is a folder; name a file in it")
    if not out.parent.is_dir():
        raise BadInput(f"{out}: its folder does not exist; make it first")
    if not out.exists():
        return
    if not out.is_file():
        raise BadInput(f"{out}: is a device or a pipe; name a file")
    of_folder = out.suffix != ".gguf" and any(path.is_dir() and out.parent.samefile(path) for path in inputs)
    if of_folder or any(path.exists() and out.samefile(path) for path in inputs):
        raise BadInput(f"{out}: is an input too; give another name")


def padded(sizes: Sizes, type_: str, mix: Recipe) -> int:
    """Feed-forward length in the file: whole blocks, as it is the row length of ffn_down."""
    types = {recipe.type_of(mix, f"blk.{i}.ffn_down.weight") or type_ for i in range(sizes.n_layers)}
    block = 1 if types <= {"F32", "F16", KEEP} else 32
    return -(-sizes.hidden_dim // block) * block


def padded_shape(name: str, shape: Shape, hidden_dim: int) -> Shape:
    """Shape with zero rows for ffn_gate and ffn_up and zero columns for ffn_down.

    Exact, since silu(0) * 0 = 0.
    """
    if name.endswith((".ffn_gate.weight", ".ffn_up.weight")):
        return hidden_dim, shape[1]
    if name.endswith(".ffn_down.weight"):
        return shape[0], hidden_dim
    return shape


def stored_type(name: str, shape: Shape, layers: int, type_: str, mix: Recipe) -> str:
    """The type of one tensor. Raises ValueError if its rows fit none."""
    wanted = recipe.type_of(mix, name) or weight_types.chosen(name, layers, type_)
    return weight_types.fitting(wanted, *shape) if len(shape) == 2 else "F32"


def add_model(writer: GGUFWriter, model: Source, hidden_dim: int, type_: str, mix: Recipe, name: str) -> None:
    sizes = model.sizes
    writer.add_name(name)
    for key, value in model.about.items():
        writer.add_string(key, value)
    writer.add_custom_alignment(32)
    file_type = None
    if type_ != KEEP:
        file_type = weight_types.MIXES[type_][1] if type_ in weight_types.MIXES else weight_types.TYPES[type_].file_type
    if file_type is not None:
        writer.add_file_type(file_type)
    if mix or type_ not in ("F32", "F16"):
        writer.add_quantization_version(GGML_QUANT_VERSION)
    add_sizes(writer, sizes, hidden_dim)


def add_sizes(writer: GGUFWriter, sizes: Sizes, hidden_dim: int) -> None:
    writer.add_vocab_size(sizes.vocab_size)
    writer.add_context_length(sizes.context)
    writer.add_embedding_length(sizes.dim)
    writer.add_block_count(sizes.n_layers)
    writer.add_feed_forward_length(hidden_dim)
    writer.add_head_count(sizes.n_heads)
    writer.add_head_count_kv(sizes.n_kv_heads)
    if sizes.head_dim * sizes.n_heads != sizes.dim:
        writer.add_key_length(sizes.head_dim)
        writer.add_value_length(sizes.head_dim)
    writer.add_rope_dimension_count(sizes.rope_dims or sizes.head_dim)
    writer.add_rope_freq_base(sizes.rope_base)
    if sizes.rope_scale != 1:
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(sizes.rope_scale)
    writer.add_layer_norm_rms_eps(sizes.eps)
    if sizes.window:
        writer.add_sliding_window(sizes.window)
        writer.add_sliding_window_pattern(sizes.window_period)
        writer.add_rope_freq_base_swa(sizes.window_rope_base)
    if sizes.score_cap:
        writer.add_attn_logit_softcapping(sizes.score_cap)
        writer.add_final_logit_softcapping(sizes.logit_cap)


def add_vocabulary(writer: GGUFWriter, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model("gpt2" if vocabulary.pre else "llama")
    writer.add_token_list(vocabulary.tokens)
    if vocabulary.pre:
        writer.add_tokenizer_pre(vocabulary.pre)
        writer.add_token_merges(vocabulary.merges)
    else:
        writer.add_token_scores(vocabulary.scores)
        writer.add_unk_token_id(vocabulary.unknown)
        writer.add_add_space_prefix(vocabulary.add_space)
    writer.add_token_types(vocabulary.types)
    writer.add_bos_token_id(vocabulary.bos)
    writer.add_eos_token_id(vocabulary.eos)
    writer.add_add_bos_token(vocabulary.add_bos)
    add_index(writer, "tokens", vocabulary.tokens)
    add_index(writer, "merges", vocabulary.merges)


def add_index(writer: GGUFWriter, name: str, strings: list[str]) -> None:
    """By which boards find one of many strings (native_modules/gguf/strings.h); llama.cpp passes over it."""
    if len(strings) < INDEXED:
        return
    numbers = (1 << (len(strings) - 1).bit_length()) - 1
    entries = sorted(zlib.crc32(text.encode()) & ~numbers | i for i, text in enumerate(strings))
    writer.add_key_value(f"tinyprof.index.{name}", entries, GGUFValueType.ARRAY, GGUFValueType.UINT32)


def write_tensors(
    writer: GGUFWriter, model: Source, hidden_dim: int, type_: str, mix: Recipe, rounding: Rounding
) -> dict[str, str]:
    """Write header, metadata and tensors, some rows at a time. Returns the type of each tensor."""
    stored = {}
    for name, tensor in model.tensors.items():
        shape = padded_shape(name, tensor.shape, hidden_dim)
        kind = tensor.type if type_ == KEEP else stored_type(name, shape, model.sizes.n_layers, type_, mix)
        assert kind is not None
        stored[name] = kind
        size = prod(shape[:-1]) * weight_types.row_bytes(kind, shape[-1])
        writer.add_tensor_info(name, shape, np.dtype(np.float32), size, raw_dtype=weight_types.raw_type(kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    assert writer.fout is not None
    (file,) = writer.fout
    for name, tensor in model.tensors.items():
        writer.write_padding(file, file.tell())
        begin = file.tell()
        shape = padded_shape(name, tensor.shape, hidden_dim)
        for slab in slabs(model, name, tensor, shape, stored[name], None if type_ == KEEP else rounding):
            slab.tofile(file)
            check_written(writer)
        writer.write_padding(file, file.tell() - begin)
        check_written(writer)
    return stored


def slabs(
    model: Source, name: str, tensor: Tensor, shape: Shape, stored: str, rounding: Rounding | None
) -> Iterator[npt.NDArray[np.generic]]:
    """The bytes of a tensor that is padded to `shape`; as they are, without rounding."""
    have, cols = tensor.matrix
    rows = prod(shape[:-1])
    step = max(SLAB // max(shape[-1], 1) // 4 * 4, 4)  # some types keep rows in fours
    for first in range(0, rows, step):
        count = min(step, rows - first)
        there = min(count, have - first)
        values = tensor.rows(first, there) if there > 0 else np.zeros((0, cols), np.float32)
        check_values(model.path, name, values, stored)
        if rounding is None:
            assert tensor.raw is not None
            yield tensor.raw(first, count)
        else:
            values = np.pad(values, ((0, count - len(values)), (0, shape[-1] - cols)))
            yield rounding.quantize(name, values, stored)


def check_written(writer: GGUFWriter) -> None:
    """Raises OSError if the disk was full: numpy does not say so for the last bytes of a tensor."""
    assert writer.fout is not None
    (file,) = writer.fout
    file.flush()
    if os.fstat(file.fileno()).st_size != file.tell():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def check_values(source: Path, name: str, tensor: Floats, type_: str) -> None:
    largest = np.abs(tensor).max(initial=0)
    if not np.isfinite(largest):
        raise BadInput(f"{source}: {name} has NaN or infinity: damaged, or training diverged")
    if largest > weight_types.largest(type_):
        raise BadInput(f"{source}: {name} has weights too large for {type_}; use F32")


def printable(text: str) -> str:
    """Text that UTF-8 can hold; a file name need not be."""
    return text.encode(errors="replace").decode()
