"""What goes into each matrix of a model while it reads a text: the mean products of inputs that rounding.py wants."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from .formats import gguf
from .numpy_llama import Forward
from .source import Floats
from .tokenize import open_gguf, read_text, vocabulary, windows

Doubles = npt.NDArray[np.float64]

WINDOW = 256  # tokens
AT_ONCE = 8  # windows
# An embedding that is the output too is also read by row: so much of its inputs is taken to be evenly spread.
EVEN = 0.3


def moments(file: Path, text: Path, tokens: int) -> dict[str, Doubles]:
    """Mean products (cols, cols) of the inputs, by the matrix's name; an embedding that is not the output has none.

    file: a GGUF file of types that llama.cpp knows; tokens: how many of the text at most."""
    model, words = gguf.read(file), vocabulary(open_gguf(file))
    forward = Forward(model.tensors, model.sizes)
    size = min(model.sizes.context, WINDOW)
    found: dict[str, Doubles] = {}

    def seen(name: str, x: Floats) -> None:
        products = x.T.astype(np.float64) @ x.astype(np.float64)
        found[name] = found[name] + products if name in found else products

    parts = windows(words, read_text(text), size, tokens)
    whole = [part[:-1] for part in parts if len(part) == size + 1]
    for at in range(0, len(whole), AT_ONCE):
        forward.run(np.array(whole[at : at + AT_ONCE]), seen)
    if len(parts[-1]) <= size:
        forward.run(np.array([parts[-1][:-1]]), seen)
    count = sum(len(part) - 1 for part in parts)
    found = {name: products / count for name, products in found.items()}
    if forward.output == "token_embd.weight":
        products = found[forward.output]
        found[forward.output] = products + EVEN * np.trace(products) / len(products) * np.eye(len(products))
    return found
