"""The converter: what it writes is the model that went in, and bad input is refused plainly."""

import dataclasses
import hashlib
import os
import resource
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bridge import bridge
from checkpoints import SIZES, make_source
from gguf import GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize, quantize
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from models import make_model, tokenizer
from on_board import DATA, NO_DATA
from reference import Reference, decode, encode, metadata
from tinyprof_bridge.errors import BadInput, RunFailed
from tinyprof_bridge.models.convert import convert


@pytest.fixture
def source(tmp_path):
    return make_source(tmp_path)


def header(**changes):
    """Replaces fields of the header."""

    def edit(data):
        names = ("dim", "hidden", "layers", "heads", "kv_heads", "vocab", "seq")
        values = dict(zip(names, struct.unpack("<7i", data[:28]), strict=True)) | changes
        return struct.pack("<7i", *values.values()) + data[28:]

    return edit


def token(i, piece, score=0.0, length=None):
    """Replaces token i of tokenizer.bin."""

    def edit(data):
        at = 4
        for _ in range(i):
            at += 8 + struct.unpack_from("<i", data, at + 4)[0]
        end = at + 8 + struct.unpack_from("<i", data, at + 4)[0]
        size = len(piece) if length is None else length
        return data[:at] + struct.pack("<fi", score, size) + piece + data[end:]

    return edit


TYPES = ("F32", "F16", "Q8_0", "Q4_0")

needs_stories = pytest.mark.skipif(not (DATA / "stories260K.bin").exists(), reason=NO_DATA)


def pad(name, weights, hidden):
    if "ffn_down" in name:
        return np.pad(weights, ((0, 0), (0, hidden - weights.shape[1])))
    if "ffn_gate" in name or "ffn_up" in name:
        return np.pad(weights, ((0, hidden - weights.shape[0]), (0, 0)))
    return weights


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("type_", TYPES)
def test_tensors_are_the_source(tmp_path, type_, shared):
    source = make_source(tmp_path, shared)
    summary = source.convert(type_)
    hidden = 96 if type_ in ("Q8_0", "Q4_0") else 80
    tensors = {t.name: t for t in GGUFReader(source.out).tensors}
    assert tensors.keys() == source.weights.keys()
    for name, weights in source.weights.items():
        expected_type = GGMLQuantizationType[type_ if weights.ndim == 2 else "F32"]
        expected = quantize(pad(name, weights, hidden), expected_type)
        assert tensors[name].tensor_type == expected_type
        np.testing.assert_array_equal(tensors[name].data, expected, err_msg=name)
        values = dequantize(tensors[name].data, expected_type)
        step = {"F32": 0, "F16": 2**-11, "Q8_0": 1 / 220, "Q4_0": 1 / 7.5}[type_]
        assert np.abs(values - pad(name, weights, hidden)).max() <= step * np.abs(weights).max()
    assert summary.parameters == sum(w.size for w in source.weights.values())
    assert summary.bytes == source.out.stat().st_size
    assert (summary.padded_from, summary.padded_to) == (80, hidden)
    matrices = sum(w.ndim == 2 for w in source.weights.values())
    assert summary.tensors[type_] == (len(tensors) if type_ == "F32" else matrices)
    assert sum(summary.tensors.values()) == len(tensors)


def test_layers_follow_one_another_in_the_file(source):
    source.convert()
    offsets = {t.name: t.data_offset for t in GGUFReader(source.out).tensors}
    in_file = sorted(offsets, key=offsets.get)
    layers = [name.split(".")[1] for name in in_file if name.startswith("blk.")]
    assert layers == sorted(layers)
    assert all(offset % 32 == 0 for offset in offsets.values())


@pytest.mark.parametrize("type_,file_type", [*zip(TYPES, (0, 1, 7, 2), strict=True)])
def test_metadata(source, type_, file_type):
    source.convert(type_, name="a name")
    reader = GGUFReader(source.out)
    expected = {
        "GGUF.version": 3,
        "general.architecture": "llama",
        "general.name": "a name",
        "general.file_type": file_type,
        "general.alignment": 32,
        "llama.vocab_size": 288,
        "llama.context_length": 16,
        "llama.embedding_length": 64,
        "llama.block_count": 2,
        "llama.feed_forward_length": 96 if "Q" in type_ else 80,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.layer_norm_rms_epsilon": pytest.approx(1e-5),
        "llama.rope.dimension_count": 16,
        "llama.rope.freq_base": 10000,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_space_prefix": True,
        "tinyprof.source.file": "small.bin",
        "tinyprof.source.sha256": hashlib.sha256(source.checkpoint.read_bytes()).hexdigest(),
    }
    assert {key: metadata(reader, key) for key in expected} == expected
    for key, values in zip(("tokens", "scores", "token_type"), tokenizer(288), strict=True):
        assert metadata(reader, f"tokenizer.ggml.{key}") == values


def test_name_is_that_of_the_checkpoint(source):
    source.convert()
    assert metadata(GGUFReader(source.out), "general.name") == "small"


@pytest.mark.parametrize("type_", ["Q8_0", "Q4_0"])
def test_padding_is_exact(source, type_):
    source.convert(type_)
    tokens = [1, 270, 40, 280, 3, 259]
    with_padding = Reference(source.out)
    without = Reference(source.out)
    for i in range(SIZES["layers"]):
        for kind, cut in (("gate", np.s_[:80]), ("up", np.s_[:80]), ("down", np.s_[:, :80])):
            name = f"blk.{i}.ffn_{kind}.weight"
            without.weights[name] = without.weights[name][cut]
    difference = np.abs(with_padding.logits(tokens) - without.logits(tokens)).max()
    assert difference < 1e-12


def test_f32_computes_what_the_source_does(source):
    """The reference, once with the file's tensors and once with the checkpoint's."""
    source.convert("F32")
    tokens = [1, 270, 40]
    model = Reference(source.out)
    logits = model.logits(tokens)
    model.weights = {name: w.astype(np.float64) for name, w in source.weights.items()}
    np.testing.assert_array_equal(logits, model.logits(tokens))


@pytest.mark.parametrize(
    "edit,message",
    [
        (lambda d: b"", "not a llama2.c checkpoint: only 0 bytes; copy or export it again"),
        (lambda d: d[:20], "only 20 bytes"),
        (lambda d: d[:-1], "truncated"),
        (lambda d: d + b"\0", "truncated, or not a llama2.c checkpoint"),
        (lambda d: b"GGUF" + d[4:], "contains its tokenizer; leave out --tokenizer"),
        (lambda d: b"PK\x03\x04" + d[4:], "damaged archive"),
        (lambda d: struct.pack("<I", 0x616B3432) + d[4:], "version 80 is unknown; export the model with"),
        (header(dim=0), "dim is 0; export the model"),
        (header(hidden=-1), "hidden_dim is -1"),
        (header(layers=-(2**31)), "n_layers is -2147483648"),
        (header(heads=0), "n_heads is 0"),
        (header(kv_heads=0), "n_kv_heads is 0"),
        (header(kv_heads=3), "4 query heads are not a multiple of 3 key and value heads"),
        (header(heads=5), "dim 64 does not divide into 5 heads of even size"),
        (header(heads=64), "dim 64 does not divide into 64 heads of even size"),
        (header(vocab=2), "vocab_size is 2"),
        (header(vocab=0), "vocab_size is 0"),
        (header(seq=0), "seq_len is 0"),
        (header(vocab=2**31 - 1), "but its header requires 5497"),
        (header(layers=2**31 - 1, dim=2**30), "but its header requires"),
        (header(vocab=-288), "but its header requires"),
        (lambda d: d[:28] + struct.pack("<f", np.nan) + d[32:], "token_embd.weight contains NaN"),
        (lambda d: d[:28] + struct.pack("<f", -np.inf) + d[32:], "token_embd.weight contains NaN"),
    ],
)
def test_bad_checkpoint(source, edit, message):
    source.checkpoint.write_bytes(edit(source.checkpoint.read_bytes()))
    check_refused(source, message, str(source.checkpoint))


@pytest.mark.parametrize(
    "edit,message",
    [
        (lambda d: b"", "not a llama2.c tokenizer (0 bytes)"),
        (lambda d: d[:4], "ends at token 0 of the checkpoint's 288: truncated, or of another"),
        (lambda d: d[:-1], "ends at token 287 of the checkpoint's 288"),
        (lambda d: d[:-10], "ends at token 286 of the checkpoint's 288"),
        (lambda d: d + struct.pack("<fi", 0, 1) + b"!", "more tokens than the checkpoint's 288"),
        (token(270, b"abc", length=-1), "token 270 has length -1"),
        (token(270, b"abc", length=2**31 - 1), "token 270 has length 2147483647"),
        (token(270, b""), "token 270 has length 0"),
        (token(270, b"seven.."), "token 270 has length 7"),
        (token(270, b"abc", score=np.nan), "token 270 has length 3 and score nan"),
        (token(270, b"\xff"), "token 270 is not UTF-8; export"),
        (token(270, b" t"), "token '▁t' occurs twice; export"),
        (token(1, b"the"), "token 1 is 'the', but llama2.c has <s>"),
    ],
)
def test_bad_tokenizer(source, edit, message):
    source.tokenizer.write_bytes(edit(source.tokenizer.read_bytes()))
    check_refused(source, message, str(source.tokenizer))


def check_refused(source, message, *parts, type_="F32"):
    """convert fails with one line that has `message` in it, and leaves the folder as it was."""
    source.out.write_bytes(b"what was there before")
    before = sorted(source.out.parent.iterdir())
    with pytest.raises(BadInput) as raised:
        source.convert(type_)
    line = str(raised.value)
    assert all(part in line for part in (message, *parts)), line
    assert "\n" not in line
    assert source.out.read_bytes() == b"what was there before"
    assert sorted(source.out.parent.iterdir()) == before


def test_rows_that_fit_no_block(tmp_path):
    source = make_source(tmp_path, dim=48)
    check_refused(
        source, "token_embd.weight: rows of 48 weights do not fit Q4_0: they must be a multiple of 32", type_="Q4_0"
    )
    check_refused(source, "use F16 or F32", type_="Q8_0")
    assert source.convert("F16").tensors == {"F32": 5, "F16": 15}


def test_weights_too_large_for_fp16(source):
    data = source.checkpoint.read_bytes()
    source.checkpoint.write_bytes(data[:28] + struct.pack("<f", 1e5) + data[32:])
    check_refused(source, "token_embd.weight has weights too large for F16; use F32", type_="F16")
    source.convert("F32")


def test_weights_too_small_for_a_scale_become_zero(source):
    data = source.checkpoint.read_bytes()
    source.checkpoint.write_bytes(data[:28] + struct.pack("<32f", *[1e-40] * 32) + data[156:])
    for type_ in ("Q8_0", "Q4_0"):
        source.convert(type_)
        row = GGUFReader(source.out).tensors[0].data[0]
        assert not dequantize(row[None], GGMLQuantizationType[type_])[0, :32].any()


def test_missing_files_and_bad_names(source):
    missing, folder = source.out.with_name("none"), source.out.parent
    for bad, message in (
        ({"checkpoint": missing}, "none: cannot be read: No such file"),
        ({"checkpoint": folder}, "is read from that folder; leave out --tokenizer"),
        ({"checkpoint": folder, "tokenizer": None}, "needs a config.json and safetensors files"),
        ({"tokenizer": missing}, "none: cannot be read: No such file"),
        ({"tokenizer": folder}, "cannot be read: not a regular file"),
        ({"checkpoint": Path("/dev/zero")}, "/dev/zero: cannot be read: not a regular file"),
        ({"out": folder}, "is a folder; give the name of a file"),
        ({"out": missing / "x.gguf"}, "its folder does not exist; create it first"),
        ({"out": source.checkpoint}, "is also an input; give another name"),
        ({"checkpoint": folder, "out": source.tokenizer}, "is also an input; give another name"),
        ({"out": Path("/dev/null")}, "is a device or a pipe; give the name of a file"),
    ):
        with pytest.raises(BadInput, match=message):
            dataclasses.replace(source, **bad).convert()
    with pytest.raises(BadInput, match="type Q7_K is unknown; use one of F32, F16, Q4_0, "):
        source.convert("Q7_K")
    assert sorted(p.name for p in folder.iterdir()) == ["small.bin", "tok.bin"]


def test_failure_to_write_leaves_nothing(source, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(RunFailed, match=r"small\.gguf: cannot be written: No space left"):
        source.convert()
    assert sorted(p.name for p in source.out.parent.iterdir()) == ["small.bin", "tok.bin"]


def test_full_disk_leaves_nothing(source):
    """A file size limit stands for the full disk; it strikes while tensors are written, or at the end."""
    folder = source.out.parent
    source.convert()
    size = source.out.stat().st_size
    source.out.unlink()
    command = [sys.executable, "-m", "tinyprof_bridge", "convert", source.checkpoint, "--tokenizer", source.tokenizer]
    for limit in (0, 1000, size // 2, size - 1):
        result = subprocess.run(
            [*command, "--type", "F32", "-o", source.out], capture_output=True, text=True,
            preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        )  # fmt: skip
        assert result.returncode == 1 and "small.gguf: cannot be written: " in result.stderr
        assert "Traceback" not in result.stderr
        assert sorted(p.name for p in folder.iterdir()) == ["small.bin", "tok.bin"]


@pytest.fixture(scope="module")
def shared_source(tmp_path_factory):
    source = make_source(tmp_path_factory.mktemp("mutated"), layers=1)
    return source, source.checkpoint.read_bytes(), source.tokenizer.read_bytes()


I32 = st.one_of(st.integers(-2, 600), st.integers(-(2**31), 2**31 - 1))
EDITS = st.lists(st.tuples(st.integers(0, 6), I32), max_size=7)
mutations = settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])


@mutations
@given(
    edits=EDITS,
    cut=st.one_of(st.none(), st.integers(0, 40), st.integers(0, 200000)),
    type_=st.sampled_from(TYPES),
)
@example(edits=[(i, 2**31 - 1) for i in range(7)], cut=None, type_="F32")
@example(edits=[(i, -(2**31)) for i in range(7)], cut=None, type_="Q4_0")
def test_any_header_is_read_or_refused(shared_source, edits, cut, type_):
    source, checkpoint, tokens = shared_source
    data = bytearray(checkpoint)
    for field, value in edits:
        struct.pack_into("<i", data, 4 * field, value)
    source.checkpoint.write_bytes(data[:cut])
    source.tokenizer.write_bytes(tokens)
    read_or_refuse(source, type_)


@mutations
@given(
    edits=st.lists(st.tuples(st.integers(0, 2**16), st.binary(min_size=1, max_size=4)), max_size=4),
    cut=st.one_of(st.none(), st.integers(0, 5000)),
)
def test_any_tokenizer_is_read_or_refused(shared_source, edits, cut):
    source, checkpoint, tokens = shared_source
    data = bytearray(tokens)
    for at, patch in edits:
        data[at % len(data) : at % len(data) + len(patch)] = patch
    source.checkpoint.write_bytes(checkpoint)
    source.tokenizer.write_bytes(data[:cut])
    read_or_refuse(source, "Q4_0")


def read_or_refuse(source, type_):
    """Anything but BadInput fails the test; what is converted must be readable."""
    try:
        source.convert(type_)
    except BadInput as error:
        assert "\n" not in str(error)
    else:
        tokens = metadata(GGUFReader(source.out), "tokenizer.ggml.tokens")
        assert len(tokens) == SIZES["vocab"]


@pytest.fixture(scope="module")
def stories(tmp_path_factory):
    """Path of stories260K by type."""
    folder = tmp_path_factory.mktemp("stories")
    paths = {type_: folder / f"{type_}.gguf" for type_ in TYPES}
    for type_, path in paths.items():
        convert(DATA / "stories260K.bin", DATA / "tok512.bin", path, type_)
    return paths


@needs_stories
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_stories_give_the_text_of_llama2c(stories, dtype):
    """`run stories260K.bin -t 0 -n 200` with no prompt.

    run.c starts with BOS alone (an empty prompt gets no space put before it) and runs the model
    200 times, at positions 0 to 199; no BOS comes up, so it prints 200 tokens. The space that
    begins the first of them is left out as it follows BOS. A newline is printed at the end.
    """
    model = Reference(stories["F32"], dtype=dtype)
    tokens = model.greedy([1], 200)
    assert len(tokens) == 1 + 200
    golden = (DATA / "stories260K.greedy200.txt").read_text()
    assert decode(model.reader, tokens) + "\n" == golden


@needs_stories
@pytest.mark.parametrize("type_,least", [("F16", 200), ("Q8_0", 195), ("Q4_0", 170)])
def test_quantized_stories_mostly_choose_the_same_tokens(stories, type_, least):
    tokens = Reference(stories["F32"]).greedy([1], 200)
    for act_q8 in (False, True):
        choices = Reference(stories[type_], act_q8=act_q8).logits(tokens[:-1]).argmax(axis=1)
        assert (choices == tokens[1:]).sum() >= least


@needs_stories
def test_tokens_of_stories(stories):
    model = Reference(stories["F32"])
    assert encode(model.reader, "Once upon a time") == model.greedy([1], 4)
    assert encode(model.reader, "") == [1]
    for text in ("Lily's mom", " two  spaces ", "line\nbreak", "Zoë 日本 🙂"):
        assert decode(model.reader, encode(model.reader, text)) == text


RANDOM_MODELS = (
    {},
    {"tied": False, "rope_scale": 4.0},
    {"rope_base": 500000.0, "eps": 1e-3, "vocab": 400},
    {"dim": 128, "heads": 8, "kv_heads": 1, "hidden": 160},
    {"head_dim": 32},
    {"architecture": "qwen3", "head_dim": 32},
    {"architecture": "gemma", "dim": 96, "head_dim": 32},
    {"architecture": "qwen2", "tied": False, "rope_base": 1e6},
)
LLAMA_CPP_SAMPLES = ("", " ", "the cat in a boat", "Zoë 日", "a\nb  c")


def llama_cpp_logits(path, tokens):
    """Logits (n, vocab) of llama.cpp, with its KV cache in float32; checks its tokenizer too."""
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    model = llama_cpp.Llama(str(path), n_ctx=256, logits_all=True, verbose=False, type_k=0, type_v=0, flash_attn=False)
    reader = GGUFReader(path)
    for text in LLAMA_CPP_SAMPLES:
        assert model.tokenize(text.encode()) == encode(reader, text)
    model.eval(tokens)
    return model.scores[: len(tokens)].copy()


@pytest.mark.parametrize("options", RANDOM_MODELS)
@pytest.mark.parametrize("type_", ["F32", "Q8_0", "Q4_0"])
def test_llama_cpp_agrees_on_random_models(tmp_path, type_, options):
    path = make_model(tmp_path / "random.gguf", type_=type_, **options)
    tokens = [1, *np.random.default_rng(3).integers(3, 288, 3).tolist()]
    logits = llama_cpp_logits(path, tokens)
    difference = np.abs(Reference(path, act_q8="llama.cpp").logits(tokens) - logits).max()
    assert difference < 1e-4


@needs_stories
@pytest.mark.parametrize("type_", TYPES)
def test_llama_cpp_agrees_on_stories(stories, type_):
    model = Reference(stories[type_], act_q8="llama.cpp")
    tokens = Reference(stories["F32"]).greedy([1], 199)
    logits = llama_cpp_logits(stories[type_], tokens)
    differences = np.abs(model.logits(tokens) - logits).max(axis=1)
    # llama.cpp rounds activations to fp16 for F16 weights; for the others see Reference.
    assert differences[:8].max() < (0.02 if type_ == "F16" else 1e-4)
    assert differences.max() < {"F32": 1e-4, "F16": 0.02}.get(type_, 1)
    assert (model.logits(tokens).argmax(axis=1) == logits.argmax(axis=1)).sum() >= 197


def test_what_is_wrong_is_told_before_calibrating(source):
    """The text, which is not there, is not asked for."""
    given = ["convert", source.checkpoint, "--tokenizer", source.tokenizer, "--calibration", "none.txt"]
    recipe = source.out.with_suffix(".toml")
    recipe.write_text('"other" = "Q8_0"')
    for options, message in (
        (["-o", source.out.parent / "none" / "x.gguf"], "its folder does not exist"),
        (["-o", source.out, "--recipe", recipe], "matches none of the model's matrices"),
        (["-o", source.out, "--type", "keep"], "type keep quantizes nothing"),
        (["-o", source.out], "none.txt: cannot be read"),
    ):
        result = bridge(*given, *options)
        assert result.returncode == 2 and message in result.stderr and not source.out.exists()


def test_the_demo_model_is_converted_by_its_name(tmp_path):
    result = bridge("convert", "demo", "--type", "Q8_0", "-o", tmp_path / "q8.gguf")
    assert result.returncode == 0 and "29 Q8_0" in result.stdout, result.stderr
