"""Checkpoints and tokenizers as llama2.c writes them."""

import dataclasses
import struct
from pathlib import Path

import numpy as np
from models import tokenizer
from tinyprof_bridge.models.convert import convert

SIZES = {"dim": 64, "hidden": 80, "layers": 2, "heads": 4, "kv_heads": 2, "vocab": 288, "seq": 16}


@dataclasses.dataclass
class Source:
    checkpoint: Path
    tokenizer: Path
    out: Path
    weights: dict[str, np.ndarray]  # by name in GGUF

    def convert(self, type_="F32", **options):
        return convert(self.checkpoint, self.tokenizer, self.out, type_, **options)


def make_source(folder, shared=True, **changes):
    """A random llama2.c checkpoint and its tokenizer, written as llama2.c's export does."""
    s = SIZES | changes
    head_dim = s["dim"] // s["heads"]
    kv_dim = s["kv_heads"] * head_dim
    rng = np.random.default_rng(7)
    weights, stored = {}, []

    def add(name, *shape):
        weights[name] = rng.normal(0, 0.2, shape).astype("<f4")
        stored.append(weights[name])

    def add_layers(kind, *shape):
        for i in range(s["layers"]):
            add(f"blk.{i}.{kind}.weight", *shape)

    add("token_embd.weight", s["vocab"], s["dim"])
    add_layers("attn_norm", s["dim"])
    add_layers("attn_q", s["dim"], s["dim"])
    add_layers("attn_k", kv_dim, s["dim"])
    add_layers("attn_v", kv_dim, s["dim"])
    add_layers("attn_output", s["dim"], s["dim"])
    add_layers("ffn_norm", s["dim"])
    add_layers("ffn_gate", s["hidden"], s["dim"])
    add_layers("ffn_down", s["dim"], s["hidden"])
    add_layers("ffn_up", s["hidden"], s["dim"])
    add("output_norm.weight", s["dim"])
    stored.append(np.full(s["seq"] * head_dim, np.nan, "<f4"))  # RoPE tables must not be read
    if not shared:
        add("output.weight", s["vocab"], s["dim"])

    source = Source(folder / "small.bin", folder / "tok.bin", folder / "small.gguf", weights)
    header = struct.pack(
        "<7i",
        s["dim"],
        s["hidden"],
        s["layers"],
        s["heads"],
        s["kv_heads"],
        s["vocab"] if shared else -s["vocab"],
        s["seq"],
    )
    source.checkpoint.write_bytes(header + b"".join(w.tobytes() for w in stored))
    source.tokenizer.write_bytes(tokenizer_bytes(s["vocab"]))
    return source


def tokenizer_bytes(vocab):
    pieces = []
    for token in tokenizer(vocab)[0]:
        token = f"\n{token}\n" if token in ("<s>", "</s>") else token.replace("▁", " ")
        pieces.append(token.encode())
    out = struct.pack("<i", max(map(len, pieces)))
    for score, piece in zip(tokenizer(vocab)[1], pieces, strict=True):
        out += struct.pack("<fi", score, len(piece)) + piece
    return out


ORDER = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_down", "ffn_up")


def quantized(weights, group):
    """As quantize_q80 of llama2.c's export.py: int8 and a float32 scale for each group."""
    groups = weights.reshape(-1, group)
    scale = (np.abs(groups).max(axis=1) / 127).astype("<f4")
    return np.rint(groups / scale[:, None]).astype(np.int8), scale


def later(weights, sizes, version, group=16):
    """The checkpoint as version1_export or version2_export writes it, and the weights that are in it."""
    s, layers, stored = sizes, range(sizes["layers"]), dict(weights)
    shared = "output.weight" not in weights
    out = struct.pack(
        "<4si7iB", b"24ka", version, s["dim"], s["hidden"], s["layers"], s["heads"], s["kv_heads"], s["vocab"],
        s["seq"], shared,
    )  # fmt: skip
    if version == 2:
        out += struct.pack("<i", group)
    out = out.ljust(256, b"\0")
    for name in (*(f"blk.{i}.{kind}_norm.weight" for kind in ("attn", "ffn") for i in layers), "output_norm.weight"):
        out += weights[name].astype("<f4").tobytes()
    names = ["token_embd.weight", *(f"blk.{i}.{kind}.weight" for kind in ORDER for i in layers)]
    for name in names + ([] if shared else ["output.weight"]):
        if version == 1:
            out += weights[name].astype("<f4").tobytes()
            continue
        q, scale = quantized(weights[name], group)
        out += q.tobytes() + scale.tobytes()
        stored[name] = (q * scale[:, None]).astype(np.float32).reshape(weights[name].shape)
    return out, stored
