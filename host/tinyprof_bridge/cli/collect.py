"""The verbs that measure on a board: collect and demo."""

import pickle
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import BadInput, RunFailed
from ..models.demo import DEMO_MODEL, model_path
from . import options, show

if TYPE_CHECKING:
    from ..measure.collect import Request

WORK = "Workload"
LOADING = "How the model is loaded"
COUNTING = "Quality and counters"
ENERGY = "Energy and clocks"

EXAMPLES = options.examples(
    "collect                              # the demo model on an emulated board",
    "collect -b auto -m my.gguf -d 0,64   # on the board on USB",
    "collect -b m4,m7 -m a.gguf,b.gguf --jobs 2 --out runs",
)


def _lengths(flag: str, help_: str) -> Any:
    return typer.Option(flag, metavar="N,…", help=help_, rich_help_panel=WORK)


def collect(
    board: options.BoardOption = "m4",
    model: options.ModelOption = "demo",
    p: Annotated[str, _lengths("-p", "prefill lengths in tokens")] = "16,64",
    n: Annotated[str, _lengths("-n", "decode lengths in tokens")] = "32",
    d: Annotated[str, _lengths("-d", "depths: tokens that are already in the KV cache")] = "0",
    r: Annotated[int, typer.Option("-r", metavar="N", help="repetitions of each test", rich_help_panel=WORK)] = 5,
    warmup: Annotated[
        int, typer.Option(metavar="N", help="unmeasured runs before each test", rich_help_panel=WORK)
    ] = 1,
    timeout: Annotated[float, options.timeout_option(WORK)] = 120,
    jobs: Annotated[
        int, typer.Option(metavar="N", help="with several boards: this many run at once", rich_help_panel=WORK)
    ] = 1,
    context: Annotated[int | None, options.context_option(LOADING)] = None,
    batch: Annotated[int, options.batch_option(LOADING)] = 8,
    kv: Annotated[str | None, options.kv_option(LOADING)] = None,
    activations: Annotated[str, options.activations_option(LOADING)] = "int8",
    stream: Annotated[
        bool, typer.Option("--stream", help="read the weights from storage for each token", rich_help_panel=LOADING)
    ] = False,
    perplexity: Annotated[
        Path | None,
        typer.Option(metavar="TEXT", help="measure the perplexity of a text file", rich_help_panel=COUNTING),
    ] = None,
    tokens: Annotated[
        int, typer.Option(metavar="N", help="tokens of that text, at most", rich_help_panel=COUNTING)
    ] = 256,
    counting: Annotated[
        str,
        options.choice(
            *("off", "full"),
            flag="--counters",
            help="full: count instructions, bytes and cache misses in QEMU (docs/counters.md)",
            group=COUNTING,
        ),
    ] = "off",
    icache: Annotated[
        str, typer.Option(metavar="CACHE", help="simulated instruction cache, or none", rich_help_panel=COUNTING)
    ] = "16K:4:32",
    dcache: Annotated[
        str,
        typer.Option(
            metavar="CACHE", help="simulated data cache, as bytes:ways:line, or none", rich_help_panel=COUNTING
        ),
    ] = "16K:4:32",
    events: Annotated[
        str,
        typer.Option(
            metavar="all|EVENT,…", help="count hardware events of the chip (docs/events.md)", rich_help_panel=COUNTING
        ),
    ] = "",
    cold: Annotated[
        str,
        typer.Option(
            metavar="cache,sleep",
            help="also measure with empty caches, and after light sleep",
            rich_help_panel=COUNTING,
        ),
    ] = "",
    sensor: Annotated[
        str | None,
        typer.Option(
            "--power",
            metavar="SENSOR",
            help="measure energy, e.g. with ina226:id=0,scl=5,sda=4 (docs/power.md)",
            rich_help_panel=ENERGY,
        ),
    ] = None,
    freq: Annotated[
        str,
        typer.Option(
            "--freq", metavar="MHZ,…", help="set the clock, and run at each, e.g. 48,96,133", rich_help_panel=ENERGY
        ),
    ] = "",
    bound: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="with --freq: the longest time per token", rich_help_panel=ENERGY),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="file for the records, a folder for several runs (default: results/…)"),
    ] = None,
    o: Annotated[str, options.choice(*show.RUN_FORMATS)] = "table",
) -> None:
    """Profile a model on a board and save the records.

    Several boards or models, comma-separated, run each board with each model. The same command continues where it was
    stopped."""
    options.positive(r=r, batch=batch, c=context, tokens=tokens, jobs=jobs)
    if warmup < 0:
        raise BadInput(f"--warmup must not be negative, not {warmup}")
    ways = tuple(filter(None, cold.split(",")))
    if not {"cache", "sleep"}.issuperset(ways):
        raise BadInput(f"--cold takes cache and sleep, not '{cold}'")
    prefill, decode, depths = options.numbers("-p", p), options.numbers("-n", n), options.numbers("-d", d, 0)
    if not prefill and not decode:
        raise BadInput("nothing to measure: give -p or -n")
    several = "," in board or "," in model
    if several and (sensor or freq):
        raise BadInput("--power and --freq take one board and one model")
    clocks = options.numbers("--freq", freq)

    from ..boards import qemu_counters
    from ..energy import sensors
    from ..measure.collect import Request

    wanted = qemu_counters.Wanted(qemu_counters.cache("--icache", icache), qemu_counters.cache("--dcache", dcache))
    request = Request(
        board=board,
        model=model_path(model),
        counting=wanted if counting == "full" else None,
        p=prefill,
        n=decode,
        d=depths or (0,),
        r=r,
        warmup=warmup,
        context=context,
        batch=batch,
        kv=kv,
        activations=options.bits(activations),
        stream=stream,
        timeout=timeout,
        text=perplexity,
        text_tokens=tokens,
        events=(() if events == "all" else tuple(filter(None, events.split(",")))) if events else None,
        cold=ways,
        sensor=sensors.parse(sensor) if sensor else None,
    )
    if several:
        _collect_matrix(request, board, model, out, jobs, o)
    elif clocks:
        _collect_clocks(request, clocks, bound, out, o)
    else:
        _collect_one(request, out, o)


def _collect_one(request: "Request", out: Path | None, form: str) -> None:
    from ..energy import run_energy
    from ..measure.collect import collect, default_out
    from ..progress import Progress

    run, path = collect(request, out or default_out(request.board, request.model), Progress())
    energy = run_energy.energy(run)
    show.show_run(run, energy, form)
    print(f"records in {path}", file=sys.stderr)
    show.judge(run, energy)


def _collect_clocks(
    request: "Request", clocks: tuple[int, ...], bound: float | None, out: Path | None, form: str
) -> None:
    """A run at each clock, and the best of them."""
    from ..energy import run_energy
    from ..measure.collect import collect, default_out
    from ..progress import Progress
    from .power import show_sweep

    runs = []
    base = out or default_out(request.board, request.model)
    for mhz in clocks:
        file = base.with_name(f"{base.stem}-{mhz}MHz.jsonl")
        run, path = collect(replace(request, mhz=mhz), file, Progress())
        print(f"records in {path}", file=sys.stderr)
        show.judge(run, run_energy.energy(run))
        runs.append(run)
    if form == "table":
        show_sweep(runs, bound)
    else:
        show.show_runs(runs, form)


def _collect_matrix(request: "Request", board: str, model: str, out: Path | None, jobs: int, form: str) -> None:
    """Each board with each model."""
    from ..measure import matrix
    from ..progress import Progress
    from ..records.runs import load

    boards = [name.strip() for name in board.split(",") if name.strip()]
    models = [model_path(name.strip()) for name in model.split(",") if name.strip()]
    if len(set(boards)) < len(boards) or len(set(models)) < len(models):
        raise BadInput("give each board and each model once")
    folder = out or Path("results") / f"{datetime.now():%Y-%m-%dT%H%M%S}-matrix"
    if folder.is_file():
        raise BadInput(f"several runs need a folder, but --out {folder} is a file")
    outcomes = matrix.run(matrix.cells(request, boards, models), folder, jobs, Progress())
    failed = [outcome for outcome in outcomes if outcome.error]
    show.show_runs([load(folder / outcome.file) for outcome in outcomes if not outcome.error], form)
    if failed:
        raise RunFailed(f"{len(failed)} of {len(outcomes)} runs failed; {folder}/manifest.json says why")
    print(
        f"{len(outcomes)} runs in {folder}; `tinyprof-bridge compare {folder}/*.jsonl` compares them", file=sys.stderr
    )


def collect_cell(out: Path) -> None:
    """One run of a matrix (measure/matrix.py): standard input has its request."""
    from ..energy import run_energy
    from ..measure.collect import collect
    from ..progress import Progress

    # the records name the command that the user gave
    request, sys.argv = pickle.load(sys.stdin.buffer)
    run, _ = collect(request, out, Progress(quiet=True))
    show.judge(run, run_energy.energy(run))


def demo(
    board: options.BoardOption = "m4",
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="folder for records and report")] = Path("results"),
) -> None:
    """Profile the demo model on an emulated board: try this first."""
    from ..measure.collect import Request, collect
    from ..progress import Progress
    from ..report import run_report

    request = Request(board=board, model=DEMO_MODEL, p=(16, 64), n=(32,), d=(0, 64), r=2)
    run, path = collect(request, out / f"demo-{Path(board).name}.jsonl", Progress())
    show.show_run(run, None, "table")
    text = path.with_suffix(".md")
    text.write_text(run_report.markdown(run, None), encoding="utf-8")
    print(f"records in {path}, report in {text}", file=sys.stderr)
    show.judge(run, None)
