"""llama2.c's later checkpoints in: v1 (float32) and v2 (int8 in groups) are the model of their weights."""

import random
import struct

import numpy as np
import pytest
from checkpoints import SIZES, later, make_source
from fuzzing import fuzz, mutated, refused_or_read
from gguf import GGUFReader
from hypothesis import given
from hypothesis import strategies as st
from on_board import DATA, NO_DATA
from reference import Reference
from tinyprof_bridge.errors import BadInput
from tinyprof_bridge.models.convert import convert
from tinyprof_bridge.models.formats import llama2c

TOKENS = [1, 270, 40, 280, 3, 259]


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("version", [1, 2])
def test_weights_and_logits_are_the_source_s(tmp_path, version, shared):
    source = make_source(tmp_path, shared)
    data, stored = later(source.weights, SIZES, version)
    source.checkpoint.write_bytes(data)
    source.convert("F32")
    tensors = {t.name: t.data for t in GGUFReader(source.out).tensors}
    assert tensors.keys() == stored.keys()
    for name, weights in stored.items():
        np.testing.assert_array_equal(tensors[name], weights, err_msg=name)
    model = Reference(source.out)
    logits = model.logits(TOKENS)
    model.weights = {name: w.astype(np.float64) for name, w in stored.items()}
    np.testing.assert_array_equal(logits, model.logits(TOKENS))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("type_", ["Q8_0", "Q4_0"])
def test_rows_are_read_some_at_a_time(tmp_path, monkeypatch, version, type_):
    source = make_source(tmp_path)
    source.checkpoint.write_bytes(later(source.weights, SIZES, version)[0])
    source.convert(type_)
    whole = source.out.read_bytes()
    monkeypatch.setattr("tinyprof_bridge.models.convert.SLAB", 300)
    source.convert(type_)
    assert source.out.read_bytes() == whole


def refused(source, message):
    with pytest.raises(BadInput) as raised:
        source.convert("F32")
    assert message in str(raised.value) and "\n" not in str(raised.value), str(raised.value)


def field(at, form, value):
    def edit(data):
        size = struct.calcsize(form)
        return data[:at] + struct.pack(form, value) + data[at + size :]

    return edit


@pytest.mark.parametrize(
    "edit,message",
    [
        (lambda d: d[:30], "only 30 bytes"),
        (lambda d: d[:-1], "truncated"),
        (lambda d: d + b"\0", "truncated, or not a llama2.c checkpoint"),
        (field(4, "<i", 3), "version 3 is unknown; export the model with llama2.c's export.py --version 1 or 2"),
        (field(4, "<i", 1), "but its header requires"),
        (field(8, "<i", 0), "dim is 0"),
        (field(28, "<i", -5), "vocab_size is -5"),
        (field(36, "<B", 7), "header is damaged"),
        (field(36, "<B", 0), "but its header requires"),
        (field(37, "<i", 0), "groups of 0 do not divide rows of 64 and 80"),
        (field(37, "<i", 32), "groups of 32 do not divide rows of 64 and 80"),
        (field(37, "<i", -16), "groups of -16 do not divide"),
        (field(-4, "<f", np.inf), "contains NaN or infinity"),
    ],
)
def test_bad_checkpoints(tmp_path, edit, message):
    source = make_source(tmp_path)
    data = later(source.weights, SIZES, 2)[0]
    source.checkpoint.write_bytes(edit(data) if "NaN" not in message else data[:-4] + struct.pack("<f", np.inf))
    refused(source, message)


def test_a_tokenizer_must_be_given(tmp_path):
    source = make_source(tmp_path)
    source.tokenizer = None
    refused(source, "give --tokenizer tokenizer.bin")


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    source = make_source(tmp_path_factory.mktemp("fuzz"), layers=1)
    return source, later(source.weights, SIZES | {"layers": 1}, 2)[0]


@fuzz(60)
@given(seed=st.integers(0, 2**64))
def test_damaged_checkpoints_are_read_or_refused(good, seed):
    source, data = good
    source.checkpoint.write_bytes(mutated(random.Random(seed), data))
    with refused_or_read(len(data)):
        source.convert("Q4_0")


@pytest.mark.skipif(not (DATA / "stories260K.bin").exists(), reason=NO_DATA)
@pytest.mark.parametrize("version", [1, 2])
def test_stories(tmp_path, version):
    """stories260K exported again: v1 has the same text, v2 mostly chooses the same tokens."""
    model = llama2c.read(DATA / "stories260K.bin", DATA / "tok512.bin")
    s = model.sizes
    sizes = {"dim": s.dim, "hidden": s.hidden_dim, "layers": s.n_layers, "heads": s.n_heads}
    sizes |= {"kv_heads": s.n_kv_heads, "vocab": s.vocab_size, "seq": s.context}
    weights = {name: t.whole() for name, t in model.tensors.items()}
    (tmp_path / "later.bin").write_bytes(later(weights, sizes, version, group=4)[0])
    convert(DATA / "stories260K.bin", DATA / "tok512.bin", tmp_path / "v0.gguf", "F32")
    convert(tmp_path / "later.bin", DATA / "tok512.bin", tmp_path / "later.gguf", "F32")
    tokens = Reference(tmp_path / "v0.gguf").greedy([1], 60)
    logits = Reference(tmp_path / "later.gguf").logits(tokens[:-1])
    if version == 1:
        np.testing.assert_array_equal(logits, Reference(tmp_path / "v0.gguf").logits(tokens[:-1]))
    assert (logits.argmax(axis=1) == tokens[1:]).sum() >= (60 if version == 1 else 57)
