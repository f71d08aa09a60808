from collections.abc import Sequence

from .gguf import GGUF
from .vocabulary import Tokenizer

class SentencePiece(Tokenizer):
    scores: int
    unknown: int
    add_bos: bool
    add_space: bool
    def __init__(self, gguf: GGUF, vocab: int) -> None: ...
    def rank(self, text: bytes, at: Sequence[int], i: int) -> float: ...
    def decode(self, token: int) -> bytes: ...
    def encode(self, text: str) -> list[int]: ...
