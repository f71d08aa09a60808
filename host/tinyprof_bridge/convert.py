"""Converts a llama2.c legacy checkpoint and its tokenizer to a GGUF file.

Formats: the checkpoint is what `legacy_export` in llama2.c's export.py writes and run.c reads;
tokenizer.bin is what its tokenizer.py writes; the result is GGUF version 3 with the `llama`
architecture (ggml's docs/gguf.md). Both llama2.c and this architecture rotate neighbouring pairs
in RoPE, so rows of wq and wk keep their order.
"""

import contextlib
import errno
import hashlib
import os
import re
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf import GGUFWriter
from gguf.constants import GGML_QUANT_VERSION, TokenType

from . import quants, recipe
from .errors import BadInput, RunFailed
from .recipe import Recipe
from .rounding import Rounding

Floats = npt.NDArray[np.float32]
Shape = tuple[int, ...]

HEADER = struct.Struct("<7i")
TOKEN = struct.Struct("<fi")
TOKENIZER_LIMIT = 64 << 20  # bytes; Llama 2's 32000 tokens take 0.4 MB
SPECIALS = ("<unk>", "<s>", "</s>")
BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")
EXPORT_HINT = "export the model with llama2.c's export.py --version 0"
OTHER_FORMATS = {
    b"GGUF": "it is a GGUF file already",
    b"24ka": f"it is one of llama2.c's later formats; {EXPORT_HINT}",
    b"PK\x03\x04": f"it looks like a PyTorch file; {EXPORT_HINT}",
}


@dataclass(frozen=True)
class Summary:
    """What was converted. The padded sizes are the feed-forward length before and after."""

    parameters: int  # of the source: without padding, shared output counted once
    bytes: int  # of the GGUF file
    padded_from: int
    padded_to: int
    tensors: dict[str, int]  # tensors of each type


@dataclass(frozen=True)
class Header:
    """Sizes of a llama2.c model. A row of a weight matrix makes one output."""

    dim: int
    hidden_dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    vocab_size: int
    seq_len: int
    shared_output: bool  # the classifier is the embedding table

    @property
    def head_dim(self) -> int:
        return self.dim // self.n_heads

    def layer(self) -> dict[str, Shape]:
        """GGUF name and shape of a layer's tensors, in the order of the checkpoint."""
        kv_dim = self.n_kv_heads * self.head_dim
        return {
            "attn_norm": (self.dim,),
            "attn_q": (self.dim, self.dim),
            "attn_k": (kv_dim, self.dim),
            "attn_v": (kv_dim, self.dim),
            "attn_output": (self.dim, self.dim),
            "ffn_norm": (self.dim,),
            "ffn_gate": (self.hidden_dim, self.dim),  # w1
            "ffn_down": (self.dim, self.hidden_dim),  # w2
            "ffn_up": (self.hidden_dim, self.dim),  # w3
        }

    def parameters(self) -> int:
        embeddings = self.vocab_size * self.dim * (1 if self.shared_output else 2)
        per_layer = sum(prod(shape) for shape in self.layer().values())
        return embeddings + self.n_layers * per_layer + self.dim

    def file_size(self) -> int:
        """Bytes of the checkpoint; cosines and sines of RoPE lie in it too, unused."""
        return HEADER.size + 4 * (self.parameters() + self.seq_len * self.head_dim)


@dataclass(frozen=True)
class Vocabulary:
    """Tokens as GGUF has them: spaces as '▁' in normal tokens."""

    tokens: list[str]
    scores: list[float]
    types: list[TokenType]


def convert(
    checkpoint: Path,
    tokenizer: Path,
    out: Path,
    type_: str,
    name: str | None = None,
    mix: Recipe | None = None,
    rounding: Rounding | None = None,
) -> Summary:
    """Write `checkpoint` and `tokenizer` as the GGUF file `out`.

    type_: for matrices, one of quants.TYPES or quants.MIXES; norms stay F32, and a matrix that does
    not fit the type gets its fallback.
    name: the model's name in the file; the checkpoint's name if not given.
    mix: other types for some matrices; rounding: of all, to the nearest if not given.
    Raises BadInput for input that cannot be used and RunFailed if writing fails; `out` is then
    as it was before.
    """
    if type_ not in quants.TYPES and type_ not in quants.MIXES:
        raise BadInput(f"type {type_} is not known: use one of {', '.join([*quants.TYPES, *quants.MIXES])}")
    header = read_header(checkpoint)
    mix, rounding = mix or {}, rounding or Rounding()
    check_row_length(checkpoint, header, type_, mix)
    vocabulary = read_tokenizer(tokenizer, header.vocab_size)
    check_out(out, checkpoint, tokenizer)
    tensors, digest = read_tensors(checkpoint, header)

    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    writer = GGUFWriter(partial, "llama")
    try:
        hidden_dim = padded(header, type_, mix)
        add_model(writer, header, hidden_dim, type_, mix, printable(name or checkpoint.stem))
        add_vocabulary(writer, vocabulary)
        writer.add_string("tinyprof.source.file", printable(checkpoint.name))
        writer.add_string("tinyprof.source.sha256", digest)
        write_tensors(writer, checkpoint, tensors, hidden_dim, type_, mix, rounding)
        writer.close()
        size = partial.stat().st_size
        os.replace(partial, out)
    except OSError as error:
        raise RunFailed(f"{out}: cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):  # a full disk stops this as well
            writer.close()
        partial.unlink(missing_ok=True)
    shapes = {name: padded_shape(name, tensor.shape, hidden_dim) for name, tensor in tensors.items()}
    types = Counter(stored_type(name, shape, header.n_layers, type_, mix) for name, shape in shapes.items())
    return Summary(header.parameters(), size, header.hidden_dim, hidden_dim, dict(types))


def read_header(path: Path) -> Header:
    """Read and check the sizes; the file's length must be just what they ask for."""
    try:
        size = file_size(path)
        with path.open("rb") as file:
            raw = file.read(HEADER.size)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from error
    problem = f"{path}: not a llama2.c legacy checkpoint: "
    for magic, what in OTHER_FORMATS.items():
        if raw.startswith(magic):
            raise BadInput(problem + what)
    if len(raw) < HEADER.size:
        raise BadInput(f"{problem}only {len(raw)} bytes; copy or export it again")
    dim, hidden_dim, layers, heads, kv_heads, vocab, seq_len = HEADER.unpack(raw)
    header = Header(dim, hidden_dim, layers, heads, kv_heads, abs(vocab), seq_len, vocab > 0)
    if fault := implausible(header):
        raise BadInput(f"{problem}{fault}; {EXPORT_HINT}")
    if size != header.file_size():
        raise BadInput(
            f"{path}: {size} bytes where its header asks for {header.file_size()}: cut short or"
            " no llama2.c legacy checkpoint; copy or export it again"
        )
    return header


def implausible(header: Header) -> str | None:
    """What cannot be true of a model's sizes, or None."""
    for field in ("dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "seq_len"):
        value = getattr(header, field)
        if value <= 0:
            return f"{field} is {value}"
    if header.vocab_size < len(SPECIALS):
        return f"vocab_size is {header.vocab_size}"
    if header.dim % (2 * header.n_heads):
        return f"dim {header.dim} does not divide into {header.n_heads} heads of even size"
    if header.n_heads % header.n_kv_heads:
        return f"{header.n_heads} heads do not share {header.n_kv_heads} key and value heads"
    return None


def read_tensors(path: Path, header: Header) -> tuple[dict[str, Floats], str]:
    """Views of all tensors by GGUF name, and the file's SHA-256.

    They come layer after layer, so that a board can stream them.
    """
    try:
        digest = sha256(path)
        data = np.memmap(path, dtype="<f4", mode="r", offset=HEADER.size)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: cannot be read: {error}") from error
    views: dict[str, Floats] = {}
    at = 0

    def take(name: str, shape: Shape) -> None:
        nonlocal at
        views[name] = data[at : at + prod(shape)].reshape(shape)
        at += prod(shape)

    take("token_embd.weight", (header.vocab_size, header.dim))
    for kind, shape in header.layer().items():
        for i in range(header.n_layers):
            take(f"blk.{i}.{kind}.weight", shape)
    take("output_norm.weight", (header.dim,))
    at += header.seq_len * header.head_dim  # RoPE tables
    if not header.shared_output:
        take("output.weight", (header.vocab_size, header.dim))

    blocks = [f"blk.{i}.{kind}.weight" for i in range(header.n_layers) for kind in header.layer()]
    ends = [name for name in ("output_norm.weight", "output.weight") if name in views]
    return {name: views[name] for name in ["token_embd.weight", *blocks, *ends]}, digest


def read_tokenizer(path: Path, vocab_size: int) -> Vocabulary:
    """Read tokenizer.bin: longest piece (i32), then score (f32), length (i32), bytes of each."""
    try:
        size = file_size(path)
        data = path.read_bytes() if size <= TOKENIZER_LIMIT else b""
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(data) < 4:
        raise BadInput(f"{path}: {size} bytes are no llama2.c tokenizer; give its tokenizer.bin")
    tokens, scores, types = [], [], []
    for i, (score, piece) in enumerate(read_pieces(path, data, vocab_size)):
        try:
            text = piece.decode()
        except UnicodeDecodeError as error:
            hint = "export the tokenizer again"
            raise BadInput(f"{path}: token {i} is not UTF-8; {hint}") from error
        token, type_ = restore(path, i, text)
        tokens.append(token)
        scores.append(score)
        types.append(type_)
    if len(set(tokens)) < len(tokens):
        twice = Counter(tokens).most_common(1)[0][0]
        raise BadInput(f"{path}: token {twice!r} is there twice; export the tokenizer again")
    return Vocabulary(tokens, scores, types)


def read_pieces(path: Path, data: bytes, count: int) -> Iterator[tuple[float, bytes]]:
    """Score and bytes of each of `count` tokens, which must fill `data`."""
    hint = "of another model; give the tokenizer that the checkpoint was trained with"
    (longest,) = struct.unpack_from("<i", data)
    at = 4
    for i in range(count):
        ends_early = f"{path}: ends in token {i} of the checkpoint's {count}: cut short or {hint}"
        if at + TOKEN.size > len(data):
            raise BadInput(ends_early)
        score, length = TOKEN.unpack_from(data, at)
        at += TOKEN.size
        if not 0 < length <= longest or not np.isfinite(score):
            raise BadInput(
                f"{path}: token {i} has length {length} and score {score}: not a llama2.c"
                " tokenizer.bin, or damaged; export the tokenizer again"
            )
        if at + length > len(data):
            raise BadInput(ends_early)
        yield score, data[at : at + length]
        at += length
    if at < len(data):
        raise BadInput(f"{path}: has more than the checkpoint's {count} tokens: {hint}")


def restore(path: Path, i: int, text: str) -> tuple[str, TokenType]:
    """Undo what llama2.c's export does to token `i`: '\\n<s>\\n' for '<s>', ' ' for '▁'."""
    if i < len(SPECIALS):
        if text.strip() != SPECIALS[i]:
            raise BadInput(
                f"{path}: token {i} is {text!r} where llama2.c has {SPECIALS[i]}: not a llama2.c"
                " tokenizer.bin; export the tokenizer again"
            )
        return SPECIALS[i], TokenType.UNKNOWN if i == 0 else TokenType.CONTROL
    if BYTE_TOKEN.fullmatch(text):
        return text, TokenType.BYTE
    return text.replace(" ", "▁"), TokenType.NORMAL


def check_row_length(path: Path, header: Header, type_: str, mix: Recipe) -> None:
    """All rows but ffn_down's are dim long, and only ffn_down's can be padded."""
    matrices = ["token_embd.weight", *([] if header.shared_output else ["output.weight"])]
    kinds = [kind for kind, shape in header.layer().items() if len(shape) == 2]
    matrices += [f"blk.{i}.{kind}.weight" for i in range(header.n_layers) for kind in kinds]
    recipe.check(mix, matrices)
    for name in matrices:
        try:
            if not name.endswith(".ffn_down.weight"):
                stored_type(name, (header.dim, header.dim), header.n_layers, type_, mix)
        except ValueError as error:
            raise BadInput(f"{path}: {name}: {error}; use F16 or F32") from None


def check_out(out: Path, *inputs: Path) -> None:
    if out.is_dir():
        raise BadInput(f"{out}: is a folder; name a file in it")
    if not out.parent.is_dir():
        raise BadInput(f"{out}: its folder does not exist; make it first")
    if out.exists() and any(out.samefile(path) for path in inputs):
        raise BadInput(f"{out}: is an input too; give another name")


def padded(header: Header, type_: str, mix: Recipe) -> int:
    """Feed-forward length in the file: whole blocks, as it is the row length of ffn_down."""
    types = {recipe.type_of(mix, f"blk.{i}.ffn_down.weight") or type_ for i in range(header.n_layers)}
    block = 1 if types <= {"F32", "F16"} else 32
    return -(-header.hidden_dim // block) * block


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
    wanted = recipe.type_of(mix, name) or quants.chosen(name, layers, type_)
    return quants.fitting(wanted, *shape) if len(shape) == 2 else "F32"


def add_model(writer: GGUFWriter, header: Header, hidden_dim: int, type_: str, mix: Recipe, name: str) -> None:
    writer.add_name(name)
    writer.add_custom_alignment(32)
    file_type = quants.MIXES[type_][1] if type_ in quants.MIXES else quants.TYPES[type_].file_type
    if file_type is not None:
        writer.add_file_type(file_type)
    if mix or type_ not in ("F32", "F16"):
        writer.add_quantization_version(GGML_QUANT_VERSION)
    writer.add_vocab_size(header.vocab_size)
    writer.add_context_length(header.seq_len)
    writer.add_embedding_length(header.dim)
    writer.add_block_count(header.n_layers)
    writer.add_feed_forward_length(hidden_dim)
    writer.add_head_count(header.n_heads)
    writer.add_head_count_kv(header.n_kv_heads)
    writer.add_rope_dimension_count(header.head_dim)
    writer.add_rope_freq_base(10000.0)  # this and the next are constants in run.c
    writer.add_layer_norm_rms_eps(1e-5)


def add_vocabulary(writer: GGUFWriter, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model("llama")
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_scores(vocabulary.scores)
    writer.add_token_types(vocabulary.types)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(True)


def write_tensors(
    writer: GGUFWriter,
    source: Path,
    tensors: dict[str, Floats],
    hidden_dim: int,
    type_: str,
    mix: Recipe,
    rounding: Rounding,
) -> None:
    """Write header, metadata and tensors; one tensor at a time is in memory."""
    layers = sum(name.endswith(".attn_q.weight") for name in tensors)
    shapes = {name: padded_shape(name, t.shape, hidden_dim) for name, t in tensors.items()}
    stored = {name: stored_type(name, shape, layers, type_, mix) for name, shape in shapes.items()}
    for name, shape in shapes.items():
        size = prod(shape[:-1]) * quants.row_bytes(stored[name], shape[-1])
        writer.add_tensor_info(name, shape, np.dtype(np.float32), size, raw_dtype=quants.raw_type(stored[name]))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, tensor in tensors.items():
        check_values(source, name, tensor, stored[name])
        writer.write_tensor_data(encode(name, tensor, shapes[name], stored[name], rounding))
        check_written(writer)


def check_written(writer: GGUFWriter) -> None:
    """Raises OSError if the disk was full: numpy does not say so for the last bytes of a tensor."""
    assert writer.fout is not None
    (file,) = writer.fout
    file.flush()
    if os.fstat(file.fileno()).st_size != file.tell():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def check_values(source: Path, name: str, tensor: Floats, type_: str) -> None:
    largest = np.abs(tensor).max()
    if not np.isfinite(largest):
        raise BadInput(f"{source}: {name} has NaN or infinity: damaged, or training diverged")
    if largest > quants.largest(type_):
        raise BadInput(f"{source}: {name} has weights too large for {type_}; use F32")


def encode(name: str, tensor: Floats, shape: Shape, type_: str, rounding: Rounding) -> npt.NDArray[np.generic]:
    """The tensor, padded with zeros to `shape`; block types as bytes (rows, bytes of a row)."""
    if shape != tensor.shape:
        missing = [(0, to - have) for have, to in zip(tensor.shape, shape, strict=True)]
        tensor = np.pad(tensor, missing)
    return rounding.quantize(name, tensor.reshape(-1, shape[-1]), type_)


def file_size(path: Path) -> int:
    """Size of a regular file. Raises OSError if there is none: a device or pipe has no end."""
    size = path.stat().st_size
    if not path.is_file():
        raise OSError("not a file")
    return size


def printable(text: str) -> str:
    """Text that UTF-8 can hold; a file name need not be."""
    return text.encode(errors="replace").decode()


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
