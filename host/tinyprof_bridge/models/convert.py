"""Converts a model of any supported format, or of other weight types, to a GGUF file.

Each format has an importer of its own in `formats`, which returns a Source. The result is GGUF version 3 (docs/gguf.md
in the ggml repository), with llama.cpp's architecture, metadata and tensor names for the model.
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
INDEXED = 4096  # strings; shorter lists get no index, since a board searches them fast enough


@dataclass(frozen=True)
class Summary:
    """Result of a conversion.

    parameters: of the source, without padding; a tied output counts once.
    bytes: of the GGUF file.
    padded_from: feed-forward length of the source.
    padded_to: feed-forward length in the GGUF file.
    tensors: number of tensors of each type.
    notes: for the user, one line each."""

    parameters: int
    bytes: int
    padded_from: int
    padded_to: int
    tensors: dict[str, int]
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
    """Converts the model `source` to the GGUF file `out`: `check`, then `write`.

    tokenizer: file with the tokenizer, where the source contains none.
    For the other parameters and errors see `write`."""
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
        raise BadInput("type keep quantizes nothing: give it without a calibration text")
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
    """Writes a model that `check` returned to the GGUF file `out`.

    type_: of the matrices, a key of weight_types.TYPES or MIXES. A matrix that does not fit it gets the fallback of
    weight_types.fitting; norms stay F32. KEEP leaves types and bytes as they are.
    name: of the model, in the file; by default the source's.
    mix: recipe with other types for some matrices.
    rounding: how all matrices are quantized; by default round to nearest.
    Raises BadInput if the weights cannot be used, RunFailed if the file cannot be written. `out` then is unchanged.
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
        why = error.strerror or f"{error}; free some disk space"  # numpy's errors have no text
        raise RunFailed(f"{out}: cannot be written: {why}") from error
    finally:
        with contextlib.suppress(OSError):  # fails again if the disk is full
            writer.close()
        partial.unlink(missing_ok=True)
    types = Counter(stored.values())
    notes = (*model.notes, *refusal(out))
    return Summary(model.parameters, size, model.sizes.hidden_dim, hidden_dim, dict(types), notes)


def check(source: Path, tokenizer: Path | None, out: Path, type_: str, mix: Recipe) -> Source:
    """Returns the model, after every check that needs no weights.

    So a user learns of a mistake before a calibration of minutes. For the parameters see `convert`.
    Raises BadInput if the source, the type, the recipe or the output path cannot be used."""
    if type_ not in (*weight_types.TYPES, *weight_types.MIXES, KEEP):
        known = ", ".join([*weight_types.TYPES, *weight_types.MIXES, KEEP.lower()])
        raise BadInput(f"type {type_} is unknown; use one of {known}")
    if type_ == KEEP and mix:
        raise BadInput("--recipe cannot be combined with --type keep; give only one of them")
    check_out(out, source, *([tokenizer] if tokenizer else []))
    model = read(source, tokenizer)
    if type_ == KEEP:
        check_kept(model)
    else:
        check_row_length(model, type_, mix)
    return model


def refusal(out: Path) -> list[str]:
    """Returns a note with the reason if boards refuse the GGUF file, else nothing. llama.cpp may still run it."""
    device = planner.device("portable")
    try:
        opened = device.read(gguf.open_mapped(out))
        device.tokenizer.load(opened, device.llama.Llama(opened, 1, 1).vocab)
    except device.error as error:
        return [f"boards refuse this model: {error}"]
    return []


def read(source: Path, tokenizer: Path | None) -> Source:
    """Returns the model in a file or folder of any supported format.

    tokenizer: file with the tokenizer, for formats that contain none.
    Raises BadInput if the source is damaged or not supported."""
    if source.is_dir():
        if tokenizer is not None:
            raise BadInput(f"{source}: the tokenizer of a folder is read from that folder; leave out --tokenizer")
        return huggingface.read(source)
    try:
        file_size(source)  # opening a pipe would block
        with source.open("rb") as file:
            head = file.read(4)
    except OSError as error:
        raise BadInput(f"{source}: cannot be read: {error.strerror or error}") from error
    if head == gguf.MAGIC:
        if tokenizer is not None:
            raise BadInput(f"{source}: a GGUF file contains its tokenizer; leave out --tokenizer")
        return gguf.read(source)
    if source.suffix == ".safetensors":
        raise BadInput(
            f"{source}: a safetensors file lacks the model's sizes; give its folder, with config.json and tokenizer"
        )
    if head == pytorch.OLD_MAGIC:
        raise BadInput(f"{source}: has the format of PyTorch before 1.6; load it and save its state_dict again")
    if source.suffix == onnx.SUFFIX:
        return onnx.read(source, tokenizer)
    if head == pytorch.MAGIC:
        return pytorch.read(source, tokenizer)
    return llama2c.read(source, tokenizer)


def check_kept(model: Source) -> None:
    """Raises BadInput if the tensors' types cannot be kept: there are none, or no kernel has them."""
    for name, tensor in model.tensors.items():
        if tensor.raw is None:
            raise BadInput(f"{model.path}: --type keep works with GGUF files only; give another --type")
        if tensor.type is None:
            raise BadInput(f"{model.path}: no board has kernels for the type of {name}; give another --type")


def check_row_length(model: Source, type_: str, mix: Recipe) -> None:
    """Raises BadInput if a matrix fits neither its type nor a fallback, or the recipe does not fit the model.

    The rows of ffn_down are not checked: they can be padded."""
    matrices = {name: tensor.shape for name, tensor in model.tensors.items() if len(tensor.shape) == 2}
    recipe.check(mix, list(matrices))
    for name, shape in matrices.items():
        try:
            if not name.endswith(".ffn_down.weight"):
                stored_type(name, shape, model.sizes.n_layers, type_, mix)
        except ValueError as error:
            raise BadInput(f"{model.path}: {name}: {error}") from None


def check_out(out: Path, *inputs: Path) -> None:
    """Raises BadInput if `out` cannot be written, or writing it would overwrite one of the inputs."""
    if out.is_dir():
        raise BadInput(f"{out}: is a folder; give the name of a file")
    if not out.parent.is_dir():
        raise BadInput(f"{out}: its folder does not exist; create it first")
    if not out.exists():
        return
    if not out.is_file():
        raise BadInput(f"{out}: is a device or a pipe; give the name of a file")
    of_folder = out.suffix != ".gguf" and any(path.is_dir() and out.parent.samefile(path) for path in inputs)
    if of_folder or any(path.exists() and out.samefile(path) for path in inputs):
        raise BadInput(f"{out}: is also an input; give another name")


def padded(sizes: Sizes, type_: str, mix: Recipe) -> int:
    """Returns the feed-forward length in the file.

    It is the row length of ffn_down, so block types round it up to whole quantization blocks of 32."""
    types = {recipe.type_of(mix, f"blk.{i}.ffn_down.weight") or type_ for i in range(sizes.n_layers)}
    block = 1 if types <= {"F32", "F16", KEEP} else 32
    return -(-sizes.hidden_dim // block) * block


def padded_shape(name: str, shape: Shape, hidden_dim: int) -> Shape:
    """Returns a tensor's shape with the padded feed-forward length `hidden_dim`.

    ffn_gate and ffn_up get rows of zeros, ffn_down gets columns of zeros. The output does not change, since
    silu(0) * 0 = gelu(0) * 0 = 0."""
    if name.endswith((".ffn_gate.weight", ".ffn_up.weight")):
        return hidden_dim, shape[1]
    if name.endswith(".ffn_down.weight"):
        return shape[0], hidden_dim
    return shape


def stored_type(name: str, shape: Shape, layers: int, type_: str, mix: Recipe) -> str:
    """Returns the type in which one tensor is stored; F32 for vectors.

    name: of the tensor in GGUF.
    shape: after padding.
    layers: number of the model's layers, which the mixes depend on.
    Raises ValueError if the matrix fits neither the type nor a fallback."""
    wanted = recipe.type_of(mix, name) or weight_types.chosen(name, layers, type_)
    return weight_types.fitting(wanted, *shape) if len(shape) == 2 else "F32"


def add_model(writer: GGUFWriter, model: Source, hidden_dim: int, type_: str, mix: Recipe, name: str) -> None:
    """Adds the metadata of the model: general.* and the architecture's sizes.

    hidden_dim: padded feed-forward length.
    name: of the model, as UTF-8 can hold it."""
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
    """Adds the metadata of the architecture, in llama.cpp's keys.

    hidden_dim: padded feed-forward length."""
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
    """Adds the metadata of the tokenizer, with indexes of its longer lists."""
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
    """Adds an index of a list of strings, with which a board finds a string fast; none for a short list.

    The index holds the strings' numbers, sorted by CRC-32 (native_modules/gguf/strings.h). llama.cpp ignores it.

    name: "tokens" or "merges"."""
    if len(strings) < INDEXED:
        return
    numbers = (1 << (len(strings) - 1).bit_length()) - 1
    entries = sorted(zlib.crc32(text.encode()) & ~numbers | i for i, text in enumerate(strings))
    writer.add_key_value(f"tinyprof.index.{name}", entries, GGUFValueType.ARRAY, GGUFValueType.UINT32)


def write_tensors(
    writer: GGUFWriter, model: Source, hidden_dim: int, type_: str, mix: Recipe, rounding: Rounding
) -> dict[str, str]:
    """Returns the type of each tensor, after writing header, metadata and tensors, some rows at a time.

    hidden_dim: padded feed-forward length.
    Raises BadInput if weights cannot be used, OSError if the file cannot be written."""
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
    """Yields a tensor's data some rows at a time, padded with zeros to `shape`.

    stored: type in the file.
    rounding: None keeps the source's bytes.
    Raises BadInput if weights are not finite or too large for the type."""
    have, cols = tensor.matrix
    rows = prod(shape[:-1])
    step = max(SLAB // max(shape[-1], 1) // 4 * 4, 4)  # TP3 interleaves four rows, TP2 and TPT two
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
    """Raises OSError if the disk is full. numpy's tofile does not report that for the last bytes it writes."""
    assert writer.fout is not None
    (file,) = writer.fout
    file.flush()
    if os.fstat(file.fileno()).st_size != file.tell():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def check_values(source: Path, name: str, tensor: Floats, type_: str) -> None:
    """Raises BadInput if weights of the tensor `name` are not finite, or too large for the type."""
    largest = np.abs(tensor).max(initial=0)
    if not np.isfinite(largest):
        raise BadInput(f"{source}: {name} contains NaN or infinity; copy the file again, or use another checkpoint")
    if largest > weight_types.largest(type_):
        raise BadInput(f"{source}: {name} has weights too large for {type_}; use F32")


def printable(text: str) -> str:
    """Returns the text with '?' for what UTF-8 cannot encode. A file's name may hold any bytes."""
    return text.encode(errors="replace").decode()
