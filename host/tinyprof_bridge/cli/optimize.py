"""The verb optimize."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from ..errors import BadInput, RunFailed
from ..models.demo import model_path
from . import options

BOUNDS = "Bounds"
SEARCH = "Search"
FILES = "Output"

EXAMPLES = options.examples(
    "optimize model.gguf --text text.txt -b m4 --max-ram 200k -o best.gguf",
    "optimize model.gguf --text text.txt -b auto --max-ms-per-token 40",
)


def optimize(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="anything that convert reads, in F32 if possible")],
    text: Annotated[Path, typer.Option(metavar="TEXT", help="text to calibrate with, like what the model will see")],
    board: options.BoardOption = "m4",
    tokenizer: Annotated[Path | None, typer.Option(metavar="FILE", help="for a checkpoint that has none")] = None,
    timeout: Annotated[float, options.timeout_option()] = 120,
    max_ram: Annotated[
        str | None,
        typer.Option(metavar="BYTES", help="heap, e.g. 200k (default: all of the board's)", rich_help_panel=BOUNDS),
    ] = None,
    max_flash: Annotated[
        str | None, typer.Option(metavar="BYTES", help="the model's file, e.g. 1M", rich_help_panel=BOUNDS)
    ] = None,
    max_ms: Annotated[
        float | None,
        typer.Option(
            "--max-ms-per-token", metavar="MS", help="time of the last token of the context", rich_help_panel=BOUNDS
        ),
    ] = None,
    max_instr: Annotated[
        str | None,
        typer.Option(
            "--max-instr-per-token",
            metavar="N",
            help="instructions of that token, on an emulated board, e.g. 1.5M",
            rich_help_panel=BOUNDS,
        ),
    ] = None,
    max_ppl: Annotated[
        str | None,
        typer.Option(metavar="PERCENT", help="perplexity above that of F32, e.g. +5%", rich_help_panel=BOUNDS),
    ] = None,
    held_out: Annotated[
        Path | None,
        typer.Option(
            metavar="TEXT", help="text to measure --max-ppl on (default: the calibration text)", rich_help_panel=BOUNDS
        ),
    ] = None,
    context: Annotated[
        str,
        typer.Option(
            "-c",
            metavar="N,…",
            help="contexts; the longest that meets all bounds is chosen (default: 256,128,64,32)",
            rich_help_panel=SEARCH,
        ),
    ] = "",
    types: Annotated[
        str,
        typer.Option(metavar="TYPE,…", help="types to choose from (default: all quantized)", rich_help_panel=SEARCH),
    ] = "",
    batch: Annotated[int, options.batch_option(SEARCH)] = 8,
    stream: Annotated[
        bool, typer.Option("--stream", help="read the weights from storage for each token", rich_help_panel=SEARCH)
    ] = False,
    tokens: Annotated[
        int, typer.Option(metavar="N", help="tokens of each text, at most", rich_help_panel=SEARCH)
    ] = 1024,
    verify: Annotated[
        bool, typer.Option("--verify", help="measure the finalists on the board", rich_help_panel=SEARCH)
    ] = False,
    out: Annotated[Path | None, typer.Option("-o", metavar="FILE", help="GGUF file", rich_help_panel=FILES)] = None,
    recipe_out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="recipe, for convert --recipe", rich_help_panel=FILES)
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="chart of the front, .svg or .png", rich_help_panel=FILES)
    ] = None,
    energy: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="print joules per token too, by a fit of `power fit`", rich_help_panel=FILES),
    ] = None,
    form: Annotated[
        str, options.choice("table", "md", "json", flag="--format", help="format of the result", group=FILES)
    ] = "table",
) -> None:
    """Choose types of the weights and a context for a board.

    The result loses least of all that meet the bounds."""
    options.positive(batch=batch, tokens=tokens, max_ms_per_token=max_ms)

    try:
        from ..optimize import front_report, optimizer
    except ImportError as error:
        raise BadInput(f"{error.name} is missing: pip install 'tinyprof[optimize]'") from None
    from ..models.convert import check_out
    from ..progress import Progress
    from ..report.files import write_whole

    inputs = [path for path in (model, tokenizer, text, held_out, energy) if path]
    for path in (out, recipe_out, picture):
        if path:
            check_out(path, *inputs)
    if picture:
        front_report.check_picture(picture)
    bounds = optimizer.Bounds(
        ram=optimizer.size("--max-ram", max_ram),
        flash=optimizer.size("--max-flash", max_flash),
        instr=optimizer.count("--max-instr-per-token", max_instr),
        ms=max_ms,
        perplexity=optimizer.percent("--max-ppl", max_ppl),
    )
    wanted = optimizer.Wanted(
        source=model_path(str(model)),
        tokenizer=tokenizer,
        board=board,
        text=text,
        bounds=bounds,
        held_out=held_out,
        energy=energy,
        contexts=options.numbers("-c", context, optimizer.LEAST),
        types=tuple(t.strip().upper() for t in types.split(",") if t.strip()),
        batch=batch,
        tokens=tokens,
        stream=stream,
        timeout=timeout,
    )
    with tempfile.TemporaryDirectory() as scratch:
        found = optimizer.optimize(wanted, Path(scratch), verify, Progress())
        front_report.show(found, form)
        if picture:
            write_whole(picture, front_report.picture(found, picture.suffix[1:].lower()))
        if found.best is None:
            raise RunFailed(front_report.verdict(found))
        if recipe_out:
            write_whole(recipe_out, front_report.recipe(found, found.best.plan).encode())
        if out:
            write_whole(out, found.best.model.read_bytes())
        if found.failed:
            raise found.failed
