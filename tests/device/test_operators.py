"""Operators of both paths against numpy in double precision, within the bounds that docs/kernels.md states."""

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from on_board import board
from operators import INT16, Operators
from tinyprof_bridge.errors import BadInput
from tinyprof_bridge.quantize import weight_types

F32, F16, Q8_0 = 0, 1, 8
TYPES = {"Q4_0": 2, "Q8_0": 8}
PATHS = ("unix-asan", "unix-fixed-asan")


@pytest.fixture(scope="module", params=PATHS)
def ops(request):
    with Operators(request.param) as operators:
        yield operators


@pytest.fixture(scope="module")
def fixed():
    with Operators("unix-fixed-asan") as operators:
        yield operators


def values(seed, *shape, spread=0.0):
    """Normal floats; spread: times e to the power of spread times others."""
    rng = np.random.default_rng(seed)
    return (rng.normal(0, 1, shape) * np.exp(spread * rng.normal(0, 1, shape))).astype(np.float32)


def bits(x):
    return int(np.float32(x).view("u4"))


@pytest.mark.parametrize("spread", [0, 2, 8])
def test_rmsnorm(ops, spread):
    x, w = values(1, 3, 96, spread=spread), values(2, 96)
    y = ops.floats("RMSNORM", x.size, x, w, rows=1, cols=96, n=3, p=(bits(1e-5), 0, 0, 0)).reshape(3, 96)
    x = x.astype(np.float64)
    exact = x / np.sqrt((x * x).mean(1, keepdims=True) + 1e-5) * w
    assert np.all(np.abs(y - exact) <= 2.0**-12 * np.abs(exact))


@pytest.mark.parametrize("position", [0, 1, 100, 4000])
def test_rope(ops, position):
    dims, heads = 16, 3
    x = values(3, heads, dims, spread=2)
    y = ops.rope(x, dims, position, base=10000.0)
    angle = position * 10000.0 ** (-np.arange(0, dims, 2) / dims)
    a, b = x[:, 0::2].astype(np.float64), x[:, 1::2].astype(np.float64)
    exact = np.stack([a * np.cos(angle) - b * np.sin(angle), a * np.sin(angle) + b * np.cos(angle)], 2)
    size = np.hypot(a, b)[:, :, None]
    # both paths hold a frequency with 24 bits, so that an angle is off by the position times that
    bound = 2.0**-12 + position * 2.0**-22
    assert np.all(np.abs(y.reshape(exact.shape) - exact) <= bound * size)


def test_rope_of_halves(ops):
    """The bits of neighbouring pairs, that lie elsewhere."""
    dims, heads, halves = 20, 3, 16
    x = values(3, heads, dims, spread=2)
    apart = x.reshape(heads, dims // 2, 2).swapaxes(1, 2).reshape(x.shape)
    y = ops.rope(apart, dims, 100, base=10000.0, flags=halves)
    assert np.array_equal(
        y.reshape(heads, 2, dims // 2).swapaxes(1, 2).reshape(x.shape), ops.rope(x, dims, 100, base=10000.0)
    )


@pytest.mark.parametrize("at_pos", [0, 2])
def test_rmsnorm_of_heads_and_bias(ops, at_pos):
    """In place, of a cache the rows from a position on: the bits of the operators on each row alone."""
    tokens, heads, dim, pos = 3, 2, 16, 4 if at_pos else 0
    x, w, b = values(20, pos + tokens, heads, dim), values(21, dim), values(22, heads * dim)
    fields = {"n": tokens, "pos": pos, "flags": at_pos}
    a = np.zeros(1) if at_pos else x
    p = bits(1e-5), 0, 0, 0
    y = ops.floats("RMSNORM", x.size, a, w, dst=x, rows=heads, cols=dim, p=p, **fields).reshape(x.shape)
    rows = x[pos:].reshape(-1, dim)
    alone = ops.floats("RMSNORM", rows.size, rows, w, rows=1, cols=dim, n=len(rows), p=p)
    assert np.array_equal(y[pos:].reshape(-1), alone) and np.array_equal(y[:pos], x[:pos])
    y = ops.floats("BIAS", x.size, np.zeros(1), b, dst=x, rows=1, cols=b.size, **fields).reshape(x.shape)
    exact = x.reshape(-1, b.size).astype(np.float64) + b
    bound = 2.0**-22 * np.maximum(np.abs(x.reshape(exact.shape)), np.abs(b))
    assert np.all(np.abs(y.reshape(exact.shape) - exact)[pos:] <= bound[pos:]) and np.array_equal(y[:pos], x[:pos])


def test_scale(ops):
    x = values(23, 500, spread=6)
    out = ops.floats("SCALE", 500, np.zeros(1), np.zeros(1), dst=x, rows=1, cols=500, p=(bits(13.856406), 0, 0, 0))
    assert np.array_equal(out, x * np.float32(13.856406))


@pytest.mark.parametrize("cap", [0.5, 30.0, 5000.0])
def test_softcap(ops, cap):
    x = values(25, 500, spread=6)
    x[:4] = [0, -0.0, 1e30, -1e30]
    out = ops.floats("SOFTCAP", 500, np.zeros(1), np.zeros(1), dst=x, rows=1, cols=500, p=(bits(cap), 0, 0, 0))
    exact = cap * np.tanh(x / cap, dtype=np.float64)
    # a part of the cap, and where it is far above, of what is below
    assert np.abs(out - exact).max() <= cap * (2.0**-20 if ops.path == "float" else 2.0**-14)


def test_add(ops):
    x, y = values(4, 500, spread=6), values(5, 500, spread=6)
    out = ops.floats("ADD", 500, x, y, dst=y, rows=1, cols=500)
    exact = x.astype(np.float64) + y
    assert np.all(np.abs(out - exact) <= 2.0**-22 * np.maximum(np.abs(x), np.abs(y)))


def test_swiglu(ops):
    gate, up = values(6, 1000, spread=1.5), values(7, 1000, spread=2)
    gate[:8] = [0, -0.0, 80, -80, 31.99, -31.99, 1e-6, -1e-6]
    out = ops.floats("SWIGLU", 1000, gate, up, rows=1, cols=1000)
    g = gate.astype(np.float64)
    exact = g / (1 + np.exp(-g)) * up
    assert np.all(np.abs(out - exact) <= 2.0**-11 * np.abs(exact) + 2.0**-40 * np.abs(g * up))


def test_geglu(ops):
    gate, up = values(11, 1000, spread=1.5), values(12, 1000, spread=2)
    gate[:10] = [0, -0.0, 80, -80, 3.999, -3.999, 4.001, -4.001, 1e-6, -1e-6]
    out = ops.floats("GEGLU", 1000, gate, up, rows=1, cols=1000)
    g = gate.astype(np.float64)
    z = 2 * np.sqrt(2 / np.pi) * (g + 0.044715 * g**3)
    exact = g / (1 + np.exp(-np.maximum(z, -700))) * up
    # fixed point: steps of 2^-12 in the argument; below -4 it is 0
    share, slack = (2.0**-19, 2.0**-40) if ops.path == "float" else (2.0**-11, 2.0**-12)
    assert np.all(np.abs(out - exact) <= share * np.abs(exact) + slack * np.abs(g * up))


@pytest.mark.parametrize("length", [1, 2, 37, 300])
@pytest.mark.parametrize("spread", [0, 1.5])
@pytest.mark.parametrize("kv", [Q8_0, F16, F32])
def test_attention(ops, length, spread, kv):
    if kv != Q8_0 and ops.path == "fixed":
        pytest.skip("the fixed-point path has caches of int8 alone")
    heads, kv_heads, dim = 4, 2, 16
    q = values(8, heads, dim, spread=spread)
    k, v = values(9, length, kv_heads, dim, spread=spread), values(10, length, kv_heads, dim, spread=spread)
    y, k, v = ops.attention(kv, q, k, v)  # the keys and values as the cache holds them
    scores = np.einsum("hd,lhd->hl", q.astype(np.float64), np.repeat(k, 2, 1)) / np.sqrt(dim)
    p = np.exp(scores - scores.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    exact = np.einsum("hl,lhd->hd", p, np.repeat(v, 2, 1))
    # a score that is off by 2^-13 of the greatest product moves what it weighs by as much
    slack = np.abs(q).max() * np.abs(k).max() * np.sqrt(dim) * 2.0**-13 + 2.0**-10
    assert np.all(np.abs(y - exact) <= slack * np.abs(v).max())


@pytest.mark.parametrize("kv", [Q8_0, F16, F32])
def test_attention_in_a_window_with_capped_scores(ops, kv):
    if kv != Q8_0 and ops.path == "fixed":
        pytest.skip("the fixed-point path has caches of int8 alone")
    heads, kv_heads, dim, length, cap = 4, 2, 16, 37, 2.0
    q = values(8, heads, dim, spread=1.5)
    k, v = values(9, length, kv_heads, dim), values(10, length, kv_heads, dim)
    whole, held_k, held_v = ops.attention(kv, q, k, v, cap=cap)
    for window in (1, 9, 37, 50):  # of more than there is: of all
        first = max(length - window, 0)
        alone = ops.attention(kv, q, k[first:], v[first:], cap=cap)[0]
        assert np.array_equal(ops.attention(kv, q, k, v, window, cap)[0], alone)
    scores = np.einsum("hd,lhd->hl", q.astype(np.float64), np.repeat(held_k, 2, 1)) / np.sqrt(dim)
    p = np.exp(cap * np.tanh(scores / cap))
    p /= p.sum(1, keepdims=True)
    exact = np.einsum("hl,lhd->hd", p, np.repeat(held_v, 2, 1))
    slack = np.abs(q).max() * np.abs(k).max() * np.sqrt(dim) * 2.0**-13 + 2.0**-10
    assert np.all(np.abs(whole - exact) <= slack * np.abs(v).max())


@pytest.mark.parametrize("spread", [0, 3])
def test_int8_activations_of_the_fixed_path(fixed, spread):
    x = values(11, 2, 256, spread=spread)
    x[1, 32:64] = 0
    for token, row in enumerate(fixed.quantized(x)):
        scale, q, halvings = row
        greatest = np.abs(x[token]).max()
        assert scale == np.float32(greatest) / np.float32(127)
        step = scale * 2.0 ** -halvings.repeat(32).astype(np.float64)
        assert np.all(np.abs(x[token] - q * step) <= 0.51 * step)
        blocks = np.abs(q.astype(int)).reshape(-1, 32).max(1)
        used = (np.abs(x[token]).reshape(-1, 32).max(1) >= greatest * 2.0**-15) & (blocks > 0)
        assert np.all(blocks[used] >= 63)


@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("cols", [32, 96, 512])
def test_products_of_the_fixed_path(fixed, type_, cols):
    weights = quantize(values(12, 7, cols, spread=1), GGMLQuantizationType[type_])
    x = values(13, 1, cols, spread=1)
    scale, q, halvings = fixed.quantized(x)[0]
    seen = q * (scale * 2.0 ** -halvings.repeat(32).astype(np.float64))
    exact = dequantize(weights, GGMLQuantizationType[type_]).astype(np.float64) @ seen
    y = fixed.product(TYPES[type_], weights, x)
    # each block is cut to 2^-23 of what the greatest scale allows; the sum to 15 bits
    d = np.abs(weights[:, :2].copy().view("<f2").astype(np.float64)).max()
    cut = cols / 32 * np.abs(weights.reshape(7 * cols // 32, -1)[:, :2].copy().view("<f2").astype(np.float64)).max()
    assert d > 0
    assert np.all(np.abs(y - exact) <= 2.0**-13 * np.abs(exact) + cut * scale * 2.0**-6)


@pytest.mark.parametrize("spread", [0, 3])
def test_int16_activations(ops, spread):
    x = values(24, 3, 256, spread=spread)
    x[1, 32:64] = 0
    seen, step = ops.int16(x)
    bound = 0.51 if ops.path == "float" else 1.5
    assert np.all(np.abs(x - seen) <= bound / 128 * step)


@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("cols", [32, 96, 512])
def test_products_of_int16_activations(ops, type_, cols):
    weights = quantize(values(12, 50, cols, spread=1), GGMLQuantizationType[type_])
    w = dequantize(weights, GGMLQuantizationType[type_]).astype(np.float64)
    x = values(13, 1, cols, spread=1)
    _, step = ops.int16(x)
    exact = w @ x[0].astype(np.float64)
    error, of_int8 = (ops.product(TYPES[type_], weights, x, flags) - exact for flags in (INT16, 0))
    if ops.path == "float":
        bound = np.abs(w) @ (0.51 / 128 * step[0] + cols * 2.0**-23 * np.abs(x[0]))
    else:
        d = np.abs(weights.reshape(50 * cols // 32, -1)[:, :2].copy().view("<f2").astype(np.float64)).max()
        bound = np.abs(w) @ (1.5 / 128 * step[0]) + 2.0**-13 * (np.abs(exact) + np.abs(w) @ step[0])
        bound += cols / 32 * d * np.abs(x).max() / 127 * 2.0**-6
    assert np.all(np.abs(error) <= bound)
    assert np.std(of_int8) > (80 if ops.path == "float" else 20) * np.std(error)


@pytest.mark.parametrize("type_", weight_types.OWN)
@pytest.mark.parametrize("cols,spread", [(96, 1), (512, 0)])
def test_products_of_our_own_types_on_the_fixed_path(fixed, type_, cols, spread):
    weights = weight_types.quantize(values(16, 16, cols, spread=spread), type_)
    rows, number = weight_types.TYPES[type_].rows, weight_types.TYPES[type_].id
    factors = weights.reshape(len(weights) // rows, -1)[:, : 4 * rows].view("<f4")  # one a row, in place
    factors[:] = 1
    codes = weight_types.dequantize(weights, type_, cols).astype(np.float64)
    # of all sizes that a float has, below 0, and 0
    powers = 2.0 ** np.array([0, 1, -9, 20, 50, -50, 90, -60, -90, -126, -127, 1, -149, -149, 3, -20])
    signs = [1] * 11 + [-1, 0, 1, -1, -1]
    factors[:] = (powers * signs * np.linspace(1, 1.999, 16)).reshape(factors.shape)
    factor = factors.reshape(-1).astype(np.float64)
    for power in (0, 30, -85):
        x = (values(17, 1, cols, spread=spread) * 2.0**power).astype(np.float32)
        scale, q, halvings = fixed.quantized(x, number)[0]
        exact = factor * (codes @ (q * (float(scale) * 2.0 ** -halvings.repeat(32).astype(np.float64))))
        y = fixed.product(number, weights, x)
        # a group is cut to a step of the row and the token; the rest is rounded to 14 bits
        cut = -(-cols // 256) * np.abs(factor) * float(scale)
        fits = np.abs(exact) < 2.0**127
        assert fits.sum() >= 15
        assert np.all(np.abs(y - exact)[fits] <= (2.0**-12 * np.abs(exact) + cut + 2.0**-149)[fits])


def test_argmax_takes_the_first_of_the_greatest(ops):
    for x, best in (
        ([1, 3, 3, 2], 1),
        ([-2, -1, -1], 1),
        ([np.nan, -5, np.nan], 1),
        ([-0.0, 0.0], 0),
        ([-np.inf, np.inf], 1),
    ):
        assert ops.argmax(np.array(x, np.float32)) == best


def test_sampling_follows_the_softmax(ops):
    x = np.log(np.array([0.5, 0.25, 0.125, 0.125], np.float32))
    drawn = [ops.sample(x, 1000, int((i + 0.5) * 2**24 / 64)) for i in range(64)]
    assert np.bincount(drawn, minlength=4).tolist() == [32, 16, 8, 8]


ADVERSARIAL = """
import binascii
from array import array
from tinyprof import ops
seed = 7
def noise():
    global seed
    seed = (seed * 69069 + 1) & 0xFFFFFFFF
    return seed >> 8
def values(kind, count):
    out = array("I")
    for i in range(count):
        bits = noise() & 0x7FFFFF | (noise() & 1) << 31
        pick = noise() % 40
        exponent = 120 + noise() % 10
        if kind == 1 and pick == 0 or kind == 2 and pick < 20:
            exponent = noise() % 3  # subnormal, or nearly
        elif kind == 3 and pick < 5:
            exponent = 130 + noise() % 124
        elif kind == 4:
            exponent = 55 + noise() % 80
        elif kind == 5 and pick < 20:
            bits, exponent = bits & 0x80000000, 0
        elif kind == 6 and pick < 4:
            bits, exponent = bits & 0x80000000 if pick else bits, 255
        out.append(bits | exponent << 23)
    return bytearray(out)
def show(kind, name, data):
    print(kind, name, str(binascii.hexlify(data), "ascii"))
none = bytearray(4)
for kind in range(7):
    for n in (3, 4, 8, 27, 64, 96):
        for op in ("ADD", "SWIGLU", "GEGLU", "RMSNORM"):
            fields = {"p": (0x3727C5AC, 0, 0, 0)} if op == "RMSNORM" else {}
            dst, a, b = (values(kind, n) for i in range(3))
            show(kind, op, ops.call(getattr(ops, op), dst, a, b, 1, n, **fields))
        ctl = ops.control()
        plan = array("I", (ops.ARGMAX, 0, 0, 0, 1, n, 0, 0, 0, 0, 0, 0))
        x = values(kind, n)
        ops._tinyprof.run(plan, 0, 1, ctl, x, bytearray(4), none, None)
        print(kind, "ARGMAX", "%08x" % ctl[ops.NEXT])
    for dims in (4, 8, 16, 20):
        for flags in (0, ops.HALVES):
            x, table = values(kind, 60), values(kind, dims)
            show(kind, "ROPE", ops.call(ops.ROPE, x, table, none, 3, 20, p=(dims, 0, 0, 0), flags=flags))
    show(kind, "SOFTCAP", ops.call(ops.SOFTCAP, values(kind, 27), none, none, 1, 27, p=(0x41F00000, 0, 0, 0)))
    show(kind, "SCALE", ops.call(ops.SCALE, values(kind, 27), none, none, 1, 27, p=(0x40490FDB, 0, 0, 0)))
    for cols in (32, 64, 288):
        show(kind, "QUANTIZE", ops.call(ops.QUANTIZE, bytearray(cols + cols // 8), values(kind, cols), none, 1, cols))
    for length in (1, 2, 3, 4, 5, 8, 13):
        for dim in (8, 16, 48):
            for type, size in ((ops.F32, 4 * dim), (ops.F16, 2 * dim), (ops.Q8_0, dim + 4)):
                keys = 2 * size * length
                weights = values(kind, keys // 2)
                if type == ops.F16:
                    for i in range(1, len(weights), 2):
                        weights[i] &= 0xBB if kind < 6 else 0xFF  # no infinities
                place = 0x80000000 | keys, 16 * dim, 2, 3 if length == 8 else 0
                out = bytearray(16 * dim + 4 * length)
                q, last, cap = values(kind, 4 * dim), length - 1, 0x41F00000 if length == 5 else 0
                ops.call(ops.ATTENTION, out, q, weights, 4, dim, type, pos=last, p=place, p4=cap)
                show(kind, "ATTENTION", out[: 16 * dim])
"""


@pytest.mark.parametrize("name", ["m4", "m55"])
def test_operators_give_the_same_bits_on_boards(name):
    """Also where values are subnormal, infinite or zero; a NaN is as good as another."""
    results = []
    for each in ("unix", name):
        try:
            with board(each) as b:
                results.append([line.split() for line in b.run(ADVERSARIAL).split("\n") if line.strip()])
        except BadInput as error:
            pytest.skip(str(error))
    assert len(results[0]) == len(results[1])
    for ours, exact in zip(results[1], results[0], strict=True):
        assert ours[:2] == exact[:2]
        a, b = (np.frombuffer(bytes.fromhex(v[2]), "<u4") for v in (ours, exact))
        if ours[1] != "QUANTIZE":
            a, b = (np.where(v & 0x7FFFFFFF > 0x7F800000, 0x7FC00000, v) for v in (a, b))
        assert np.array_equal(a, b), ours[:2]
