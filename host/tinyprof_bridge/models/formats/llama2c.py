"""Reads llama2.c checkpoints and their tokenizer.bin.

Formats, by the functions in llama2.c's export.py that write them: legacy or v0 (`legacy_export`, read by run.c), v1
(`version1_export`), and v2 (`version2_export`, read by runq.c), which stores int8 with a float32 scale for each group.
In RoPE llama2.c and GGUF's llama rotate the same pairs of neighbouring values, so wq and wk keep their order of rows.
"""

import re
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf.constants import TokenType

from ...errors import BadInput
from ..source import Floats, Shape, Sizes, Source, Tensor, Vocabulary, file_size, of_array, sha256
from . import tokenizers

HEADER = struct.Struct("<7i")
MAGIC = b"24ka"
LATER_HEADER = 256
LATER = struct.Struct("<4si7iBi")  # magic, version, sizes, whether the output is tied, group size (v2)
TOKEN = struct.Struct("<fi")
TOKENIZER_LIMIT = 64 << 20  # bytes; Llama 2's 32000 tokens take 0.4 MB
SPECIALS = ("<unk>", "<s>", "</s>")
BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")
EXPORT = "export the model with llama2.c's export.py"
EXPORT_HINT = f"{EXPORT}, or give a GGUF, ONNX or PyTorch file or a Hugging Face folder"


def read(checkpoint: Path, tokenizer: Path | None) -> Source:
    """Returns the model in a checkpoint of version 0, 1 or 2.

    tokenizer: tokenizer.bin, tokenizer.model or tokenizer.json.
    Raises BadInput if either is missing, damaged, or not of this format."""
    try:
        size = file_size(checkpoint)
        with checkpoint.open("rb") as file:
            raw = file.read(LATER.size)
    except OSError as error:
        raise BadInput(f"{checkpoint}: cannot be read: {error.strerror or error}") from error
    if len(raw) < HEADER.size:
        problem = f"only {len(raw)} bytes; copy or export it again"
        raise BadInput(f"{checkpoint}: not a llama2.c checkpoint: {problem}")
    sizes, version, shared, group = _header(checkpoint, raw)
    wanted = _file_size(sizes, version, shared, group)
    if size != wanted:
        raise BadInput(
            f"{checkpoint}: has {size} bytes, but its header requires {wanted}: truncated, or"
            " not a llama2.c checkpoint; copy or export it again"
        )
    if tokenizer is None:
        raise BadInput(f"{checkpoint}: a llama2.c checkpoint contains no tokenizer; give --tokenizer tokenizer.bin")
    vocabulary, notes = read_vocabulary(tokenizer, sizes.vocab_size)
    try:
        digest = sha256(checkpoint)
        data = np.memmap(checkpoint, dtype=np.uint8, mode="r")
    except (OSError, ValueError) as error:
        raise BadInput(f"{checkpoint}: cannot be read: {error}") from error
    found = {0: _legacy, 1: _v1, 2: _v2}[version](data, sizes, shared, group)
    tensors = {name: found[name] for name in sizes.tensors() if name in found}
    return Source(checkpoint, sizes, vocabulary, tensors, digest, notes=tuple(notes))


def _header(path: Path, raw: bytes) -> tuple[Sizes, int, bool, int]:
    """Sizes, version, whether the output is tied to the embedding, and the group size of v2."""
    problem = f"{path}: not a llama2.c checkpoint: "
    version = group = 0
    if raw.startswith(MAGIC):
        if len(raw) < LATER.size:
            raise BadInput(f"{problem}only {len(raw)} bytes; copy or export it again")
        _, version, *numbers, shared, group = LATER.unpack(raw)
        if version not in (1, 2):
            raise BadInput(f"{problem}version {version} is unknown; {EXPORT} --version 1 or 2")
        if shared > 1:
            raise BadInput(f"{problem}its header is damaged; {EXPORT_HINT}")
        vocab = numbers[5]
    else:
        numbers = list(HEADER.unpack_from(raw))
        vocab, shared = abs(numbers[5]), numbers[5] > 0
    dim, hidden_dim, layers, heads, kv_heads, _, seq_len = numbers
    sizes = Sizes(dim, hidden_dim, layers, heads, kv_heads, vocab, seq_len)
    if fault := sizes.fault():
        raise BadInput(f"{problem}{fault}; {EXPORT_HINT}")
    if version == 2 and (group < 1 or dim % group or hidden_dim % group):
        raise BadInput(f"{problem}groups of {group} do not divide rows of {dim} and {hidden_dim}; {EXPORT_HINT}")
    return sizes, version, bool(shared), group


def _file_size(sizes: Sizes, version: int, shared: bool, group: int) -> int:
    """Bytes of the checkpoint. Version 0 also contains RoPE's cosines and sines, which are not used."""
    norms = (2 * sizes.n_layers + 1) * sizes.dim
    per_layer = sum(prod(shape) for shape in sizes.layer().values() if len(shape) == 2)
    weights = sizes.n_layers * per_layer + sizes.vocab_size * sizes.dim * (1 if shared else 2)
    match version:
        case 0:
            return HEADER.size + 4 * (norms + weights + sizes.context * sizes.head_dim)
        case 1:
            return LATER_HEADER + 4 * (norms + weights)
        case _:
            return LATER_HEADER + 4 * norms + weights + weights // group * 4


def _by_kind(sizes: Sizes, kinds: tuple[str, ...]) -> Iterator[tuple[str, Shape]]:
    """Name and shape of tensors: for each kind those of all layers."""
    for kind in kinds:
        for i in range(sizes.n_layers):
            yield f"blk.{i}.{kind}", sizes.layer()[kind]


_MATRICES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_down", "ffn_up")
MATRICES = tuple(f"{kind}.weight" for kind in _MATRICES)


class _Floats:
    """Reads consecutive float32 tensors of the file."""

    def __init__(self, data: npt.NDArray[np.uint8], at: int) -> None:
        self.data, self.at = data, at
        self.tensors: dict[str, Tensor] = {}

    def take(self, name: str, shape: Shape) -> None:
        size = 4 * prod(shape)
        self.tensors[name] = of_array(self.data[self.at : self.at + size].view("<f4").reshape(shape))
        self.at += size


def _legacy(data: npt.NDArray[np.uint8], sizes: Sizes, shared: bool, _: int) -> dict[str, Tensor]:
    shapes, floats = sizes.tensors(), _Floats(data, HEADER.size)
    floats.take("token_embd.weight", shapes["token_embd.weight"])
    for name, shape in _by_kind(sizes, tuple(sizes.layer())):
        floats.take(name, shape)
    floats.take("output_norm.weight", (sizes.dim,))
    floats.at += 4 * sizes.context * sizes.head_dim  # RoPE tables
    if not shared:
        floats.take("output.weight", shapes["output.weight"])
    return floats.tensors


def _norms(data: npt.NDArray[np.uint8], sizes: Sizes) -> _Floats:
    floats = _Floats(data, LATER_HEADER)
    for name, shape in _by_kind(sizes, ("attn_norm.weight", "ffn_norm.weight")):
        floats.take(name, shape)
    floats.take("output_norm.weight", (sizes.dim,))
    return floats


def _later_order(sizes: Sizes, shared: bool) -> Iterator[tuple[str, Shape]]:
    shapes = sizes.tensors()
    yield "token_embd.weight", shapes["token_embd.weight"]
    yield from _by_kind(sizes, MATRICES)
    if not shared:
        yield "output.weight", shapes["output.weight"]


def _v1(data: npt.NDArray[np.uint8], sizes: Sizes, shared: bool, _: int) -> dict[str, Tensor]:
    floats = _norms(data, sizes)
    for name, shape in _later_order(sizes, shared):
        floats.take(name, shape)
    return floats.tensors


def _v2(data: npt.NDArray[np.uint8], sizes: Sizes, shared: bool, group: int) -> dict[str, Tensor]:
    norms = _norms(data, sizes)
    tensors, at = norms.tensors, norms.at
    for name, shape in _later_order(sizes, shared):
        values = prod(shape)
        q = data[at : at + values].view(np.int8).reshape(shape[0], -1, group)
        at += values
        # scales may start at any byte; _groups copies them to align them
        raw = data[at : at + values // group * 4].reshape(shape[0], -1)
        at += values // group * 4
        tensors[name] = Tensor(shape, _groups(q, raw))
    return tensors


def _groups(q: npt.NDArray[np.int8], raw: npt.NDArray[np.uint8]) -> Callable[[int, int], Floats]:
    def rows(first: int, count: int) -> Floats:
        some = slice(first, first + count)
        scale: Floats = np.ascontiguousarray(raw[some]).view("<f4")
        with np.errstate(over="ignore", invalid="ignore"):  # the converter reports infinity
            return (q[some].astype(np.float32) * scale[..., None]).reshape(len(scale), -1)

    return rows


def vocabulary_for(
    path: Path, tokenizer: Path | None, vocab_size: int, bos: int | None = None, eos: int | None = None
) -> tuple[Vocabulary, list[str]]:
    """Returns the vocabulary of a checkpoint, and notes for the user.

    path: of the checkpoint.
    tokenizer: file with the tokenizer; None reads the one in the checkpoint's folder.
    vocab_size: number of rows of the embedding.
    bos, eos: token numbers from config.json, None if it names none.
    Raises BadInput if there is no tokenizer, or it does not fit the model."""
    if tokenizer is None:
        return tokenizers.read(path.parent, vocab_size, bos, eos)
    return read_vocabulary(tokenizer, vocab_size, bos, eos)


def read_vocabulary(
    path: Path, vocab_size: int, bos: int | None = None, eos: int | None = None
) -> tuple[Vocabulary, list[str]]:
    """Returns the vocabulary in tokenizer.model, tokenizer.json or llama2.c's tokenizer.bin, and notes for the user.

    path: its suffix tells the format.
    vocab_size: number of rows of the embedding.
    bos, eos: token numbers from config.json, None if it names none.
    Raises BadInput if the file is damaged, or does not fit the model."""
    if path.suffix in (".model", ".json"):
        return tokenizers.from_file(path, vocab_size, bos, eos)
    return read_tokenizer(path, vocab_size), []


def read_tokenizer(path: Path, vocab_size: int) -> Vocabulary:
    """Returns the vocabulary in a tokenizer.bin, as llama2.c's tokenizer.py writes it.

    Format: length of the longest piece (i32), then for each piece its score (f32), length (i32) and bytes.

    vocab_size: number of rows of the embedding.
    Raises BadInput if the file is damaged, or of another model."""
    try:
        size = file_size(path)
        data = path.read_bytes() if size <= TOKENIZER_LIMIT else b""
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(data) < 4:
        raise BadInput(f"{path}: not a llama2.c tokenizer ({size} bytes); give its tokenizer.bin")
    tokens, scores, types = [], [], []
    for i, (score, piece) in enumerate(_pieces(path, data, vocab_size)):
        try:
            text = piece.decode()
        except UnicodeDecodeError as error:
            hint = "export the tokenizer again"
            raise BadInput(f"{path}: token {i} is not UTF-8; {hint}") from error
        token, type_ = _restore(path, i, text)
        tokens.append(token)
        scores.append(score)
        types.append(type_)
    if len(set(tokens)) < len(tokens):
        twice = Counter(tokens).most_common(1)[0][0]
        raise BadInput(f"{path}: token {twice[:32]!r} occurs twice; export the tokenizer again")
    return Vocabulary(tokens, types, scores)


def _pieces(path: Path, data: bytes, count: int) -> Iterator[tuple[float, bytes]]:
    """Score and bytes of each of `count` tokens, which must fill `data` exactly."""
    hint = "of another model; give the tokenizer that the checkpoint was trained with"
    (longest,) = struct.unpack_from("<i", data)
    at = 4
    for i in range(count):
        ends_early = f"{path}: ends at token {i} of the checkpoint's {count}: truncated, or {hint}"
        if at + TOKEN.size > len(data):
            raise BadInput(ends_early)
        score, length = TOKEN.unpack_from(data, at)
        at += TOKEN.size
        if not 0 < length <= longest or not np.isfinite(score):
            raise BadInput(
                f"{path}: token {i} has length {length} and score {score}: damaged, or not a llama2.c"
                " tokenizer.bin; export the tokenizer again"
            )
        if at + length > len(data):
            raise BadInput(ends_early)
        yield score, data[at : at + length]
        at += length
    if at < len(data):
        raise BadInput(f"{path}: has more tokens than the checkpoint's {count}: {hint}")


def _restore(path: Path, i: int, text: str) -> tuple[str, TokenType]:
    """Undoes llama2.c's changes to token `i`: '\\n<s>\\n' for '<s>', ' ' for '▁'."""
    if i < len(SPECIALS):
        if text.strip() != SPECIALS[i]:
            raise BadInput(
                f"{path}: token {i} is {text[:32]!r}, but llama2.c has {SPECIALS[i]} there: not a llama2.c"
                " tokenizer.bin; export the tokenizer again"
            )
        return SPECIALS[i], TokenType.UNKNOWN if i == 0 else TokenType.CONTROL
    if BYTE_TOKEN.fullmatch(text):
        return text, TokenType.BYTE
    return text.replace(" ", "▁"), TokenType.NORMAL
