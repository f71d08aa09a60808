"""Reads Hugging Face's config.json: the sizes of a model, after a check that boards support all its features.

Keys and defaults are those of transformers' configuration classes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from ...errors import BadInput, plain
from ..architectures import MODEL_TYPES, ModelType
from ..source import MOST, Sizes, read_json
from .rope import llama3_factors

CONFIG_LIMIT = 1 << 20
# Why a model_type is not supported.
LACKING = {
    "gemma3": "it takes images; use its text model, gemma3_text",
    "mixtral": "it is a mixture of experts; use a dense model",
    "phi3": "its projections are fused; use another model",
}


class Rope(BaseModel):
    """RoPE's parameters in config.json, under rope_scaling or rope_parameters."""

    model_config = ConfigDict(extra="ignore")
    rope_type: str | None = None
    type: str | None = None
    factor: float = 1.0
    rope_theta: float | None = None
    low_freq_factor: float = 0.0
    high_freq_factor: float = 0.0
    original_max_position_embeddings: int = 0
    full_attention: "Rope | None" = None  # gemma3 has one for each kind of layer
    sliding_attention: "Rope | None" = None

    @property
    def kind(self) -> str:
        """Name of the scaling; "default" for none."""
        return self.rope_type or self.type or "default"


class Config(BaseModel):
    """Content of config.json, with transformers' defaults for missing keys."""

    model_config = ConfigDict(extra="ignore")
    model_type: str
    hidden_size: int = Field(gt=0, le=MOST)
    intermediate_size: int = Field(gt=0, le=MOST)
    num_hidden_layers: int = Field(gt=0, le=4096)
    num_attention_heads: int = Field(gt=0, le=MOST)
    num_key_value_heads: int | None = Field(None, gt=0, le=MOST)
    head_dim: int | None = Field(None, gt=0, le=4096)
    vocab_size: int = Field(gt=0, le=MOST)
    max_position_embeddings: int = Field(2048, gt=0, le=MOST)
    rms_norm_eps: float = Field(1e-6, gt=1e-37, lt=1)
    rope_theta: float | None = None
    rope_scaling: Rope | None = None
    rope_parameters: Rope | None = None
    partial_rotary_factor: float = 1.0
    hidden_act: str | None = None
    hidden_activation: str | None = None
    attention_bias: bool = False
    mlp_bias: bool = False
    sliding_window: int | None = Field(None, le=MOST)
    layer_types: list[str] | None = None
    sliding_window_pattern: int | None = Field(
        None, gt=0, le=MOST, validation_alias=AliasChoices("sliding_window_pattern", "_sliding_window_pattern")
    )
    rope_local_base_freq: float = 10000.0
    query_pre_attn_scalar: float = Field(256, ge=2**-10, le=MOST)
    # 0: key is missing; None: no cap
    attn_logit_softcapping: float | None = 0.0
    final_logit_softcapping: float | None = 0.0
    use_sliding_window: bool | None = None
    use_bidirectional_attention: bool | None = None
    tie_word_embeddings: bool | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    quantization_config: dict[str, Any] | None = None

    @property
    def kind(self) -> ModelType:
        return MODEL_TYPES[self.model_type]

    @property
    def tied(self) -> bool:
        """Whether the output shares the embedding's weights."""
        return self.kind.traits.always_tied if self.tie_word_embeddings is None else self.tie_word_embeddings

    @property
    def eos(self) -> int | None:
        """Number of the EOS token, the first one of a list; None if there is none."""
        if isinstance(self.eos_token_id, list):
            return self.eos_token_id[0] if self.eos_token_id else None
        return self.eos_token_id


def read_config(path: Path) -> Config:
    """Returns the content of a config.json. Raises BadInput if it is missing, damaged, or of an unsupported type."""
    if not path.exists():
        raise BadInput(f"{path.parent}: not a model folder; it needs a config.json and safetensors files")
    given = read_json(path, CONFIG_LIMIT)
    kind = plain(str(given.get("model_type")))[:32]
    if kind not in MODEL_TYPES:  # checked first, as other models name their keys differently
        why = LACKING.get(kind, f"only {', '.join(MODEL_TYPES)} are")
        raise BadInput(f"{path}: model_type {kind!r} is not supported: {why}")
    try:
        return Config.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise BadInput(f"{path}: {plain(f'{place}: ' if place else '')[:64]}{plain(first['msg'])[:200]}") from None


def sizes_of(path: Path, config: Config) -> Sizes:
    """Returns the sizes of a model.

    path: of config.json, for error messages.
    Raises BadInput if boards do not support a feature of the model, or a value is out of range."""
    both = config.rope_parameters or config.rope_scaling or Rope()
    rope = both.full_attention or both
    local = both.sliding_attention or Rope(rope_theta=config.rope_local_base_freq)
    kind = rope.kind
    traits = config.kind.traits
    scalings = ("default", "linear", "llama3") if traits.rope_factors else ("default", "linear")
    heads = config.num_attention_heads
    caps = (config.attn_logit_softcapping, config.final_logit_softcapping)
    if traits.score_cap:
        usual = all(cap == 0 or (cap is not None and 2**-10 <= cap <= 2**20) for cap in caps)
    else:
        usual = not any(caps)
    activation = plain((config.hidden_activation if traits.windows else config.hidden_act) or "")[:32]
    for wrong, what in (
        (config.quantization_config is not None, "weights that are already quantized; take the original model"),
        (
            activation not in ("", *config.kind.activations),
            f"hidden_act {activation!r}",
        ),
        (bool(config.use_bidirectional_attention), "use_bidirectional_attention"),
        (traits.always_tied and not config.tied, "a gemma whose output is not tied"),
        (both.sliding_attention is not None and not traits.local_rope, "RoPE of two kinds"),
        (local.kind != "default", f"rope scaling {plain(local.kind)[:32]!r} in layers with a sliding window"),
        (not usual, f"attn_logit_softcapping {caps[0]} with final_logit_softcapping {caps[1]}"),
        (config.attention_bias, "attention_bias"),
        (config.mlp_bias, "mlp_bias"),
        (config.partial_rotary_factor != 1, "partial_rotary_factor"),
        (kind not in scalings, f"rope scaling {plain(kind)[:32]!r}"),
    ):
        if wrong:
            raise BadInput(f"{path}: not supported: {what}")
    base = config.rope_theta if rope.rope_theta is None else rope.rope_theta
    base = config.kind.rope_base if base is None else base
    context = config.max_position_embeddings
    # Up to the window's length, attention with a window is full attention. Qwen uses its window only on request.
    if config.sliding_window and (config.use_sliding_window or config.kind.window_limits_context):
        context = min(context, config.sliding_window)
    sizes = Sizes(
        dim=config.hidden_size,
        hidden_dim=config.intermediate_size,
        n_layers=config.num_hidden_layers,
        n_heads=heads,
        n_kv_heads=config.num_key_value_heads or heads,
        vocab_size=config.vocab_size,
        context=context,
        rope_base=base,
        rope_scale=rope.factor if kind == "linear" else 1.0,
        eps=config.rms_norm_eps,
        architecture=config.kind.architecture,
        head_size=config.head_dim or config.kind.head_dim,
    )
    if traits.windows:
        sizes = replace(
            sizes,
            window=config.sliding_window or config.kind.window,
            window_period=_period(path, config),
            window_rope_base=(local.rope_theta or 10000.0) if traits.local_rope else base,
        )
    if traits.score_cap:
        score_cap = config.attn_logit_softcapping or float(traits.score_cap)
        logit_cap = config.final_logit_softcapping or float(traits.logit_cap)
        sizes = replace(sizes, score_cap=score_cap, logit_cap=logit_cap)
    if fault := sizes.fault():
        raise BadInput(f"{path}: {fault}")
    for name, value, least, most in (
        ("rope_theta", base, 1, 1e38),
        ("rope_theta of layers with a sliding window", sizes.window_rope_base, 1, 1e38),
        ("factor of rope scaling", rope.factor, 2**-10, 2**20),
    ):
        if not least <= value <= most:
            raise BadInput(f"{path}: {name} is {value}, outside {least:g} to {most:g}; copy the file again")
    return replace(sizes, rope_factors=_llama3_factors(path, rope, base, sizes.head_dim)) if kind == "llama3" else sizes


def score_factor(config: Config, sizes: Sizes) -> float:
    """Returns the factor of attention scores relative to the usual scaling by 1 / √head_dim."""
    return (sizes.head_dim / config.query_pre_attn_scalar) ** 0.5 if config.kind.traits.windows else 1.0


def _period(path: Path, config: Config) -> int:
    """The period of the layers without a window."""
    if config.layer_types is None:
        return config.sliding_window_pattern or config.kind.traits.period
    period = [*config.layer_types, "full_attention"].index("full_attention") + 1
    kinds = ["sliding_attention" if (i + 1) % period else "full_attention" for i in range(config.num_hidden_layers)]
    if config.layer_types != kinds:
        raise BadInput(f"{path}: not supported: layer_types in which full_attention does not come at a fixed interval")
    return period


def _llama3_factors(path: Path, rope: Rope, base: float, dims: int) -> tuple[float, ...]:
    low, high, context = rope.low_freq_factor, rope.high_freq_factor, rope.original_max_position_embeddings
    if not 0 < low < high < MOST or not 0 < context <= MOST:
        raise BadInput(
            f"{path}: rope scaling 'llama3' has unusable numbers: low_freq_factor {low}, high_freq_factor {high} and"
            f" original_max_position_embeddings {context}; copy the file again"
        )
    return tuple(llama3_factors(dims, base, rope.factor, low, high, context).tolist())
