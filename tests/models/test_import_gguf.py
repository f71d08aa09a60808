"""GGUF files in: of any type, requantized or kept; the reference gives the same logits, and bad files one line."""

import struct

import numpy as np
import pytest
from fuzzing import CASES, Fields, fuzz, patches, refused_or_read
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter
from gguf.quants import dequantize, quantize
from hypothesis import given
from hypothesis import strategies as st
from models import SMALLEST_VOCAB, add_tokenizer, make_model
from on_board import DATA, NO_DATA
from reference import Reference, metadata
from tinyprof_bridge.errors import BadInput
from tinyprof_bridge.models import convert
from tinyprof_bridge.models.demo import DEMO_MODEL
from tinyprof_bridge.quantize import weight_types

TOKENS = [1, 270, 40, 280, 3, 259]
OPTIONS = {"dim": 256, "hidden": 256, "heads": 4, "kv_heads": 2, "layers": 1}


def convert_to(path, out, type_="F32"):
    return convert.convert(path, None, out, type_)


def written(path, type_):
    """A random model with matrices of any type that gguf can pack."""
    source = GGUFReader(make_model(path.with_name("f32.gguf"), **OPTIONS))
    writer = GGUFWriter(path, "llama")
    for key, value in {"embedding_length": 256, "block_count": 1, "feed_forward_length": 256}.items():
        writer.add_uint32(f"llama.{key}", value)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_context_length(64)
    writer.add_layer_norm_rms_eps(1e-5)
    add_tokenizer(writer, SMALLEST_VOCAB)
    for tensor in source.tensors:
        matrix = tensor.data.ndim == 2
        data = quantize(tensor.data, type_) if matrix else tensor.data
        writer.add_tensor(tensor.name, data, raw_dtype=type_ if matrix else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


PACKED_BY_GGUF = ("F16", "BF16", "Q8_0", "Q4_1", "Q5_0", "TQ2_0")


@pytest.mark.parametrize("type_", PACKED_BY_GGUF)
def test_f32_of_any_type_gives_the_same_logits(tmp_path, type_):
    source = written(tmp_path / "in.gguf", GGMLQuantizationType[type_])
    convert_to(source, tmp_path / "out.gguf")
    expected = Reference(source).logits(TOKENS)
    assert np.abs(Reference(tmp_path / "out.gguf").logits(TOKENS) - expected).max() < 1e-5


def test_all_types_of_llama_cpp_are_unpacked(tmp_path):
    """gguf packs few of them, so their bytes are random, with scales that are small numbers."""
    rng = np.random.default_rng(1)
    types = [t for t in GGMLQuantizationType if t.name[:2] in ("IQ", "MX", "Q2", "Q3", "Q4", "Q5", "Q6", "Q8", "TQ")]
    unknown = ("Q8_1", "Q8_K")  # of activations
    for type_ in types:
        source, out = make_model(tmp_path / "in.gguf", dim=256, hidden=256, heads=4, layers=1), tmp_path / "out.gguf"
        reader = GGUFReader(source)
        old = next(t for t in reader.tensors if t.name == "blk.0.attn_q.weight")
        rows = rng.integers(0, 50, quantize_bytes(type_, 256, 256)).astype(np.uint8)
        data = bytearray(source.read_bytes())
        at = find_tensor(data, old.name)
        struct.pack_into("<I", data, at, type_.value)
        data[old.data_offset : old.data_offset + rows.size] = rows.tobytes()
        source.write_bytes(data)
        if type_.name in unknown:
            with pytest.raises(BadInput, match=f"type {type_.name} cannot be dequantized"):
                convert_to(source, out)
            continue
        convert_to(source, out)
        mine = next(t for t in GGUFReader(out).tensors if t.name == old.name).data
        np.testing.assert_array_equal(mine, dequantize(rows.reshape(256, -1), type_), err_msg=type_.name)


def quantize_bytes(type_, rows, cols):
    values, size = GGML_QUANT_SIZES[type_]
    return rows * cols // values * size


def find_tensor(data, name):
    """Where the type of a matrix stands in the header."""
    raw = struct.pack("<Q", len(name)) + name.encode()
    return data.index(raw) + len(raw) + 4 + 16


@pytest.mark.parametrize("type_", ["F32", "Q8_0", "Q4_K"])
def test_keep_keeps_every_byte(tmp_path, type_):
    source = make_model(tmp_path / "in.gguf", type_=type_, rope_scale=2.0, rope_base=5e4, eps=1e-3, **OPTIONS)
    summary = convert_to(source, tmp_path / "out.gguf", "KEEP")
    before, after = GGUFReader(source), GGUFReader(tmp_path / "out.gguf")
    for old, new in zip(before.tensors, after.tensors, strict=True):
        assert (old.name, old.tensor_type) == (new.name, new.tensor_type)
        np.testing.assert_array_equal(old.data, new.data)
    keys = [k for k in before.fields if k.startswith(("llama.", "tokenizer.")) or k == "general.name"]
    assert {k: metadata(before, k) for k in keys} == {k: metadata(after, k) for k in keys}
    assert summary.tensors[type_] == (11 if type_ == "F32" else 8)


@pytest.mark.parametrize("type_", ["TP2", "TP3", "TPT"])
def test_our_own_types_are_kept_and_unpacked(tmp_path, type_):
    source, out = make_model(tmp_path / "in.gguf", type_=type_), tmp_path / "out.gguf"
    convert_to(source, out, "KEEP")
    before, after = convert.read(source, None), convert.read(out, None)
    for name, tensor in before.tensors.items():
        rows, cols = tensor.matrix
        raw = tensor.raw(0, rows)
        np.testing.assert_array_equal(raw, after.tensors[name].raw(0, rows))
        expected = weight_types.dequantize(raw, tensor.type, cols)
        np.testing.assert_array_equal(tensor.rows(0, rows), expected)
    convert_to(source, out, "F32")


def test_requantizing_is_quantizing_what_was_there(tmp_path):
    source = make_model(tmp_path / "in.gguf", type_="Q8_0", **OPTIONS)
    convert_to(source, tmp_path / "out.gguf", "Q4_0")
    for old, new in zip(GGUFReader(source).tensors, GGUFReader(tmp_path / "out.gguf").tensors, strict=True):
        if old.data.ndim == 2:
            values = dequantize(old.data, old.tensor_type)
            np.testing.assert_array_equal(new.data, weight_types.quantize(values, "Q4_0"))


def test_what_goes_with_the_weights(tmp_path):
    keys = {
        "general.license": ("mit", GGUFValueType.STRING),
        "tokenizer.ggml.add_space_prefix": (False, GGUFValueType.BOOL),
    }
    source = make_model(tmp_path / "in.gguf", keys=keys)
    convert_to(source, tmp_path / "out.gguf")
    reader = GGUFReader(tmp_path / "out.gguf")
    assert metadata(reader, "general.license") == "mit"
    assert metadata(reader, "tokenizer.ggml.add_space_prefix") is False
    assert metadata(reader, "general.name") == "random-1"


def test_version_2_is_read(tmp_path):
    source = make_model(tmp_path / "in.gguf")
    data = bytearray(source.read_bytes())
    data[4] = 2
    source.write_bytes(data)
    convert_to(source, tmp_path / "out.gguf")
    data[4] = 3
    source.write_bytes(data)
    np.testing.assert_array_equal(
        Reference(tmp_path / "out.gguf").logits(TOKENS[:2]), Reference(source).logits(TOKENS[:2])
    )


def patched(at, form, value):
    def edit(data):
        data = bytearray(data)
        struct.pack_into(form, data, at, value)
        return bytes(data)

    return edit


def string(key, value):
    """Replaces a string of five bytes."""

    def edit(data):
        at = data.index(key) + len(key) + 12
        return data[:at] + value + data[at + len(value) :]

    return edit


@pytest.mark.parametrize(
    "edit,message",
    [
        (lambda d: d[:20], "not a GGUF file"),
        (lambda d: d[:5000], "truncated GGUF"),
        (lambda d: d[:-1], "truncated GGUF: tensor"),
        (patched(4, "<I", 1), "GGUF version 1 is not supported"),
        (patched(4, ">I", 3), "big-endian"),
        (patched(8, "<Q", 2**63), "damaged GGUF header"),
        (patched(16, "<Q", 2**40), "damaged GGUF header"),
        (
            string(b"general.architecture", b"bloom"),
            "general.architecture 'bloom' is not supported: only llama, qwen2, qwen3, gemma, gemma2, gemma3",
        ),
        (lambda d: d.replace(b"blk.1.attn_q.weight", b"blk.1.attn_x.weight"), "blk.1.attn_q.weight is missing"),
        (string(b"tokenizer.ggml.model", b"gpt-2"), "tokenizer.ggml.model 'gpt-2' is not supported"),
        (lambda d: d.replace(b"<0x41>", b"<0x\xff1>"), "token 68 is not UTF-8"),
        (lambda d: d[:-4] + struct.pack("<f", np.nan), "blk.1.ffn_up.weight contains NaN"),
    ],
)
def test_bad_files(tmp_path, edit, message):
    source, out = make_model(tmp_path / "in.gguf"), tmp_path / "out.gguf"
    data = bytearray(edit(source.read_bytes()))
    if message.endswith("NaN"):
        last = max(GGUFReader(source).tensors, key=lambda t: t.data_offset)
        struct.pack_into("<f", data, last.data_offset, np.nan)
        message = message.replace("blk.1.ffn_up.weight", last.name)
    source.write_bytes(data)
    with pytest.raises(BadInput) as raised:
        convert_to(source, out)
    assert message in str(raised.value) and "\n" not in str(raised.value)
    assert not out.exists()


def test_parts_of_a_model(tmp_path):
    """The first has all keys, later ones none but these; as llama.cpp splits them."""
    count = ("split.count", 3, GGUFValueType.UINT16)
    make_model(tmp_path / "m-00001-of-00003.gguf", keys={count[0]: count[1:]})
    writer = GGUFWriter(tmp_path / "m-00002-of-00003.gguf", "")
    writer.kv_data[0].clear()
    writer.add_key_value(*count)
    writer.add_tensor("blk.1.attn_q.weight", np.zeros((64, 64), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    for part in sorted(tmp_path.glob("m-*")):
        with pytest.raises(BadInput, match=r"join all parts .* llama-gguf-split --merge m-00001-of-00003\.gguf OUT"):
            convert_to(part, tmp_path / "out.gguf")


def test_what_boards_refuse_is_noted(tmp_path):
    out = tmp_path / "out.gguf"
    assert convert_to(make_model(tmp_path / "in.gguf"), out).notes == ()
    out.write_bytes(string(b"general.architecture", b"bloom")(out.read_bytes()))
    (note,) = convert.refusal(out)
    assert note.startswith(
        "boards refuse this model: general.architecture 'bloom' is not supported: only llama, qwen2,"
    )


def test_types_to_keep(tmp_path):
    source = written(tmp_path / "in.gguf", GGMLQuantizationType.BF16)
    with pytest.raises(BadInput, match=r"no board has kernels for the type of token_embd\.weight; give another --type"):
        convert_to(source, tmp_path / "out.gguf", "KEEP")


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = make_model(tmp_path_factory.mktemp("fuzz") / "good.gguf", type_="Q4_0", layers=1)
    return path, path.read_bytes(), Fields(path.read_bytes()).found


@fuzz(60)
@given(case=CASES, type_=st.sampled_from(["F32", "Q8_0", "TP2", "KEEP"]))
def test_damaged_files_are_read_or_refused(good, case, type_):
    """No crash, no hang, and not much more memory than twice the file."""
    path, data, fields = good
    edits, cut = case
    damaged = bytearray(data[:cut])
    for at, new in patches(fields, data, edits):
        damaged[at : at + len(new)] = new
    source, out = path.with_name("damaged.gguf"), path.with_name("out.gguf")
    source.write_bytes(damaged)
    with refused_or_read(len(data)):
        convert_to(source, out, type_)


@pytest.mark.skipif(not (DATA / "stories260K.bin").exists(), reason=NO_DATA)
@pytest.mark.parametrize("type_", ["F32", "Q8_0"])
def test_stories(tmp_path, type_):
    """Through GGUF and back: the text is llama2.c's."""
    convert.convert(DATA / "stories260K.bin", DATA / "tok512.bin", tmp_path / "in.gguf", type_)
    convert_to(tmp_path / "in.gguf", tmp_path / "out.gguf")
    before, after = Reference(tmp_path / "in.gguf"), Reference(tmp_path / "out.gguf")
    tokens = before.greedy([1], 60)
    assert after.greedy([1], 60) == tokens
    assert np.abs(before.logits(tokens[:20]) - after.logits(tokens[:20])).max() < 1e-5


def test_the_demo_model_again_in_other_types(tmp_path):
    source = DEMO_MODEL
    convert_to(source, tmp_path / "keep.gguf", "KEEP")
    tokens = [1, 300, 200, 17]
    expected = Reference(source).logits(tokens)
    np.testing.assert_array_equal(Reference(tmp_path / "keep.gguf").logits(tokens), expected)
    convert_to(source, tmp_path / "q8.gguf", "Q8_0")
    assert np.abs(Reference(tmp_path / "q8.gguf").logits(tokens) - expected).max() < 0.2
