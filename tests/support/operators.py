"""Single operators, called through MicroPython on a build of the unix port."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from on_board import FIXED, Board, board
from tinyprof_bridge.errors import BadInput

CALL = """
import _tinyprof
from tinyprof import ops
def read(name):
    with open(name, "rb") as f:
        return bytearray(f.read())
def write(name, data):
    with open(name, "wb") as f:
        f.write(data)
"""
WEIGHTS = 0x80000000
F32, Q8_0 = 0, 8
INT16 = 32


class Operators:
    """Use as a context manager; skips where the build is not there. Shapes as in executor.h."""

    def __init__(self, name):
        self.name = name
        self.path = "fixed" if name.removesuffix("-asan") in FIXED else "float"

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory()
        self._board = board(self.name)
        try:
            self._link: Board = self._board.__enter__()
        except BadInput as error:
            pytest.skip(str(error))
        return self

    def __exit__(self, *error):
        self._board.__exit__(*error)
        self._folder.cleanup()

    def run(self, code, **arrays):
        """Runs code that finds each array as a bytearray of that name; returns what it prints, and
        the bytes that it leaves in out."""
        folder = Path(self._folder.name)
        lines = [CALL]
        for name, array in arrays.items():
            (folder / name).write_bytes(np.ascontiguousarray(array).tobytes())
            lines.append(f"{name} = read({str(folder / name)!r})\n")
        lines.append(f"{code}\nwrite({str(folder / 'out')!r}, out)\n")
        text = self._link.run("".join(lines))
        return text, (folder / "out").read_bytes()

    def call(self, op, out_bytes, a, b, dst=None, **fields):
        """The bytes that the operator leaves in dst, which is zero to begin with."""
        out = np.zeros(out_bytes, np.uint8) if dst is None else dst
        return self.run(f"ops.call(ops.{op}, out, a, b, **{fields!r})", a=a, b=b, out=out)[1]

    def floats(self, op, count, a, b, **fields):
        return np.frombuffer(self.call(op, 4 * count, a, b, **fields), "<f4")

    def rope(self, x, dims, position, base, flags=0):
        """x (heads, dims), rotated."""
        code = (
            f"freqs = bytearray({2 * dims})\ntable = bytearray({4 * dims})\n"
            f"_tinyprof.rope_freqs(freqs, {dims}, {int(np.float32(base).view('u4'))}, {0x3F800000}, None)\n"
            f"ops.call(ops.ROPE_TABLE, table, table, freqs, 1, {dims}, pos={position})\n"
            f"ops.call(ops.ROPE, out, table, table, {x.shape[0]}, {dims}, p=({dims}, 0, 0, 0), flags={flags})"
        )
        return np.frombuffer(self.run(code, out=x)[1], "<f4").reshape(x.shape)

    def cached(self, type_, x):
        """The bytes of a cache that holds x (length, heads, dim)."""
        length, heads, dim = x.shape
        bytes_ = {0: 4 * dim, 1: 2 * dim, 8: 4 + (dim + 3 & ~3)}[type_]
        fields = {"rows": heads, "cols": dim, "n": length, "type": type_}
        return self.call("KV_STORE", length * heads * bytes_, x, np.zeros(1), **fields)

    def attention(self, type_, q, k, v, window=0, cap=0.0):
        """(output (heads, dim), k, v), the latter as the caches of this type hold them; cap: of the scores."""
        length, kv_heads, dim = k.shape
        caches = [self.cached(type_, x) for x in (k, v)]
        b = np.frombuffer(caches[0] + caches[1] + bytes(4 * length), np.uint8)
        p = (WEIGHTS | len(caches[0]), WEIGHTS | 2 * len(caches[0]), kv_heads, window)
        fields = {"rows": len(q), "cols": dim, "pos": length - 1, "p": p, "type": type_}
        fields["p4"] = int(np.float32(cap).view("u4"))
        y = self.floats("ATTENTION", q.size, q, b, **fields).reshape(q.shape)
        return y, *(_values(type_, cache, k.shape) for cache in caches)

    def quantized(self, x, type_=F32):
        """[(scale, int8 values, halvings of each 32)] of tokens, as portable kernels of the fixed path
        have them for weights of a type; x (n, cols)."""
        n, cols = x.shape
        size = 4 + cols + (cols // 32 + 3 & ~3)
        out = self.call("QUANTIZE", n * size, x, np.zeros(1), rows=1, cols=cols, type=type_, n=n, flags=8)
        tokens = [out[i * size : (i + 1) * size] for i in range(n)]
        return [
            (
                np.frombuffer(t[:4], "<f4")[0],
                np.frombuffer(t[4 : 4 + cols], np.int8),
                np.frombuffer(t[4 + cols :], np.int8)[: cols // 32],
            )
            for t in tokens
        ]

    def int16(self, x):
        """(what int16 activations stand for, the steps of their first int8), each (n, cols), as portable kernels have
        them; x (n, cols)."""
        n, cols = x.shape
        begin, end = (4, cols // 32 + 3 & ~3) if self.path == "fixed" else (0, cols // 8)
        size = begin + cols + end
        out = self.call("QUANTIZE", 2 * n * size, x, np.zeros(1), rows=1, cols=cols, n=n, flags=8 | INT16)
        tokens = np.frombuffer(out, np.uint8).reshape(2, n, size)
        q, end = tokens[..., begin : begin + cols].view(np.int8), tokens[..., begin + cols :].copy()
        if self.path == "fixed":
            steps = tokens[..., :4].copy().view("<f4") * 2.0 ** -end[..., : cols // 32].astype(np.float64)
        else:
            steps = end.view("<f4").astype(np.float64)
        steps = steps.repeat(32, 2)
        return (q * steps).sum(0), steps[0]

    def product(self, type_, weights, x, flags=0):
        """(rows,) of one token x (1, cols), by the variant's kernel."""
        rows, cols = len(weights), x.shape[1]
        code = (
            f"q = bytearray(2 * ops.activation_bytes({cols}, {type_}))\n"
            f"ops.call(ops.QUANTIZE, q, a, b, 1, {cols}, {type_}, flags={flags})\n"
            f"p = (0, 0, 0, _tinyprof.scan(b, 0, {type_}, {rows}, {cols}))\n"
            f"ops.call(ops.MATMUL, out, q, b, {rows}, {cols}, {type_}, p=p, flags={flags})"
        )
        return np.frombuffer(self.run(code, a=x, b=weights, out=np.zeros(2 * rows, "<f4"))[1], "<f4")[:rows]

    def products_agree(self, type_, weights, x, flags=0):
        """Whether the variant's kernel and the portable one give the same bits; x (n, cols)."""
        rows, (n, cols) = len(weights), x.shape
        sizes = f"(ops.activation_bytes({cols}, {type_}), {flags}), "
        sizes += f"(ops.activation_bytes({cols}), ops.PORTABLE | {flags})"
        code = (
            f"p = (0, 0, 0, _tinyprof.scan(b, 0, {type_}, {rows}, {cols}))\n"
            f"for size, flags in ({sizes}):\n"
            f" q, out = bytearray(2 * size * {n}), bytearray({8 * n * rows})\n"
            f" ops.call(ops.QUANTIZE, q, a, b, 1, {cols}, {type_}, {n}, flags=flags)\n"
            f" ops.call(ops.MATMUL, out, q, b, {rows}, {cols}, {type_}, {n}, p=p, flags=flags)\n"
            " print(_tinyprof.crc32_hex(out))"
        )
        first, second = self.run(code, a=x, b=weights)[0].split()
        return first == second

    def argmax(self, x):
        code = (
            "from array import array\nctl = ops.control()\n"
            f"plan = array('I', (ops.ARGMAX, 0, 0, 0, 1, {x.size}, 0, 0, 0, 0, 0, 0))\n"
            "_tinyprof.run(plan, 0, 1, ctl, out, out, out, None)\nprint(ctl[ops.NEXT])"
        )
        return int(self.run(code, out=x)[0])

    def sample(self, x, milli_temperature, coin):
        return int(self.run(f"print(_tinyprof.sample(out, {milli_temperature}, {coin}))", out=x)[0])


def _values(type_, cache, shape):
    if type_ != Q8_0:
        return np.frombuffer(cache, "<f4" if type_ == F32 else "<f2").astype(np.float64).reshape(shape)
    heads = np.frombuffer(cache, np.uint8).reshape(shape[0] * shape[1], -1)
    scales = heads[:, :4].copy().view("<f4").astype(np.float64)
    return (scales * heads[:, 4 : 4 + shape[2]].view(np.int8)).reshape(shape)
