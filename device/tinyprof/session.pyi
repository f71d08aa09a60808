import builtins
from array import array
from collections.abc import Callable, Sequence
from typing import Any

from _tinyprof import ReadableBuffer

from .llama import Llama
from .stream import Stream
from .vocabulary import Tokenizer

def find_model() -> str: ...
def load(
    source: str | int | ReadableBuffer,
    size: int = 0,
    context: int | None = None,
    batch: int = 8,
    kv: str | None = None,
    stream: bool | None = None,
    activations: int = 8,
) -> Model: ...

class Model:
    placement: str
    stream: Stream | None
    bytes: int
    name: str
    arch: Llama
    tensor_types: str
    tokenizer: Tokenizer
    arena_bytes: int
    kv: bytearray
    arena: bytearray
    logits: memoryview
    ctl: array[int]
    pos: int
    data: memoryview
    def __init__(
        self, data: Any, placement: str, context: int | None, batch: int, kv: str | None, activations: int
    ) -> None: ...
    def sha256(self) -> builtins.bytes | None: ...
    def prefill(
        self,
        tokens: Sequence[int],
        acc: array[int] | None = None,
        logits: bool = True,
        stamps: array[int] | None = None,
    ) -> None: ...
    def step(self, token: int, acc: array[int] | None = None) -> int: ...
    def generate(
        self,
        prompt: str = "",
        n: int = 64,
        temperature: float = 0,
        seed: int = 1,
        write: Callable[[builtins.bytes], object] | None = None,
    ) -> int: ...
