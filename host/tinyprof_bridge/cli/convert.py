"""The verb convert."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import plain
from . import options

WEIGHTS = "Types of the weights"
ROUNDING = "Calibrated quantization"

EXAMPLES = options.examples(
    "convert stories260K.bin --tokenizer tok512.bin -o stories.gguf",
    "convert hf-folder --type Q4_K_M --calibration text.txt -o q4.gguf",
    "convert f32.gguf --type keep --recipe best.toml -o mixed.gguf",
)


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL", help="GGUF file, Hugging Face folder, checkpoint of llama2.c or PyTorch, .pt2 or .onnx"
        ),
    ],
    out: Annotated[Path, typer.Option("-o", metavar="FILE", help="GGUF file to write")],
    tokenizer: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="tokenizer.bin, .model or .json, for a checkpoint that has none"),
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="name of the model, to write into the file")] = None,
    type_: Annotated[
        str,
        typer.Option(
            "--type",
            metavar="TYPE",
            help="Q4_0, Q8_0, Q4_K_M, TP3 … (docs/models.md has all), or keep: the types of a GGUF file",
            rich_help_panel=WEIGHTS,
        ),
    ] = "Q4_0",
    recipe: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help='TOML or JSON of "pattern" = "type", for some tensors', rich_help_panel=WEIGHTS
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="TEXT", help="quantize more accurately for text like this file's", rich_help_panel=ROUNDING
        ),
    ] = None,
    method: Annotated[
        str, options.choice("gptq", "imatrix", "nearest", flag="--method", help="how to quantize", group=ROUNDING)
    ] = "gptq",
    tokens: Annotated[
        int, typer.Option(metavar="N", help="tokens of the calibration text, at most", rich_help_panel=ROUNDING)
    ] = 16384,
) -> None:
    """Convert a model to GGUF, or a GGUF file to other types."""
    options.positive(tokens=tokens)

    from ..models.convert import convert_calibrated
    from ..models.demo import model_path
    from ..quantize import recipe as recipes

    mix = recipes.read(recipe) if recipe else {}
    summary = convert_calibrated(model_path(str(source)), tokenizer, out, type_, name, mix, calibration, method, tokens)
    print(f"{out}: {summary.parameters:,} parameters, {summary.bytes:,} bytes", end="")
    if summary.padded_to != summary.padded_from:
        print(f"; hidden size padded with zeros from {summary.padded_from} to {summary.padded_to}", end="")
    print("; tensors:", ", ".join(f"{count} {stored}" for stored, count in summary.tensors.items()))
    for note in summary.notes:
        print(f"note: {plain(note)}", file=sys.stderr)
