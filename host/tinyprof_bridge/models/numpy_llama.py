"""The supported architectures in numpy, on many tokens at once: the reference for imports and calibration.

Shapes: W windows of T tokens each, H heads of D values. Formulas as in llama.cpp's llama-model.cpp."""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from .source import Floats, Sizes, Tensor

Seen = Callable[[str, Floats], None]  # is called with a matrix's name and its inputs (n, cols)


class Forward:
    """The forward pass of a model, in float32 and without a KV cache."""

    def __init__(self, tensors: Mapping[str, Tensor], sizes: Sizes) -> None:
        """tensors: by GGUF name, as in Source; all are read into memory."""
        self.weights = {name: tensor.whole() for name, tensor in tensors.items()}
        self.sizes, self.traits = sizes, sizes.traits
        self.output = "output.weight" if "output.weight" in tensors else "token_embd.weight"
        dims = sizes.rope_dims or sizes.head_dim
        exponents = -np.arange(0, dims, 2) / dims
        freqs = sizes.rope_base**exponents / sizes.rope_scale / np.array(sizes.rope_factors or 1)
        scale = 1.0 if self.traits.local_rope else sizes.rope_scale
        self.freqs = freqs, sizes.window_rope_base**exponents / scale  # of global layers, of layers with a window

    def run(self, tokens: npt.NDArray[np.int64], seen: Seen | None = None) -> Floats:
        """Returns the logits (W, T, vocab) after each token.

        tokens: (W, T); each window starts at position 0.
        seen: is called with the inputs of each matrix product."""
        x = self.weights["token_embd.weight"][tokens]
        if self.traits.embed_scale:
            x = x * np.float32(np.sqrt(x.shape[-1]))
        tables = self._tables(tokens.shape[1])
        for i in range(self.sizes.n_layers):
            block = f"blk.{i}."
            h = self._norm(x, block + "attn_norm")
            q, k, v = (self._product(block + f"attn_{name}", h, seen) for name in "qkv")
            h = self._attention(block, q, k, v, *tables[self.sizes.windowed(i)])
            h = self._product(block + "attn_output", h, seen)
            x = x + self._post_norm(h, block + "post_attention_norm")
            h = self._norm(x, block + "ffn_norm")
            gate = self._product(block + "ffn_gate", h, seen)
            up = self._product(block + "ffn_up", h, seen)
            z = gate  # SwiGLU: SiLU is gate * sigmoid(gate)
            if self.traits.gelu:  # GeGLU: its tanh is rewritten as a sigmoid of z
                z = np.float32(2 * np.sqrt(2 / np.pi)) * (gate + np.float32(0.044715) * gate**3)
            h = self._product(block + "ffn_down", gate / (1 + np.exp(-z)) * up, seen)
            x = x + self._post_norm(h, block + "post_ffw_norm")
        logits = self._product(self.output.removesuffix(".weight"), self._norm(x, "output_norm"), seen)
        return _capped(logits, self.sizes.logit_cap)

    def _tables(self, count: int) -> list[tuple[npt.NDArray[np.complex64], npt.NDArray[np.bool_]]]:
        """For global layers and for layers with a window: RoPE's rotation of each position as complex numbers
        (T, pairs), and the mask (T, T) that is true where attention does not look."""
        positions = np.arange(count)
        ahead = positions[None] - positions[:, None]
        hidden = (ahead > 0, (ahead > 0) | (ahead <= -self.sizes.window))
        turns = [np.exp(1j * np.outer(positions, freqs)).astype(np.complex64) for freqs in self.freqs]
        return list(zip(turns, hidden, strict=True))

    def _norm(self, x: Floats, name: str) -> Floats:
        scaled: Floats = x / np.sqrt(np.mean(x * x, -1, keepdims=True) + np.float32(self.sizes.eps))
        scaled *= self.weights[name + ".weight"]
        return scaled

    def _post_norm(self, x: Floats, name: str) -> Floats:
        return self._norm(x, name) if self.traits.post_norms else x

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
            return x.reshape(*x.shape[:2], heads, self.sizes.head_dim).transpose(0, 2, 1, 3)

        heads, kv_heads = self.sizes.n_heads, self.sizes.n_kv_heads
        group = heads // kv_heads  # consecutive query heads that share keys and values
        q, k = split(q, heads), split(k, kv_heads)
        if self.traits.head_norms:
            q, k = self._norm(q, block + "attn_q_norm"), self._norm(k, block + "attn_k_norm")
        q, k = self._rope(q, turns), self._rope(k, turns).repeat(group, 1)
        v = split(v, kv_heads).repeat(group, 1)
        scores = _capped(q @ k.swapaxes(2, 3) / np.float32(np.sqrt(self.sizes.head_dim)), self.sizes.score_cap)
        scores[..., hidden] = -np.inf
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        mixed: Floats = scores @ v
        return mixed.transpose(0, 2, 1, 3).reshape(len(q), q.shape[2], -1)

    def _rope(self, x: Floats, turns: npt.NDArray[np.complex64]) -> Floats:
        half = turns.shape[1]
        if self.traits.halves:  # a pair is one value of each half of a head
            first, second = slice(0, half), slice(half, 2 * half)
        else:  # a pair is two neighbouring values
            first, second = slice(0, 2 * half, 2), slice(1, 2 * half, 2)
        pairs = (x[..., first] + 1j * x[..., second]) * turns
        turned = x.copy()
        turned[..., first], turned[..., second] = pairs.real, pairs.imag
        return turned


def _capped(x: Floats, cap: float) -> Floats:
    return np.float32(cap) * np.tanh(x / np.float32(cap)) if cap else x
