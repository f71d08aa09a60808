"""Runs: measured now, or saved before."""

import inspect
import math
import operator
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Literal

import pandas as pd

from ..boards import qemu_counters
from ..energy import logger_csv, operator_energy, run_energy, sensors
from ..energy.run_energy import Energy
from ..errors import BadInput, RunFailed
from ..measure import collect as measuring
from ..models.demo import model_path
from ..models.inspection import activation_bits
from ..progress import CallbackProgress
from ..records import metrics, runs
from ..records.facts import facts, main_test
from ..report import files, qemu_table, run_report
from . import notebook

FilePath = str | PathLike[str]
Callback = Callable[[str], object]
Lengths = int | Iterable[int]


class Run:
    """A measured run. Tables are DataFrames, with the unit and the source of their figures in columns of these names.

    Attributes:
        record: the run as the package has it, `tinyprof_bridge.records.runs.Run`, for what has no name here.
    """

    def __init__(self, record: runs.Run) -> None:
        self.record = record

    @property
    def path(self) -> Path:
        """The file that holds the records, JSON lines."""
        return Path(self.record.path)

    @property
    def board(self) -> str:
        """The board's name, or the port that it was on."""
        return self.record.host.board if self.record.host else "a board"

    @property
    def model(self) -> str:
        """The model's name, from its file."""
        return self.record.model.name if self.record.model else "run"

    @property
    def unit(self) -> str:
        """What the counter counts: instr, cycles, us, ns or ticks."""
        return self.record.unit

    @property
    def source(self) -> str:
        """How figures were obtained, e.g. emulated-icount, hw-cycles, host-clock."""
        return self.record.source

    @property
    def complete(self) -> bool:
        """Whether the run ended well and no record is missing."""
        return self.record.complete

    @property
    def correctness(self) -> str:
        """'match', 'WRONG' or 'not checked': the logits against those of the unix port."""
        return self.record.correctness

    @property
    def problems(self) -> list[str]:
        """Why figures must not be used; empty for a good run."""
        return measuring.problems(self.record, self._energy)

    @property
    def facts(self) -> dict[str, str]:
        """What decides the result, by name: model, board, kernels, counter, ..."""
        found: dict[str, str] = {}
        for name, text in self._facts():
            found[name] = f"{found[name]}; {text}" if name in found else text
        return found

    @property
    def tests(self) -> pd.DataFrame:
        """One row per test.

        Units per token: per_token (mean), stddev over repetitions, p50, p95, p99, cold (the first run). first_token:
        units of a whole prefill. per_mac: units per MAC. tok_s: tokens per second, NaN where the counter knows
        no seconds. interpreter: share of the units outside operators."""
        return self._with_source(metrics.tests(self.record))

    def operators(self, test: str | None = None) -> pd.DataFrame:
        """One row per operator of a test, the most expensive first.

        units, macs, bytes and calls are per token; share: of the operators' sum; per_mac: units per MAC.

        test: its name, e.g. 'tg32' or 'tg32 @ d64'; None: the first decode.
        Raises BadInput for a test that is not in the run."""
        return self._with_source(metrics.operators(self.record, self._test(test)))

    def latencies(self, test: str | None = None) -> pd.DataFrame:
        """One row per sample: repetition, token, units. A prefill has one sample per repetition, token 0.

        test: as for operators. Raises BadInput for a test that is not in the run."""
        samples = self.record.tests[self._test(test)].samples
        rows = [
            {"repetition": i, "token": token, "units": units}
            for i, repetition in enumerate(samples.repetitions())
            for token, units in repetition
        ]
        return self._with_source(pd.DataFrame(rows, columns=["repetition", "token", "units"]))

    def counted(self, test: str | None = None) -> pd.DataFrame:
        """One row per operator: instructions, modelled cycles, bytes and cache misses per token, of a run with
        counters='full'; empty for others.

        test: as for operators. Raises BadInput for a test that is not in the run."""
        return qemu_table.operators(self.record, self._test(test))

    @property
    def memory(self) -> pd.DataFrame:
        """One row per use of memory: its name in the records, and bytes."""
        found = self.record.memory.model_dump(exclude={"tp", "run", "seq", "kind"}) if self.record.memory else {}
        return pd.DataFrame(list(found.items()), columns=["what", "bytes"])

    @property
    def energy(self) -> pd.DataFrame:
        """One row per test: joules per token with their 95 % interval, watts, seconds. Empty without a power sensor."""
        return run_energy.figures(self.record, self._energy) if self._energy else pd.DataFrame()

    @property
    def operator_energy(self) -> pd.DataFrame:
        """One row per operator of the first decode test: joules per token, watts. Empty without a power sensor."""
        return operator_energy.operators(self.record, self._energy) if self._energy else pd.DataFrame()

    @property
    def events(self) -> pd.DataFrame:
        """One row per event that the chip counted, a column of events per token for each test. Empty without events."""
        frame = pd.DataFrame(metrics.event_rows(self.record))
        source = next((e.source for t in self.record.tests.values() for e in t.events.values()), "")
        return frame if frame.empty else frame.assign(source=source)

    @property
    def perplexity(self) -> float:
        """Of the text that the model was judged by on the board; NaN without one."""
        return metrics.perplexity(self.record.perplexity) if self.record.perplexity else math.nan

    def to_markdown(self) -> str:
        """The report, as `tinyprof-bridge report -o md` prints it."""
        return run_report.markdown(self.record, self._energy)

    def to_json(self) -> str:
        """All figures and the records about the run, as `tinyprof-bridge report -o json` prints them."""
        return run_report.as_json(self.record, self._energy)

    def to_html(self, path: FilePath) -> Path:
        """Writes the page of charts and tables, and returns its path.

        Raises BadInput where it cannot be written, or a package for charts is missing."""
        files.write(self.record, self._energy, files.Wanted(Path(path), None, None, None, None))
        return Path(path)

    @cached_property
    def _energy(self) -> Energy | None:
        return run_energy.energy(self.record)

    def _facts(self) -> list[tuple[str, str]]:
        return facts(self.record, run_energy.energy_facts(self._energy))

    def _test(self, name: str | None) -> str:
        wanted = name or main_test(self.record)
        if wanted not in self.record.tests:
            there = ", ".join(self.record.tests) or "no test"
            raise BadInput(f"no test '{wanted}' in {self.path}: there is {there}")
        return wanted

    def _with_source(self, frame: pd.DataFrame) -> pd.DataFrame:
        return frame if frame.empty else frame.assign(unit=self.unit, source=self.source)

    def __repr__(self) -> str:
        state = f"NOT VALID: {'; '.join(self.problems)}" if self.problems else "valid"
        tests = ", ".join(self.record.tests) or "no test"
        return f"<Run of {self.model} on {self.board}: {tests}; {self.unit} by {self.source}; {state}>"

    def _repr_html_(self) -> str:
        record, energy = self.record, self._energy
        parts = [notebook.alarms(self.problems)]
        frame = metrics.tests(record)
        if not frame.empty:
            parts.append(notebook.table(frame, run_report.test_columns(record)))
        for title, rows, columns in run_report.measured_tables(record, energy):
            parts.append(notebook.section(title, notebook.table(rows, columns)))
        main = main_test(record)
        if main:
            rows = metrics.operators(record, main)
            content = notebook.table(rows, run_report.operator_columns(record))
            parts.append(notebook.section(f"operators in {main}", content))
        parts.append(notebook.section("how it was obtained", notebook.pairs(self._facts()), opened=False))
        state = ("NOT VALID", "bad") if self.problems else ("complete and valid", "good")
        badges = [state, (f"{self.unit} by {self.source}", ""), (f"logits: {self.correctness}", "")]
        return notebook.page(f"{self.model} on {self.board}", badges, parts)


def collect(
    board: str = "m4",
    model: FilePath = "demo",
    p: Lengths = (16, 64),
    n: Lengths = (32,),
    d: Lengths = (0,),
    r: int = 5,
    *,
    warmup: int = 1,
    context: int | None = None,
    batch: int = 8,
    kv: Literal["f32", "f16", "q8"] | None = None,
    activations: Literal["int8", "int16"] = "int8",
    stream: bool = False,
    perplexity: FilePath | None = None,
    tokens: int = 256,
    counters: Literal["off", "full"] = "off",
    icache: str = "16K:4:32",
    dcache: str = "16K:4:32",
    events: str | Iterable[str] | None = None,
    cold: str | Iterable[str] = (),
    power: str | None = None,
    mhz: float | None = None,
    timeout: float = 120.0,
    out: FilePath | None = None,
    progress: Callback | None = None,
) -> Run:
    """The run of a model on a board, measured now; its records are kept in a file.

    Args:
        board: an emulated board (boards() has them), unix, unix-fixed, a port such as /dev/ttyACM0, or auto for the
            only board on USB.
        model: a GGUF file, or 'demo' for the model that comes with the package.
        p: prefill lengths in tokens, a test each; () for none.
        n: decode lengths in tokens, a test each; () for none.
        d: depths in tokens: how many are in the KV cache before a test.
        r: repetitions of each test.
        warmup: unmeasured runs before each test.
        context: positions in the KV cache; None: as many as the tests need.
        batch: tokens that prefill takes at once.
        kv: type of the KV cache; None: that of the board's path.
        activations: type of what meets quantized weights.
        stream: whether weights are read from storage while the model runs.
        perplexity: a text file to judge the model by, on the board.
        tokens: of that text, at most.
        counters: 'full' counts instructions, bytes and cache misses of each operator in QEMU.
        icache: the instruction cache to simulate then, bytes:ways:line, or 'none'.
        dcache: the same for data.
        events: names of events that the chip counts by itself, or 'all'.
        cold: starts from cold to measure too, of 'cache' and 'sleep'.
        power: a power sensor, e.g. 'ina226:id=0,scl=5,sda=4'.
        mhz: the clock to set, in MHz.
        timeout: seconds of silence after which a board is given up.
        out: the file for the records; None: a new one in results/.
        progress: called with one line of text a step, e.g. print; None: silent.

    Raises:
        BadInput: an argument, the model or the board cannot be used.
        RunFailed: the run broke, its logits are wrong, or its energy is not valid; the message names the file with the
            records, which `load` reads.
        KeyboardInterrupt: as the user asked; the board is back at its REPL, and no emulator is left.

    >>> run = tp.collect("m4", p=4, n=4, r=1)
    >>> run
    <Run of tinyprof-demo on m4: pp4, tg4; instr by emulated-icount; valid>
    >>> list(run.operators("tg4").columns[:4])
    ['role', 'op', 'type', 'calls']
    """
    command = _written(locals())
    if counters not in ("off", "full"):
        raise BadInput(f"counters takes off or full, not '{counters}'")
    counted = qemu_counters.Wanted(qemu_counters.cache("icache", icache), qemu_counters.cache("dcache", dcache))
    request = measuring.Request(
        board=board,
        model=model_path(str(model)),
        p=lengths("p", p),
        n=lengths("n", n),
        d=lengths("d", d) or (0,),
        r=r,
        warmup=warmup,
        context=context,
        batch=batch,
        kv=kv,
        activations=activation_bits(activations),
        stream=stream,
        timeout=timeout,
        sensor=sensors.parse(power) if power else None,
        mhz=mhz,
        text=Path(perplexity) if perplexity is not None else None,
        text_tokens=tokens,
        counting=counted if counters == "full" else None,
        events=None if not events else () if events == "all" else names(events),
        cold=names(cold),
    )
    file = Path(out) if out is not None else measuring.default_out(board, request.model)
    with interruptible():
        record, _ = measuring.collect(request, file, CallbackProgress(progress), command)
    run = Run(record)
    if run.problems:
        raise RunFailed(f"{'; '.join(run.problems)}; the records are in {file}")
    return run


def load(path: FilePath) -> Run:
    """A saved run, with the readings of a sensor at the host where these lie beside it.

    path: a file of records, JSON lines, complete or not: `problems` says so.
    Raises BadInput where it cannot be read or holds no run."""
    return Run(logger_csv.load_run(Path(path)))


def as_run(run: "Run | FilePath") -> Run:
    """A run as it is, or loaded from its file."""
    return run if isinstance(run, Run) else load(run)


def lengths(name: str, value: Lengths) -> tuple[int, ...]:
    """One whole number, or several, as a tuple. Raises BadInput for anything else."""
    try:
        if isinstance(value, Iterable) and not isinstance(value, str):
            return tuple(operator.index(length) for length in value)
        return (operator.index(value),)
    except TypeError:
        raise BadInput(f"{name} takes whole numbers, such as 16 or (16, 64), not {value!r}") from None


def names(value: str | Iterable[str]) -> tuple[str, ...]:
    """One name, or several, as a tuple."""
    return tuple(filter(None, value.split(",") if isinstance(value, str) else value))


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C is a KeyboardInterrupt, which ends loops over runs, and not a failed run, which they may pass over."""
    try:
        yield
    except RunFailed as error:
        if isinstance(error.__cause__, KeyboardInterrupt):
            raise KeyboardInterrupt(str(error)) from None
        raise


def _written(arguments: dict[str, object]) -> str:
    """The call of collect with these arguments, without defaults."""
    defaults = {name: repr(p.default) for name, p in inspect.signature(collect).parameters.items()}
    texts = {n: repr(str(v) if isinstance(v, PathLike) else v) for n, v in arguments.items() if n != "progress"}
    return f"collect({', '.join(f'{name}={text}' for name, text in texts.items() if text != defaults[name])})"
