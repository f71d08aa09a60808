"""Operators of a plan, with the numbers of native_modules/executor/operators.h, and calling one alone."""

from array import array

import _tinyprof
from micropython import const

ABI = const(9)
WORDS = const(12)

EMBED = const(1)
RMSNORM = const(2)
QUANTIZE = const(3)
MATMUL = const(4)
ROPE_TABLE = const(5)
ROPE = const(6)
ATTENTION = const(7)
ADD = const(8)
SWIGLU = const(9)
ARGMAX = const(10)
KV_STORE = const(11)
GEGLU = const(12)
BIAS = const(13)
SCALE = const(14)
SOFTCAP = const(15)
NAMES = (
    "",
    "embed",
    "rmsnorm",
    "quantize",
    "matmul",
    "rope_table",
    "rope",
    "attention",
    "add",
    "swiglu",
    "argmax",
    "kv_store",
    "geglu",
    "bias",
    "scale",
    "softcap",
)

LAST = const(1)
AT_POS = const(2)
ONE = const(4)
PORTABLE = const(8)
HALVES = const(16)
INT16 = const(32)

ARENA = const(0)
KV = const(0x40000000)
WEIGHTS = const(0x80000000)

# words of the control block
POS = const(0)
N = const(1)
COUNTER = const(2)
ADDRESS = const(3)
MODULUS = const(4)
NEXT = const(5)
TOKENS = const(6)

# marks for the counters of an emulated board, as in native_modules/marks/marks.h
MARK_TEST = const(5)
MARK_DUMP = const(6)
MARK_CLEAR = const(7)
MARK_LEAVE = const(10)

F32 = const(0)
F16 = const(1)
Q4_0 = const(2)
Q8_0 = const(8)
TP2 = const(192)
TP3 = const(193)
TPT = const(194)
TYPES = {
    F32: "F32",
    F16: "F16",
    Q4_0: "Q4_0",
    3: "Q4_1",
    6: "Q5_0",
    7: "Q5_1",
    Q8_0: "Q8_0",
    10: "Q2_K",
    11: "Q3_K",
    12: "Q4_K",
    13: "Q5_K",
    14: "Q6_K",
    34: "TQ1_0",
    35: "TQ2_0",
    TP2: "TP2",
    TP3: "TP3",
    TPT: "TPT",
}


def together(type_):
    """How many rows of a matrix of such a type lie together."""
    return 4 if type_ == TP3 else 2 if type_ in (TP2, TPT) else 1


def check_native():
    """Raises ImportError if the native module and this package do not belong together."""
    abi = _tinyprof.build()[0]
    if abi != ABI:
        raise ImportError("_tinyprof has ABI %d, this package needs %d: deploy again" % (abi, ABI))


def activation_bytes(cols, type=F32):
    """Bytes of one token's activations quantized for weights of that type; F32: with PORTABLE."""
    return _tinyprof.activation_bytes(type, cols)


def control(batch=1):
    """A control block for runs of up to batch tokens; no counter."""
    ctl = array("I", bytes(4 * (TOKENS + batch)))
    ctl[N] = 1
    return ctl


def call(op, dst, a, b, rows, cols, type=F32, n=1, pos=0, p=(0, 0, 0, 0), flags=0, tokens=(), p4=0):
    """Runs one operator on buffers of the caller: dst and a are written and read as laid out in
    executor.h; b is weights (read only). Further operands (p) may point into b's buffer only.

    For a kernel at the REPL, or to hold one against a reference."""
    plan = array("I", (op | type << 8 | flags << 16, ARENA, KV, WEIGHTS, rows, cols))
    plan.extend(array("I", p))
    plan.extend(array("I", (0, p4)))
    ctl = control(max(n, len(tokens)))
    ctl[POS] = pos
    ctl[N] = n
    for i, token in enumerate(tokens):
        ctl[TOKENS + i] = token
    _tinyprof.run(plan, 0, 1, ctl, dst, a, b, None)
    return dst
