"""The verb quality."""

from pathlib import Path
from typing import Annotated

import typer

from . import options

EXAMPLES = options.examples("quality q4.gguf q8.gguf --reference f32.gguf --text text.txt")


def quality(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL...", help="GGUF files, quantized from the reference")],
    reference: Annotated[Path, typer.Option(metavar="FILE", help="the same model in F32, a GGUF file")],
    text: Annotated[Path, typer.Option(metavar="TEXT", help="text file that the model was not trained on")],
    path: Annotated[
        str,
        options.choice(
            "float", "fixed", "both", flag="--path", help="arithmetic of boards with FPU (float) or without"
        ),
    ] = "both",
    context: Annotated[
        int, typer.Option("-c", metavar="N", help="tokens in a window, at most the context of the model")
    ] = 256,
    tokens: Annotated[int, typer.Option(metavar="N", help="tokens of the text, at most")] = 4096,
    activations: Annotated[str, options.activations_option()] = "int8",
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="longest time for one window", callback=options.seconds)
    ] = 120,
    o: Annotated[str, options.choice("table", "md", "json")] = "table",
) -> None:
    """Measure how much quantization changed a model.

    Perplexity, KL divergence and top-1 agreement, from logits with the same bits as on the boards."""
    options.positive(c=context, tokens=tokens)

    from ..boards import emulators
    from ..measure import quality as judging

    paths = list(emulators.REFERENCES) if path == "both" else [path]
    bits = options.bits(activations)
    judging.show(judging.measure(models, reference, text, paths, context, tokens, timeout, bits), o)
