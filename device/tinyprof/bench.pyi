from array import array
from collections.abc import Callable, Sequence
from typing import Any

from _tinyprof import ReadableBuffer

from .counters import Counter

def once(make: Callable[[int], Any], seed: int) -> Any: ...
def noise_bytes(seed: int) -> bytes: ...
def noise_floats(seed: int) -> bytes: ...
def repeated(make: Callable[[int], bytes], seed: int, size: int, item: int = 1) -> bytearray: ...
def random_weights(
    type_: int,
    rows: int,
    cols: int,
    seed: int = 1,
    make: Callable[[int], bytes] = noise_bytes,
    scales: Sequence[int] = ...,
) -> bytearray: ...
def fits(type_: int, rows: int, cols: int) -> bool: ...

class Product:
    weights: ReadableBuffer
    arena: memoryview
    y: tuple[memoryview, memoryview]
    plan: array[int]
    first: int
    n: int
    quantize: int
    fast: int
    portable: int
    def __init__(
        self,
        type_: int,
        rows: int,
        cols: int,
        n: int = 1,
        int16: int = 0,
        weights: ReadableBuffer | None = None,
        x: ReadableBuffer | None = None,
    ) -> None: ...
    def run(self, counter: Counter | None = None) -> bool: ...

def kernels(types: Sequence[int], shapes: Sequence[tuple[int, int]], tokens: Sequence[int]) -> None: ...
