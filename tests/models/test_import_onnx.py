"""ONNX exports in: the weights are found whatever their names, the logits are the graph's, and what is no llama,
damaged or hostile gets one line."""

import json
import warnings

import numpy as np
import pytest
from checkpoints import tokenizer_bytes
from hf_folders import CONFIG, state, tokenizer_json
from models import make_model
from on_board import DATA, NO_DATA
from reference import Reference
from tinyprof_bridge.errors import BadInput
from tinyprof_bridge.models.convert import convert
from tinyprof_bridge.models.formats import rope

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
from onnx_llama import build, write  # noqa: E402

TOKENS = [1, 270, 40, 280, 3, 259]


@pytest.fixture
def source(tmp_path):
    (tmp_path / "tok.bin").write_bytes(tokenizer_bytes(288))
    return make_model(tmp_path / "source.gguf", tied=False)


def convert_to(path, type_="F32"):
    return convert(path, path.with_name("tok.bin"), path.with_name("out.gguf"), type_)


def logits(path):
    return Reference(path).logits(TOKENS)


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("gemm", [False, True])
@pytest.mark.parametrize("halves", [False, True])
def test_logits_are_the_source_s(tmp_path, source, halves, gemm, external):
    path = write(tmp_path / "m.onnx", build(source, halves=halves, gemm=gemm), external)
    summary = convert_to(path)
    np.testing.assert_array_equal(logits(tmp_path / "out.gguf"), logits(source))
    assert "logits match its graph's within" in summary.notes[0]
    assert (tmp_path / "m.onnx.data").exists() == external


@pytest.mark.parametrize(
    "options",
    [
        {"rope_base": 50000.0, "rope_scale": 4.0, "eps": 1e-3},
        {"heads": 8, "kv_heads": 8, "tied": True, "rope_base": 1e6},
        {"heads": 2, "kv_heads": 1, "layers": 1, "eps": 1e-6},
    ],
)
def test_sizes_are_read_from_the_graph(tmp_path, source, options):
    make_model(source, **options)
    names = {"rope_base": "base", "rope_scale": "scale", "eps": "eps", "heads": "heads", "kv_heads": "kv_heads"}
    model = build(source, **{names[k]: v for k, v in options.items() if k in names}, length=16)
    convert_to(write(tmp_path / "m.onnx", model))
    np.testing.assert_array_equal(logits(tmp_path / "out.gguf"), logits(source))
    ours, theirs = Reference(tmp_path / "out.gguf"), Reference(source)
    assert ours.weights.keys() == theirs.weights.keys()
    for key in ("rope.freq_base", "attention.head_count", "attention.head_count_kv"):
        assert ours.get(key) == theirs.get(key)


def test_half_precision(tmp_path, source):
    convert_to(write(tmp_path / "m.onnx", build(source, dtype=np.float16, base=20000.0)))
    make_model(source, tied=False, rope_base=20000.0)
    assert Reference(tmp_path / "out.gguf").get("rope.freq_base") == 20000
    assert 0 < np.abs(logits(tmp_path / "out.gguf") - logits(source)).max() < 0.05


def test_a_folder_s_config_and_tokenizer(tmp_path, source):
    path = write(tmp_path / "m.onnx", build(source))
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer_json()))
    convert(path, None, tmp_path / "out.gguf", "F32")
    assert Reference(tmp_path / "out.gguf").context == 64
    for change, message in (
        ({"rms_norm_eps": 1e-2}, "the graph's logits differ from those of a llama with its weights"),
        ({"rope_theta": 500.0}, "the graph's logits differ from those of a llama with its weights"),
        ({"num_attention_heads": 8}, "the model's sizes require"),
        ({"model_type": "gpt2"}, "'gpt2' is not supported"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(CONFIG | change))
        refused(path, message)


def refused(path, message):
    path.with_name("out.gguf").unlink(missing_ok=True)
    with pytest.raises(BadInput) as raised:
        convert_to(path, "Q8_0")
    line = str(raised.value)
    assert message in line and "\n" not in line and len(line) < 500, line
    assert not path.with_name("out.gguf").exists()


def edited(op, edit):
    """Changes the last node of this kind."""

    def change(model):
        edit(next(n for n in reversed(model.graph.node) if n.op_type == op), model)

    return change


def name(old, new):
    return edited(old, lambda node, model: setattr(node, "op_type", new))


def swap(node, model):
    node.input[0], node.input[1] = node.input[1], node.input[0]


def bias(node, model):
    new = onnx.helper.make_node("Add", ["biased", "bias"], [node.output[0]])
    node.output[0] = "biased"
    model.graph.node.append(new)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(288, np.float32), "bias"))


def constant(index, edit):
    def change(model):
        tensors = [i for i in model.graph.initializer if len(i.dims) == 2 and i.data_type == 1]
        edit(tensors[index])

    return change


@pytest.mark.parametrize(
    "change,message",
    [
        (name("Sigmoid", "Tanh"), "it has GELU, but a llama has SiLU"),
        (name("Sigmoid", "Cos"), "feed-forward part of layer 1 is not gated by SiLU"),
        (name("Softmax", "Sigmoid"), "the graph's logits differ"),
        (edited("Sqrt", lambda n, m: setattr(n, "op_type", "Exp")), "the graph's logits differ"),
        (edited("MatMul", swap), "cannot be run"),
        (edited("MatMul", bias), "a product has biases"),
        (edited("Sigmoid", lambda n, m: setattr(n, "domain", "com.microsoft")), "com.microsoft.Sigmoid is not"),
        (edited("Sigmoid", lambda n, m: n.input.__setitem__(0, "gone")), "cannot be run"),
        (edited("Gather", lambda n, m: m.graph.node.remove(n)), "cannot be run"),
        (constant(-1, lambda t: t.dims.append(2)), "which do not match its shape"),
        (constant(-1, lambda t: t.dims.__setitem__(0, -1)), "which do not match its shape"),
        (constant(-1, lambda t: setattr(t, "data_type", 16)), "of a type that is not supported"),
        (constant(-1, lambda t: setattr(t, "raw_data", t.raw_data[:-4])), "which do not match its shape"),
        (constant(-1, lambda t: setattr(t, "raw_data", b"\xff" * len(t.raw_data))), "the graph's logits differ"),
        (lambda m: m.functions.add(), "contains functions"),
        (lambda m: m.graph.input.add(name="x").type.tensor_type.shape.dim.add(), "its input 'x' is unknown"),
        (lambda m: m.graph.ClearField("node"), "without a graph"),
        (lambda m: m.graph.input[0].type.tensor_type.shape.dim[1].__setattr__("dim_value", 4096), "1 x 4096 tokens"),
    ],
)  # fmt: skip
def test_graphs_that_are_no_llama(tmp_path, source, change, message):
    model = build(source)
    change(model)
    refused(write(tmp_path / "m.onnx", model), message)


def test_weights_in_other_files(tmp_path, source):
    path = write(tmp_path / "m.onnx", build(source), external=True)
    data = tmp_path / "m.onnx.data"
    good, whole = path.read_bytes(), data.read_bytes()
    data.write_bytes(whole[:-1])
    refused(path, "but m.onnx needs")
    data.unlink()
    refused(path, "which is not in its folder")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "w").write_bytes(whole)
    data.symlink_to(tmp_path / "elsewhere" / "w")
    refused(path, "which is not in its folder")
    data.unlink()
    data.write_bytes(whole)
    model = onnx.load(path, load_external_data=False)
    for key, value, message in (
        ("location", "elsewhere/w", "which is not in its folder"),
        ("location", "../w", "which is not in its folder"),
        ("location", "/etc/passwd", "which is not in its folder"),
        ("location", "", "which is not in its folder"),
        ("offset", "-1", "needs -1 to"),
        ("offset", str(2**70), "needs 1,180,591"),
        ("offset", "x", "has a wrong offset into it"),
        ("length", str(2**70), "but m.onnx needs"),
        ("length", "64", "has 64 bytes, which do not match its shape"),
    ):
        changed = onnx.ModelProto.FromString(good)
        tensor = next(t for t in changed.graph.initializer if t.data_location)
        next(e for e in tensor.external_data if e.key == key).value = value
        path.write_bytes(changed.SerializeToString())
        refused(path, message)
    assert model.graph.initializer


def test_graphs_that_want_more_than_they_have(tmp_path, source):
    """Much memory, from few bytes."""
    helper = onnx.helper
    for op, *data in (
        ("ConstantOfShape", np.array([1 << 20, 1 << 20])),
        ("Expand", np.zeros(1, np.float32), np.array([1 << 31])),
        ("Tile", np.zeros((1, 1), np.float32), np.array([1 << 20, 1 << 20])),
        ("Range", np.array(0), np.array(1 << 40), np.array(1)),
        ("Gather", np.zeros((1, 1 << 12), np.float32), np.zeros(1 << 12, np.int64)),
        ("Add", np.zeros((1 << 12, 1), np.float32), np.zeros((1, 1 << 12), np.float32)),
        ("MatMul", np.zeros((1 << 12, 1), np.float32), np.zeros((1, 1 << 12), np.float32)),
    ):
        model = build(source)
        names = [f"x{i}" for i in range(len(data))]
        model.graph.node.insert(0, helper.make_node(op, names, ["y"]))
        model.graph.initializer.extend(onnx.numpy_helper.from_array(d, n) for d, n in zip(data, names, strict=True))
        refused(write(tmp_path / "m.onnx", model), f"{op} needs more memory than the model's weights")
    model = build(source)
    body = helper.make_graph([], "body", [], [])
    model.graph.node.insert(0, helper.make_node("Loop", ["", "", ""], ["y"], body=body))
    refused(write(tmp_path / "m.onnx", model), "operator ai.onnx.Loop is not supported")


def test_files_that_are_no_onnx(tmp_path, source):
    good = write(tmp_path / "m.onnx", build(source)).read_bytes()
    for data, message in (
        (b"", "not an ONNX file"),
        (good[:-5], "damaged, or not an ONNX file"),
        (bytes(99), "not an ONNX file"),
    ):
        (tmp_path / "m.onnx").write_bytes(data)
        refused(tmp_path / "m.onnx", message)
    (tmp_path / "m.onnx").unlink()
    refused(tmp_path / "m.onnx", "cannot be read")


def test_rope_that_is_none():
    rng = np.random.default_rng(1)
    before = rng.normal(size=(16, 4, 16))
    for after in (before, before * 2, rng.normal(size=before.shape), before * np.arange(16)[:, None, None]):
        with pytest.raises(rope.NoRope):
            rope.base_and_scale(rope.rotation(before, after)[1], 1e-5)
    freqs = 10000.0 ** (-np.arange(8) / 8)
    assert rope.base_and_scale(freqs / 3, 1e-5) == (10000.0, 3.0)
    with pytest.raises(rope.NoRope, match="scaling is not linear"):
        rope.base_and_scale(np.where(freqs < 0.1, freqs / 8, freqs), 1e-5)
    for wrong in (1e30, np.inf, np.nan):  # of a damaged table
        with pytest.raises(rope.NoRope, match="not rotated by RoPE"):
            rope.base_and_scale(np.where(np.arange(8) == 3, wrong, freqs), 1e-5)


@pytest.mark.parametrize(
    "kind,head_dim,dynamo", [("Attention", 24, False), ("Pairs", None, False), ("Attention", None, True)]
)
def test_exports_of_torch(tmp_path, source, kind, head_dim, dynamo):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if dynamo:
        pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    import torch_llama

    make_model(source, tied=False, head_dim=head_dim)
    model = torch_llama.load(torch_llama.Llama(attention=kind, head_dim=head_dim, tied=False), state(source))
    options = {"opset_version": 23, "dynamic_shapes": ({1: torch.export.Dim("n", min=2, max=64)},)} if dynamo else {}
    with warnings.catch_warnings(action="ignore"):
        torch.onnx.export(model, (torch.tensor([TOKENS]),), tmp_path / "m.onnx", dynamo=dynamo, **options)
    convert_to(tmp_path / "m.onnx")
    with torch.no_grad():
        expected = model(torch.tensor([TOKENS]))[0].numpy()
    assert np.abs(logits(tmp_path / "out.gguf") - expected).max() < 1e-4


@pytest.mark.skipif(not (DATA / "stories260K.bin").exists(), reason=NO_DATA)
def test_stories(tmp_path):
    convert(DATA / "stories260K.bin", DATA / "tok512.bin", tmp_path / "v0.gguf", "F32")
    path = write(tmp_path / "m.onnx", build(tmp_path / "v0.gguf", halves=False, heads=8, kv_heads=4))
    convert(path, DATA / "tok512.bin", tmp_path / "out.gguf", "F32")
    np.testing.assert_array_equal(logits(tmp_path / "out.gguf"), logits(tmp_path / "v0.gguf"))
