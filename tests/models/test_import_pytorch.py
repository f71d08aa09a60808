"""PyTorch's checkpoints in: the logits are the source's, and what is damaged, hostile or no llama gets one line."""

import json
import pickle
import random
import struct
import zipfile

import byte_level_json
import numpy as np
import pytest
from fuzzing import fuzz, mutated, refused_or_read
from gguf import GGUFReader
from hf_folders import CONFIG, state, tokenizer_json
from hypothesis import given
from hypothesis import strategies as st
from models import END, make_model
from on_board import DATA, NO_DATA
from reference import Reference, metadata
from tinyprof_bridge.errors import BadInput
from tinyprof_bridge.models.convert import convert
from tinyprof_bridge.models.formats import llama2c
from torch_files import ARGS, meta_state, save, torch, weights_of

TOKENS = [1, 270, 40, 280, 3, 259]


@pytest.fixture
def source(tmp_path):
    return make_model(tmp_path / "source.gguf", tied=False)


def convert_to(path, type_="F32"):
    return convert(path, path.with_name("tok.bin"), path.with_name("out.gguf"), type_)


def test_llama2c_checkpoints(tmp_path, source):
    """As its train.py saves them, with optimizer and settings."""
    module = meta_state(weights_of(source), "net._orig_mod.module.")
    optimizer = {"state": {0: {"exp_avg": torch.zeros(4)}}, "param_groups": [{"lr": 1e-3, "params": [0]}]}
    path = save(tmp_path, {"model": module, "model_args": ARGS, "optimizer": optimizer, "iter_num": 5})
    convert_to(path)
    np.testing.assert_array_equal(Reference(tmp_path / "out.gguf").logits(TOKENS), Reference(source).logits(TOKENS))


def test_meta_s_files(tmp_path, source):
    """bfloat16, with params.json beside and the rope frequencies in it."""
    module = {n: t.bfloat16() for n, t in meta_state(weights_of(source)).items()}
    path = save(tmp_path, module | {"rope.freqs": torch.ones(8)})
    (tmp_path / "params.json").write_text(json.dumps({"n_heads": 4, "norm_eps": 1e-5, "vocab_size": -1}))
    convert_to(path)
    expected = Reference(source)
    expected.weights = {n: torch.tensor(np.array(w)).bfloat16().double().numpy() for n, w in weights_of(source).items()}
    np.testing.assert_array_equal(Reference(tmp_path / "out.gguf").logits(TOKENS), expected.logits(TOKENS))


def test_heads_from_the_tables_of_rope(tmp_path, source):
    path = save(tmp_path, meta_state(weights_of(source)) | {"freqs_cos": torch.ones(64, 8)})
    convert_to(path)
    model = Reference(tmp_path / "out.gguf")
    assert (model.heads, model.kv_heads, model.context) == (4, 2, 64)
    (tmp_path / "out.gguf").unlink()
    path = save(tmp_path, meta_state(weights_of(source)))
    refused(path, "does not contain the number of heads; put the model's config.json or params.json into its folder")
    (tmp_path / "params.json").write_text(json.dumps({"n_heads": 4, "use_scaled_rope": True}))
    refused(path, "does not contain RoPE's scaling; put the model's config.json into its folder")


def test_hugging_face_s_names(tmp_path, source):
    tensors = {name: torch.tensor(data.T).t() for name, data in state(source).items()}  # columns follow one another
    for name in ("pytorch_model.bin", "other.pt"):
        torch.save(tensors, tmp_path / name)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"tie_word_embeddings": False}))
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer_json()))
    expected = Reference(source).logits(TOKENS)
    for path, given_ in ((tmp_path, None), (tmp_path / "other.pt", None), (tmp_path / "other.pt", "tokenizer.json")):
        convert(path, given_ and tmp_path / given_, tmp_path / "out.gguf", "F32")
        np.testing.assert_array_equal(Reference(tmp_path / "out.gguf").logits(TOKENS), expected)
    where = {name: f"pytorch_model-{i % 2}.bin" for i, name in enumerate(tensors)}
    for part in set(where.values()):
        torch.save({name: tensors[name] for name in where if where[name] == part}, tmp_path / part)
    (tmp_path / "pytorch_model.bin").rename(tmp_path / "whole.pt")
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": where}))
    convert(tmp_path, None, tmp_path / "out.gguf", "F32")
    np.testing.assert_array_equal(Reference(tmp_path / "out.gguf").logits(TOKENS), expected)


def test_config_json_says_what_ends_a_text(tmp_path):
    """Of a tokenizer that names none, in the folder or given."""
    tokens = json.dumps(byte_level_json.tokenizer_json()).replace(END, "<|end|>")
    (tmp_path / "tokenizer.json").write_text(tokens)
    source = make_model(tmp_path / "source.gguf", vocab=byte_level_json.VOCAB)
    path = save(tmp_path, {name: torch.tensor(data) for name, data in state(source).items()})
    config = CONFIG | {"vocab_size": byte_level_json.VOCAB, "bos_token_id": None, "eos_token_id": 7}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for tokenizer in (None, tmp_path / "tokenizer.json"):
        convert(path, tokenizer, tmp_path / "out.gguf", "F32")
        assert metadata(GGUFReader(tmp_path / "out.gguf"), "tokenizer.ggml.eos_token_id") == 7
    (tmp_path / "config.json").write_text(json.dumps(config | {"eos_token_id": None}))
    with pytest.raises(BadInput, match="no EOS token is named"):
        convert(path, None, tmp_path / "out.gguf", "F32")


def refused(path, message):
    with pytest.raises(BadInput) as raised:
        convert_to(path, "Q8_0")
    line = str(raised.value)
    assert message in line and "\n" not in line and len(line) < 500, line
    assert not path.with_name("out.gguf").exists()


class Code:
    def __reduce__(self):
        return (exec, ("raise SystemExit(99)",))


class Bomb:
    def __reduce__(self):
        return (bytearray, (1 << 40,))


def test_pickles_that_are_no_tensors(tmp_path, source):
    module = meta_state(weights_of(source))
    refused(save(tmp_path, {"model": module, "x": Code()}), "names __builtin__.exec, which is not a tensor")
    refused(save(tmp_path, {"model": module, "x": Bomb()}), "names __builtin__.bytearray, which is not a tensor")
    refused(save(tmp_path, torch.nn.Linear(2, 2)), "which is not a tensor; save model.state_dict()")
    refused(save(tmp_path, {"model": module}, pickle_protocol=4), "its pickle creates objects")
    refused(save(tmp_path, [1]), "contains no state_dict")
    refused(save(tmp_path, {}), "contains no tensors")
    refused(save(tmp_path, {"a": 1}), "'a' is not a tensor")
    refused(save(tmp_path, module, _use_new_zipfile_serialization=False), "has the format of PyTorch before 1.6")
    (tmp_path / "ckpt.pt").write_bytes(pickle.dumps(Code()))
    refused(tmp_path / "ckpt.pt", "not a llama2.c checkpoint")


def test_archives_that_torch_did_not_write(tmp_path, source):
    path = save(tmp_path, {"model": meta_state(weights_of(source)), "model_args": ARGS})
    good = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        members = {m.filename: archive.read(m) for m in archive.infolist()}
    bomb = members | {"ckpt/data/0": bytes(64 << 20)}
    for compression, entries, message in (
        (zipfile.ZIP_DEFLATED, bomb, "parts of the archive are compressed or overlap"),
        (zipfile.ZIP_STORED, {"a": b"b"}, "without one small data.pkl"),
        (zipfile.ZIP_STORED, members | {"ckpt/data.pkl": b"\x80\x02" + b"c" * 50}, "damaged pickle"),
        (zipfile.ZIP_STORED, members | {"ckpt/data.pkl": bytes(17 << 20)}, "without one small data.pkl"),
        (zipfile.ZIP_STORED, members | {"ckpt/data/0": b"short"}, "damaged, or not a state_dict"),
        (zipfile.ZIP_STORED, {n: d for n, d in members.items() if n != "ckpt/data/3"}, "damaged, or not a state_dict"),
    ):
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, data in entries.items():
                archive.writestr(name, data)
        refused(path, message)
    for cut in (10, 1000, len(good) - 10):
        path.write_bytes(good[:cut])
        refused(path, "damaged archive")
    at = good.index(b"PK\x01\x02") + 24  # a size in the directory
    path.write_bytes(good[:at] + struct.pack("<I", 2**31) + good[at + 4 :])
    refused(path, "")


def test_tensors_that_are_no_llama(tmp_path, source):
    module = meta_state(weights_of(source)) | {"freqs_cos": torch.ones(64, 8)}
    first = "tok_embeddings.weight"
    for value, message in (
        (torch.zeros(1).expand(288, 64), "is not a plain tensor of floats"),
        (module[first].to(torch.int64), "is not a plain tensor of floats"),
        (module[first].to_sparse(), "which is not a tensor"),
        (torch.tensor(1.0), "is not a plain tensor of floats"),
        (module[first][:100], "output.weight is 288 x 64, but the model's sizes require 100 x 64"),
        (module[first].t().contiguous(), "but the model's sizes require"),
        (module[first] * float("nan"), "contains NaN or infinity"),
    ):
        refused(save(tmp_path, module | {first: value}), message)
    refused(
        save(tmp_path, module | {"layers.0.attention.wq.bias": torch.ones(64)}),
        "a llama has no tensor 'layers.0.attention.wq.bias'",
    )
    for norm in ("self_attn.q_norm", "pre_feedforward_layernorm"):
        more = {f"model.layers.0.{norm}.weight": torch.ones(16)}
        refused(save(tmp_path, module | more), f"{norm}.weight'; put the model's config.json into its folder")
    refused(save(tmp_path, {"conv.weight": torch.ones(3, 3)}), "not a llama: tensor token_embd.weight is missing")
    refused(save(tmp_path, module | {"model.norm.weight": torch.ones(64)}), "output_norm.weight occurs twice")
    far = {"layers.4095.attention.wq.weight": torch.ones(64, 64)}
    refused(save(tmp_path, module | far), "tensor blk.2.attn_norm.weight is missing")
    for heads in (-4, 2**70, "x", True, 3, 0.5):
        refused(save(tmp_path, {"model": module, "model_args": ARGS | {"n_heads": heads}}), "")


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    source = make_model(folder / "source.gguf", layers=1)
    path = save(folder, {"model": meta_state(weights_of(source)), "model_args": ARGS})
    convert_to(path, "Q4_0")  # what torch imports at first is not counted below
    return path, path.read_bytes()


@fuzz(60)
@given(seed=st.integers(0, 2**64))
def test_damaged_checkpoints_are_read_or_refused(good, seed):
    path, data = good
    rng = random.Random(seed)
    directory = data.index(b"PK\x01\x02")
    pickled = data.index(b"\x80\x02}")
    at, end = rng.choice(((0, len(data)), (pickled, pickled + 1500), (directory, len(data))))
    path.write_bytes(data[:at] + mutated(rng, data[at:end]) + data[end:])
    with refused_or_read(len(data)):
        convert_to(path, "Q4_0")


@pytest.mark.skipif(not (DATA / "stories260K.bin").exists(), reason=NO_DATA)
def test_stories(tmp_path):
    """stories260K as PyTorch had it: the logits of llama2.c's checkpoint."""
    model = llama2c.read(DATA / "stories260K.bin", DATA / "tok512.bin")
    s = model.sizes
    weights = {name: t.whole() for name, t in model.tensors.items()}
    args = {"n_heads": s.n_heads, "n_kv_heads": s.n_kv_heads, "max_seq_len": s.context}
    torch.save({"model": meta_state(weights), "model_args": args}, tmp_path / "ckpt.pt")
    convert(tmp_path / "ckpt.pt", DATA / "tok512.bin", tmp_path / "pt.gguf", "F32")
    convert(DATA / "stories260K.bin", DATA / "tok512.bin", tmp_path / "v0.gguf", "F32")
    tokens = Reference(tmp_path / "v0.gguf").greedy([1], 40)
    logits = [Reference(tmp_path / name).logits(tokens) for name in ("pt.gguf", "v0.gguf")]
    np.testing.assert_array_equal(*logits)
