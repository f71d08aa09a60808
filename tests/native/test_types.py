"""Weights of every type: packed by the host, read by the kernels of both paths."""

import numpy as np
import pytest
from on_board import board
from operators import INT16, Operators
from tinyprof_bridge.quantize import calibrated, weight_types

QUANTIZED = [t for t in weight_types.TYPES if t not in ("F32", "F16")]
# Error of normal weights in one block or superblock, as a share of their size: what the bits allow.
SHARE = {8: 0.006, 6: 0.02, 5: 0.045, 4: 0.1, 3: 0.2, 2: 0.45, 1: 0.85}


TABLE = """
import _tinyprof
from tinyprof import ops, weight_types
for id, name in ops.TYPES.items():
    values, size, rows, *_ = weight_types.layout(name)
    print(name, values, _tinyprof.row_bytes(id, values), _tinyprof.row_bytes(id, values // 2), ops.together(id))
"""


def weights(rows, cols, seed=1):
    return np.random.default_rng(seed).normal(0, 1, (rows, cols)).astype(np.float32)


def width(type_):
    return 1 if type_ in ("TPT", "TQ1_0", "TQ2_0") else int(type_[1] if type_[0] == "Q" else type_[2])


@pytest.fixture(scope="module", params=["unix-asan", "unix-fixed-asan"])
def ops(request):
    with Operators(request.param) as operators:
        yield operators


def test_the_table_of_types_is_that_of_the_core():
    """By name: values and bytes of a block, and rows that are stored together, as _tinyprof has them."""
    with board("unix") as b:
        lines = [line.split() for line in b.run(TABLE).splitlines()]
    found = {name: tuple(map(int, numbers)) for name, *numbers in lines}
    assert found == {
        name: (t.values, weight_types.row_bytes(name, t.values), 0, t.rows) for name, t in weight_types.TYPES.items()
    }


@pytest.mark.parametrize("type_", QUANTIZED)
def test_packing_loses_what_the_bits_allow(type_):
    x = weights(8, 512)
    y = weight_types.dequantize(weight_types.quantize(x, type_), type_, 512)
    assert np.sqrt(np.mean((x - y) ** 2)) < SHARE[width(type_)]
    assert np.array_equal(weight_types.dequantize(weight_types.quantize(0 * x, type_), type_, 512), 0 * x)


@pytest.mark.parametrize("type_", weight_types.OWN)
@pytest.mark.parametrize("method", ["nearest", "gptq"])
def test_a_row_of_zeros_keeps_a_float_that_kernels_are_fast_with(type_, method):
    x = weights(8, 64)
    x[4:6], x[6:] = 0, 1e-45
    data = np.asarray(calibrated.Rounding(method, {"w": np.eye(64)}).quantize("w", x, type_), np.uint8)
    together = 4 if type_ == "TP3" else 2
    factors = data.reshape(8 // together, -1)[:, : 4 * together].copy().view("<f4").ravel()
    assert (factors > 0).all() and (factors[4:] == 1).all()
    assert not weight_types.dequantize(data, type_, 64)[4:].any()


def test_rows_that_cannot_lie_together_take_another_type():
    found = [weight_types.fitting(type_, rows, 64) for type_ in ("TP3", "TP2", "TQ2_0") for rows in (5, 6, 8)]
    assert found == ["Q4_0", "Q4_0", "TP3", "Q4_0", "TP2", "TP2", "Q4_0", "TPT", "TPT"]


@pytest.mark.parametrize("type_", QUANTIZED)
@pytest.mark.parametrize("kind", ["packed", "random"])
def test_rows_as_floats_have_the_bits_of_the_reference(ops, type_, kind):
    cols = weight_types.TYPES[type_].values * 3
    data = weight_types.quantize(weights(4, cols), type_)
    if kind == "random":
        data = any_bytes(type_, data, cols)
    expected = weight_types.dequantize(data, type_, cols)
    out = ops.floats(
        "EMBED",
        4 * cols,
        np.zeros(1),
        data,
        rows=4,
        cols=cols,
        type=weight_types.TYPES[type_].id,
        n=4,
        tokens=[3, 0, 2, 1],
    )
    assert np.array_equal(out.reshape(4, cols).view("u4"), expected[[3, 0, 2, 1]].astype("<f4").view("u4"))


def any_bytes(type_, data, cols):
    """Random bytes but for scales, which stay finite."""
    rng = np.random.default_rng(7)
    noise = rng.integers(0, 256, data.shape, np.uint8)
    if type_ in weight_types.OWN:
        rows = weight_types.TYPES[type_].rows  # whose floats lie together
        flat, given = (a.reshape(-1, rows * a.shape[1]) for a in (noise, data))
        flat[:, : 4 * rows] = given[:, : 4 * rows]
        return flat.reshape(data.shape)
    blocks, given = (a.reshape(len(data) * 3, -1) for a in (noise, data))
    for at in {"Q2_K": (80, 82), "Q3_K": (108,), "Q6_K": (208,), "TQ1_0": (52,), "TQ2_0": (64,)}.get(type_, (0, 2)):
        blocks[:, at : at + 2] = given[:, at : at + 2]
    return noise


@pytest.mark.parametrize("type_", QUANTIZED)
@pytest.mark.parametrize("kind", ["packed", "random"])
def test_products(ops, type_, kind):
    cols = 512 if weight_types.TYPES[type_].values == 256 else 352
    data = weight_types.quantize(weights(8, cols, 2), type_)
    if kind == "random" and weight_types.TYPES[type_].values == 256:
        data = any_bytes(type_, weight_types.quantize(weights(8, 768, 2), type_), 768)[:, : data.shape[1]]
    w = weight_types.dequantize(data, type_, cols).astype(np.float64)
    x = weights(1, cols, 3)
    y = ops.product(weight_types.TYPES[type_].id, data, x)
    # activations of 8 bits: half a step each, of the greatest in their group, in a random direction
    step = np.abs(x).max() / 127
    assert np.all(np.abs(y - w @ x[0]) <= step * np.linalg.norm(w, axis=1) * 2)


@pytest.mark.parametrize("type_", QUANTIZED)
def test_fast_and_portable_products_agree(ops, type_):
    cols = 512 if weight_types.TYPES[type_].values == 256 else 416
    data = weight_types.quantize(weights(12, cols, 4), type_)
    x = weights(3, cols, 5)
    for flags in (0, INT16):
        assert ops.products_agree(weight_types.TYPES[type_].id, data, x, flags)
