"""The native module: kernels, counters, and what reads a model file. See native_modules/module.c.

A buffer that is too small raises ValueError. Types are numbers of tinyprof.ops.TYPES; ctl is a control block of
tinyprof.ops.control, and counts are those of the counter that it names, in ticks."""

from array import array

ReadableBuffer = bytes | bytearray | memoryview | array[int] | array[float]
WritableBuffer = bytearray | memoryview | array[int] | array[float]

def run(
    plan: array[int],
    first: int,
    count: int,
    ctl: array[int],
    arena: WritableBuffer,
    kv: WritableBuffer,
    weights: ReadableBuffer,
    acc: array[int] | None,
    /,
) -> None:
    """Runs records of a plan.

    plan: words of a tinyprof.plan.Plan; first, count: which records; ctl: with position, tokens and their number;
    arena, kv, weights: the regions that operands name; acc: an array('Q') with an entry for each record of the plan,
    to which its ticks are added, or None.

    Raises ValueError for an unknown operator or token."""

def stamp(ctl: array[int], buffer: array[int], i: int, /) -> None:
    """Sets buffer[i], of an array('I'), to the counter. Allocates nothing."""

def lap(ctl: array[int], buffer: array[int], acc: array[int], i: int, /) -> None:
    """Adds the ticks since stamp(ctl, buffer, 0) to acc[i], of an array('Q'). Allocates nothing."""

def spin(ctl: array[int], turns: int, /) -> int:
    """Ticks of a loop with two instructions per turn (Arm, RISC-V); with turns 0 those between two readings."""

def sweep(ctl: array[int], data: ReadableBuffer, /) -> int:
    """Ticks of reading all of data, except for a rest of less than 64 bytes."""

def register(number: int, value: int, /) -> None:
    """Writes a register that is not in memory: a CSR of RISC-V, an external register of Xtensa. Other builds do not
    have this function."""

def mark(id: int, /) -> None:
    """Sets a mark for the counters of an emulated board: 1 to 4, or one of tinyprof.ops.MARK_TEST to MARK_LEAVE."""

def mark_ranges(weights: ReadableBuffer, arena: ReadableBuffer, kv: ReadableBuffer, plan: ReadableBuffer, /) -> None:
    """Tells the counters of an emulated board where these buffers and the stack are."""

def row_bytes(type: int, cols: int, /) -> int:
    """Bytes of a row of cols weights; 0 if they are no whole number of blocks, or the build lacks the type.

    Where rows are stored together: their bytes divided by their number."""

def activation_bytes(type: int, cols: int, /) -> int:
    """Bytes of cols activations of one token, quantized for weights of a type. F32: for portable kernels."""

def scan(data: ReadableBuffer, offset: int, type: int, rows: int, cols: int, /) -> int:
    """0 if the scales of a matrix at offset in data, or its values if they are floats, contain NaN or infinity.

    Otherwise the largest exponent field of its fp16 scales, at least 1, for p3 of its products."""

def kv_bytes(type: int, head_dim: int, /) -> int:
    """Bytes of one head's keys or values of one position in a KV cache of a type; 0 if the build lacks the type."""

def rope_freqs(buffer: WritableBuffer, dims: int, base: int, scale: int, factors: ReadableBuffer | None, /) -> None:
    """Writes dims / 2 RoPE frequencies as floats.

    base, scale: the bits of floats, because MicroPython's floats may have another precision; factors: dims / 2 floats
    by which the frequencies are divided, or None."""

def sample(logits: WritableBuffer, temperature: int, coin: int, /) -> int:
    """A token chosen at random by its logits (floats), which are overwritten.

    temperature: in thousandths; coin: a random number from 0 to 2^24 - 1."""

def crc32(data: ReadableBuffer, crc: int, /) -> int:
    """The CRC-32 of data after the data whose CRC-32 is crc; 0 to start."""

def crc32_hex(data: ReadableBuffer | str, /) -> str:
    """The CRC-32 of data as eight hexadecimal digits."""

def strings(
    data: ReadableBuffer,
    offset: int,
    count: int,
    text: ReadableBuffer | None,
    steps: array[int] = ...,
    index: int = ...,
    /,
) -> int:
    """The number of the string equal to text among count strings of GGUF at offset in data, -1 if there is none.

    text: None for the offset after the strings, -1 if they leave data; steps: an array('I') with the offset of every
    256th string; index: the offset of an index, with which the search is binary."""

def unicode_class(text: bytearray, table: bytes, /) -> None:
    """Replaces each byte of text (UTF-8) by the class of its character, by a table of runs."""

def build() -> tuple[int, str, str, str, str]:
    """(ABI, kernels, compiler, its flags, path) of this module; path is 'float' or 'fixed'."""
