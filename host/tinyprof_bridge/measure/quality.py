"""Quality of quantized models: perplexity and KL divergence on a text, relative to the original model.

The unix port computes the logits. Its float and fixed builds give the same bits as the boards of that path."""

import json
import math
import tempfile
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..boards.emulators import REFERENCES
from ..errors import BadInput, RunFailed, plain
from ..models.demo import read_model
from ..models.tokenize import open_gguf, read_text, trained_context, vocabulary, windows
from ..progress import Progress
from .collect import prepare

Logits = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

# Writes the logits after each token of each window. Printing a line per window prevents a timeout.
_CODE = """
import tinyprof
m = tinyprof.load({source!r}, context={context}, batch=1, kv={kv!r}, activations={activations})
print(m.arch.vocab)
with open({out!r}, "wb") as f:
    for window in open({windows!r}):
        m.pos = 0
        for token in window.split():
            m.step(int(token))
            f.write(m.logits)
        print()
"""


@dataclass(frozen=True)
class Quality:
    """The quality of one model on one path, over all tokens.

    model: name of its file.
    path: arithmetic, "float" or "fixed".
    bytes: size of the file.
    tokens: number of tokens predicted.
    perplexity: of the model.
    reference: perplexity of the reference.
    kl: mean KL divergence from the reference, in nats.
    agreement: fraction of tokens for which both models have the same most probable token.
    losses: negative log-likelihood of each token in nats, shape (tokens,)."""

    model: str
    path: str
    bytes: int
    tokens: int
    perplexity: float
    reference: float
    kl: float
    agreement: float
    losses: Doubles = field(repr=False, compare=False)

    def figures(self) -> dict[str, Any]:
        """All fields but `losses`, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.compare}


def chance(a: Quality, b: Quality) -> float:
    """Standard error of the difference between two models' mean losses on the same text, in nats.

    To first order it is also the relative standard error of the ratio of their perplexities."""
    return float((a.losses - b.losses).std() / math.sqrt(a.tokens))


def measure(
    models: list[Path],
    reference: Path,
    text: Path,
    paths: list[str],
    context: int,
    tokens: int,
    timeout: float,
    activations: int = 8,
) -> list[Quality]:
    """The quality of each model on each path.

    reference: the original model, run on the float path.
    text: text file.
    paths: "float", "fixed".
    context: tokens per window.
    tokens: at most this many tokens of the text.
    timeout: seconds without output.
    activations: bits of the quantized activations, 8 or 16.

    Raises BadInput if a model and the reference have different vocabularies."""
    reader = open_gguf(reference)
    size = min(context, trained_context(reader))
    parts = windows(vocabulary(reader), read_text(text), size, tokens)
    wanted = np.array([token for part in parts for token in part[1:]])
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        exact = logits(reference, REFERENCES["float"], parts, Path(scratch) / "reference", timeout)
        for model in models:
            for path in paths:
                out = Path(scratch) / "logits"
                ours = logits(model, REFERENCES[path], parts, out, timeout, activations=activations)
                if ours.shape != exact.shape:
                    raise BadInput(
                        f"{model} has {ours.shape[1]} tokens, {reference} {exact.shape[1]}; give the model it was made"
                        " from as the reference"
                    )
                results.append(Quality(model.name, path, len(read_model(model)), *compare(exact, ours, wanted)))
    return results


def logits(
    model: Path,
    board: str,
    parts: list[list[int]],
    out: Path,
    timeout: float,
    kv: str | None = None,
    activations: int = 8,
) -> Logits:
    """Logits after each token but the last of each window, shape (tokens, vocab), mapped from the file out.

    board: "unix" or the name of another build of the unix port.
    parts: token ids of each window.
    timeout: seconds without output.
    kv: type of the KV cache; None for the default.
    activations: bits of the quantized activations."""
    context = max(map(len, parts)) - 1
    windows_file = out.with_suffix(".txt")
    windows_file.write_text("".join(" ".join(map(str, part[:-1])) + "\n" for part in parts))
    with prepare(board, model, Progress()) as place:
        code = _CODE.format(
            source=place.source,
            context=context,
            kv=kv,
            activations=activations,
            out=str(out),
            windows=str(windows_file),
        )
        try:
            vocab, *_ = map(int, filter(None, place.transport.run(code, timeout)))
        except RunFailed as error:
            if "ModelError" in str(error):
                raise BadInput(f"{model}: {str(error).partition('ModelError: ')[2]}") from None
            raise
    return np.memmap(out, "<f4", "r").reshape(-1, vocab)


def compare(
    exact: Logits, ours: Logits, wanted: npt.NDArray[np.int64]
) -> tuple[int, float, float, float, float, Doubles]:
    """The last six fields of Quality, from logits of shape (tokens, vocab).

    exact, ours: logits of the reference and of the model.
    wanted: id of the token that follows each row, shape (tokens,)."""
    losses = np.empty(len(wanted))
    exact_loss = kl = same = 0.0
    for at in range(0, len(wanted), 256):  # in parts: double precision would take much memory
        p, q = (_log_softmax(v[at : at + 256]) for v in (exact, ours))
        next_ = wanted[at : at + 256, None]
        exact_loss -= np.take_along_axis(p, next_, 1).sum()
        losses[at : at + 256] = -np.take_along_axis(q, next_, 1)[:, 0]
        kl += (np.exp(p) * (p - q)).sum()
        same += (p.argmax(1) == q.argmax(1)).sum()
    n = len(wanted)
    return n, math.exp(losses.mean()), math.exp(exact_loss / n), float(kl / n), float(same / n), losses


def _log_softmax(x: Logits) -> Doubles:
    shifted: Doubles = x.astype(np.float64) - x.max(1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(1, keepdims=True))
    return shifted


def _rows(results: list[Quality]) -> tuple[list[str], list[list[str]]]:
    heading = ["model", "path", "bytes", "perplexity", "reference", "change", "KL (nats)", "same top token"]
    body = [
        [
            q.model,
            q.path,
            f"{q.bytes:,}",
            f"{q.perplexity:.3f}",
            f"{q.reference:.3f}",
            f"{100 * (q.perplexity / q.reference - 1):+.2f} %",
            f"{q.kl:.5f}",
            f"{100 * q.agreement:.1f} %",
        ]
        for q in results
    ]
    return heading, body


def show(results: list[Quality], form: str) -> None:
    """Prints the results. form: one of FORMATS."""
    if form == "json":
        print(json.dumps([q.figures() for q in results], indent=1))
        return
    heading, body = _rows(results)
    if form == "md":
        print(f"| {' | '.join(heading)} |\n|---|---|{'---:|' * (len(heading) - 2)}")
        for row in body:
            print(f"| {' | '.join(row)} |")
        return
    title = f"quality over {results[0].tokens:,} tokens"
    table = Table(title=Text(title), title_justify="left")
    for i, name in enumerate(heading):
        table.add_column(name, justify="left" if i < 2 else "right")
    for row in body:
        table.add_row(*(Text(plain(cell)) for cell in row))
    Console(width=None if Console().is_terminal else 150).print(table)
