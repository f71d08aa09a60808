"""Folders as Hugging Face's transformers writes them, made from GGUF files."""

import json

import numpy as np
import pytest
from gguf import GGUFReader
from models import make_model, tokenizer
from reference import metadata

safetensors = pytest.importorskip("safetensors.numpy")


NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_up": "mlp.up_proj",
}


POST_NORMS = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}


LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def state(path, heads=4, kv_heads=2):
    """The tensors of a GGUF file with Hugging Face's names, a llama's rows of queries and keys in halves."""
    found = {}
    reader = GGUFReader(path)
    architecture = metadata(reader, "general.architecture")
    for tensor in reader.tensors:
        data = np.array(tensor.data)
        if tensor.name == "rope_freqs.weight":
            continue
        if tensor.name.startswith("blk."):
            _, i, kind, end = tensor.name.split(".")
            n = {"attn_q": heads, "attn_k": kv_heads}.get(kind)
            if n and architecture == "llama":
                data = data.reshape(n, -1, 2, data.shape[1]).swapaxes(1, 2).reshape(data.shape)
            names = NAMES | POST_NORMS if architecture in ("gemma2", "gemma3") else NAMES
            found[f"model.layers.{i}.{names[kind]}.{end}"] = np.ascontiguousarray(data)
        else:
            ends = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
            found[f"{ends[tensor.name.split('.')[0]]}.weight"] = data
        if architecture.startswith("gemma") and tensor.name.endswith("norm.weight"):
            found[next(reversed(found))] = data - 1
    return found


CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 288,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": [2],
}


ADDED = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}


def tokenizer_json(vocab=288):
    """The test models' tokenizer, as transformers writes one of SentencePiece's: all splits of a token are merges."""
    tokens, scores, _ = tokenizer(vocab)
    ids = {token: i for i, token in enumerate(tokens)}
    merges = [
        [token[:i], token[i:]]
        for token in sorted(tokens[259:], key=lambda t: -scores[ids[t]])
        for i in range(1, len(token))
        if token[:i] in ids and token[i:] in ids
    ]
    return {
        "added_tokens": [{"id": i, "content": tokens[i], "special": True} | ADDED for i in range(3)],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": None,
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": ids,
            "merges": merges,
        },
    }


def make_folder(folder, tensors=None, shards=1, tokens=True, **changes):
    folder.mkdir(exist_ok=True)
    tensors = state(make_model(folder / "source.gguf")) if tensors is None else tensors
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    if tokens:
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json()))
    names = sorted(tensors)
    if shards == 1:
        safetensors.save_file(tensors, folder / "model.safetensors")
        return folder
    where = {name: f"model-{i % shards}.safetensors" for i, name in enumerate(names)}
    for file in set(where.values()):
        safetensors.save_file({n: tensors[n] for n in names if where[n] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    return folder


# By model_type: what make_model takes, and what config.json says of it.
OTHERS = {
    "llama": ({"head_dim": 32}, {"head_dim": 32}),
    "qwen2": ({"tied": False}, {"tie_word_embeddings": False, "sliding_window": 16}),
    "qwen3": ({"head_dim": 128}, {"use_sliding_window": False}),
    "gemma": ({"head_dim": 256}, {"hidden_act": "gelu", "tie_word_embeddings": None}),
    "gemma2": (
        {"head_dim": 256, "window": 3, "caps": (4.0, 2.0)},
        {"sliding_window": 3, "attn_logit_softcapping": 4.0, "final_logit_softcapping": 2.0, "hidden_act": None},
    ),
    "gemma3": (
        {"head_dim": 32, "window": 3, "layers": 3, "period": 3},
        {
            "model_type": "gemma3_text",
            "num_hidden_layers": 3,
            "head_dim": 32,
            "query_pre_attn_scalar": 32,
            "sliding_window": 3,
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
            "hidden_activation": "gelu_pytorch_tanh",
        },
    ),
}


GREEDY = """
import tinyprof
m = tinyprof.load({source!r}, context=64)
for token in {tokens!r}:
    token = m.step(token)
for _ in range(32):
    print(token)
    token = m.step(token)
"""


def llama3_source(path):
    """A model with RoPE scaled so; its factors as transformers has them."""
    freqs = 10000.0 ** (-np.arange(0, 16, 2) / 16)
    length = 2 * np.pi / freqs
    smooth = (32 / length - 1) / (4 - 1)
    between = freqs / ((1 - smooth) * freqs / 8 + smooth * freqs)
    factors = np.where(length > 32, 8, np.where(length < 32 / 4, 1, between))
    assert len({1, 8} & set(factors)) == 2 and len(set(factors)) == 3
    return make_model(path, rope_factors=factors)
