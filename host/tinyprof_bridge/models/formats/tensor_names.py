"""Maps tensors with Hugging Face's or Meta's names (llama2.c uses Meta's) to GGUF's names, order of rows and values."""

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
# Wrappers add prefixes: torch.compile, Lightning, modules that contain the model.
_LAYER = re.compile(r"(?:.*\.)?layers\.(0|[1-9]\d{0,3})\.(.+)")
# tables that the model computes, not weights
_TABLES = re.compile(r"(.*\.)?(rotary_emb\.inv_freq|rope\.freqs|freqs_cos|freqs_sin|freqs_cis)")


def is_table(name: str) -> bool:
    """Returns whether a tensor is a table of RoPE."""
    return _TABLES.fullmatch(name) is not None


def is_scale(name: str) -> bool:
    """Returns whether a tensor is the scale of Gemma's embeddings, which follows from the model's sizes."""
    return name.endswith("embed_tokens.embed_scale")


def halves(names: list[str]) -> bool:
    """Returns whether RoPE pairs the two halves of a head, as in Hugging Face's modules; else neighbouring values.

    names: of the model's tensors in the source."""
    return any(".self_attn." in name for name in names)


def gguf_name(name: str, architecture: str = "llama") -> str | None:
    """Returns the GGUF name of a tensor; None if its name is unknown.

    name: in the source, with any prefix.
    architecture: as GGUF names it."""
    stem, _, kind = name.rpartition(".")
    if match := _LAYER.fullmatch(stem):
        hugging_face = _HUGGING_FACE | (_POST_NORMS if ARCHITECTURES[architecture].post_norms else {})
        known = hugging_face.get(match[2]) or _META.get(match[2])
        known = known and f"blk.{match[1]}.{known}"
    else:
        known = _ENDS.get(stem.rpartition(".")[2])
    return f"{known}.{kind}" if known and kind in ("weight", "bias") else None


def to_gguf(path: Path, sizes: Sizes, tensors: dict[str, Tensor], tied: bool, score_factor: float) -> dict[str, Tensor]:
    """Returns the tensors by GGUF name, with rows and values as llama.cpp's convert_hf_to_gguf.py changes them.

    path: for error messages.
    tensors: by their names in the source.
    tied: whether the output shares the embedding's weights.
    score_factor: factor of attention scores relative to the usual scaling by 1 / √head_dim.
    Raises BadInput if a tensor is missing, unknown or of the wrong shape."""
    found: dict[str, Tensor] = {}
    shapes = sizes.tensors()
    for name, tensor in tensors.items():
        if is_table(name):
            continue
        known = gguf_name(name, sizes.architecture)
        if known is None or known not in shapes:
            raise BadInput(f"{path}: tensor {name[:128]!r} is not supported by boards; take another model")
        if known in found:
            raise BadInput(f"{path}: tensor {known} occurs twice, again as {name[:128]!r}; save the model again")
        found[known] = tensor
    if tied:
        found.pop("output.weight", None)
    elif "output.weight" not in found:
        raise BadInput(
            f"{path}: the output's weights (lm_head.weight) are missing; set tie_word_embeddings in config.json if the"
            " output is tied, else copy the model again"
        )
    found = complete(path, sizes, found)
    if not sizes.traits.halves and halves(list(tensors)):
        interleave(sizes, found)
    if offset := sizes.traits.norm_offset:  # Gemma's modules store a norm's weights minus 1
        found |= {
            name: _changed(tensor, lambda x: x + np.float32(offset))
            for name, tensor in found.items()
            if name.endswith("_norm.weight")
        }
    if score_factor != 1:  # multiply it into the last weights that the queries pass
        kind = "attn_q_norm" if sizes.traits.head_norms else "attn_q"
        for name in [f"blk.{i}.{kind}.weight" for i in range(sizes.n_layers)]:
            found[name] = _changed(found[name], lambda x: x * np.float32(score_factor))
    return found


def _changed(tensor: Tensor, change: Callable[[Floats], Floats]) -> Tensor:
    return Tensor(tensor.shape, lambda first, count: change(tensor.rows(first, count)))


def interleave(sizes: Sizes, tensors: dict[str, Tensor]) -> None:
    """Reorders the rows of attn_q and attn_k so that RoPE's pairs are neighbours, as GGUF's llama has them.

    tensors: by GGUF name; changed in place."""
    for i in range(sizes.n_layers):
        for kind, heads in (("q", sizes.n_heads), ("k", sizes.n_kv_heads)):
            name = f"blk.{i}.attn_{kind}.weight"
            tensors[name] = _interleaved(tensors[name], heads)


def _interleaved(tensor: Tensor, heads: int) -> Tensor:
    """The tensor with reordered rows, as `permute` of llama.cpp's converter does for llama."""
    rows = tensor.matrix[0]
    order = np.arange(rows).reshape(heads, 2, -1).swapaxes(1, 2).reshape(-1)

    def permuted(first: int, count: int) -> Floats:
        wanted = order[first : first + count]
        low, high = int(wanted.min()), int(wanted.max())
        return tensor.rows(low, high - low + 1)[wanted - low]

    return Tensor(tensor.shape, permuted)
