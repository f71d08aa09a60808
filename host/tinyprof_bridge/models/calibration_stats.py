"""Statistics of the inputs of each matrix while a model reads a text, as quantize.calibrated needs them."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from .formats import gguf
from .numpy_llama import Forward
from .source import Floats
from .tokenize import open_gguf, read_text, vocabulary, windows

Doubles = npt.NDArray[np.float64]

WINDOW = 256  # tokens
AT_ONCE = 8  # windows in one call of the model
# A tied embedding is also read row by row, where each column counts the same. Its moments get this share of their mean
# diagonal added to the diagonal, so that no column is neglected.
EVEN = 0.3


def moments(file: Path, text: Path, tokens: int) -> dict[str, Doubles]:
    """Returns the second moments E[x xᵀ] (cols, cols) of the inputs x of each matrix, by its name.

    An embedding that is not tied to the output has no inputs, so it is missing.

    file: GGUF file with tensors of llama.cpp's types, best in F32.
    text: UTF-8 file to read.
    tokens: at most this many tokens of the text are read.
    Raises BadInput if either file cannot be used."""
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
