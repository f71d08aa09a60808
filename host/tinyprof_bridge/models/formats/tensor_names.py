"""Names of a model's tensors in Hugging Face's and in Meta's modules (llama2.c's too), and which rows go where."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ...errors import BadInput
from ..architectures import ARCHITECTURES
from ..source import Floats, Sizes, Tensor, complete

_HUGGING_FACE = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.down_proj": "ffn_down",
    "mlp.up_proj": "ffn_up",
}
_POST_NORMS = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
_META = {
    "attention_norm": "attn_norm",
    "attention.wq": "attn_q",
    "attention.wk": "attn_k",
    "attention.wv": "attn_v",
    "attention.wo": "attn_output",
    "ffn_norm": "ffn_norm",
    "feed_forward.w1": "ffn_gate",
    "feed_forward.w2": "ffn_down",
    "feed_forward.w3": "ffn_up",
}
_ENDS = {
    "embed_tokens": "token_embd",
    "tok_embeddings": "token_embd",
    "norm": "output_norm",
    "lm_head": "output",
    "output": "output",
}
# Before that wrappers put names of their own: torch.compile, Lightning, modules that hold a model.
_LAYER = re.compile(r"(?:.*\.)?layers\.(0|[1-9]\d{0,3})\.(.+)")
# tables that can be computed
_TABLES = re.compile(r"(.*\.)?(rotary_emb\.inv_freq|rope\.freqs|freqs_cos|freqs_sin|freqs_cis)")


def is_table(name: str) -> bool:
    return _TABLES.fullmatch(name) is not None


def is_scale(name: str) -> bool:
    """Whether it is what a gemma's embeddings are multiplied with, which its sizes tell."""
    return name.endswith("embed_tokens.embed_scale")


def halves(names: list[str]) -> bool:
    """Whether RoPE rotates the two halves of a head, as Hugging Face has it, and not neighbouring pairs."""
    return any(".self_attn." in name for name in names)


def gguf_name(name: str, architecture: str = "llama") -> str | None:
    """The GGUF name of a module's tensor, None where the architecture does not have it."""
    stem, _, kind = name.rpartition(".")
    if match := _LAYER.fullmatch(stem):
        hugging_face = _HUGGING_FACE | (_POST_NORMS if ARCHITECTURES[architecture].post_norms else {})
        known = hugging_face.get(match[2]) or _META.get(match[2])
        known = known and f"blk.{match[1]}.{known}"
    else:
        known = _ENDS.get(stem.rpartition(".")[2])
    return f"{known}.{kind}" if known and kind in ("weight", "bias") else None


def to_gguf(path: Path, sizes: Sizes, tensors: dict[str, Tensor], tied: bool, score_factor: float) -> dict[str, Tensor]:
    """A module's tensors as GGUF has them. tied: output and embedding are the same; score_factor: how many times
    greater its scores are than by the root of the head size."""
    found: dict[str, Tensor] = {}
    shapes = sizes.tensors()
    for name, tensor in tensors.items():
        if is_table(name):
            continue
        known = gguf_name(name, sizes.architecture)
        if known is None or known not in shapes:
            raise BadInput(f"{path}: tensor {name[:128]!r} is not supported: no board's plan has it")
        if known in found:
            raise BadInput(f"{path}: tensor {known} is there twice, the second time as {name[:128]!r}")
        found[known] = tensor
    if tied:
        found.pop("output.weight", None)
    elif "output.weight" not in found:
        raise BadInput(
            f"{path}: the output's weights (lm_head.weight) are missing, and it is not tied to the embedding"
        )
    found = complete(path, sizes, found)
    if not sizes.traits.halves and halves(list(tensors)):
        interleave(sizes, found)
    if offset := sizes.traits.norm_offset:
        found |= {
            name: _changed(tensor, lambda x: x + np.float32(offset))
            for name, tensor in found.items()
            if name.endswith("_norm.weight")
        }
    if score_factor != 1:  # goes into the weights that queries meet last
        kind = "attn_q_norm" if sizes.traits.head_norms else "attn_q"
        for name in [f"blk.{i}.{kind}.weight" for i in range(sizes.n_layers)]:
            found[name] = _changed(found[name], lambda x: x * np.float32(score_factor))
    return found


def _changed(tensor: Tensor, change: Callable[[Floats], Floats]) -> Tensor:
    return Tensor(tensor.shape, lambda first, count: change(tensor.rows(first, count)))


def interleave(sizes: Sizes, tensors: dict[str, Tensor]) -> None:
    """Makes halves of heads, as RoPE turns them in the source, to neighbours, as it does in GGUF."""
    for i in range(sizes.n_layers):
        for kind, heads in (("q", sizes.n_heads), ("k", sizes.n_kv_heads)):
            name = f"blk.{i}.attn_{kind}.weight"
            tensors[name] = _interleaved(tensors[name], heads)


def _interleaved(tensor: Tensor, heads: int) -> Tensor:
    """Rows in the order that makes neighbours of what RoPE rotates together, as llama.cpp's converter has it for
    llamas."""
    rows = tensor.matrix[0]
    order = np.arange(rows).reshape(heads, 2, -1).swapaxes(1, 2).reshape(-1)

    def permuted(first: int, count: int) -> Floats:
        wanted = order[first : first + count]
        low, high = int(wanted.min()), int(wanted.max())
        return tensor.rows(low, high - low + 1)[wanted - low]

    return Tensor(tensor.shape, permuted)
