from collections.abc import Callable
from typing import Any

from _tinyprof import ReadableBuffer

class GGUF:
    data: memoryview
    end: int
    scan: Callable[[int, int, int, int], int]
    read: Callable[[int, int], bytes]
    keys: dict[str, tuple[int, int]]
    arrays: dict[str, tuple[int, int, int]]
    alignment: int
    tensors: dict[str, tuple[int, int, int, int]]
    data_offset: int
    def __init__(
        self,
        data: ReadableBuffer,
        size: int | None = None,
        scan: Callable[[int, int, int, int], int] | None = None,
        read: Callable[[int, int], bytes] | None = None,
    ) -> None: ...
    def get(self, name: str, default: Any = None, kind: type | None = None) -> Any: ...
    def count(self, name: str, default: int | None = None) -> int: ...
    def count_of_all(self, name: str, layers: int, default: int | None = None) -> int: ...
    def float_bits(self, name: str, default: int) -> int: ...
