"""A llama, or a model like it, in numpy, to check results against. Shares no code with what it checks.

Reads a GGUF file with the gguf package. Written from llama2.c's run.c and the papers; names in
shapes: T positions so far, H heads, K key-value heads, D values of a head.
"""

from itertools import pairwise

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, TokenType
from gguf.quants import dequantize

FLOATS = (GGMLQuantizationType.F32, GGMLQuantizationType.F16, GGMLQuantizationType.BF16)


def metadata(reader, key, default=None):
    field = reader.get_field(key)
    if field is None and default is None:
        raise KeyError(key)
    return default if field is None else field.contents()


def round_q8(x):
    """x (n,) as the kernels see it: int8 times one float scale in each block of 32."""
    blocks = np.asarray(x, np.float32).reshape(-1, 32)
    scale = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
    inverse = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale > 0)
    scaled = blocks * inverse
    q = np.trunc(scaled + np.copysign(np.float32(0.5), scaled)).clip(-127, 127)
    return (q * scale).reshape(-1)


def round_q8_llama_cpp(x):
    """x (n,) as llama.cpp's x86 kernels see it: fp16 scale, halves rounded to even."""
    blocks = np.asarray(x, np.float32).reshape(-1, 32)
    amax = np.abs(blocks).max(axis=1, keepdims=True)
    scale = (amax / np.float32(127)).astype(np.float16).astype(np.float32)
    inverse = np.divide(np.float32(127), amax, out=np.zeros_like(amax), where=amax > 0)
    return (np.rint(blocks * inverse) * scale).reshape(-1)


class Reference:
    """One model and its KV cache.

    act_q8: round the inputs of products with quantized weights to 8 bits: True as our kernels
        do, "llama.cpp" as it does.
    dtype: of all arithmetic.

    With act_q8 a difference in the last bit can push an input over the edge to the next of 255
    values, and from there on logits differ visibly: those of stories260K, in -20..22, by up to
    0.5 between float32 and float64. So compare the first positions closely and later ones
    loosely, each with the tokens given.
    """

    def __init__(self, path, act_q8=False, dtype=np.float64):
        self.reader = GGUFReader(path)
        self.act_q8, self.dtype = act_q8, dtype
        self.architecture = metadata(self.reader, "general.architecture")
        if self.architecture not in ("llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3"):
            raise ValueError(f"architecture {self.architecture}")
        self.layers = self.get("block_count")
        self.heads = self.get("attention.head_count")
        self.kv_heads = self.get("attention.head_count_kv", self.heads)
        self.post_norms = self.architecture in ("gemma2", "gemma3")
        self.eps = dtype(self.get("attention.layer_norm_rms_epsilon"))
        self.context = self.get("context_length")
        self.weights = {t.name: dequantize(t.data, t.tensor_type).astype(dtype) for t in self.reader.tensors}
        self.quantized = {t.name for t in self.reader.tensors if t.tensor_type not in FLOATS}
        self.check_names()
        self.output = "output.weight" if "output.weight" in self.weights else "token_embd.weight"
        self.vocab = self.weights[self.output].shape[0]
        self.head_dim = self.weights["blk.0.attn_q.weight"].shape[0] // self.heads
        self.freqs = self.rope_freqs()
        self.window = self.get("attention.sliding_window", 0) if self.post_norms else 0
        self.period = self.get("attention.sliding_window_pattern", 0) if self.window else 1
        self.window_freqs = self.freqs
        if self.architecture == "gemma3":
            self.window_freqs = self.get("rope.freq_base_swa", 10000.0) ** (
                -np.arange(len(self.freqs)) / len(self.freqs)
            )
        shape = (self.layers, self.context, self.kv_heads, self.head_dim)
        self.keys, self.values = np.zeros(shape, dtype), np.zeros(shape, dtype)

    def get(self, key, default=None):
        return metadata(self.reader, f"{self.architecture}.{key}", default)

    def check_names(self):
        """A tensor that is not used (a bias) would make all results wrong."""
        kinds = "attn_norm attn_q attn_k attn_v attn_output ffn_norm ffn_gate ffn_down ffn_up"
        known = {f"blk.{i}.{kind}.weight" for i in range(self.layers) for kind in kinds.split()}
        if self.architecture == "qwen2":
            known |= {f"blk.{i}.attn_{kind}.bias" for i in range(self.layers) for kind in "qkv"}
        if self.post_norms:
            known |= {f"blk.{i}.post_{kind}_norm.weight" for i in range(self.layers) for kind in ("attention", "ffw")}
        if self.architecture in ("qwen3", "gemma3"):
            known |= {f"blk.{i}.attn_{kind}_norm.weight" for i in range(self.layers) for kind in "qk"}
        known |= {"token_embd.weight", "output_norm.weight", "output.weight"}
        if wrong := (self.weights.keys() ^ known) - {"output.weight", "rope_freqs.weight"}:
            raise ValueError(f"tensors unknown or missing: {sorted(wrong)}")

    def rope_freqs(self):
        dims = self.get("rope.dimension_count", self.head_dim)
        freqs = float(self.get("rope.freq_base", 10000.0)) ** (-np.arange(0, dims, 2) / dims)
        scaling = self.get("rope.scaling.type", "none")
        if scaling == "linear":
            freqs /= self.get("rope.scaling.factor")
        elif scaling != "none":
            raise ValueError(f"rope scaling {scaling}")
        return freqs / self.weights.get("rope_freqs.weight", 1)

    def windowed(self, layer):
        return self.window > 0 and layer % self.period < self.period - 1

    def capped(self, x, what):
        if self.architecture != "gemma2":
            return x
        cap = self.get(what)
        return cap * np.tanh(x / cap)

    def rope(self, x, pos, freqs):
        """Rotate pairs of each head of x (heads, D): (x[2i], x[2i + 1]) of a llama, else (x[i], x[i + dims / 2])."""
        half = len(freqs)
        i = np.arange(half)
        first, second = (2 * i, 2 * i + 1) if self.architecture == "llama" else (i, i + half)
        pairs = (x[:, first] + 1j * x[:, second]) * np.exp(1j * pos * freqs)
        x = x.copy()
        x[:, first], x[:, second] = pairs.real, pairs.imag
        return x

    def norm(self, x, name):
        return x / np.sqrt(np.mean(x * x) + self.eps) * self.weights[name]

    def product(self, name, x):
        """weights (rows, n) times x (n,)"""
        if self.act_q8 and name in self.quantized:
            rounded = round_q8_llama_cpp if self.act_q8 == "llama.cpp" else round_q8
            x = rounded(x).astype(self.dtype)
        return self.weights[name] @ x

    def attention(self, layer, x, pos):
        """x (dim,), normalized, to (H * D,); remembers this position's key and value."""

        def heads(kind, n):
            y = self.product(f"blk.{layer}.attn_{kind}.weight", x)
            if self.architecture == "qwen2":
                y = y + self.weights[f"blk.{layer}.attn_{kind}.bias"]
            y = y.reshape(n, self.head_dim)
            if self.architecture in ("qwen3", "gemma3") and kind != "v":
                y = np.stack([self.norm(head, f"blk.{layer}.attn_{kind}_norm.weight") for head in y])
            return y

        freqs = self.window_freqs if self.windowed(layer) else self.freqs
        first = max(0, pos + 1 - self.window) if self.windowed(layer) else 0
        self.keys[layer, pos] = self.rope(heads("k", self.kv_heads), pos, freqs)
        self.values[layer, pos] = heads("v", self.kv_heads)
        group = self.heads // self.kv_heads  # neighbouring query heads share keys and values
        k = self.keys[layer, first : pos + 1].repeat(group, axis=1)  # (T, H, D)
        v = self.values[layer, first : pos + 1].repeat(group, axis=1)
        q = self.rope(heads("q", self.heads), pos, freqs)
        scores = np.einsum("hd,thd->ht", q, k) / np.sqrt(self.dtype(self.head_dim))
        scores = self.capped(scores, "attn_logit_softcapping")
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
        return np.einsum("ht,thd->hd", scores, v).reshape(-1)

    def activation(self, x):
        if not self.architecture.startswith("gemma"):
            return x / (1 + np.exp(-x))
        in_fp16 = self.act_q8 == "llama.cpp"  # which has a table of it
        x = x.astype(np.float16).astype(self.dtype) if in_fp16 else x
        y = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
        return y.astype(np.float16).astype(self.dtype) if in_fp16 else y

    def step(self, token, pos):
        """Logits (vocab,) after `token` at `pos`; positions before it must have been run."""
        x = self.weights["token_embd.weight"][token]
        if self.architecture.startswith("gemma"):
            x = x * self.dtype(len(x)) ** 0.5
        for i in range(self.layers):
            block = f"blk.{i}."
            h = self.attention(i, self.norm(x, block + "attn_norm.weight"), pos)
            h = self.product(block + "attn_output.weight", h)
            x = x + (self.norm(h, block + "post_attention_norm.weight") if self.post_norms else h)
            h = self.norm(x, block + "ffn_norm.weight")
            gate = self.product(block + "ffn_gate.weight", h)
            up = self.product(block + "ffn_up.weight", h)
            h = self.product(block + "ffn_down.weight", self.activation(gate) * up)
            x = x + (self.norm(h, block + "post_ffw_norm.weight") if self.post_norms else h)
        logits = self.product(self.output, self.norm(x, "output_norm.weight"))
        return self.capped(logits, "final_logit_softcapping")

    def logits(self, tokens):
        """Logits (n, vocab) after each of n tokens, from position 0."""
        return np.stack([self.step(token, pos) for pos, token in enumerate(tokens)])

    def greedy(self, prompt, steps):
        """prompt and what follows: the model runs `steps` times, each time giving a token.

        As in llama2.c, tokens of the prompt count as steps and a BOS ends the text.
        """
        tokens = list(prompt)
        for pos in range(steps):
            logits = self.step(tokens[pos], pos)
            if pos + 1 == len(tokens):
                token = int(logits.argmax())
                if token == metadata(self.reader, "tokenizer.ggml.bos_token_id"):
                    break
                tokens.append(token)
        return tokens


def encode(reader, text, bos=True):
    """Tokens of text as llama2.c's encode() finds them.

    A space is put before the text; then, as long as there is one, the neighbouring pair whose
    union has the best score (the first of equals) becomes one token. A character that is no
    token becomes its UTF-8 bytes.
    """
    pieces = metadata(reader, "tokenizer.ggml.tokens")
    scores = metadata(reader, "tokenizer.ggml.scores")
    ids = {piece: i for i, piece in enumerate(pieces)}
    tokens = []
    for c in (" " + text if text else "").replace(" ", "▁"):
        tokens += [ids[c]] if c in ids else [ids[f"<0x{b:02X}>"] for b in c.encode()]
    while True:
        pairs = [ids.get(pieces[a] + pieces[b]) for a, b in pairwise(tokens)]
        merges = [(-scores[token], i, token) for i, token in enumerate(pairs) if token is not None]
        if not merges:
            break
        _, i, token = min(merges)
        tokens[i : i + 2] = [token]
    return [metadata(reader, "tokenizer.ggml.bos_token_id")] * bos + tokens


def decode(reader, tokens):
    """Text of tokens as llama2.c prints it, but with nothing for BOS, EOS and unknown.

    A space that begins the token after a BOS is left out.
    """
    pieces = metadata(reader, "tokenizer.ggml.tokens")
    types = metadata(reader, "tokenizer.ggml.token_type")
    bos = metadata(reader, "tokenizer.ggml.bos_token_id")
    out = b""
    for previous, token in zip([None, *tokens], tokens, strict=False):
        if types[token] == TokenType.BYTE:
            out += bytes([int(pieces[token][3:5], 16)])
        elif types[token] == TokenType.NORMAL:
            piece = pieces[token].replace("▁", " ")
            out += piece.removeprefix(" " if previous == bos else "").encode()
    return out.decode(errors="replace")
