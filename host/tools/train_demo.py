"""Trains the demo model, a small llama, on public-domain text. `tinyprof-bridge convert` takes the result.

    pip install torch numpy sentencepiece
    python host/tools/train_demo.py --out build/demo oz.txt shakespeare.txt
    python host/tools/train_demo.py --out build/demo --evaluate

Writes a llama2.c legacy checkpoint (`demo.bin`), its tokenizer (`demo_tok.bin`), the held-out text (`heldout.txt`) and
the settings and results (`train.json`). The last tenth of each text is held out. The last part of the training rounds
the weights to Q4_0 in the forward pass (straight-through estimator), since the demo is shipped in Q4_0. With --evaluate
it prints the perplexities of the model in --out. Shapes: B batch, T time, D dim, V vocabulary.
"""

import argparse
import json
import math
import struct
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import sentencepiece as spm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

VOCAB, CONTEXT = 1024, 256
EPS, ROPE_BASE = 1e-5, 10000.0
LAYER = ("norm1", "wq", "wk", "wv", "wo", "norm2", "w1", "w2", "w3")  # in the order of a llama2.c checkpoint


@dataclass(frozen=True)
class Sizes:
    """Sizes of the model, in the order of the header of a llama2.c checkpoint."""

    dim: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int


def round_q8_0(w: Tensor) -> Tensor:
    """Returns the weights rounded to Q8_0: blocks of 32, scale = greatest magnitude / 127, in fp16."""
    blocks = w.detach().reshape(-1, 32)
    scale = blocks.abs().amax(1, keepdim=True) / 127
    inverse = torch.where(scale == 0, torch.zeros_like(scale), 1 / scale)
    return ((blocks * inverse).round() * scale.half().float()).reshape(w.shape)


def round_q4_0(w: Tensor) -> Tensor:
    """Returns the weights rounded to Q4_0: blocks of 32, scale = value of greatest magnitude / -8, in fp16.

    Gradients pass through the rounding unchanged (straight-through estimator)."""
    blocks = w.detach().reshape(-1, 32)
    extreme = blocks.gather(1, blocks.abs().argmax(1, keepdim=True))
    scale = extreme / -8
    inverse = torch.where(scale == 0, torch.zeros_like(scale), 1 / scale)
    q = (blocks * inverse + 8.5).floor().clamp(0, 15) - 8
    return w + ((q * scale.half().float()).reshape(w.shape) - w.detach())


class Llama(nn.Module):
    """The llama architecture as llama2.c runs it: interleaved RoPE, SwiGLU, tied output."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        dim, hidden = sizes.dim, sizes.hidden
        head_dim = dim // sizes.heads
        kv = sizes.kv_heads * head_dim
        shapes = {
            "wq": (dim, dim),
            "wk": (kv, dim),
            "wv": (kv, dim),
            "wo": (dim, dim),
            "w1": (hidden, dim),
            "w2": (dim, hidden),
            "w3": (hidden, dim),
        }
        self.emb = nn.Parameter(torch.randn(VOCAB, dim) * 0.02)
        self.norm = nn.Parameter(torch.ones(dim))
        self.layers = nn.ModuleList()
        for _ in range(sizes.layers):
            layer = nn.ParameterDict({"norm1": torch.ones(dim), "norm2": torch.ones(dim)})
            for name, shape in shapes.items():
                std = 0.02 / math.sqrt(2 * sizes.layers) if name in ("wo", "w2") else 0.02
                layer[name] = torch.randn(shape) * std
            self.layers.append(layer)
        freq = ROPE_BASE ** (-torch.arange(0, head_dim, 2).float() / head_dim)
        angle = torch.outer(torch.arange(CONTEXT).float(), freq)  # (T, head_dim/2)
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())
        self.rounding: Callable[[Tensor], Tensor] | None = None  # applied to every matrix
        self.dropout = 0.0

    def w(self, p: Tensor) -> Tensor:
        """Returns a matrix as the forward pass uses it: rounded, if rounding is on."""
        return self.rounding(p) if self.rounding else p

    def rope(self, x: Tensor) -> Tensor:  # (B, heads, T, head_dim)
        """Returns x with RoPE applied to neighbouring pairs."""
        cos, sin = self.cos[: x.shape[2]], self.sin[: x.shape[2]]
        a, b = x[..., 0::2], x[..., 1::2]
        return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)

    def forward(self, tokens: Tensor) -> Tensor:  # (B, T) -> (B, T, V)
        """Returns the logits after each token."""
        batch, length = tokens.shape
        dim, heads, kv_heads = self.sizes.dim, self.sizes.heads, self.sizes.kv_heads
        emb = self.w(self.emb)
        x = self.drop(F.embedding(tokens, emb))
        for p in self.layers:
            h = F.rms_norm(x, (dim,), p["norm1"], EPS)
            q = self.heads(h @ self.w(p["wq"]).T, heads)
            k = self.heads(h @ self.w(p["wk"]).T, kv_heads).repeat_interleave(heads // kv_heads, 1)
            v = self.heads(h @ self.w(p["wv"]).T, kv_heads).repeat_interleave(heads // kv_heads, 1)
            a = F.scaled_dot_product_attention(self.rope(q), self.rope(k), v, is_causal=True)
            a = a.transpose(1, 2).reshape(batch, length, dim)
            x = x + self.drop(a @ self.w(p["wo"]).T)
            h = F.rms_norm(x, (dim,), p["norm2"], EPS)
            gate = F.silu(h @ self.w(p["w1"]).T) * (h @ self.w(p["w3"]).T)
            x = x + self.drop(gate @ self.w(p["w2"]).T)
        return F.rms_norm(x, (dim,), self.norm, EPS) @ emb.T

    def drop(self, x: Tensor) -> Tensor:
        """Returns x with dropout while training."""
        return F.dropout(x, self.dropout, self.training)

    def tensors(self) -> list[Tensor]:
        """Returns all weights in the order of a checkpoint."""
        return [self.emb, *(layer[name] for name in LAYER for layer in self.layers), self.norm]

    @staticmethod
    def heads(x: Tensor, n: int) -> Tensor:
        """Returns x (B, T, n * head_dim) split into heads (B, n, T, head_dim)."""
        return x.view(x.shape[0], x.shape[1], n, -1).transpose(1, 2)


def train_tokenizer(text: Path, out: Path) -> spm.SentencePieceProcessor:
    """Returns a BPE tokenizer trained on a text; its files go into the folder `out`."""
    spm.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(out / "demo_spm"),
        model_type="bpe",
        vocab_size=VOCAB,
        byte_fallback=True,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        normalization_rule_name="identity",
        character_coverage=0.9999,
        minloglevel=2,
        remove_extra_whitespaces=False,
        max_sentence_length=65536,
    )
    return spm.SentencePieceProcessor(model_file=str(out / "demo_spm.model"))


def write_tokenizer(sp: spm.SentencePieceProcessor, path: Path) -> None:
    """Writes llama2.c's tokenizer.bin: longest piece (i32), then for each piece score (f32), length (i32), bytes."""
    pieces = []
    for i in range(sp.vocab_size()):
        piece = {sp.bos_id(): "\n<s>\n", sp.eos_id(): "\n</s>\n"}.get(i, sp.id_to_piece(i))
        pieces.append((sp.get_score(i), piece.replace("\u2581", " ").encode()))
    with path.open("wb") as f:
        f.write(struct.pack("<i", max(len(p) for _, p in pieces)))
        for score, piece in pieces:
            f.write(struct.pack("<fi", score, len(piece)) + piece)


def write_checkpoint(model: Llama, path: Path) -> None:
    """Writes llama2.c's legacy checkpoint: seven i32, then f32 tensors by kind, then the RoPE tables."""
    with path.open("wb") as f:
        f.write(struct.pack("<7i", *astuple(model.sizes), VOCAB, CONTEXT))
        for t in [*model.tensors(), model.cos, model.sin]:
            f.write(t.detach().numpy().astype("<f4").tobytes())


def evaluate(model: Llama, ids: np.ndarray) -> float:
    """Returns the mean negative log-likelihood per token in nats, over windows of CONTEXT that start with BOS."""
    model.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(ids) - 1, CONTEXT - 1):
            window = torch.tensor([1, *ids[start : start + CONTEXT - 1].tolist()])[None]
            logits = model(window[:, :-1])[0]
            total += F.cross_entropy(logits, window[0, 1:], reduction="sum").item()
            count += window.shape[1] - 1
    model.train()
    return total / count


def perplexities(model: Llama, ids: np.ndarray, text_bytes: int) -> dict[str, float]:
    """Returns perplexity per token and bits per byte for each type of weights, with activations in F32.

    ids: tokens of the held-out text.
    text_bytes: its length in UTF-8."""
    result = {}
    for name, rounding in (("f32", None), ("q8_0", round_q8_0), ("q4_0", round_q4_0)):
        model.rounding = rounding
        nll = evaluate(model, ids)
        result[f"perplexity_{name}"] = math.exp(nll)
        result[f"bits_per_byte_{name}"] = nll * len(ids) / text_bytes / math.log(2)
    return result


def read_checkpoint(path: Path) -> Llama:
    """Returns the model in a checkpoint of write_checkpoint."""
    model = Llama(Sizes(*np.fromfile(path, "<i4", count=5).tolist()))
    data = torch.from_numpy(np.fromfile(path, "<f4", offset=28))
    at = 0
    for t in model.tensors():
        t.data = data[at : at + t.numel()].reshape(t.shape)
        at += t.numel()
    return model


def evaluate_saved(out: Path) -> None:
    """Prints the perplexities of the model in the folder `out`, on the held-out text there."""
    model = read_checkpoint(out / "demo.bin")
    sp = spm.SentencePieceProcessor(model_file=str(out / "demo_spm.model"))
    text = (out / "heldout.txt").read_text()
    ids = np.array(sp.encode(text), dtype=np.int64)
    for name, value in perplexities(model, ids, len(text.encode())).items():
        print(f"{name:20} {value:.4f}")


def main() -> None:
    """Trains and writes the model, or evaluates a written one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("texts", nargs="*", type=Path)
    parser.add_argument("--out", type=Path, default=Path("build/demo"))
    for size, value in {"dim": 128, "hidden": 352, "layers": 4, "heads": 4, "kv-heads": 2}.items():
        parser.add_argument(f"--{size}", type=int, default=value)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument(
        "--quantized-from",
        type=float,
        default=0.75,
        help="share of the steps after which training rounds weights to Q4_0",
    )
    parser.add_argument("--evaluate", action="store_true", help="only evaluate the model in --out")
    args = parser.parse_args()
    if args.evaluate:
        evaluate_saved(args.out)
        return
    if not args.texts:
        parser.error("no texts to train on; give at least one file")
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)
    rng = np.random.default_rng(1)

    train, held = [], []
    for path in args.texts:
        text = path.read_text(encoding="utf-8-sig").replace("\r\n", "\n")
        cut = int(len(text) * 0.9)
        train.append(text[:cut])
        held.append(text[cut:])
    (args.out / "train.txt").write_text("\n".join(train))
    (args.out / "heldout.txt").write_text("\n".join(held))
    sp = train_tokenizer(args.out / "train.txt", args.out)
    write_tokenizer(sp, args.out / "demo_tok.bin")
    ids = np.array(sp.encode("\n".join(train)), dtype=np.int64)
    held_ids = np.array(sp.encode("\n".join(held)), dtype=np.int64)
    held_bytes = sum(len(h.encode()) for h in held)
    model = Llama(Sizes(args.dim, args.hidden, args.layers, args.heads, args.kv_heads))
    model.dropout = args.dropout
    params = sum(p.numel() for p in model.parameters())
    print(f"{params} parameters, {len(ids)} training tokens, {len(held_ids)} held out", flush=True)

    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
        lr=args.lr,
        betas=(0.9, 0.98),
    )
    began = time.monotonic()
    history = []
    steps = args.steps
    for step in range(steps):
        elapsed = (time.monotonic() - began) / 60
        progress = step / steps
        model.rounding = round_q4_0 if progress >= args.quantized_from else None
        rate = args.lr * min(1, (step + 1) / 200) * (0.02 + 0.98 * (1 + math.cos(math.pi * progress)) / 2)
        for group in optimizer.param_groups:
            group["lr"] = rate
        starts = rng.integers(0, len(ids) - CONTEXT, args.batch)
        windows = torch.from_numpy(np.stack([ids[s : s + CONTEXT] for s in starts]))
        inputs = torch.cat((torch.ones(args.batch, 1, dtype=torch.long), windows[:, :-1]), 1)
        loss = F.cross_entropy(model(inputs).flatten(0, 1), windows.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 250 == 0 or step == steps - 1:
            nll = evaluate(model, held_ids)
            history.append(
                {
                    "step": step,
                    "minutes": round(elapsed, 2),
                    "train": loss.item(),
                    "held_out": nll,
                    "q4_0": bool(model.rounding),
                }
            )
            print(
                f"step {step:5d}  {elapsed:5.1f} min  train {loss.item():.3f}  held out {nll:.3f} nats"
                f"  perplexity {math.exp(nll):.2f}  {'Q4_0' if model.rounding else 'F32'}",
                flush=True,
            )
            write_checkpoint(model, args.out / "demo.bin")

    result = {
        "parameters": params,
        "steps": steps,
        "minutes": round(elapsed, 1),
        "train_tokens": len(ids),
        "heldout_tokens": len(held_ids),
        "heldout_bytes": held_bytes,
    }
    result |= perplexities(model, held_ids, held_bytes)
    write_checkpoint(model, args.out / "demo.bin")
    result["history"] = history
    (args.out / "train.json").write_text(json.dumps(vars(args) | result, default=str, indent=1))
    print({name: value for name, value in result.items() if name != "history"})


if __name__ == "__main__":
    main()
