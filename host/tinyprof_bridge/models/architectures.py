"""What each model architecture has that a plain llama does not: the device package's table, and facts of importers.

device/tinyprof/architectures.py explains the words of its table. Facts that only importers need stand here, since a
board would keep them in RAM."""

from dataclasses import dataclass
from typing import Any

from .. import device_package

_GELU = "gelu_pytorch_tanh"


@dataclass(frozen=True)
class Architecture:
    """One line of the device's table, with its words as fields, and what importers need.

    name: general.architecture in GGUF; period: every period-th layer sees all positions, 1: the architecture has no
    windows; window, score_cap, logit_cap: where a file does not say them, 0 for none; other: with this number of
    layers llama.cpp scales attention in another way, which is not supported.

    Host only: norm_offset: modules hold the weights of norms minus this; always_tied: output and embedding are the
    same tensor."""

    name: str
    rope_factors: int = 0
    halves: int = 0
    qkv_biases: int = 0
    head_norms: int = 0
    post_norms: int = 0
    embed_scale: int = 0
    gelu: int = 0
    local_rope: int = 0
    period: int = 1
    window: int = 0
    other: int = 0
    score_cap: int = 0
    logit_cap: int = 0
    norm_offset: int = 0
    always_tied: bool = False

    @property
    def windows(self) -> bool:
        """Whether some layers have windows."""
        return self.period > 1


@dataclass(frozen=True)
class ModelType:
    """A model_type of Hugging Face's transformers, and what its config.json leaves out.

    architecture: in GGUF; head_dim: values of a head, 0: hidden_size / num_attention_heads; activations: names that
    hidden_act may have; rope_base: of RoPE; window: positions of a window; window_limits_context: a window is in
    every layer, so positions beyond it are left out."""

    architecture: str
    head_dim: int = 0
    activations: tuple[str, ...] = ("silu", "swish")
    rope_base: float = 10000.0
    window: int = 0
    window_limits_context: bool = False

    @property
    def traits(self) -> Architecture:
        return ARCHITECTURES[self.architecture]


_HOST_ONLY: dict[str, dict[str, Any]] = {
    name: {"norm_offset": 1, "always_tied": True} for name in ("gemma", "gemma2", "gemma3")
}


def _read(line: str) -> Architecture:
    """An architecture by its line in the device's table."""
    name, *words = line.split()
    pairs = (word.partition("=") for word in words)
    traits: dict[str, Any] = {key: int(value or 1) for key, _, value in pairs}
    return Architecture(name, **traits, **_HOST_ONLY.get(name, {}))


ARCHITECTURES = {a.name: a for a in map(_read, device_package.data("architectures").ARCHITECTURES.split("\n"))}
MODEL_TYPES = {
    "llama": ModelType("llama"),
    "mistral": ModelType("llama", window_limits_context=True),
    "qwen2": ModelType("qwen2"),
    "qwen3": ModelType("qwen3", head_dim=128),
    "gemma": ModelType("gemma", head_dim=256, activations=(_GELU, "gelu")),  # which both mean GELU with tanh
    "gemma2": ModelType("gemma2", head_dim=256, activations=(_GELU,), window=4096),
    "gemma3_text": ModelType("gemma3", head_dim=256, activations=(_GELU,), window=4096, rope_base=1e6),
}
