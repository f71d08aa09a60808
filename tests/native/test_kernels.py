"""Every kernel, called through MicroPython on the unix port, against numpy and the gguf package."""

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from on_board import ALL, KERNELS, board
from operators import INT16
from reference import round_q8
from tinyprof_bridge.errors import BadInput
from tinyprof_bridge.measure import kernel_bench

TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 8}
EXTREMES = ("random", "max", "zero", "tiny", "alternating")

CALL = """
from tinyprof import ops
def read(name):
    with open(name, "rb") as f:
        return bytearray(f.read())
def write(name, data):
    with open(name, "wb") as f:
        f.write(data)
"""


@pytest.fixture(params=["unix", "unix-asan"])
def call(request, tmp_path):
    """call(op, out_bytes, a, b, **fields): the bytes that the operator leaves in dst."""
    try:
        link = board(request.param).__enter__()
    except Exception:
        pytest.skip("the unix port with sanitizers is not built (SANITIZE=1 make firmware BOARDS=unix)")

    def run(op, out_bytes, a, b, dst=None, **fields):
        (tmp_path / "a").write_bytes(a.tobytes())
        (tmp_path / "b").write_bytes(b.tobytes())
        (tmp_path / "dst").write_bytes(bytes(out_bytes) if dst is None else dst.tobytes())
        names = {n: str(tmp_path / n) for n in ("a", "b", "dst", "out")}
        link.run(
            CALL + f"dst=read({names['dst']!r})\n"
            f"ops.call(ops.{op},dst,read({names['a']!r}),read({names['b']!r}),**{fields!r})\n"
            f"write({names['out']!r},dst)"
        )
        return (tmp_path / "out").read_bytes()

    return run


def floats(data):
    return np.frombuffer(data, "<f4")


def make(kind, shape, seed=1):
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, shape).astype(np.float32)
    match kind:
        case "max":
            return np.where(x < 0, np.float32(-60000), np.float32(60000))
        case "zero":
            return np.zeros(shape, np.float32)
        case "tiny":
            return x * np.float32(1e-6)
        case "alternating":
            return np.where(np.arange(x.size).reshape(shape) % 2, 1, -1).astype(np.float32)
    return x


@pytest.mark.parametrize("kind", EXTREMES)
@pytest.mark.parametrize("type_", TYPES)
def test_embed_is_the_dequantization_of_the_gguf_package(call, type_, kind):
    weights = quantize(make(kind, (5, 96)), GGMLQuantizationType[type_])
    out = call("EMBED", 3 * 96 * 4, np.zeros(1), weights, rows=5, cols=96, type=TYPES[type_], n=3, tokens=[4, 0, 2])
    expected = dequantize(weights, GGMLQuantizationType[type_])[[4, 0, 2]]
    assert np.array_equal(floats(out).reshape(3, 96).view("u4"), expected.astype("<f4").view("u4"))


def quantized(x):
    """Activations as tp_quantize lays them out, from numpy."""
    blocks = x.astype(np.float32).reshape(-1, 32)
    d = np.abs(blocks).max(1) / np.float32(127)
    inverse = np.divide(np.float32(1), d, out=np.zeros_like(d), where=d > 0)
    v = blocks * inverse[:, None]
    q = np.trunc(v + np.where(v < 0, np.float32(-0.5), np.float32(0.5))).clip(-127, 127).astype(np.int8)
    return q, d


@pytest.mark.parametrize("kind", EXTREMES)
def test_quantize(call, kind):
    x = make(kind, (2, 64), seed=3)
    out = call("QUANTIZE", 2 * (64 + 8), x, np.zeros(1), rows=1, cols=64, n=2)
    for token in range(2):
        row = out[token * 72 : (token + 1) * 72]
        q, d = quantized(x[token])
        assert np.array_equal(np.frombuffer(row[:64], np.int8), q.reshape(-1))
        assert np.array_equal(floats(row[64:]), d)


def test_quantize_survives_values_that_are_no_numbers(call):
    x = np.array([np.nan, np.inf, -np.inf, 1] * 8, np.float32)
    call("QUANTIZE", 36, x, np.zeros(1), rows=1, cols=32)  # sanitizers watch the conversion


@pytest.mark.parametrize("kind", EXTREMES)
@pytest.mark.parametrize("rows,cols,n", [(7, 32, 1), (5, 96, 3), (64, 352, 2)])
@pytest.mark.parametrize("type_", TYPES)
def test_matmul(call, type_, rows, cols, n, kind):
    weights = quantize(make(kind, (rows, cols), seed=5), GGMLQuantizationType[type_])
    x = make("random", (n, cols), seed=6)
    if type_ in ("F32", "F16"):
        a, x_seen = x, x.astype(np.float64)
    else:
        a = np.concatenate(
            [np.concatenate([q.reshape(-1).view(np.uint8), d.view(np.uint8)]) for q, d in map(quantized, x)]
        )
        x_seen = np.array([(q * d[:, None].astype(np.float64)).reshape(-1) for q, d in map(quantized, x)])
        assert np.allclose(x_seen, [round_q8(row) for row in x])
    out = floats(call("MATMUL", n * rows * 4, a, weights, rows=rows, cols=cols, type=TYPES[type_], n=n))
    w = dequantize(weights, GGMLQuantizationType[type_]).astype(np.float64)
    bound = np.abs(x_seen) @ np.abs(w).T * cols * 2.0**-24 + 1e-30
    assert np.all(np.abs(out.reshape(n, rows) - x_seen @ w.T) <= bound)


DIFFERENCES = Path(__file__).parents[1].joinpath("support/product_differences.py").read_text()


@pytest.mark.parametrize("name", [*ALL, "rv32-stock"])  # whose native module is other code
def test_fast_kernels_give_the_bits_of_the_portable_ones(name):
    """Random and extreme weights, scales and activations, made on the board itself."""
    with board(name) as b:
        for rows, cols, tokens, int16 in (
            ((1, 2, 3, 5, 7), (32, 96), (1, 2, 3, 4), 0),
            ((4, 6), (64,), (5, 6, 7, 8), 0),
            ((10, 12), (288,), (1, 3), 0),
            ((1, 3), (256,), (1, 5), 0),
            ((64,), (512,), (1, 4), 0),
            ((3, 4), (96, 256), (2,), INT16),
        ):
            types = (2, 8, 12, 14, 192, 193, 194)
            call = f"print(differences({types}, {rows}, {cols}, {tokens}, int16={int16}))"
            assert b.run(DIFFERENCES + call).strip() == "[]"


# instructions a product; Q4_K: at most 1.15 times Q4_0
TARGETS = {
    "m0": {"Q4_0": 3.2, "Q8_0": 4.2},
    "m3": {"Q4_0": 1.7, "Q8_0": 2.2, "TP2": 1.5, "TPT": 1.5},
    "m4": {"Q4_0": 1.45, "Q8_0": 1.65, "TP2": 1.1, "TPT": 1.1},
}


@pytest.mark.parametrize("name", TARGETS)
def test_bench_measures_both_kernels(name):
    result = kernel_bench.run(name, [*TARGETS[name], "Q4_K"], kernel_bench.shapes("256x256,64x512"), (1,), 60)
    assert (result.kernels, result.unit) == (KERNELS[name], "instr")
    per_mac = {(p.type, p.rows): p.fast / p.macs for p in result.products}
    for (type_, rows), value in per_mac.items():
        assert value <= TARGETS[name].get(type_, 1.15 * per_mac["Q4_0", rows]), (type_, per_mac)
    assert all(p.portable > 3 * p.fast and p.bound < p.fast / p.macs for p in result.products)


@pytest.mark.parametrize("name,most", [("m0", 2.6), ("m3", 1.5), ("m4", 1.1), ("m55", 0.25), ("rv32", 2.4)])
def test_products_of_two_and_three_bits_cost_no_more(name, most):
    """TP3: 1.3 times what Q4_0 costs."""
    result = kernel_bench.run(name, ["TP2", "TPT", "TP3", "Q4_0"], kernel_bench.shapes("256x256,64x512"), (1,), 60)
    assert all(p.same for p in result.products), result.products
    per_mac = {(p.type, p.rows): p.fast / p.macs for p in result.products}
    for rows in (256, 64):
        assert max(per_mac["TP2", rows], per_mac["TPT", rows]) <= most, per_mac
        assert per_mac["TP3", rows] <= 1.3 * per_mac["Q4_0", rows], per_mac


def test_several_tokens_share_what_weights_cost():
    products = kernel_bench.run("m4", ["Q4_0", "Q8_0", "Q4_K"], [(64, 512)], (1, 16), 60).products
    assert all(many.fast <= 0.63 * 16 * one.fast for one, many in zip(products[::2], products[1::2], strict=True))


def test_bench_refuses_shapes_that_no_block_fits():
    for text in ("256", "4x33", "0x32", "axb", ""):
        with pytest.raises(BadInput):
            kernel_bench.shapes(text)


def test_rmsnorm(call):
    x, w = make("random", (3, 64), 8), make("random", (64,), 9)
    eps = 1e-5
    out = floats(
        call("RMSNORM", 3 * 64 * 4, x, w, rows=1, cols=64, n=3, p=(int(np.float32(eps).view("u4")), 0, 0, 0))
    ).reshape(3, 64)
    x64 = x.astype(np.float64)
    expected = x64 / np.sqrt((x64**2).mean(1, keepdims=True) + eps) * w
    assert np.allclose(out, expected, rtol=2e-6, atol=0)


@pytest.mark.parametrize("pos", [0, 1, 255, 4095])
def test_rope(call, pos):
    freqs = (10000.0 ** (-np.arange(0, 32, 2) / 32)).astype(np.float32)
    table = floats(call("ROPE_TABLE", 2 * 32 * 4, np.zeros(1), freqs, rows=1, cols=32, n=2, pos=pos))
    angle = np.outer([pos, pos + 1], freqs.astype(np.float64))
    expected = np.stack([np.cos(angle), np.sin(angle)], -1).reshape(2, 32)
    # the angle itself is a float: its rounding counts too
    assert np.abs(table.reshape(2, 32) - expected).max() < 2e-6 + (pos + 1) * 2.0**-24
    x = make("random", (2, 3, 32), 4)
    turned = floats(call("ROPE", 0, table, np.zeros(1), dst=x, rows=3, cols=32, n=2, p=(32, 0, 0, 0)))
    c, s = table.reshape(2, 1, 16, 2)[..., 0], table.reshape(2, 1, 16, 2)[..., 1]
    pairs = x.reshape(2, 3, 16, 2)
    expected = np.stack([pairs[..., 0] * c - pairs[..., 1] * s, pairs[..., 0] * s + pairs[..., 1] * c], -1)
    assert np.array_equal(turned, expected.reshape(-1).astype(np.float32))


def test_swiglu(call):
    gate = np.linspace(-100, 100, 512, dtype=np.float32)
    up = make("random", (512,), 2)
    # a is the gate, b the other factor
    out = floats(call("SWIGLU", 512 * 4, gate, up, rows=1, cols=512))
    g = gate.astype(np.float64)
    assert np.allclose(out, g / (1 + np.exp(-g)) * up, rtol=2e-6, atol=1e-35)


def test_add(call):
    x, y = make("random", (2, 33), 1), make("random", (2, 33), 2)
    out = floats(call("ADD", 0, x, np.zeros(1), dst=y, rows=1, cols=33, n=2))
    assert np.array_equal(out, (x + y).reshape(-1))


@pytest.mark.parametrize("length", [1, 2, 17])
def test_attention(call, length):
    heads, kv_heads, head_dim = 4, 2, 16
    rng = np.random.default_rng(length)
    q = rng.normal(0, 1, (heads, head_dim)).astype(np.float32)
    k, v = rng.normal(0, 1, (2, length, kv_heads, head_dim)).astype(np.float32)
    weights = np.concatenate([k.reshape(-1), v.reshape(-1)])
    scratch = heads * head_dim * 4
    out = call(
        "ATTENTION",
        scratch + length * 4,
        q,
        weights,
        rows=heads,
        cols=head_dim,
        pos=length - 1,
        p=(0x80000000 | k.nbytes, scratch, kv_heads, 0),
    )  # V behind K in the weights, scores behind y
    scores = np.einsum("hd,thd->ht", q.astype(np.float64), np.repeat(k, 2, 1)) / np.sqrt(head_dim)
    weight = np.exp(scores - scores.max(1, keepdims=True))
    weight /= weight.sum(1, keepdims=True)
    expected = np.einsum("ht,thd->hd", weight, np.repeat(v, 2, 1))
    assert np.allclose(floats(out[:scratch]).reshape(heads, head_dim), expected, rtol=1e-5, atol=1e-6)


def test_unknown_operator_is_refused(call):
    with pytest.raises(Exception, match="unknown operator or token"):
        call("N + 98", 4, np.zeros(1), np.zeros(1), rows=1, cols=1)
