from array import array

from _tinyprof import ReadableBuffer

from .gguf import GGUF

NONE: int

def array_at(gguf: GGUF, name: str, item: int) -> tuple[int, int]: ...
def array_of(count: int, gguf: GGUF, name: str, item: int) -> int: ...

class Strings:
    data: memoryview
    steps: array[int]
    index: int
    count: int
    def __init__(self, gguf: GGUF, name: str) -> None: ...
    def find(self, text: ReadableBuffer) -> int: ...
    def get(self, i: int) -> memoryview: ...

class Tokenizer:
    data: memoryview
    vocab: int
    tokens: Strings
    types: int
    bos: int
    eos: int
    def __init__(self, gguf: GGUF, vocab: int, bos: int, eos: int) -> None: ...
    def type(self, token: int) -> int: ...
    def merged(self, text: bytes) -> list[bytes]: ...
