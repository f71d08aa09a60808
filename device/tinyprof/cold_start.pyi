from collections.abc import Callable, Sequence
from typing import Any

from _tinyprof import ReadableBuffer

def ways_of(names: Sequence[str], source: str) -> list[tuple[str, Callable[[Sequence[ReadableBuffer]], object]]]: ...
def by_address(memory: Any, buffers: Sequence[ReadableBuffer]) -> None: ...
