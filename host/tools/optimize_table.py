"""Prints the tables of docs/optimize.md: mixed against uniform types at the same size, judged on a held-out text.

    python host/tools/optimize_table.py --model stories260K.bin tok512.bin calibration.txt held-out.txt

--model takes a model, its tokenizer (- if the model contains one), a calibration text and a held-out text. It can be
given several times. ± is the standard error of the difference from the uniform type.
"""

import argparse
import tempfile
from pathlib import Path

from tinyprof_bridge.measure import quality
from tinyprof_bridge.optimize.front_report import types_of
from tinyprof_bridge.optimize.optimizer import Bounds, Optimizer, Wanted
from tinyprof_bridge.progress import Progress


def table(model: list[str], board: str, tokens: int) -> None:
    """Prints the table of one model.

    model: the four values of --model.
    board: whose kernels and costs count.
    tokens: of the held-out text, at most."""
    source, tokenizer, text, held_out = (None if part == "-" else Path(part) for part in model)
    assert source and text and held_out
    with tempfile.TemporaryDirectory() as scratch:
        wanted = Wanted(source, tokenizer, board, text, contexts=(256,))
        optimizer = Optimizer(wanted, Path(scratch), Progress())
        pairs = []
        for uniform in sorted(optimizer.uniform_plans(256), key=lambda plan: -plan.bytes):
            optimizer.bounds = Bounds(flash=uniform.bytes)
            best = optimizer.best(256)
            assert best is not None
            pairs.append((optimizer.judge(uniform), optimizer.finalist(best)))
        files = dict.fromkeys(finalist.model for pair in pairs for finalist in pair)
        path = pairs[0][0].whole.path
        judged = quality.measure(list(files), optimizer.exact, held_out, [path], 256, tokens, 600)
        of = dict(zip(files, judged, strict=True))
    print(f"**{source.stem}**, F32: {judged[0].reference:.3f}; {judged[0].tokens:,} tokens, kernels of {board}\n")
    print("| type | bytes | uniform | bytes | mixed | matrices |\n|---|---:|---:|---:|---:|---|")
    for uniform, found in pairs:
        a, b = of[uniform.model], of[found.model]
        same = found.model == uniform.model
        error = "" if same else f" ± {quality.chance(a, b) * b.perplexity:.3f}"
        cells = [
            f"{a.bytes:,} | {a.perplexity:.3f} ({a.kl:.4f})",
            f"{b.bytes:,} | {b.perplexity:.3f}{error} ({b.kl:.4f})",
        ]
        print(f"| {types_of(uniform.plan)} | {' | '.join(cells)} | {'the same' if same else types_of(found.plan)} |")
    print(flush=True)


def main() -> None:
    """Prints a table for each model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs=4, action="append", required=True)
    parser.add_argument("--board", default="m4")
    parser.add_argument("--tokens", type=int, default=16384)
    args = parser.parse_args()
    for model in args.model:
        table(model, args.board, args.tokens)


if __name__ == "__main__":
    main()
