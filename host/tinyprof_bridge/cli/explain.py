"""The verb explain."""

from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import BadInput
from . import options, show

if TYPE_CHECKING:
    from ..records.runs import Run

EXAMPLES = options.examples(
    "explain results/run.jsonl",
    "explain results/run.jsonl --test 'tg32 @ d64'",
    "explain results/run.jsonl --what-if type=Q8_0 --verify",
)


def explain(
    file: options.RunArgument,
    test: Annotated[
        str | None, typer.Option(metavar="TEST", help="test to explain, e.g. 'tg32 @ d64'", show_default=False)
    ] = None,
    what_if: Annotated[
        str | None,
        typer.Option(
            metavar="CHANGE",
            help="predict the effect of a change: type=Q8_0, context=512, clock=80MHz or placement=ram",
        ),
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="with --what-if: measure the change on the board")] = False,
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="FILE", help="with --verify: the model of the run")
    ] = None,
    o: Annotated[str, options.choice("table", "md", "json")] = "table",
) -> None:
    """Explain where the time goes, or predict the effect of a change."""
    if verify and what_if is None:
        raise BadInput("--verify measures what --what-if predicts: give both")

    from ..records.runs import load

    run = load(file)
    if what_if is not None:
        _what_if(run, what_if, verify, model, o)
        return

    from ..analysis import explain as explaining

    why = explaining.explain(run, test)
    match o:
        case "table":
            explaining.terminal(why, show.console())
        case "md":
            print(explaining.markdown(why), end="")
        case "json":
            print(explaining.as_json(why))


def _what_if(run: "Run", text: str, verify: bool, model: str | None, form: str) -> None:
    from ..analysis import verify as verifying
    from ..analysis import whatif
    from ..progress import Progress

    predicted = whatif.predict(run, whatif.parse(text))
    measured = None
    if verify:
        measured = verifying.measure(run, predicted.change, verifying.model_of(run, model), Progress())
    verifying.show(run, predicted, measured, form)
