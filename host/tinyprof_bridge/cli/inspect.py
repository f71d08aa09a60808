"""The verb inspect."""

from typing import Annotated

import typer

from ..errors import BadInput
from ..models.demo import model_path
from . import options, show

EXAMPLES = options.examples("inspect demo", "inspect model.gguf -c 128 --kv q8")


def inspect(
    file: Annotated[str, typer.Argument(metavar="FILE", help="GGUF file, or demo: the model in this package")],
    context: Annotated[int | None, options.context_option()] = None,
    batch: Annotated[int, options.batch_option()] = 8,
    kv: Annotated[str | None, options.kv_option()] = None,
    activations: Annotated[str, options.activations_option()] = "int8",
    o: Annotated[str, options.choice("table", "json")] = "table",
) -> None:
    """Show what a model holds and needs, and the boards that it fits."""
    options.positive(c=context, batch=batch)
    if batch > 4096:
        raise BadInput(f"--batch takes numbers from 1 to 4096, not {batch}")

    from ..models import inspection
    from ..report import model_report

    found = inspection.inspect(model_path(file), context, batch, kv, options.bits(activations))
    if o == "json":
        print(model_report.as_json(found))
    else:
        model_report.terminal(found, show.console())
