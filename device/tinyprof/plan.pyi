from array import array
from collections.abc import Sequence

class Plan:
    roles: Sequence[str]
    words: array[int]
    count: int
    arena_bytes: int
    offsets: array[int]
    def __init__(self, roles: Sequence[str]) -> None: ...
    def buffer(self, size: int, always: bool = False) -> Buffer: ...
    def add(
        self,
        op: int,
        role: str,
        layer: int,
        dst: Operand,
        a: Operand = 0,
        b: Operand = 0,
        rows: int = 1,
        cols: int = 0,
        p: Sequence[Operand] = (),
        type: int = 0,
        flags: int = 0,
        p4: int = 0,
    ) -> None: ...
    def finish(self) -> None: ...
    def offset(self, buffer: Buffer) -> int: ...
    def describe(self, i: int) -> tuple[str, str, int, str, int, int, int, int]: ...

class Buffer:
    index: int
    at: int
    def __init__(self, index: int, at: int = 0) -> None: ...
    def __add__(self, size: int) -> Buffer: ...

Operand = Buffer | int
