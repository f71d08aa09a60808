"""Files as PyTorch writes them; who imports this is skipped where PyTorch is not installed."""

import numpy as np
import pytest
from checkpoints import tokenizer_bytes
from gguf import GGUFReader
from hf_folders import state

torch = pytest.importorskip("torch", reason="torch is not installed")

import torch_llama  # noqa: E402

META = {
    "attn_norm": "attention_norm",
    "attn_q": "attention.wq",
    "attn_k": "attention.wk",
    "attn_v": "attention.wv",
    "attn_output": "attention.wo",
    "ffn_norm": "ffn_norm",
    "ffn_gate": "feed_forward.w1",
    "ffn_down": "feed_forward.w2",
    "ffn_up": "feed_forward.w3",
}


ARGS = {"dim": 64, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "vocab_size": 288, "max_seq_len": 64}


def meta_state(weights, prefix=""):
    """The tensors with Meta's and llama2.c's names."""
    ends = {"token_embd": "tok_embeddings", "output_norm": "norm", "output": "output"}
    found = {}
    for name, data in weights.items():
        first, *rest = name.split(".")
        name = f"layers.{rest[0]}.{META[rest[1]]}.weight" if first == "blk" else f"{ends[first]}.weight"
        found[prefix + name] = torch.tensor(np.array(data))
    return found


def weights_of(path):
    return {t.name: t.data for t in GGUFReader(path).tensors}


def save(folder, loaded, **options):
    (folder / "tok.bin").write_bytes(tokenizer_bytes(288))
    torch.save(loaded, folder / "ckpt.pt", **options)
    return folder / "ckpt.pt"


torch = pytest.importorskip("torch", reason="torch is not installed")


TOKENS = [1, 270, 40, 280, 3, 259]


def exported(folder, source, factors=1, **options):
    """A program, as torch.export.save writes it. factors: by which frequencies of RoPE are divided."""
    (folder / "tok.bin").write_bytes(tokenizer_bytes(288))
    model = torch_llama.load(torch_llama.Llama(**options), state(source))
    model.inv_freq /= factors
    length = torch.export.Dim("n", min=2, max=64)
    program = torch.export.export(model, (torch.tensor([TOKENS]),), dynamic_shapes=({1: length},))
    torch.export.save(program, folder / "m.pt2")
    return folder / "m.pt2", program
