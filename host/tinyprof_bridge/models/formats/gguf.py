"""Reads GGUF files of the supported architectures, with tensors of all types of llama.cpp, for requantizing.

The device package's reader parses the header; it checks every size before using it. Format: docs/gguf.md in the ggml
repository."""

import mmap
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType
from gguf.constants import TokenType
from gguf.quants import dequantize

from ...errors import BadInput, plain
from ...quantize import weight_types
from .. import planner
from ..source import Bytes, Floats, Sizes, Source, Tensor, Vocabulary, file_size, sha256
from ..tokenize import strings

MAGIC = b"GGUF"
# metadata that is copied to the converted file
ABOUT = ("general.author", "general.organization", "general.url", "general.license", "general.license.link")
_OURS = {type_.id: name for name, type_ in weight_types.TYPES.items()}


def open_mapped(path: Path) -> memoryview:
    """Returns the bytes of a GGUF file, mapped into memory.

    Version 2 reads as version 3, since both have the same layout.
    Raises BadInput if it is not a little-endian GGUF file."""
    try:
        size = file_size(path)
        with path.open("rb") as file:
            head = file.read(8)
            if size < 24 or head[:4] != MAGIC:
                raise BadInput(f"{path}: not a GGUF file; convert it with tinyprof-bridge convert")
            data = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from error
    (version,) = struct.unpack_from("<I", head, 4)
    if version == 3 << 24:
        raise BadInput(f"{path}: this GGUF file is big-endian; convert it with gguf-convert-endian of the gguf package")
    if version == 2:
        data[4] = 3
    return memoryview(data)


def read(path: Path) -> Source:
    """Returns the model in a GGUF file.

    Raises BadInput if the file is damaged, or boards do not support the model even with other tensor types."""
    data = open_mapped(path)
    device = planner.device("portable", any_type=True)
    try:
        gguf = device.read(data)
        if gguf.get("split.count", 1, int) > 1:
            first = re.sub(r"-\d{5}-of-", "-00001-of-", path.name)
            raise BadInput(
                f"{path}: is only one part of a model; join all parts with llama.cpp's"
                f" llama-gguf-split --merge {first} OUT"
            )
        llama = device.llama.Llama(gguf, 1, 1)
        tokenizer = device.tokenizer.load(gguf, llama.vocab)
        about = {key: gguf.get(key, "", str)[:1024] for key in ABOUT if key in gguf.keys}
        name = gguf.get("general.name", "", str)[:256]
        vocabulary = _vocabulary(path, gguf, tokenizer)
    except device.error as error:
        raise BadInput(f"{path}: {plain(str(error))}") from None
    sizes = Sizes(
        dim=llama.dim,
        hidden_dim=llama.hidden,
        n_layers=llama.layers,
        n_heads=llama.heads,
        n_kv_heads=llama.kv_heads,
        vocab_size=llama.vocab,
        context=llama.trained_context,
        rope_base=_float(llama.keys.rope_base),
        rope_scale=_float(llama.keys.rope_scale),
        rope_dims=llama.rope_dims,
        rope_factors=tuple(np.frombuffer(llama.rope_factors or b"", "<f4").tolist()),
        eps=_float(llama.keys.eps),
        architecture=llama.architecture,
        head_size=llama.head_dim,
        window=llama.keys.window,
        window_period=llama.keys.period,
        window_rope_base=_float(llama.keys.window_rope[0]),
        score_cap=_float(llama.keys.score_cap),
        logit_cap=_float(llama.keys.logit_cap),
    )
    tensors = {}
    for tensor, shape in sizes.tensors().items():
        if tensor in gguf.tensors:
            type_, cols, rows, offset = gguf.tensors[tensor]
            size = rows * planner.row_bytes(type_, cols)
            raw = np.frombuffer(data, np.uint8, size, gguf.data_offset + offset).reshape(rows, -1)
            read = _Rows(path, raw, type_, cols)
            tensors[tensor] = Tensor(shape, read.floats, _OURS.get(type_), read.raw)
    return Source(path, sizes, vocabulary, tensors, sha256(path), name or None, about)


def _float(bits: int) -> float:
    value: float = struct.unpack("<f", struct.pack("<I", bits))[0]
    return value


class _Rows:
    """Reads rows of a tensor of any type, as bytes or as floats."""

    def __init__(self, path: Path, data: Bytes, type_: int, cols: int) -> None:
        self.path, self.data, self.type, self.cols = path, data, type_, cols

    def raw(self, first: int, count: int) -> Bytes:
        return self.data[first : first + count]

    def floats(self, first: int, count: int) -> Floats:
        raw = self.raw(first, count)
        try:
            with np.errstate(all="ignore"):  # the converter reports infinity
                if self.type in _OURS:
                    return weight_types.dequantize(raw, _OURS[self.type], self.cols)
                return dequantize(raw, GGMLQuantizationType(self.type)).astype(np.float32)
        except NotImplementedError:
            name = GGMLQuantizationType(self.type).name
            raise BadInput(f"{self.path}: weights of type {name} cannot be dequantized; take another file") from None


def _vocabulary(path: Path, gguf: Any, tokenizer: Any) -> Vocabulary:
    count = tokenizer.vocab
    tokens = _texts(path, "token", tokenizer.tokens)
    numbers = np.frombuffer(gguf.data, np.uint8, 4 * count, tokenizer.types).view("<i4").tolist()
    if wrong := set(numbers) - {t.value for t in TokenType}:
        raise BadInput(f"{path}: damaged: a token has the unknown type {min(wrong)}; copy it again")
    types = [TokenType(t) for t in numbers]
    ends = {"bos": tokenizer.bos, "eos": tokenizer.eos, "add_bos": tokenizer.add_bos}
    if gguf.get("tokenizer.ggml.model") == "gpt2":
        merges = _texts(path, "merge", tokenizer.merges)
        return Vocabulary(tokens, types, pre=tokenizer.pre, merges=merges, **ends)
    scores = np.frombuffer(gguf.data, np.uint8, 4 * count, tokenizer.scores).view("<f4")
    if not np.isfinite(scores).all():
        raise BadInput(f"{path}: damaged: a token's score is NaN or infinity; copy it again")
    return Vocabulary(tokens, types, scores.tolist(), unknown=tokenizer.unknown, add_space=tokenizer.add_space, **ends)


def _texts(path: Path, what: str, array: Any) -> list[str]:
    found = []
    for i, text in enumerate(strings(array)):
        try:
            found.append(text.decode())
        except UnicodeDecodeError:
            raise BadInput(f"{path}: damaged: {what} {i} is not UTF-8; copy it again") from None
    return found
