"""Prints the tables of docs/models.md: perplexity by type and method of quantization, at the same size.

    python host/tools/quality_table.py --model stories260K.bin tok512.bin calibration.txt held-out.txt

--model takes a llama2.c checkpoint, its tokenizer, a calibration text and a held-out text. It can be given several
times. ± is the standard error of the difference from nearest.
"""

import argparse
import tempfile
from pathlib import Path

from tinyprof_bridge.boards import emulators
from tinyprof_bridge.measure import quality
from tinyprof_bridge.models import calibration_stats
from tinyprof_bridge.models.convert import convert
from tinyprof_bridge.quantize import calibrated, weight_types


def rows(model: list[Path], types: list[str], args: argparse.Namespace) -> list[quality.Quality]:
    """Returns the quality for each type that fits the model's rows and each method.

    model: the four values of --model.
    types: to try.
    args: command line."""
    source, tokenizer, calibration, held_out = model
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        exact = Path(scratch) / "F32.gguf"
        convert(source, tokenizer, exact, "F32")
        moments = calibration_stats.moments(exact, calibration, args.calibration_tokens)
        paths = []
        for type_ in types:
            for method in calibrated.METHODS:
                path = Path(scratch) / f"{type_} {method}"
                summary = convert(source, tokenizer, path, type_, rounding=calibrated.Rounding(method, moments))
                if type_ in summary.tensors:
                    paths.append(path)
        found = quality.measure(paths, exact, held_out, [args.path], args.context, args.tokens, 600)
    return found


def table(name: str, found: list[quality.Quality]) -> None:
    """Prints the table of one model.

    name: of the model.
    found: what `rows` returned."""
    of = {tuple(q.model.split()): q for q in found}
    print(f"**{name}**, F32: {found[0].reference:.3f}; {found[0].tokens:,} tokens\n")
    print(f"| type | bytes | {' | '.join(calibrated.METHODS)} |\n|---|---:|{'---:|' * len(calibrated.METHODS)}")
    for type_ in dict.fromkeys(kind for kind, _ in of):
        cells = [of[type_, method] for method in calibrated.METHODS]
        shown = [f"{q.perplexity:.3f} ± {quality.chance(cells[0], q) * q.perplexity:.3f} ({q.kl:.4f})" for q in cells]
        shown[0] = shown[0].replace(" ± 0.000", "")
        print(f"| {type_} | {cells[0].bytes:,} | {' | '.join(shown)} |")
    print(flush=True)


def main() -> None:
    """Prints a table for each model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, nargs=4, action="append", required=True)
    parser.add_argument("--types", default="Q8_0,Q6_K,Q5_1,Q5_0,Q5_K,Q4_1,Q4_0,Q4_K,Q3_K,TP3,Q2_K,TP2,TPT")
    parser.add_argument("--path", choices=emulators.REFERENCES, default="float")
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=16384)
    parser.add_argument("--calibration-tokens", type=int, default=16384)
    args = parser.parse_args()
    types = args.types.split(",")
    for type_ in types:
        if type_ not in weight_types.TYPES:
            parser.error(f"no type {type_}; choose from {','.join(weight_types.TYPES)}")
    for model in args.model:
        table(model[0].stem, rows(model, types, args))


if __name__ == "__main__":
    main()
