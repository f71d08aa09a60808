"""A model in numpy on many tokens at once: what goes into each matrix, for calibration.

Shapes in comments: W windows, T tokens of each, H heads, D values of a head."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf.quants import dequantize

from . import planner
from .errors import BadInput
from .source import GEMMAS, HEAD_NORMS, POST_NORMS, ROPE_FACTORS, Sizes
from .tokens import field, open_gguf

Floats = npt.NDArray[np.float32]
Seen = Callable[[str, Floats], None]  # a matrix's name, its inputs (n, cols)


class Forward:
    """weights: by their names in GGUF; may be changed between runs."""

    def __init__(self, weights: dict[str, Floats], sizes: Sizes) -> None:
        self.weights = weights
        self.architecture = sizes.architecture
        self.layers, self.heads, self.kv_heads = sizes.n_layers, sizes.n_heads, sizes.n_kv_heads
        self.eps, self.context, self.head_dim = sizes.eps, sizes.context, sizes.head_dim
        self.output = "output.weight" if "output.weight" in weights else "token_embd.weight"
        self.sizes = sizes
        dims = sizes.rope_dims or sizes.head_dim
        exponents = -np.arange(0, dims, 2) / dims
        self.freqs = sizes.rope_base**exponents / sizes.rope_scale / weights.get(ROPE_FACTORS, 1)
        scale = 1.0 if self.architecture == "gemma3" else sizes.rope_scale
        self.window_freqs = sizes.window_rope_base**exponents / scale

    @classmethod
    def of_file(cls, path: Path) -> "Forward":
        """A model from a GGUF file of types that llama.cpp knows."""
        reader = open_gguf(path)
        kind = field(reader, "general.architecture")
        known: tuple[str, ...] = planner.device("portable").llama.ARCHITECTURES
        if kind not in known:
            raise BadInput(f"{path}: general.architecture {kind!r} is not supported: only {', '.join(known)}")
        weights = {t.name: dequantize(t.data, t.tensor_type).astype(np.float32) for t in reader.tensors}

        def get(key: str, default: float | str | None = None) -> float:
            value = field(reader, f"{kind}.{key}", default)
            return float(value[0] if isinstance(value, list) else value)

        scaled = field(reader, f"{kind}.rope.scaling.type", "linear") == "linear"
        base = get("rope.freq_base", 10000.0)
        capped = kind == "gemma2"
        heads = int(get("attention.head_count"))
        vocab, dim = weights["token_embd.weight"].shape
        sizes = Sizes(
            dim=dim,
            hidden_dim=len(weights["blk.0.ffn_gate.weight"]),
            n_layers=int(get("block_count")),
            n_heads=heads,
            n_kv_heads=int(get("attention.head_count_kv", heads)),
            vocab_size=vocab,
            context=int(get("context_length")),
            rope_base=base,
            rope_scale=(scaled and get("rope.scaling.factor", 1.0)) or 1.0,
            rope_dims=int(get("rope.dimension_count", 0)),
            eps=get("attention.layer_norm_rms_epsilon", 1e-5),
            architecture=kind,
            head_size=len(weights["blk.0.attn_q.weight"]) // heads,
            window=int(get("attention.sliding_window", 4096 if capped else 0)) if kind in POST_NORMS else 0,
            window_period=int(get("attention.sliding_window_pattern", 2 if capped else 6)),
            window_rope_base=get("rope.freq_base_swa", base if capped else 10000.0),
            score_cap=get("attn_logit_softcapping", 50.0) if capped else 0.0,
            logit_cap=get("final_logit_softcapping", 30.0) if capped else 0.0,
        )
        return cls(weights, sizes)

    def run(self, tokens: npt.NDArray[np.int64], seen: Seen | None = None) -> Floats:
        """Logits (W, T, vocab) after each of tokens (W, T)."""
        x = self.weights["token_embd.weight"][tokens]
        gemma = self.architecture in GEMMAS
        if gemma:
            x = x * np.float32(np.sqrt(x.shape[-1]))
        positions = np.arange(tokens.shape[1])
        ahead = positions[None] - positions[:, None]
        for i in range(self.layers):
            block = f"blk.{i}."
            h = self._norm(x, block + "attn_norm")
            q, k, v = (self._product(block + f"attn_{name}", h, seen) for name in "qkv")
            windowed = self.sizes.windowed(i)
            freqs = self.window_freqs if windowed else self.freqs
            turns = np.exp(1j * np.outer(positions, freqs)).astype(np.complex64)
            hidden = (ahead > 0) | (windowed & (ahead <= -self.sizes.window))
            h = self._product(block + "attn_output", self._attention(block, q, k, v, turns, hidden), seen)
            x = x + self._post_norm(h, block + "post_attention_norm")
            h = self._norm(x, block + "ffn_norm")
            gate = self._product(block + "ffn_gate", h, seen)
            up = self._product(block + "ffn_up", h, seen)
            z = gate  # SwiGLU; of a gemma GeGLU, where tanh makes the sigmoid of more
            if gemma:
                z = np.float32(2 * np.sqrt(2 / np.pi)) * (gate + np.float32(0.044715) * gate**3)
            h = self._product(block + "ffn_down", gate / (1 + np.exp(-z)) * up, seen)
            x = x + self._post_norm(h, block + "post_ffw_norm")
        logits = self._product(self.output.removesuffix(".weight"), self._norm(x, "output_norm"), seen)
        return _capped(logits, self.sizes.logit_cap)

    def _norm(self, x: Floats, name: str) -> Floats:
        scaled: Floats = x / np.sqrt(np.mean(x * x, -1, keepdims=True) + np.float32(self.eps))
        scaled *= self.weights[name + ".weight"]
        return scaled

    def _post_norm(self, x: Floats, name: str) -> Floats:
        return self._norm(x, name) if self.architecture in POST_NORMS else x

    def _product(self, name: str, x: Floats, seen: Seen | None) -> Floats:
        if seen:
            seen(name + ".weight", x.reshape(-1, x.shape[-1]))
        y: Floats = x @ self.weights[name + ".weight"].T
        bias = self.weights.get(name + ".bias")
        return y if bias is None else y + bias

    def _attention(
        self,
        block: str,
        q: Floats,
        k: Floats,
        v: Floats,
        turns: npt.NDArray[np.complex64],
        hidden: npt.NDArray[np.bool_],
    ) -> Floats:
        def split(x: Floats, heads: int) -> Floats:  # (W, H, T, D)
            return x.reshape(*x.shape[:2], heads, self.head_dim).transpose(0, 2, 1, 3)

        group = self.heads // self.kv_heads  # neighbouring query heads share keys and values
        q, k = split(q, self.heads), split(k, self.kv_heads)
        if self.architecture in HEAD_NORMS:
            q, k = self._norm(q, block + "attn_q_norm"), self._norm(k, block + "attn_k_norm")
        q, k = self._rope(q, turns), self._rope(k, turns).repeat(group, 1)
        v = split(v, self.kv_heads).repeat(group, 1)
        scores = _capped(q @ k.swapaxes(2, 3) / np.float32(np.sqrt(self.head_dim)), self.sizes.score_cap)
        scores[..., hidden] = -np.inf
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        mixed: Floats = scores @ v
        return mixed.transpose(0, 2, 1, 3).reshape(len(q), q.shape[2], -1)

    def _rope(self, x: Floats, turns: npt.NDArray[np.complex64]) -> Floats:
        half = turns.shape[1]
        if self.architecture == "llama":  # neighbours are turned together
            first, second = slice(0, 2 * half, 2), slice(1, 2 * half, 2)
        else:
            first, second = slice(0, half), slice(half, 2 * half)
        pairs = (x[..., first] + 1j * x[..., second]) * turns
        turned = x.copy()
        turned[..., first], turned[..., second] = pairs.real, pairs.imag
        return turned


def _capped(x: Floats, cap: float) -> Floats:
    return np.float32(cap) * np.tanh(x / np.float32(cap)) if cap else x
