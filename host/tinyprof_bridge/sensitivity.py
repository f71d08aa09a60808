"""What each group of matrices loses in each type: divergence on a text with that group alone quantized.

Computed with the boards' arithmetic on the unix port; what was computed is kept for the next time."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from . import boards, cache, deploy, quality
from .boards import REFERENCES
from .convert import convert
from .groups import Group
from .progress import Progress
from .rounding import Rounding
from .source import sha256
from .tokens import Metadata, field, open_gguf, read_text, vocabulary, windows

WINDOW = 256  # tokens


@dataclass(frozen=True)
class Text:
    """A text in windows of tokens."""

    parts: list[list[int]]

    @property
    def wanted(self) -> npt.NDArray[np.int64]:
        """The token that follows, for each but the last of each window."""
        return np.array([token for part in self.parts for token in part[1:]])


@dataclass
class Sensitivity:
    """base: what the path loses with all weights in F32; losses: by group and type, in nats a token, what is added
    to that; made: how many of them were computed now."""

    base: float
    losses: dict[str, dict[str, float]]
    made: int = 0


def read(exact: Path, text: Path, tokens: int) -> Text:
    """tokens: of the text at most."""
    reader = open_gguf(exact, Metadata)
    size = min(WINDOW, field(reader, "llama.context_length"))
    return Text(windows(vocabulary(reader), read_text(text), size, tokens))


def measure(
    exact: Path,
    groups: list[Group],
    types: list[str],
    rounding: Rounding,
    text: Text,
    about: object,
    path: str,
    timeout: float,
    progress: Progress,
) -> Sensitivity:
    """exact: the model in F32; about: how the rounding was made, in terms of JSON."""
    package, _ = deploy.hashes({file.name: file.read_bytes() for file in deploy.device_package().glob("*.py")})
    port = {name: sha256(boards.firmware(board)) for name, board in REFERENCES.items()}
    key = {"model": sha256(exact), "package": package, "port": port, "path": path, "text": text.parts, "about": about}
    place = cache.place("sensitivity", key, ".json")
    known: dict[str, float] = cache.read(place)
    wanted = [(group, type_) for group in groups for type_ in types if group.takes(type_)]
    missing = [(group, type_) for group, type_ in wanted if f"{group.name} {type_}" not in known]
    with tempfile.TemporaryDirectory() as scratch:
        if missing or "base" not in known:
            reference = quality.logits(exact, REFERENCES[path], text.parts, Path(scratch) / "reference", timeout)
            float_ = reference
            if path != "float":
                float_ = quality.logits(exact, REFERENCES["float"], text.parts, Path(scratch) / "float", timeout)
            known["base"] = quality.compare(float_, reference, text.wanted)[3]
        for i, (group, type_) in enumerate(missing):
            if i % 10 == 0:
                progress.step(f"quantizing one group at a time: {i} of {len(missing)}")
            model = Path(scratch) / "model.gguf"
            convert(exact, None, model, "F32", mix={group.name: type_}, rounding=rounding)
            ours = quality.logits(model, REFERENCES[path], text.parts, Path(scratch) / "ours", timeout)
            known[f"{group.name} {type_}"] = quality.compare(reference, ours, text.wanted)[3]
            cache.write(place, known)
    losses: dict[str, dict[str, float]] = {}
    for group, type_ in wanted:
        losses.setdefault(group.name, {})[type_] = max(known[f"{group.name} {type_}"], 0.0)
    return Sensitivity(known["base"], losses, len(missing))
