"""The reader on the board: what it accepts, and that no damaged file gets past it or crashes it."""

import random
import struct

import numpy as np
import pytest
from device_code import FUZZ, LOAD
from gguf import GGUFReader, GGUFValueType
from models import make_model
from on_board import ON_BOARDS, board
from tinyprof_bridge.quantize import weight_types


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("reader") / "good.gguf", type_="Q4_0", context=32)


def load_patched(tmp_path, model, old, new, name="unix"):
    data = model.read_bytes()
    assert data.count(old) >= 1, old
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(data.replace(old, new, 1))
    with board(name, bad) as b:
        return b.run(LOAD.format(source=b.source))


@pytest.mark.parametrize("name", ON_BOARDS)
def test_loads(name, model):
    with board(name, model) as b:
        assert "loaded <random-1: 2 layers" in b.run(LOAD.format(source=b.source))


SQRT = """
from tinyprof.llama import _sqrt_bits
print([_sqrt_bits(n) for n in {numbers!r}])
"""


@pytest.mark.parametrize("name", ON_BOARDS)
def test_roots_by_integers_are_the_nearest_floats(name):
    numbers = [*range(1, 400), 2048, 3072, (1 << 24) - 1, 1 << 24]
    with board(name) as b:
        ours = eval(b.run(SQRT.format(numbers=numbers)))
    assert ours == np.sqrt(np.array(numbers, np.float64)).astype("<f4").view("<u4").tolist()


def key(name, value):
    """The bytes of an u32 key."""
    return struct.pack("<Q", len(name)) + name.encode() + struct.pack("<II", 4, value)


@pytest.mark.parametrize(
    "old,new,message",
    [
        (b"GGUF\x03", b"GGUX\x03", "not a GGUF file"),
        (b"GGUF\x03", b"GGUF\x02", "GGUF version 2 is not supported"),
        (b"\x05\x00\x00\x00\x00\x00\x00\x00llama", b"\x05\x00\x00\x00\x00\x00\x00\x00bloom",
         "general.architecture 'bloom' is not supported"),
        (key("llama.block_count", 2), key("llama.block_count", 3), "tensor blk.2.attn_q.weight is missing"),
        (key("llama.block_count", 2), key("llama.block_count", 1), "tensor blk.1.attn_k.weight is not supported"),
        (key("llama.attention.head_count", 4), key("llama.attention.head_count", 5), "does not divide"),
        (key("llama.embedding_length", 64), key("llama.embedding_length", 128), "is 288 x 64, not 288 x 128"),
        (b"llama.context_length", b"llama.context_lengtX", "key llama.context_length is missing"),
        (b"tokenizer.ggml.scores", b"tokenizer.ggml.scoreX", "array tokenizer.ggml.scores is missing"),
        (b"blk.1.ffn_up.weight", b"blk.1.ffn_up.biased", "tensor blk.1.ffn_up.weight is missing"),
        (b"blk.1.ffn_up.weight", b"blk.0.ffn_up.weight", "tensor blk.0.ffn_up.weight is there twice"),
        (b"llama.rope.freq_base", b"llama.context_length", "key llama.context_length is there twice"),
    ],
)  # fmt: skip
def test_says_what_is_not_supported(old, new, message, model, tmp_path):
    text = load_patched(tmp_path, model, old, new)
    assert text.startswith("ModelError") and message in text and text.count("\n") <= 1


@pytest.mark.parametrize("type_,rows,together", [("TP2", 289, "pairs"), ("TP3", 290, "fours")])
def test_rows_that_cannot_lie_together_are_refused(type_, rows, together, tmp_path):
    model = make_model(tmp_path / "good.gguf", type_="Q8_0", vocab=rows, context=32)
    old, new = (
        b"token_embd.weight" + struct.pack("<IQQI", 2, 64, rows, weight_types.TYPES[t].id) for t in ("Q8_0", type_)
    )
    text = load_patched(tmp_path, model, old, new)
    assert text.strip() == (
        f"ModelError tensor token_embd.weight: {type_} keeps rows in {together}, and there are {rows}"
    )


U32, F32, STRING, BOOL = GGUFValueType.UINT32, GGUFValueType.FLOAT32, GGUFValueType.STRING, GGUFValueType.BOOL
ARRAY = GGUFValueType.ARRAY


@pytest.mark.parametrize(
    "name,value,type_",
    [
        ("general.architecture", 1, U32),
        ("general.name", 1, U32),
        ("general.alignment", "32", STRING),
        ("llama.block_count", "2", STRING),
        ("llama.block_count", 2.0, F32),
        ("llama.block_count", True, BOOL),
        ("llama.block_count", [2], ARRAY),
        ("llama.embedding_length", [64, 64], ARRAY),
        ("llama.context_length", "", STRING),
        ("llama.attention.head_count", "4", STRING),
        ("llama.attention.head_count_kv", "2", STRING),
        ("llama.attention.head_count_kv", [2, 1], ARRAY),
        ("llama.attention.head_count_kv", [2, 2, 2], ARRAY),
        ("llama.attention.head_count_kv", ["2", "2"], ARRAY),
        ("llama.attention.key_length", "16", STRING),
        ("llama.attention.layer_norm_rms_epsilon", 1, U32),
        ("llama.attention.sliding_window", "no", STRING),
        ("llama.expert_count", [0], ARRAY),
        ("llama.rope.dimension_count", 16.0, F32),
        ("llama.rope.freq_base", [1.0], ARRAY),
        ("llama.rope.scaling.type", 1, U32),
        ("llama.rope.scaling.factor", "2", STRING),
        ("tokenizer.ggml.model", 1, U32),
        ("tokenizer.ggml.bos_token_id", "1", STRING),
        ("tokenizer.ggml.add_bos_token", "yes", STRING),
        ("tokenizer.ggml.add_space_prefix", [True], ARRAY),
    ],
)
def test_keys_of_the_wrong_type(name, value, type_, tmp_path):
    bad = make_model(tmp_path / "bad.gguf", keys={name: (value, type_)})
    with board("unix", bad) as b:
        text = b.run(LOAD.format(source=b.source))
    assert text.startswith("ModelError") and name in text and text.count("\n") <= 1, text


@pytest.mark.parametrize(
    "name,value",
    [
        ("llama.attention.head_count", [4, 4]),
        ("llama.attention.head_count_kv", [2, 2]),
        ("llama.feed_forward_length", [96, 96]),
    ],
)
def test_one_number_for_each_layer(name, value, tmp_path):
    per_layer = make_model(tmp_path / "x.gguf", keys={name: (value, ARRAY)})
    with board("unix", per_layer) as b:
        code = f"import tinyprof\na = tinyprof.load({b.source!r}).arch\nprint(a.heads, a.kv_heads, a.hidden)"
        assert b.run(code).split() == ["4", "2", "96"]


FACTOR, OLD_FACTOR, KIND = "llama.rope.scaling.factor", "llama.rope.scale_linear", "llama.rope.scaling.type"


@pytest.mark.parametrize(
    "keys,scale",
    [
        ({}, 1.0),
        ({FACTOR: (4.0, F32)}, 4.0),  # as in llama.cpp, linear is the type where none stands
        ({OLD_FACTOR: (4.0, F32)}, 4.0),
        ({FACTOR: (4.0, F32), KIND: ("linear", STRING)}, 4.0),
        ({FACTOR: (2.0, F32), OLD_FACTOR: (4.0, F32)}, 2.0),
        ({FACTOR: (4.0, F32), KIND: ("none", STRING)}, 1.0),
        ({OLD_FACTOR: (4.0, F32), KIND: ("none", STRING)}, 1.0),
        ({FACTOR: (0.0, F32)}, 1.0),
    ],
)
def test_rope_scaling_is_read_as_llama_cpp_reads_it(keys, scale, tmp_path):
    scaled = make_model(tmp_path / "x.gguf", keys=keys)
    with board("unix", scaled) as b:
        bits = int(b.run(f"import tinyprof\nprint(tinyprof.load({b.source!r}).arch.keys.rope_scale)"))
    assert struct.unpack("<f", struct.pack("<I", bits))[0] == scale


@pytest.mark.parametrize("options", ["batch=0", "context=0", "context=-1"])
def test_sizes_that_make_no_sense(options, model):
    with board("unix", model) as b:
        code = LOAD.format(source=b.source).replace("context=16", options)
        assert b.run(code).startswith("ModelError batch and context must be positive")


def test_unknown_tensor_type(model, tmp_path):
    tensor = next(t for t in GGUFReader(model).tensors if t.name == "blk.0.attn_q.weight")
    data = bytearray(model.read_bytes())
    at = data.find(b"blk.0.attn_q.weight") + len("blk.0.attn_q.weight") + 4 + 16
    assert struct.unpack_from("<I", data, at)[0] == int(tensor.tensor_type)
    struct.pack_into("<I", data, at, 9)
    (tmp_path / "bad.gguf").write_bytes(data)
    with board("unix", tmp_path / "bad.gguf") as b:
        assert "blk.0.attn_q.weight has type 9, which is not supported: F16 F32 " in b.run(LOAD.format(source=b.source))


def test_every_truncation_is_noticed(model):
    size = model.stat().st_size
    used = max(int(t.data_offset + t.n_bytes) for t in GGUFReader(model).tensors)
    cuts = [*range(0, 64), *range(64, used, used // 150), used - 1]
    with board("unix", model) as b:
        lines = b.run(FUZZ.format(source=b.source, cases=[(c, []) for c in cuts])).splitlines()
    assert len(lines) == len(cuts) and size >= used
    assert all(line.startswith("ModelError") for line in lines), [x for x in lines if x == "ok"]


@pytest.mark.parametrize("name,count", [("unix", 1500), ("unix-asan", 1500), ("m4", 60)])
def test_damaged_files_are_refused_or_run(name, count, model):
    """Mutations of the header: an answer for each, no crash, no other exception."""
    header = min(int(t.data_offset) for t in GGUFReader(model).tensors)
    size = model.stat().st_size
    rng = random.Random(5)
    hostile = [b"\xff" * 8, b"\xff" * 4, b"\x00" * 8, b"\x7f", b"\x80", b"\x01", b"\xff\xff\xff\x7f", b"\x00"]
    cases = []
    for _ in range(count):
        patches = [(rng.randrange(header), rng.choice(hostile)) for _ in range(rng.choice((1, 1, 2, 4)))]
        cases.append((rng.choice((size, size, size, rng.randrange(size))), patches))
    try:
        with board(name, model) as b:
            lines = []
            for at in range(0, count, 20):
                lines += b.run(FUZZ.format(source=b.source, cases=cases[at : at + 20])).splitlines()
    except Exception as error:
        if name == "unix-asan" and "no firmware" in str(error):
            pytest.skip("the unix port with sanitizers is not built (SANITIZE=1 make firmware BOARDS=unix)")
        raise
    assert len(lines) == count
    assert all(line == "ok" or line.startswith("ModelError") for line in lines)
    assert any(line == "ok" for line in lines) and any(line != "ok" for line in lines)


def test_infinite_scales_are_refused(model, tmp_path):
    tensor = next(t for t in GGUFReader(model).tensors if t.name == "blk.1.ffn_up.weight")
    data = bytearray(model.read_bytes())
    at = tensor.data_offset + 3 * (tensor.data.nbytes // tensor.data.shape[0])
    data[at : at + 2] = b"\x00\x7c"
    (tmp_path / "bad.gguf").write_bytes(data)
    with board("unix", tmp_path / "bad.gguf") as b:
        text = b.run(LOAD.format(source=b.source))
    assert "ModelError tensor blk.1.ffn_up.weight holds infinite values, or what is no number" in text


@pytest.mark.parametrize(
    "architecture,old,new,message",
    [
        ("qwen2", b"blk.1.attn_k.bias", b"blk.1.attn_x.bias", "tensor blk.1.attn_k.bias is missing"),
        ("qwen2", b"qwen2.block_count", b"qwen2.block_couns", "key qwen2.block_count is missing"),
        ("qwen3", b"blk.0.attn_q_norm.w", b"blk.0.attn_x_norm.w", "tensor blk.0.attn_q_norm.weight is missing"),
        ("gemma", key("gemma.attention.key_length", 32), key("gemma.attention.key_length", 0), "is 0: not a usable"),
        ("gemma", key("gemma.attention.key_length", 32), key("gemma.attention.key_length", 16), "16 is not supported"),
        (
            "gemma",
            key("gemma.rope.dimension_count", 32),
            key("gemma.rope.dimension_count", 31),
            "dimension_count is 31",
        ),
        ("gemma", b"gemma.context", b"gemmX.context", "key gemma.context_length is missing"),
    ],
)
def test_other_architectures_are_checked_as_well(tmp_path, architecture, old, new, message):
    model = make_model(tmp_path / "good.gguf", architecture=architecture, head_dim=32)
    assert message in load_patched(tmp_path, model, old, new)
