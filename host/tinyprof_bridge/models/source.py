"""Model as an importer returns it to the converter: sizes, vocabulary, and tensors, read some rows at a time."""

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
from .architectures import ARCHITECTURES, Architecture

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Shape = tuple[int, ...]

SLAB = 1 << 18  # weights in memory at once
ROPE_FACTORS = "rope_freqs.weight"  # Sizes.rope_factors holds the same numbers
MOST = 1 << 24  # limit of any size in a model; no larger model fits a microcontroller


@dataclass(frozen=True)
class Sizes:
    """Sizes and constants of a model. Matrices have the shape (outputs, inputs).

    dim: values of an embedding.
    hidden_dim: feed-forward length.
    n_layers: number of layers.
    n_heads: query heads.
    n_kv_heads: key and value heads.
    vocab_size: number of tokens.
    context: longest context in tokens.
    rope_base: RoPE's base frequency.
    rope_scale: factor of RoPE's linear scaling.
    rope_factors: divisor of each frequency, for Llama 3's scaling; empty for none.
    rope_dims: values of a head that RoPE rotates; 0 for all.
    eps: epsilon of RMSNorm.
    architecture: llama.cpp's name.
    head_size: values of a head; 0 for dim / n_heads.
    window: positions that attention sees in layers with a sliding window; 0 for no window.
    window_period: every window_period-th layer has no window.
    window_rope_base: rope_base of the layers with a window.
    score_cap: cap of attention scores by tanh; 0 for none.
    logit_cap: cap of logits by tanh; 0 for none."""

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
    def traits(self) -> Architecture:
        """What the architecture has."""
        return ARCHITECTURES[self.architecture]

    @property
    def head_dim(self) -> int:
        """Values of a head."""
        return self.head_size or self.dim // self.n_heads

    def layer(self) -> dict[str, Shape]:
        """Returns GGUF name (less "blk.N.") and shape of a layer's tensors, in the order of llama2.c checkpoints."""
        q_dim, kv_dim, traits = self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim, self.traits
        biases = {"attn_q.bias": (q_dim,), "attn_k.bias": (kv_dim,), "attn_v.bias": (kv_dim,)}
        norms = {"attn_q_norm.weight": (self.head_dim,), "attn_k_norm.weight": (self.head_dim,)}
        return {
            "attn_norm.weight": (self.dim,),
            "attn_q.weight": (q_dim, self.dim),
            "attn_k.weight": (kv_dim, self.dim),
            "attn_v.weight": (kv_dim, self.dim),
            **(biases if traits.qkv_biases else {}),
            **(norms if traits.head_norms else {}),
            "attn_output.weight": (self.dim, q_dim),
            **({"post_attention_norm.weight": (self.dim,)} if traits.post_norms else {}),
            "ffn_norm.weight": (self.dim,),
            "ffn_gate.weight": (self.hidden_dim, self.dim),
            "ffn_down.weight": (self.dim, self.hidden_dim),
            "ffn_up.weight": (self.hidden_dim, self.dim),
            **({"post_ffw_norm.weight": (self.dim,)} if traits.post_norms else {}),
        }

    def windowed(self, layer: int) -> bool:
        """Returns whether attention in a layer, counted from 0, sees only a sliding window."""
        return self.window > 0 and (layer + 1) % self.window_period != 0

    def tensors(self) -> dict[str, Shape]:
        """Returns GGUF name and shape of all tensors, in the order in which a board streams them.

        Includes output.weight, which a model with a tied output does not have."""
        shapes: dict[str, Shape] = {"token_embd.weight": (self.vocab_size, self.dim)}
        for i in range(self.n_layers):
            shapes |= {f"blk.{i}.{kind}": shape for kind, shape in self.layer().items()}
        factors = {ROPE_FACTORS: (len(self.rope_factors),)} if self.rope_factors else {}
        return shapes | {"output_norm.weight": (self.dim,), "output.weight": (self.vocab_size, self.dim)} | factors

    def fault(self) -> str | None:
        """Returns what is wrong with the sizes, None if nothing."""
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
            return f"{self.n_heads} query heads are not a multiple of {self.n_kv_heads} key and value heads"
        return None


@dataclass(frozen=True)
class Vocabulary:
    """Vocabulary in GGUF's form, of SentencePiece or of byte-level BPE.

    tokens: text of each token; SentencePiece writes a space as '▁'.
    types: of each token.
    scores: of each token; SentencePiece only.
    unknown: number of the token for unknown characters; SentencePiece only.
    bos: number of the token before a text.
    eos: number of the token after a text.
    add_bos: whether a text starts with BOS.
    add_space: whether a text gets a leading space; SentencePiece only.
    pre: llama.cpp's name of the pre-tokenizer; empty for SentencePiece.
    merges: pairs "left right", the first one first; byte-level BPE only."""

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
    """Tensor of a source. Its weights are read on demand.

    shape: outermost dimension first.
    rows: rows(first, count) returns rows as float32 (count, columns); a vector is one row.
    type: weight type in the source; None if the kernels do not have it.
    raw: raw(first, count) returns the bytes of rows as stored; None if the source is not a GGUF file."""

    shape: Shape
    rows: Callable[[int, int], Floats]
    type: str | None = None
    raw: Callable[[int, int], Bytes] | None = None

    @property
    def matrix(self) -> tuple[int, int]:
        """Rows and columns."""
        return prod(self.shape[:-1]), self.shape[-1]

    def whole(self) -> Floats:
        """Returns all weights, in the tensor's shape."""
        return self.rows(0, self.matrix[0]).reshape(self.shape)


@dataclass(frozen=True)
class Source:
    """Model as an importer returns it.

    path: file or folder it comes from.
    sizes: sizes and constants.
    vocabulary: of the tokenizer.
    tensors: by GGUF name.
    digest: SHA-256 of the files with the weights.
    name: of the model; None if the source has none.
    about: other metadata of general.*, such as author and licence.
    notes: for the user, one line each."""

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
        """Number of weights in all tensors."""
        return sum(prod(tensor.shape) for tensor in self.tensors.values())


def complete(path: Path, sizes: Sizes, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors in the file's order, with RoPE's factors added.

    path: for error messages.
    tensors: by GGUF name, without rope_freqs.weight.
    Raises BadInput if a tensor is missing, unexpected or of the wrong shape."""
    shapes = sizes.tensors()
    if sizes.rope_factors:
        tensors = tensors | {ROPE_FACTORS: of_array(np.array(sizes.rope_factors, np.float32))}
    if extra := sorted(tensors.keys() - shapes.keys()):
        raise BadInput(f"{path}: tensor {extra[0]} is not supported for {sizes.architecture}; take another model")
    for name, shape in shapes.items():
        if name not in tensors:
            if name == "output.weight":
                continue
            raise BadInput(f"{path}: tensor {name} is missing; copy or export the model again")
        if tensors[name].shape != shape:
            raise BadInput(
                f"{path}: {name} is {_by(tensors[name].shape)}, but the model's sizes require {_by(shape)}"
                "; take weights and configuration from the same model"
            )
    return {name: tensors[name] for name in shapes if name in tensors}


def _by(shape: Shape) -> str:
    return " x ".join(map(str, shape))


def of_array(data: npt.NDArray[np.generic]) -> Tensor:
    """Returns a tensor of an array in memory or in a mapped file."""
    flat = data.reshape(-1, data.shape[-1])
    return Tensor(data.shape, lambda first, count: flat[first : first + count].astype(np.float32))


def file_size(path: Path) -> int:
    """Returns the bytes of a regular file. Raises OSError for anything else: a device or pipe has no end."""
    size = path.stat().st_size
    if not path.is_file():
        raise OSError("not a regular file")
    return size


def read_limited(path: Path, limit: int) -> bytes:
    """Returns a file's bytes. Raises BadInput if it cannot be read, or is longer than `limit` bytes."""
    try:
        size = file_size(path)
        if size > limit:
            raise BadInput(f"{path}: {size:,} bytes are too many; such a file has at most {limit:,}")
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from error


def read_json(path: Path, limit: int) -> dict[str, Any]:
    """Returns the JSON object in a file. Raises BadInput if it is not one, or longer than `limit` bytes."""
    data = read_limited(path, limit)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise BadInput(f"{path}: not valid JSON; copy it again") from None
    if not isinstance(value, dict):
        raise BadInput(f"{path}: not a JSON object; copy it again")
    return value


def sha256(*paths: Path) -> str:
    """Returns the SHA-256 of the concatenated files, as hexadecimal digits."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
