"""Sensitivity: the loss (KL divergence on a text) of each matrix in each type, with only that matrix quantized.

The losses are scaled so that their sum equals the loss of the whole model in that type. The unix port computes them
with the board's arithmetic. They are cached."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .. import cache, device_package
from ..boards import deploy, emulators
from ..boards.emulators import REFERENCES
from ..measure import quality
from ..models.convert import convert
from ..models.source import sha256
from ..models.tokenize import open_gguf, read_text, trained_context, vocabulary, windows
from ..progress import Progress
from ..quantize import block_fit, calibrated, weight_types
from ..quantize.calibrated import Rounding
from ..quantize.recipe import Recipe
from .matrix_types import Matrix

WINDOW = 256  # tokens


@dataclass(frozen=True)
class Text:
    """A text as windows of token ids.

    parts: one list per window."""

    parts: list[list[int]]

    @property
    def wanted(self) -> npt.NDArray[np.int64]:
        """Id of the token that follows each token but the last of each window, shape (tokens,)."""
        return np.array([token for part in self.parts for token in part[1:]])


@dataclass
class Sensitivity:
    """Losses of a model's matrices, KL divergence in nats per token.

    base: loss of the board's arithmetic with all weights in F32.
    losses: additional loss by matrix, then by type.
    made: how many of them were not in the cache."""

    base: float
    losses: dict[str, dict[str, float]]
    made: int = 0


def read_windows(exact: Path, text: Path, tokens: int) -> Text:
    """A text file in windows of at most WINDOW tokens.

    exact: model file with the vocabulary.
    tokens: at most this many tokens of the text."""
    reader = open_gguf(exact)
    size = min(WINDOW, trained_context(reader))
    return Text(windows(vocabulary(reader), read_text(text), size, tokens))


def measure_losses(
    exact: Path,
    matrices: list[Matrix],
    types: list[str],
    how: Rounding,
    text: Text,
    about: object,
    path: str,
    timeout: float,
    progress: Progress,
) -> Sensitivity:
    """The sensitivity of each matrix to each type.

    exact: the model in F32.
    matrices, types: to combine; a type that does not fit a matrix's shape is left out.
    how: rounding.
    text: on which to compute the losses.
    about: JSON description of the rounding, part of the cache key.
    path: arithmetic, "float" or "fixed".
    timeout: seconds without output."""
    package, _ = deploy.hashes({file.name: file.read_bytes() for file in device_package.folder().glob("*.py")})
    port = {name: sha256(emulators.firmware(board)) for name, board in REFERENCES.items()}
    code = [sha256(Path(module.__file__ or "")) for module in (block_fit, weight_types, calibrated)]
    key = {"model": sha256(exact), "package": package, "port": port, "path": path, "text": text.parts}
    place = cache.place("sensitivity", key | {"rounding": [about, code]}, ".json")
    known: dict[str, float] = cache.read(place)
    wanted = [(matrix.name, type_) for matrix in matrices for type_ in types if matrix.takes(type_)]
    whole = [type_ for type_ in types if all(matrix.takes(type_) for matrix in matrices)]
    models: dict[str, tuple[str, Recipe]] = {_key(name, type_): ("F32", {name: type_}) for name, type_ in wanted}
    models |= {_key("*", type_): (type_, {}) for type_ in whole}
    missing = [name for name in models if name not in known]
    with tempfile.TemporaryDirectory() as scratch:
        if missing or "base" not in known:
            reference = quality.logits(exact, REFERENCES[path], text.parts, Path(scratch) / "reference", timeout)
            float_ = reference
            if path != "float":
                float_ = quality.logits(exact, REFERENCES["float"], text.parts, Path(scratch) / "float", timeout)
            known["base"] = quality.compare(float_, reference, text.wanted)[3]
        for i, name in enumerate(missing):
            if i % 10 == 0:
                progress.step(f"quantizing one matrix at a time: {i} of {len(missing)}")
            model = Path(scratch) / "model.gguf"
            type_, mix = models[name]
            convert(exact, None, model, type_, mix=mix, rounding=how)
            ours = quality.logits(model, REFERENCES[path], text.parts, Path(scratch) / "ours", timeout)
            known[name] = max(quality.compare(reference, ours, text.wanted)[3], 0.0)
            cache.write(place, known)
    sums = {type_: sum(known[_key(matrix.name, type_)] for matrix in matrices) for type_ in whole}
    scale = {type_: known[_key("*", type_)] / sum_ for type_, sum_ in sums.items() if sum_}
    losses: dict[str, dict[str, float]] = {}
    for name, type_ in wanted:
        losses.setdefault(name, {})[type_] = known[_key(name, type_)] * scale.get(type_, 1.0)
    return Sensitivity(known["base"], losses, len(missing))


def _key(matrix: str, type_: str) -> str:
    """Key of a loss in the cache. matrix: its name, or * for the whole model."""
    return f"{matrix} {type_}"
