"""tinyprof-bridge: the command line. Each verb is thin; the work is in the module of its name."""

import contextlib
import io
import os
import shutil
import signal
import sys
import tempfile
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from .. import __version__
from ..boards import emulators, qemu_counters
from ..energy import run_energy, sensors
from ..errors import BadInput, RunFailed, plain
from ..measure.collect import Request, read_model, supply_of
from ..measure.collect import collect as run_collect
from ..models.demo import DEMO_MODEL, model_path
from ..progress import Progress
from ..records.runs import Run, load
from ..report import run_report
from ..tables import rich_table

# typer carries its own copy of click, or not: the base of its errors is the same class either way
_UsageError: type[typer.BadParameter] = typer.BadParameter.__mro__[2]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

BoardOption = Annotated[
    str,
    typer.Option("--board", "-b", help=f"{', '.join(emulators.NAMES)}, a port such as /dev/ttyACM0, or auto"),
]
ModelOption = Annotated[str, typer.Option("--model", "-m", help="a GGUF file, or 'demo'")]
_ACTIVATIONS = typer.Option(help="what meets quantized weights: int8, or int16 for twice the products")
_OUTPUT = typer.Option("-o", help="table, md, csv, json or jsonl")


def _lengths(option: str, text: str, least: int = 1) -> tuple[int, ...]:
    try:
        values = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise BadInput(f"{option} takes whole numbers with commas between, not '{text}'") from None
    if any(v < least or v > 1_000_000 for v in values):
        raise BadInput(f"{option} takes numbers from {least} to 1000000, not '{text}'")
    if len(set(values)) < len(values):
        raise BadInput(f"{option} takes each number once, not '{text}'; for repetitions there is -r")
    return values


def _seconds(timeout: float) -> float:
    if not 0 < timeout <= 86400:  # so neither for nan
        raise BadInput(f"--timeout takes seconds, more than 0 and at most 86400, not {timeout:g}")
    return timeout


def _default_out(board: str, model: Path) -> Path:
    place = Path(board).name if "/" in board else board
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in f"{place}-{model.stem}")
    return Path("results") / f"{datetime.now():%Y-%m-%dT%H%M%S}-{safe}.jsonl"


def _print(run: Run, energy: run_energy.Energy | None, form: str) -> None:
    match form:
        case "table":
            run_report.terminal(run, energy, Console(width=None if sys.stdout.isatty() else 150))
        case "md":
            print(run_report.markdown(run, energy), end="")
        case "csv":
            print(run_report.csv(run), end="")
        case "json":
            print(run_report.as_json(run, energy))
        case "jsonl":
            with Path(run.path).open("rb") as lines:
                shutil.copyfileobj(lines, sys.stdout.buffer)


def _bits(activations: str) -> int:
    if activations not in ("int8", "int16"):
        raise BadInput(f"--activations takes int8 or int16, not '{activations}'")
    return int(activations.removeprefix("int"))


def _check_form(form: str) -> None:
    if form not in (*run_report.FORMATS, "jsonl"):
        raise BadInput(f"-o takes table, md, csv, json or jsonl, not '{form}'")


@app.command()
def collect(
    board: BoardOption = "m4",
    model: ModelOption = "demo",
    p: Annotated[str, typer.Option("-p", help="prefill lengths, e.g. 16,64")] = "16,64",
    n: Annotated[str, typer.Option("-n", help="decode lengths, e.g. 32")] = "32",
    d: Annotated[str, typer.Option("-d", help="depths: tokens already in the KV cache")] = "0",
    r: Annotated[int, typer.Option("-r", help="repetitions")] = 5,
    warmup: Annotated[int, typer.Option(help="unmeasured runs before each test")] = 1,
    context: Annotated[int | None, typer.Option("-c", help="positions in the KV cache")] = None,
    batch: Annotated[int, typer.Option(help="tokens that prefill takes at once")] = 8,
    kv: Annotated[
        str | None, typer.Option(help="type of the KV cache: f32, f16 or q8", show_default="the path's")
    ] = None,
    activations: Annotated[str, _ACTIVATIONS] = "int8",
    stream: Annotated[bool, typer.Option("--stream", help="read weights from storage while the model runs")] = False,
    perplexity: Annotated[
        Path | None, typer.Option("--perplexity", metavar="TEXT", help="judge the model by a text, on the board")
    ] = None,
    tokens: Annotated[int, typer.Option(help="tokens of that text to take at most")] = 256,
    timeout: Annotated[float, typer.Option(help="seconds of silence after which a board is given up")] = 120,
    out: Annotated[Path | None, typer.Option("--out", help="file for the records (default results/…)")] = None,
    counting: Annotated[
        str, typer.Option("--counters", metavar="off|full", help="full: count and model in QEMU (docs/counters.md)")
    ] = "off",
    icache: Annotated[str, typer.Option(help="the cache to simulate, bytes:ways:line, or none")] = "16K:4:32",
    dcache: Annotated[str, typer.Option(help="the same for data")] = "16K:4:32",
    events: Annotated[
        str, typer.Option(metavar="all|EVENT,…", help="count events of the board's own (docs/events.md)")
    ] = "",
    cold: Annotated[
        str, typer.Option(metavar="cache,sleep", help="also start from emptied caches, from light sleep")
    ] = "",
    jobs: Annotated[int, typer.Option(help="boards that run at once, where several are given")] = 1,
    sensor: Annotated[
        str | None, typer.Option("--power", help="sensor, e.g. ina226:id=0,scl=5,sda=4 (docs/power.md)")
    ] = None,
    freq: Annotated[str, typer.Option("--freq", help="clocks to set, in MHz, e.g. 48,96,133: a run at each")] = "",
    bound: Annotated[float | None, typer.Option(help="with --freq: seconds that a token may take")] = None,
    o: Annotated[str, _OUTPUT] = "table",
) -> None:
    """Profile a model on a board and keep the records; with several boards or models, with commas between, each
    board with each model, and --out is a folder."""
    _check_form(o)
    if r < 1 or warmup < 0 or batch < 1 or (context is not None and context < 1):
        raise BadInput("-r, --batch and -c must be positive, --warmup not negative")
    if counting not in ("off", "full"):
        raise BadInput(f"--counters takes off or full, not '{counting}'")
    ways = tuple(filter(None, cold.split(",")))
    if not {"cache", "sleep"}.issuperset(ways):
        raise BadInput(f"--cold takes cache and sleep, not '{cold}'")
    wanted = qemu_counters.Wanted(qemu_counters.cache("--icache", icache), qemu_counters.cache("--dcache", dcache))
    request = Request(
        board=board,
        model=model_path(model),
        counting=wanted if counting == "full" else None,
        p=_lengths("-p", p),
        n=_lengths("-n", n),
        d=_lengths("-d", d, 0) or (0,),
        r=r,
        warmup=warmup,
        context=context,
        batch=batch,
        kv=kv,
        activations=_bits(activations),
        stream=stream,
        timeout=_seconds(timeout),
        text=perplexity,
        text_tokens=tokens,
        events=(() if events == "all" else tuple(filter(None, events.split(",")))) if events else None,
        cold=ways,
        sensor=sensors.parse(sensor) if sensor else None,
    )
    if tokens < 1:
        raise BadInput("--tokens must be positive")
    if not request.p and not request.n:
        raise BadInput("nothing to measure: give -p or -n")
    if ("," in board or "," in model) and (sensor or freq):
        raise BadInput("--power and --freq are for one board and one model")
    if freq:
        _sweep(request, freq, bound, out)
        return
    if "," in board or "," in model:
        options: list[str] = ["-p", p, "-n", n, "-d", d, "-r", str(r), "--warmup", str(warmup), "--batch", str(batch)]
        options += ["-c", str(context)] if context else []
        options += ["--kv", kv] if kv else []
        options += ["--activations", activations] if activations != "int8" else []
        options += ["--stream"] if stream else []
        options += ["--perplexity", str(perplexity), "--tokens", str(tokens)] if perplexity else []
        options += ["--events", events] if events else []
        options += ["--cold", cold] if cold else []
        options += ["--counters", counting, "--icache", icache, "--dcache", dcache] if counting == "full" else []
        _collect_matrix(board, model, tuple(options), out, jobs)
        return
    run, path = run_collect(request, out or _default_out(board, request.model), Progress())
    energy = run_energy.energy(run)
    _print(run, energy, o)
    print(f"records in {path}", file=sys.stderr)
    _judge(run, energy)


def _judge(run: Run, energy: run_energy.Energy | None) -> None:
    if run.correctness == "WRONG":
        raise RunFailed("the logits differ from those of the unix port: the figures are of a wrong kernel")
    if energy and energy.findings:
        raise RunFailed(f"the energy is not valid: {'; '.join(energy.findings)}")


def _sweep(request: Request, freq: str, bound: float | None, out: Path | None) -> None:
    """A run at each clock, and the best of them."""
    runs = []
    base = out or _default_out(request.board, request.model)
    for mhz in _lengths("--freq", freq):
        file = base.with_name(f"{base.stem}-{mhz}MHz.jsonl")
        run, path = run_collect(replace(request, mhz=mhz), file, Progress())
        print(f"records in {path}", file=sys.stderr)
        _judge(run, run_energy.energy(run))
        runs.append(run)
    _show_sweep(runs, bound)


def _show_sweep(runs: list[Run], bound: float | None) -> None:
    from ..measure import clock_sweep

    frame = clock_sweep.figures(runs)
    console = Console(width=None if sys.stdout.isatty() else 150)
    if frame.empty:
        raise BadInput("no run knows its clock")
    console.print(rich_table(frame, run_report.SWEEP_COLUMNS, "against the clock", console.width))
    what = f"least energy within {bound:g} s a token" if bound else "least energy × delay (time, without a sensor)"
    console.print(rich_table(clock_sweep.best(frame, bound), run_report.SWEEP_COLUMNS, what, console.width))


@app.command("report")
def report_(
    file: Annotated[Path, typer.Argument(help="a saved run (results/….jsonl)")],
    o: Annotated[str | None, _OUTPUT] = None,
    html: Annotated[Path | None, typer.Option(help="write a page of charts and tables, one file")] = None,
    charts: Annotated[Path | None, typer.Option(help="write each chart as PNG and SVG into this folder")] = None,
    csv: Annotated[Path | None, typer.Option(help="write each table as CSV into this folder")] = None,
    trace: Annotated[Path | None, typer.Option(help="write a trace for Perfetto and chrome://tracing")] = None,
    speedscope: Annotated[Path | None, typer.Option(help="write a profile for speedscope")] = None,
    power_csv: Annotated[
        Path | None,
        typer.Option("--power-csv", help="what a logger saw of the board's supply: Otii, Joulescope, PPK2 …"),
    ] = None,
    volts: Annotated[float | None, typer.Option(help="of the supply, where the logger's file has none")] = None,
) -> None:
    """Show a saved run, or write it as a page, charts, tables or traces."""
    from ..energy import logger_csv
    from ..report import files

    _check_form(o or "table")
    run = load(file)
    beside = supply_of(file)
    if power_csv or beside.exists():
        run.supply = logger_csv.read_csv(power_csv or beside, volts)
    energy = run_energy.energy(run)
    written = files.write(run, energy, files.Wanted(html, charts, csv, trace, speedscope))
    if o or not written:
        _print(run, energy, o or "table")
    for path in written:
        print(path, file=sys.stderr if o else sys.stdout)


@app.command("explain")
def explain_(
    file: Annotated[Path, typer.Argument(help="a saved run (results/….jsonl)")],
    test: Annotated[str | None, typer.Option(help="the test to explain, e.g. 'tg32 @ d64'")] = None,
    what_if: Annotated[
        str | None, typer.Option(metavar="CHANGE", help="predict: type=Q8_0, context=512, clock=80MHz, placement=ram")
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="run what --what-if predicts on the board")] = False,
    model: Annotated[str | None, typer.Option("--model", "-m", help="the run's model, for --verify")] = None,
    o: Annotated[str, typer.Option("-o", help="table, md or json")] = "table",
) -> None:
    """Say where the time goes and why, and what to try; or what a change would make of it."""
    from ..analysis import explain as explaining

    if o not in explaining.FORMATS:
        raise BadInput(f"-o takes table, md or json, not '{o}'")
    if verify and what_if is None:
        raise BadInput("--verify takes what --what-if predicts: give that too")
    run = load(file)
    if what_if is not None:
        _what_if(run, what_if, verify, model, o)
        return
    why = explaining.explain(run, test)
    match o:
        case "table":
            explaining.terminal(why, Console(width=None if sys.stdout.isatty() else 150))
        case "md":
            print(explaining.markdown(why), end="")
        case "json":
            print(explaining.as_json(why))


def _what_if(run: Run, text: str, verify: bool, model: str | None, form: str) -> None:
    from ..analysis import verify as verifying
    from ..analysis import whatif

    predicted = whatif.predict(run, whatif.parse(text))
    measured = None
    if verify:
        name = run.host.model_file if run.host else ""
        path = model_path(model) if model else DEMO_MODEL if name == DEMO_MODEL.name else None
        if path is None:
            raise BadInput(f"--verify needs the model of the run: give {name or 'it'} with --model")
        measured = verifying.measure(run, predicted.change, path, Progress())
    verifying.show(run, predicted, measured, form)


@app.command()
def compare(
    files: Annotated[list[Path], typer.Argument(help="saved runs; the first is what the others are held against")],
    by: Annotated[str, typer.Option(help="group runs by recorded fields, e.g. types or board,batch")] = "",
    allow: Annotated[bool, typer.Option("--allow", help="compare what cannot be compared, and say so")] = False,
    fail_on: Annotated[
        str | None, typer.Option(metavar="PERCENT", help="exit 1 if a test is slower by more, and not by chance")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="write a page of all tables, one file")] = None,
    o: Annotated[str, typer.Option("-o", help="table, md, csv or json")] = "table",
) -> None:
    """Set runs side by side: medians, changes, and whether they are more than chance."""
    from ..analysis import compare as comparing
    from ..report import files as writing

    if o not in comparing.FORMATS:
        raise BadInput(f"-o takes table, md, csv or json, not '{o}'")
    limit = comparing.limit(fail_on) if fail_on is not None else None
    result = comparing.compare(files, by, allow)
    slower = comparing.regressions(result, limit) if limit is not None else []
    if html is not None:
        writing.write_comparison(result, html)
        print(html)
    match o if html is None else "":
        case "table":
            comparing.terminal(result, Console(width=None if sys.stdout.isatty() else 150))
        case "md":
            print(comparing.markdown(result), end="")
        case "csv":
            print(comparing.csv(result), end="")
        case "json":
            print(comparing.as_json(result))
    if slower:
        raise RunFailed(f"slower by more than {fail_on}: {'; '.join(slower)}")


@app.command()
def convert(
    source: Annotated[
        Path, typer.Argument(help="a GGUF file, a Hugging Face folder, a llama2.c or PyTorch checkpoint, .pt2, .onnx")
    ],
    out: Annotated[Path, typer.Option("-o", help="the GGUF file to write")],
    tokenizer: Annotated[
        Path | None, typer.Option(help="of a checkpoint that has none: tokenizer.bin, .model, .json")
    ] = None,
    type_: Annotated[
        str, typer.Option("--type", help="Q4_0, Q8_0, Q4_K_M, TP3 …: docs/models.md has all; keep: as they are (GGUF)")
    ] = "Q4_0",
    name: Annotated[str | None, typer.Option(help="name to write into the file")] = None,
    recipe: Annotated[Path | None, typer.Option(help='TOML or JSON of "pattern" = "type" for some matrices')] = None,
    calibration: Annotated[
        Path | None, typer.Option(metavar="TEXT", help="round so that what the model makes of this text changes least")
    ] = None,
    method: Annotated[str, typer.Option(help="of rounding with --calibration: gptq, imatrix or nearest")] = "gptq",
    tokens: Annotated[int, typer.Option(help="tokens of the calibration text to take at most")] = 16384,
) -> None:
    """Make a GGUF file from another format, or of other types."""
    from ..models import calibration_stats
    from ..models.convert import KEEP, check, write
    from ..quantize import calibrated
    from ..quantize import recipe as recipes

    type_ = type_.upper()
    if method not in calibrated.METHODS or tokens < 1:
        raise BadInput(f"--method takes {', '.join(calibrated.METHODS)}, --tokens a positive number")
    if type_ == KEEP and calibration:
        raise BadInput("--calibration and --type keep: give one of them")
    mix = recipes.read(recipe) if recipe else {}
    how = calibrated.Rounding()
    model = check(source, tokenizer, out, type_, mix)
    if calibration and method != "nearest":
        with tempfile.TemporaryDirectory() as scratch:
            exact = Path(scratch) / "f32.gguf"
            write(model, exact, "F32")
            how = calibrated.Rounding(method, calibration_stats.moments(exact, calibration, tokens))
    summary = write(model, out, type_, name, mix, how)
    print(f"{out}: {summary.parameters:,} parameters, {summary.bytes:,} bytes", end="")
    if summary.padded_to != summary.padded_from:
        print(f"; hidden size padded with zeros from {summary.padded_from} to {summary.padded_to}", end="")
    print("; tensors:", ", ".join(f"{count} {stored}" for stored, count in summary.tensors.items()))
    for note in summary.notes:
        print(f"note: {plain(note)}", file=sys.stderr)


@app.command("inspect")
def inspect_(
    file: Annotated[Path, typer.Argument(help="a GGUF file, or 'demo'")],
    context: Annotated[int | None, typer.Option("-c", help="positions in the KV cache")] = None,
    batch: Annotated[int, typer.Option(help="tokens that prefill takes at once")] = 8,
    kv: Annotated[
        str | None, typer.Option(help="type of the KV cache: f32, f16 or q8", show_default="the path's")
    ] = None,
    activations: Annotated[str, _ACTIVATIONS] = "int8",
    o: Annotated[str, typer.Option("-o", help="table or json")] = "table",
) -> None:
    """Show what a model holds and needs, and which known boards have room for it."""
    from ..models import inspection
    from ..report import model_report

    if o not in model_report.FORMATS:
        raise BadInput(f"-o takes table or json, not '{o}'")
    if not 1 <= batch <= 4096 or (context is not None and context < 1):
        raise BadInput("-c must be positive, --batch from 1 to 4096")
    if kv not in (None, "f32", "f16", "q8"):
        raise BadInput(f"--kv takes f32, f16 or q8, not '{kv}'")
    found = inspection.inspect(model_path(str(file)), context, batch, kv, _bits(activations))
    if o == "json":
        print(model_report.as_json(found))
    else:
        model_report.terminal(found, Console(width=None if sys.stdout.isatty() else 150))


@app.command()
def quality(
    models: Annotated[list[Path], typer.Argument(help="GGUF files made from the reference")],
    reference: Annotated[Path, typer.Option(help="the same model in F32, a GGUF file")],
    text: Annotated[Path, typer.Option(help="text that the model was not trained on")],
    path: Annotated[str, typer.Option(help="float, fixed or both: the boards' arithmetic")] = "both",
    context: Annotated[int, typer.Option("-c", help="tokens of a window, at the model's context most")] = 256,
    tokens: Annotated[int, typer.Option(help="tokens of the text to take at most")] = 4096,
    activations: Annotated[str, _ACTIVATIONS] = "int8",
    timeout: Annotated[float, typer.Option(help="seconds for a window of tokens at most")] = 120,
    o: Annotated[str, typer.Option("-o", help="table, md or json")] = "table",
) -> None:
    """Perplexity, KL divergence and top-1 agreement of quantized models, with the bits of the boards."""
    from ..measure import quality as judging

    if o not in judging.FORMATS:
        raise BadInput(f"-o takes table, md or json, not '{o}'")
    if path not in (*emulators.REFERENCES, "both"):
        raise BadInput(f"--path takes float, fixed or both, not '{path}'")
    if context < 1 or tokens < 1:
        raise BadInput("-c and --tokens must be positive")
    paths = list(emulators.REFERENCES) if path == "both" else [path]
    bits, limit = _bits(activations), _seconds(timeout)
    judging.show(judging.measure(models, reference, text, paths, context, tokens, limit, bits), o)


@app.command("optimize")
def optimize_(
    model: Annotated[Path, typer.Argument(help="what convert takes, in F32 if there is such a file")],
    text: Annotated[Path, typer.Option(help="text to calibrate with, of the kind that the model is for")],
    board: BoardOption = "m4",
    tokenizer: Annotated[Path | None, typer.Option(help="of a checkpoint that has none")] = None,
    held_out: Annotated[Path | None, typer.Option(help="text by which --max-ppl is judged")] = None,
    energy: Annotated[Path | None, typer.Option(help="joules a token too, by what `power fit --out` wrote")] = None,
    max_ram: Annotated[str | None, typer.Option(help="bytes of heap, e.g. 200k", show_default="the board's")] = None,
    max_flash: Annotated[str | None, typer.Option(help="bytes of the model's file, e.g. 1M")] = None,
    max_ms: Annotated[
        float | None, typer.Option("--max-ms-per-token", help="of one of the last tokens of the context")
    ] = None,
    max_instr: Annotated[
        str | None, typer.Option("--max-instr-per-token", help="the same on an emulated board, e.g. 1.5M")
    ] = None,
    max_ppl: Annotated[str | None, typer.Option(help="perplexity over that of F32, e.g. +5%")] = None,
    context: Annotated[
        str, typer.Option("-c", help="contexts, of which the longest that fits is taken", show_default="256,128,64,32")
    ] = "",
    types: Annotated[str, typer.Option(help="to choose from, with commas between", show_default="all quantized")] = "",
    batch: Annotated[int, typer.Option(help="tokens that prefill takes at once")] = 8,
    stream: Annotated[
        bool, typer.Option("--stream", help="weights are read from storage while the model runs")
    ] = False,
    tokens: Annotated[int, typer.Option(help="tokens of a text to judge by")] = 1024,
    out: Annotated[Path | None, typer.Option("-o", help="write the model into this GGUF file")] = None,
    recipe_out: Annotated[Path | None, typer.Option(help="write the recipe, for convert --recipe")] = None,
    picture: Annotated[Path | None, typer.Option(help="draw the front: FILE.svg or FILE.png")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="run the finalists on the board")] = False,
    timeout: Annotated[float, typer.Option(help="seconds of silence after which a board is given up")] = 120,
    form: Annotated[str, typer.Option("--format", help="table, md or json")] = "table",
) -> None:
    """Choose types of weights and a context for a board: the least loss within bounds of RAM, flash and latency."""
    try:
        from ..optimize import front_report, optimizer
    except ImportError as error:
        raise BadInput(f"{error.name} is missing: pip install 'tinyprof[optimize]'") from None
    from ..models.convert import check_out
    from ..report.files import write_whole

    if form not in front_report.FORMATS:
        raise BadInput(f"--format takes table, md or json, not '{form}'")
    if batch < 1 or tokens < 1 or not (max_ms is None or 0 < max_ms < 1e9):
        raise BadInput("--batch, --tokens and --max-ms-per-token must be positive")
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
        contexts=_lengths("-c", context, optimizer.LEAST),
        types=tuple(t.strip().upper() for t in types.split(",") if t.strip()),
        batch=batch,
        tokens=tokens,
        stream=stream,
        timeout=_seconds(timeout),
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


@app.command()
def emulate(
    board: Annotated[str, typer.Argument(help=", ".join(emulators.EMULATED))],
    model: ModelOption = "demo",
    bare: Annotated[bool, typer.Option(help="start with empty flash")] = False,
) -> None:
    """Start an emulated board with package and model in its flash, and keep it running."""
    from ..boards import deploy

    if board not in emulators.EMULATED:
        raise BadInput(f"no emulated board '{board}': there are {', '.join(emulators.EMULATED)}")
    with tempfile.TemporaryDirectory() as scratch:
        image = Path(scratch) / "image.romfs"
        if not bare:
            image.write_bytes(
                deploy.romfs_image(deploy.package_of(emulators.EMULATED[board]), read_model(model_path(model)))
            )
        with emulators.Emulator(board, None if bare else image) as emulator:
            try:
                print(f"{emulators.EMULATED[board].description} at {emulator.device}; Ctrl-C stops it", flush=True)
                print(f"  mpremote connect {emulator.device} repl", flush=True)
                emulator.wait()
            except KeyboardInterrupt:
                print("stopped")


@app.command("deploy")
def deploy_(
    board: Annotated[str, typer.Option("--board", "-b", help="a port such as /dev/ttyACM0, or auto")] = "auto",
    model: ModelOption = "demo",
) -> None:
    """Put the device package and a model onto a board."""
    from ..boards import deploy
    from ..boards.transport import SerialBoard

    data = read_model(model_path(model))
    if board in emulators.NAMES:
        raise BadInput("an emulated board gets its package when it starts: see collect and emulate")
    device = emulators.serial_port(board)
    link = SerialBoard(device)
    try:
        place = deploy.replace(link, data, Progress())
    finally:
        link.close()
    print(f"{device}: package in place, model at {place}")


def _collect_matrix(board: str, model: str, options: tuple[str, ...], out: Path | None, jobs: int) -> None:
    from ..measure import matrix

    names = [name.strip() for name in board.split(",") if name.strip()]
    models = [str(model_path(name.strip())) for name in model.split(",") if name.strip()]
    if len(set(names)) < len(names) or len(set(models)) < len(models):
        raise BadInput("each board and each model can be given once")
    for path in models:
        read_model(Path(path))
    folder = out or Path("results") / f"{datetime.now():%Y-%m-%dT%H%M%S}-matrix"
    if folder.is_file():
        raise BadInput(f"--out takes the name of a folder where there are several runs: {folder} is a file")
    outcomes = matrix.run(matrix.cells(names, models, options), folder, jobs, Progress())
    print(f"{len(outcomes)} runs in {folder}; tinyprof-bridge compare {folder}/*.jsonl sets them side by side")


@app.command()
def demo(
    board: BoardOption = "m4",
    out: Annotated[Path, typer.Option("--out", help="folder for records and report")] = Path("results"),
) -> None:
    """Profile the demo model on an emulated Cortex-M4F: the first thing to try."""
    request = Request(board=board, model=DEMO_MODEL, p=(16, 64), n=(32,), d=(0, 64), r=2)
    run, path = run_collect(request, out / f"demo-{Path(board).name}.jsonl", Progress())
    _print(run, None, "table")
    text = path.with_suffix(".md")
    text.write_text(run_report.markdown(run, None), encoding="utf-8")
    print(f"records in {path}, report in {text}", file=sys.stderr)
    if run.correctness == "WRONG":
        raise RunFailed("the logits differ from those of the unix port: the figures are of a wrong kernel")


def _help_without_verb(context: typer.Context) -> None:
    """The whole help, as an error: a verb is missing."""
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise SystemExit(2)


@app.command()
def devices(known: Annotated[bool, typer.Option("--known", help="all boards in the table")] = False) -> None:
    """List the boards on USB, or all that are known."""
    from ..boards import catalog, usb_devices

    if known:
        catalog.show_known()
    else:
        usb_devices.show(*usb_devices.attached())


@app.command()
def doctor(
    board: Annotated[str | None, typer.Option("--board", "-b", help="a port such as /dev/ttyACM0, or auto")] = None,
) -> None:
    """Check this machine, or a board, and say what to do about each finding."""
    from ..boards import doctor as checks

    findings = checks.board(board) if board else checks.machine()
    checks.show(findings)
    if any(finding.good is False for finding in findings):
        raise RunFailed("something stands in the way: see NO above")


_power = typer.Typer()
app.add_typer(_power, name="power")


@_power.callback(invoke_without_command=True)
def _power_root(context: typer.Context) -> None:
    """Calibrate sensors; what many runs say of energy."""
    _help_without_verb(context)


@_power.command("calibrate")
def power_calibrate(
    sensor: Annotated[str, typer.Option("--power", help="the sensor, e.g. ina226:id=0,scl=5,sda=4,shunt=0.1")],
    amperes: Annotated[float, typer.Option(help="what flows, by an instrument that you trust")],
    board: Annotated[str, typer.Option("--board", "-b", help="a port such as /dev/ttyACM0, or auto")] = "auto",
    timeout: Annotated[float, typer.Option(help="seconds of silence after which a board is given up")] = 120,
) -> None:
    """Read a known current, and correct the sensor's shunt by it from now on."""
    from ..energy import shunt_calibration
    from ..measure.collect import prepare

    wanted = sensors.parse(sensor)
    if board in emulators.NAMES:
        raise BadInput(f"a sensor needs a real board: {board} draws no current")
    with prepare(board, None, Progress()) as place:
        found = shunt_calibration.calibrate(place.transport, wanted, amperes, _seconds(timeout))
    off = 100 * (found.read / found.amperes - 1)
    print(
        f"reads {found.read:.5g} A of {found.amperes:.5g} A ({off:+.2f} %): the shunt counts as {found.uohm} microohms"
    )
    print(f"kept in {shunt_calibration.store()}")


@_power.command("fit")
def power_fit(
    files: Annotated[list[Path], typer.Argument(help="saved runs with energy")],
    on: Annotated[
        str, typer.Option(help="of seconds, cycles, macs, bytes; cycles where clocks differ")
    ] = "seconds,macs,bytes",
    o: Annotated[str, typer.Option("-o", help="md or json")] = "md",
    out: Annotated[Path | None, typer.Option(help="write the fit into this file, for optimize --energy")] = None,
) -> None:
    """What a second, a cycle, a multiplication and a byte cost in joules, by regression over runs."""
    from ..energy import regression
    from ..models.convert import check_out
    from ..report.files import write_whole

    if o not in ("md", "json"):
        raise BadInput(f"-o takes md or json, not '{o}'")
    if out:
        check_out(out, *files)
    rows, left_out = regression.rows([_with_supply(f) for f in files])
    for line in left_out:
        print(line, file=sys.stderr)
    found = regression.fit(rows, tuple(on.split(",")))
    if out:
        write_whole(out, regression.as_json(found).encode())
    print(regression.markdown(found) if o == "md" else regression.as_json(found))


@_power.command("battery")
def power_battery(
    file: Annotated[Path, typer.Argument(help="a saved run with energy")],
    test: Annotated[str, typer.Option(help="what runs, e.g. tg32")],
    an_hour: Annotated[float, typer.Option("--an-hour", help="how many times an hour")],
    watt_hours: Annotated[float, typer.Option("--watt-hours", help="of the battery: volts times ampere hours")],
) -> None:
    """How long a battery lasts for a test so many times an hour, the board asleep in between."""
    run = _with_supply(file)
    energy = run_energy.energy(run)
    if energy is None or energy.findings:
        raise BadInput(f"{file} has no valid energy{': ' + '; '.join(energy.findings) if energy else ''}")
    frame = run_energy.figures(run, energy).set_index("test")
    if test not in frame.index:
        raise BadInput(f"no energy of '{test}' in {file}: there is {', '.join(frame.index)}")
    if not (an_hour > 0 and watt_hours > 0):
        raise BadInput("--an-hour and --watt-hours must be positive")
    tokens = run.tests[test].tokens if test in run.tests else 1
    joules, seconds = (float(frame[name].to_dict()[test]) * tokens for name in ("joules", "seconds"))
    if an_hour * seconds > 3600:
        raise BadInput(f"{test} takes {seconds:.3g} s: {an_hour:g} of them do not fit in an hour")
    hours = run_energy.battery_hours(joules, seconds, an_hour, energy.idle, watt_hours)
    print(f"{hours:,.1f} hours, {hours / 24:,.1f} days: {test} takes {joules:.4g} J, {seconds:.4g} s, {an_hour:g}/h;")
    print(f"asleep the board takes {energy.idle * 1e3:.4g} mW. Self-discharge and a converter's losses are not in it.")


@_power.command("sweep")
def power_sweep(
    files: Annotated[list[Path], typer.Argument(help="saved runs at several clocks")],
    bound: Annotated[float | None, typer.Option(help="seconds that a token may take")] = None,
) -> None:
    """Latency and energy of saved runs against the clock."""
    _show_sweep([_with_supply(f) for f in files], bound)


def _with_supply(file: Path) -> Run:
    """A saved run with what a sensor at the host saw of it."""
    from ..energy import logger_csv

    run = load(file)
    if supply_of(file).exists():
        run.supply = logger_csv.read_csv(supply_of(file))
    return run


_bench = typer.Typer()
app.add_typer(_bench, name="bench")


@_bench.callback(invoke_without_command=True)
def _bench_root(context: typer.Context) -> None:
    """Measure parts of the device code alone."""
    _help_without_verb(context)


@_bench.command("kernels")
def bench_kernels(
    board: BoardOption = "m4",
    types: Annotated[str, typer.Option("--types", help="with commas between")] = "Q4_0,Q8_0,TP2,TPT,TP3,Q4_K,Q6_K",
    shapes: Annotated[str, typer.Option("--shapes", help="rows x columns, with commas between")] = "256x256,64x512",
    n: Annotated[str, typer.Option("-n", help="tokens at once, e.g. 1,16")] = "1,16",
    timeout: Annotated[float, typer.Option(help="seconds of silence after which a board is given up")] = 120,
    o: Annotated[str, typer.Option("-o", help="table, md or json")] = "table",
) -> None:
    """Matrix products: counts per MAC beside the bound and the portable kernels."""
    from ..measure import kernel_bench

    if o not in kernel_bench.FORMATS:
        raise BadInput(f"-o takes table, md or json, not '{o}'")
    names = [t.strip().upper() for t in types.split(",") if t.strip()]
    kernel_bench.show(
        kernel_bench.run(board, names, kernel_bench.shapes(shapes), _lengths("-n", n), _seconds(timeout)), o
    )


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="print the version")] = False,
) -> None:
    """Profile quantized language models on microcontrollers."""
    if version:
        print(f"tinyprof-bridge {__version__}")
        raise typer.Exit
    _help_without_verb(context)


def _fail(code: int, message: str) -> NoReturn:
    """Ends with one line on standard error, whatever is in the message."""
    with contextlib.suppress(OSError):  # nobody reads it
        print(f"tinyprof-bridge: {plain(' '.join(message.split()))}", file=sys.stderr, flush=True)
    raise SystemExit(code)


def _standard_streams() -> None:
    """Makes printing safe: where a stream is closed, and in an encoding that lacks characters."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _drop_output() -> None:
    """Forgets what standard output cannot take, else the interpreter tries again at its end."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> None:
    """The command line. Exit codes: 0, 1 the run failed, 2 bad input."""
    _standard_streams()
    for number in (signal.SIGTERM, signal.SIGHUP):  # a closed terminal must not leave an emulator
        signal.signal(number, lambda *_: sys.exit(1))
    try:
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # left so by __main__
            signal.signal(signal.SIGINT, signal.default_int_handler)
        # without its standalone mode typer returns the exit code of an interrupt
        if app(standalone_mode=False):
            _fail(1, "interrupted")
        sys.stdout.flush()
    except _UsageError as error:
        _fail(2, f"{error.format_message()} (see --help)")
    except BadInput as error:
        _fail(2, str(error))
    except RunFailed as error:
        _fail(1, str(error))
    except (KeyboardInterrupt, typer.Abort):
        _fail(1, "interrupted")
    except BrokenPipeError:
        _drop_output()
    except OSError as error:
        _drop_output()
        _fail(1, f"{error.filename or ''}: {error.strerror or error}".lstrip(": "))


if __name__ == "__main__":
    main()
