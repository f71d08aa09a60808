from array import array
from collections.abc import Sequence

from _tinyprof import ReadableBuffer, WritableBuffer

ABI: int
WORDS: int
EMBED: int
RMSNORM: int
QUANTIZE: int
MATMUL: int
ROPE_TABLE: int
ROPE: int
ATTENTION: int
ADD: int
SWIGLU: int
ARGMAX: int
KV_STORE: int
GEGLU: int
BIAS: int
SCALE: int
SOFTCAP: int
NAMES: tuple[str, ...]
LAST: int
AT_POS: int
ONE: int
PORTABLE: int
HALVES: int
INT16: int
ARENA: int
KV: int
WEIGHTS: int
POS: int
N: int
COUNTER: int
ADDRESS: int
MODULUS: int
NEXT: int
TOKENS: int
MARK_TEST: int
MARK_DUMP: int
MARK_CLEAR: int
MARK_LEAVE: int
F32: int
F16: int
Q4_0: int
Q8_0: int
TP2: int
TP3: int
TPT: int
TYPES: dict[int, str]

def together(type_: int) -> int: ...
def check_native() -> None: ...
def activation_bytes(cols: int, type: int = F32) -> int: ...
def control(batch: int = 1) -> array[int]: ...
def call(
    op: int,
    dst: WritableBuffer,
    a: WritableBuffer,
    b: ReadableBuffer,
    rows: int,
    cols: int,
    type: int = F32,
    n: int = 1,
    pos: int = 0,
    p: Sequence[int] = (0, 0, 0, 0),
    flags: int = 0,
    tokens: Sequence[int] = (),
    p4: int = 0,
) -> WritableBuffer: ...
