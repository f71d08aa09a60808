from .gguf import GGUF
from .vocabulary import Tokenizer

def load(gguf: GGUF, vocab: int) -> Tokenizer: ...
