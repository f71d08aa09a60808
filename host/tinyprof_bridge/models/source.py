"""A model as an importer gives it to the converter: sizes, vocabulary, and tensors read some rows at a time."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf.constants import TokenType

from ..errors import BadInput

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Shape = tuple[int, ...]

SLAB = 1 << 18  # values that are in memory at once
ROPE_FACTORS = "rope_freqs.weight"  # which the sizes hold too
# What architectures have beside a llama.
GEMMAS = ("gemma", "gemma2", "gemma3")
HEAD_NORMS = ("qwen3", "gemma3")
POST_NORMS = ("gemma2", "gemma3")
MOST = 1 << 24  # of any size: more is no model for a microcontroller


@dataclass(frozen=True)
class Sizes:
    """A row of a weight matrix makes one output. rope_scale: the factor of linear scaling; rope_factors: one for each
    frequency, as Llama 3 has them, or none; head_size: where it is not dim / n_heads. window: positions that attention
    sees but in each window_period-th layer, with a RoPE of its own; 0: all. score_cap, logit_cap: 0: none."""

    dim: int
    hidden_dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    vocab_size: int
    context: int
    rope_base: float = 10000.0
    rope_scale: float = 1.0
    rope_factors: tuple[float, ...] = ()
    rope_dims: int = 0  # 0: all of a head
    eps: float = 1e-5
    architecture: str = "llama"
    head_size: int = 0
    window: int = 0
    window_period: int = 1
    window_rope_base: float = 10000.0
    score_cap: float = 0.0
    logit_cap: float = 0.0

    @property
    def head_dim(self) -> int:
        return self.head_size or self.dim // self.n_heads

    def layer(self) -> dict[str, Shape]:
        """GGUF name and shape of a layer's tensors, in the order of llama2.c's checkpoints."""
        q_dim, kv_dim = self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim
        biases = {"attn_q.bias": (q_dim,), "attn_k.bias": (kv_dim,), "attn_v.bias": (kv_dim,)}
        norms = {"attn_q_norm.weight": (self.head_dim,), "attn_k_norm.weight": (self.head_dim,)}
        return {
            "attn_norm.weight": (self.dim,),
            "attn_q.weight": (q_dim, self.dim),
            "attn_k.weight": (kv_dim, self.dim),
            "attn_v.weight": (kv_dim, self.dim),
            **(biases if self.architecture == "qwen2" else {}),
            **(norms if self.architecture in HEAD_NORMS else {}),
            "attn_output.weight": (self.dim, q_dim),
            **({"post_attention_norm.weight": (self.dim,)} if self.architecture in POST_NORMS else {}),
            "ffn_norm.weight": (self.dim,),
            "ffn_gate.weight": (self.hidden_dim, self.dim),
            "ffn_down.weight": (self.dim, self.hidden_dim),
            "ffn_up.weight": (self.hidden_dim, self.dim),
            **({"post_ffw_norm.weight": (self.dim,)} if self.architecture in POST_NORMS else {}),
        }

    def windowed(self, layer: int) -> bool:
        return self.window > 0 and (layer + 1) % self.window_period != 0

    def tensors(self) -> dict[str, Shape]:
        """GGUF name and shape of all tensors, layer after layer so that a board can stream them; with output.weight,
        which may be missing."""
        shapes: dict[str, Shape] = {"token_embd.weight": (self.vocab_size, self.dim)}
        for i in range(self.n_layers):
            shapes |= {f"blk.{i}.{kind}": shape for kind, shape in self.layer().items()}
        factors = {ROPE_FACTORS: (len(self.rope_factors),)} if self.rope_factors else {}
        return shapes | {"output_norm.weight": (self.dim,), "output.weight": (self.vocab_size, self.dim)} | factors

    def fault(self) -> str | None:
        """What cannot be true of a model's sizes, or None."""
        for name in ("dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "context"):
            value = getattr(self, name)
            if value <= 0:
                return f"{'seq_len' if name == 'context' else name} is {value}"
        if self.window < 0:
            return f"window is {self.window}"
        if self.vocab_size < 3:
            return f"vocab_size is {self.vocab_size}"
        if self.head_dim % 2 or (self.dim % self.n_heads and not self.head_size):
            return f"dim {self.dim} does not divide into {self.n_heads} heads of even size"
        if self.n_heads % self.n_kv_heads:
            return f"{self.n_heads} heads do not share {self.n_kv_heads} key and value heads"
        return None


@dataclass(frozen=True)
class Vocabulary:
    """Tokens as GGUF has them. Of SentencePiece's kind spaces are '▁' in normal tokens, and unknown, add_space and a
    score of each token count; of byte-level BPE (pre: its pre-tokenizer, as llama.cpp names it) the merges."""

    tokens: list[str]
    types: list[TokenType]
    scores: list[float] = field(default_factory=list)
    unknown: int = 0
    bos: int = 1
    eos: int = 2
    add_bos: bool = True
    add_space: bool = True
    pre: str = ""
    merges: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Tensor:
    """rows(first, count): that many rows as float32; a vector is one row.

    type, raw: as the source stores it and its bytes, row by row, where it is a type of ours."""

    shape: Shape
    rows: Callable[[int, int], Floats]
    type: str | None = None
    raw: Callable[[int, int], Bytes] | None = None

    @property
    def matrix(self) -> tuple[int, int]:
        """Rows and columns."""
        return prod(self.shape[:-1]), self.shape[-1]

    def whole(self) -> Floats:
        return self.rows(0, self.matrix[0]).reshape(self.shape)


@dataclass(frozen=True)
class Source:
    """digest: SHA-256 of the files with the weights; about: further strings of general.*; notes: for the user."""

    path: Path
    sizes: Sizes
    vocabulary: Vocabulary
    tensors: dict[str, Tensor]
    digest: str
    name: str | None = None
    about: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        return sum(prod(tensor.shape) for tensor in self.tensors.values())


def complete(path: Path, sizes: Sizes, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors in the order of the file, RoPE's factors added. Raises BadInput if one is missing, one too many, or
    of another shape."""
    shapes = sizes.tensors()
    if sizes.rope_factors:
        tensors = tensors | {ROPE_FACTORS: of_array(np.array(sizes.rope_factors, np.float32))}
    if extra := sorted(tensors.keys() - shapes.keys()):
        raise BadInput(f"{path}: tensor {extra[0]} is not supported")
    for name, shape in shapes.items():
        if name not in tensors:
            if name == "output.weight":
                continue
            raise BadInput(f"{path}: tensor {name} is missing")
        if tensors[name].shape != shape:
            raise BadInput(f"{path}: {name} is {_by(tensors[name].shape)} where the sizes ask for {_by(shape)}")
    return {name: tensors[name] for name in shapes if name in tensors}


def _by(shape: Shape) -> str:
    return " x ".join(map(str, shape))


def of_array(data: npt.NDArray[np.generic]) -> Tensor:
    """A tensor of numbers that lie in memory or in a mapped file."""
    flat = data.reshape(-1, data.shape[-1])
    return Tensor(data.shape, lambda first, count: flat[first : first + count].astype(np.float32))


def file_size(path: Path) -> int:
    """Size of a regular file. Raises OSError if there is none: a device or pipe has no end."""
    size = path.stat().st_size
    if not path.is_file():
        raise OSError("not a file")
    return size


def read_limited(path: Path, limit: int) -> bytes:
    """A small file as a whole. Raises BadInput if it cannot be read or is larger."""
    try:
        size = file_size(path)
        if size > limit:
            raise BadInput(f"{path}: {size:,} bytes are too many for such a file")
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from error


def read_json(path: Path, limit: int) -> dict[str, Any]:
    """An object in JSON."""
    data = read_limited(path, limit)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise BadInput(f"{path}: is no JSON; copy it again") from None
    if not isinstance(value, dict):
        raise BadInput(f"{path}: is no JSON object; copy it again")
    return value


def sha256(*paths: Path) -> str:
    """Of the files one after another."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
