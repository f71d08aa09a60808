"""A llama as a module of PyTorch, with the names and the arithmetic of Hugging Face's or of llama2.c's."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402


class Norm(nn.Module):
    def __init__(self, dim, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(dim)), eps

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))


def linear(rows, cols):
    return nn.Linear(cols, rows, bias=False)


class Attention(nn.Module):
    """Hugging Face's: RoPE rotates the halves of a head."""

    def __init__(self, dim, heads, kv_heads, head_dim, fused):
        super().__init__()
        self.heads, self.kv_heads, self.head_dim, self.fused = heads, kv_heads, head_dim, fused
        q_dim, kv_dim = (n * (head_dim or dim // heads) for n in (heads, kv_heads))
        self.q_proj, self.o_proj = linear(q_dim, dim), linear(dim, q_dim)
        self.k_proj, self.v_proj = linear(kv_dim, dim), linear(kv_dim, dim)

    def forward(self, x, cos, sin):
        q, k = (
            self.rope(self.split(p(x), n), cos, sin)
            for p, n in ((self.q_proj, self.heads), (self.k_proj, self.kv_heads))
        )
        v = self.split(self.v_proj(x), self.kv_heads)
        k, v = (t.repeat_interleave(self.heads // self.kv_heads, 1) for t in (k, v))
        if self.fused:
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            scores = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
            mask = torch.full(scores.shape[-2:], -1e30).triu(1)
            mixed = torch.softmax(scores + mask, -1) @ v
        return self.o_proj(mixed.transpose(1, 2).flatten(2))

    def split(self, x, heads):
        """As transformers does it where heads have a size of their own, else as llama2.c."""
        shape = (-1, self.head_dim) if self.head_dim else (heads, -1)
        return x.view(*x.shape[:2], *shape).transpose(1, 2)

    def rope(self, x, cos, sin):
        a, b = x.chunk(2, -1)
        return x * torch.cat((cos, cos), -1) + torch.cat((-b, a), -1) * torch.cat((sin, sin), -1)


class Pairs(Attention):
    """llama2.c's: RoPE rotates neighbouring pairs."""

    def rope(self, x, cos, sin):
        a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
        return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


KINDS = {"Attention": Attention, "Pairs": Pairs}


class Mlp(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = linear(hidden, dim), linear(hidden, dim), linear(dim, hidden)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, attention, dim, heads, kv_heads, head_dim, hidden, eps, fused):
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = Norm(dim, eps), Norm(dim, eps)
        self.self_attn, self.mlp = attention(dim, heads, kv_heads, head_dim, fused), Mlp(dim, hidden)

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    """fused: attention is one operator of PyTorch."""

    def __init__(
        self, attention="Attention", dim=64, layers=2, heads=4, kv_heads=2, hidden=96, vocab=288, eps=1e-5, base=1e4,
        tied=True, fused=False, head_dim=None,
    ):  # fmt: skip
        super().__init__()
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(vocab, dim)
        self.model.layers = nn.ModuleList(
            Layer(KINDS[attention], dim, heads, kv_heads, head_dim, hidden, eps, fused) for _ in range(layers)
        )
        self.model.norm = Norm(dim, eps)
        self.lm_head = linear(vocab, dim)
        if tied:
            self.lm_head.weight = self.model.embed_tokens.weight
        half = (head_dim or dim // heads) // 2
        self.register_buffer("inv_freq", base ** (-torch.arange(half) / half), persistent=False)

    def forward(self, input_ids):
        angles = torch.arange(input_ids.shape[1])[:, None] * self.inv_freq
        cos, sin = angles.cos(), angles.sin()
        x = self.model.embed_tokens(input_ids)
        for layer in self.model.layers:
            x = layer(x, cos, sin)
        return self.lm_head(self.model.norm(x))


def load(model, state):
    model.load_state_dict({name: torch.tensor(np.array(data)) for name, data in state.items()}, strict=False)
    return model.eval()
