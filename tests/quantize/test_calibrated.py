"""Rounding that knows the inputs, and recipes: the bytes are valid, the errors smaller, real models better."""

import json

import numpy as np
import pytest
from bridge import bridge
from gguf import GGUFReader
from models import make_model
from on_board import DATA, NO_DATA
from reference import Reference
from tinyprof_bridge.errors import BadInput
from tinyprof_bridge.measure import quality
from tinyprof_bridge.models import calibration_stats
from tinyprof_bridge.models.convert import convert
from tinyprof_bridge.models.formats import gguf
from tinyprof_bridge.models.numpy_llama import Forward
from tinyprof_bridge.models.tokenize import open_gguf, vocabulary
from tinyprof_bridge.quantize import block_fit, calibrated, recipe, weight_types

METHODS = {"imatrix": calibrated.importance, "gptq": calibrated.feedback}
needs_stories = pytest.mark.skipif(not (DATA / "stories260K.bin").exists(), reason=NO_DATA)


def weights(rows=8, cols=512, seed=1):
    return np.random.default_rng(seed).normal(0, 0.1, (rows, cols)).astype(np.float32)


def inputs(cols=512, seed=2):
    """Mean products of inputs as models have them: some are much greater, and they go together."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (2000, cols)) @ rng.normal(0, 1, (cols, cols)) / np.sqrt(cols) + rng.normal(0, 1, (2000, cols))
    x *= np.exp(rng.normal(0, 1, cols))
    return x.T @ x / len(x)


def restored(data, type_, cols):
    return weight_types.dequantize(data, type_, cols).astype(np.float64)


@pytest.mark.parametrize("type_", block_fit.TYPES)
def test_packed_values_are_those_of_the_grid(type_):
    w = weights()
    grid = block_fit.make(type_, w)
    codes = np.random.default_rng(3).integers(0, grid.top + 1, w.shape)
    values = []
    for at in range(0, w.shape[1], grid.cols):
        least, step = grid.fit(w[:, at : at + grid.cols], np.ones((1, grid.cols), np.float32))
        values.append(least + step * codes[:, at : at + grid.cols])
    data = grid.pack(codes)
    assert data.dtype == np.uint8 and data.shape == (len(w), weight_types.row_bytes(type_, 512))
    np.testing.assert_allclose(restored(data, type_, 512), np.concatenate(values, 1), rtol=1e-5, atol=1e-7)

    slopes = grid.slopes(codes)
    none = np.zeros((len(w), 512 // grid.cols, slopes.shape[2]), np.float32)
    least, step = grid.shift(none)
    np.testing.assert_allclose(least + step * codes, np.concatenate(values, 1), rtol=1e-5, atol=1e-7)
    change = np.random.default_rng(4).normal(0, 1e-3, none.shape).astype(np.float32)
    least, step = grid.shift(change)
    np.testing.assert_allclose(restored(grid.pack(codes), type_, 512), least + step * codes, rtol=1e-5, atol=1e-7)
    expected = np.concatenate(values, 1) + (slopes * change.repeat(grid.cols, 1)).sum(2)
    # fp16, or 8 bits for a scale
    np.testing.assert_allclose(least + step * codes, expected, atol=1e-2 * np.abs(expected).max())


@pytest.mark.parametrize("type_", block_fit.TYPES)
def test_weighted_errors_are_smaller(type_):
    w, moments = weights(64), inputs()

    def errors(data):
        """(weighted by the mean squares of inputs, mean square of the outputs' errors)"""
        e = w - restored(data, type_, 512)
        return (e * e * np.diag(moments)).sum(), np.einsum("ri,ij,rj", e, moments, e)

    nearest = errors(weight_types.quantize(w, type_))
    important, fed_back = (errors(method(w, moments, type_)) for method in METHODS.values())
    assert important[0] < nearest[0]
    assert fed_back[1] < min(important[1], nearest[1])


@pytest.mark.parametrize("type_", block_fit.TYPES)
def test_rounds_make_errors_smaller(type_, monkeypatch):
    w, moments, errors = weights(64), inputs(), []
    for rounds in (0, 1, 3):
        monkeypatch.setattr(calibrated, "ROUNDS", rounds)
        e = w - restored(calibrated.feedback(w, moments, type_), type_, 512)
        errors.append(np.einsum("ri,ij,rj", e, moments, e))
    assert errors[2] < errors[1] < errors[0]


@pytest.mark.parametrize("type_", block_fit.TYPES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("error")
def test_odd_cases(type_, method):
    """Zeros, inputs that never come, weights that only just fit, and tiny ones."""
    none, some = np.zeros((512, 512)), np.diag(np.arange(512.0) % 3)
    assert not restored(METHODS[method](np.zeros((4, 512), np.float32), some, type_), type_, 512).any()
    for moments in (none, some):
        for scale in (1e-42, 1e-20, 1.0, 1e5):
            w = weights(4) * np.float32(scale)
            y = restored(METHODS[method](w, moments, type_), type_, 512)
            assert np.isfinite(y).all() and np.abs(y).max() < 40 * scale


def forward_of(path):
    model = gguf.read(path)
    return Forward(model.tensors, model.sizes)


def test_forward_is_the_reference(tmp_path):
    others = (
        {"architecture": "qwen2", "tied": False},
        {"architecture": "qwen3"},
        {"architecture": "gemma", "head_dim": 32},
        {"architecture": "gemma2", "window": 2, "rope_scale": 4.0},
        {"architecture": "gemma3", "window": 2, "rope_scale": 4.0, "layers": 3, "period": 3},
    )
    for options in (
        {},
        {"rope_base": 50000.0, "rope_scale": 4.0, "tied": False},
        {"type_": "Q8_0", "kv_heads": 1},
        *others,
    ):
        path = make_model(tmp_path / "m.gguf", **({"type_": "F32", "seed": 4} | options))
        tokens = np.array([[1, 40, 270, 5, 99], [1, 7, 8, 9, 260]])
        logits = forward_of(path).run(tokens)
        for row, ours in zip(tokens, logits, strict=True):
            assert np.abs(Reference(path).logits(list(row)) - ours).max() < 1e-4


def test_moments_are_mean_products(tmp_path):
    path, text = make_model(tmp_path / "m.gguf", type_="F32", context=16), tmp_path / "text.txt"
    text.write_text("a b c d e f g h i j k l m n o p q r s t u v w x y z " * 4)
    found = calibration_stats.moments(path, text, 100)
    model = forward_of(path)
    tokens = vocabulary(open_gguf(path)).encode(text.read_text())[:100]
    x = []
    for at in range(0, len(tokens), 16):  # windows of the model's context; the last is shorter
        for token in [1, *tokens[at : at + 16]][:-1]:
            v = model.weights["token_embd.weight"][token].astype(float)
            x.append(v / np.sqrt(np.mean(v * v) + model.sizes.eps) * model.weights["blk.0.attn_norm.weight"])
    expected = np.array(x).T @ np.array(x) / len(x)
    for kind in "qkv":
        np.testing.assert_allclose(found[f"blk.0.attn_{kind}.weight"], expected, rtol=1e-4, atol=1e-6)
    assert found.keys() == {n for n, w in model.weights.items() if w.ndim == 2}


@pytest.fixture(scope="module")
def stories(tmp_path_factory):
    """The F32 model, a calibration text and one held out."""
    folder = tmp_path_factory.mktemp("stories")
    text = (DATA / "tinystories_sample.txt").read_text()
    (folder / "calibration.txt").write_text(text[: len(text) // 2])
    (folder / "held-out.txt").write_text(text[len(text) // 2 :])
    convert(DATA / "stories260K.bin", DATA / "tok512.bin", folder / "f32.gguf", "F32")
    return folder


@pytest.fixture(scope="module")
def moments(stories):
    return calibration_stats.moments(stories / "f32.gguf", stories / "calibration.txt", 8192)


@needs_stories
@pytest.mark.parametrize("type_", [t for t in block_fit.TYPES if weight_types.TYPES[t].values == 32])  # rows of 64
def test_real_models_are_better_at_equal_bytes(type_, stories, moments):
    paths = []
    for method in calibrated.METHODS:
        paths.append(stories / f"{type_}-{method}.gguf")
        how = calibrated.Rounding(method, moments)
        convert(DATA / "stories260K.bin", DATA / "tok512.bin", paths[-1], type_, rounding=how)
    assert len({path.stat().st_size for path in paths}) == 1
    # from 5 bits on, the fixed path's activations lose as much as the weights; Q8_0's perplexity is chance
    kinds = ["float", "fixed"] if type_ in ("Q4_0", *weight_types.OWN) else ["float"]
    found = quality.measure(paths, stories / "f32.gguf", stories / "held-out.txt", kinds, 256, 2048, 60)
    for path in kinds:
        nearest, imatrix, gptq = (q for q in found if q.path == path)
        assert gptq.kl < imatrix.kl < nearest.kl
        assert gptq.perplexity < nearest.perplexity or type_ == "Q8_0"


@needs_stories
def test_recipe(stories, tmp_path):
    toml, out = tmp_path / "mix.toml", tmp_path / "m.gguf"
    toml.write_text('token_embd = "q8_0"\n"blk.[04].*" = "Q5_1"\n"*.ffn_down.weight" = "Q8_0"\n')
    result = bridge(
        *("convert", DATA / "stories260K.bin", "--tokenizer", DATA / "tok512.bin", "-o", out),
        *("--recipe", toml, "--type", "Q4_0", "--calibration", stories / "calibration.txt", "--tokens", 512),
    )
    assert result.returncode == 0, result.stderr
    types = {t.name: t.tensor_type.name for t in GGUFReader(out).tensors}
    assert types["token_embd.weight"] == types["blk.1.ffn_down.weight"] == "Q8_0"
    assert types["blk.0.ffn_down.weight"] == types["blk.4.attn_q.weight"] == "Q5_1"
    assert types["blk.1.attn_q.weight"] == "Q4_0" and types["blk.0.attn_norm.weight"] == "F32"
    (tmp_path / "mix.json").write_text(json.dumps({"token_embd": "Q8_0", "blk.[04].*": "q5_1"}))
    assert recipe.read(tmp_path / "mix.json") == {"token_embd": "Q8_0", "blk.[04].*": "Q5_1"}
    (tmp_path / "f.toml").write_text('"*" = "F16"\n"blk.3.ffn_down" = "Q4_0"\n')
    mix = recipe.read(tmp_path / "f.toml")
    summary = convert(DATA / "stories260K.bin", DATA / "tok512.bin", out, "F32", mix=mix)
    assert (summary.tensors["F16"], summary.padded_to) == (36, 172)  # the first pattern that fits counts


@needs_stories
@pytest.mark.parametrize(
    "name,content,problem",
    [
        ("a.toml", '"blk.*" = "Q9"', "has no known type; use one of F32"),
        ("a.toml", "blk.0.ffn_down = 'Q8_0'", "in quotes"),
        ("a.toml", '"blk.9.*" = "Q8_0"', "matches none"),
        ("a.toml", '"*_norm" = "F16"', "matches none"),
        ("a.toml", "= 3", "not valid TOML"),
        ("a.toml", "a = " + "[" * 10000, "not valid TOML"),
        ("a.json", "[" * 100000, "not valid JSON"),
        ("a.json", "[]", "not an object"),
        ("a.json", '{"*": 8}', "has no known type; use one of F32"),
        ("a.toml", '"attn_*" = "Q4_K"', "matches none"),
    ],
)
def test_recipes_that_are_none(name, content, problem, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(BadInput, match=problem):
        mix = recipe.read(tmp_path / name)
        convert(DATA / "stories260K.bin", DATA / "tok512.bin", tmp_path / "m.gguf", "Q4_0", mix=mix)


def test_bad_options_are_one_line(tmp_path):
    (tmp_path / "bin.txt").write_bytes(b"\xff")
    source = ("convert", DATA / "stories260K.bin", "--tokenizer", DATA / "tok512.bin", "-o", tmp_path / "m.gguf")
    for options in (("--method", "best"), ("--calibration", tmp_path / "bin.txt"), ("--recipe", tmp_path)):
        result = bridge(*source, *options)
        assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
    assert not (tmp_path / "m.gguf").exists()
