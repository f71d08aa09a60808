"""A run: all records of one measurement, sorted by what they describe."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import BadInput
from . import schema
from .power_trace import Trace
from .samples import Floats, Samples
from .schema import (
    AnyRecord,
    Begin,
    Check,
    Cold,
    Counter,
    Counts,
    End,
    Event,
    Host,
    Marker,
    Memory,
    Model,
    Op,
    Overhead,
    Perplexity,
    Power,
    Roof,
    Sensor,
    Simulated,
    Window,
)
from .wire import Stream

# Units of a counter per second. Instructions and ticks of an unknown rate cannot be converted to seconds.
_PER_SECOND = {"ns": 1e9, "us": 1e6}
_NAMED = 10  # gaps in the sequence numbers that a message lists


@dataclass
class Test:
    """One test of a run, such as tg32.

    name: as in reports, "tg32 @ d64".
    phase: "prefill" or "decode".
    tokens: processed in one repetition.
    depth: positions in the KV cache before the first token.
    cold: units of the first, unmeasured run; 0 without warm-up.
    samples: units of each token (decode), or of each whole prompt (prefill).
    costs: units of each operator by its index in the plan, summed over all repetitions.
    runs: number of repetitions in costs.
    counts: records of QEMU's plugin (--counters full).
    events: counts of the chip's event counters, by event name."""

    name: str
    phase: str
    tokens: int
    depth: int
    cold: int
    samples: Samples = field(default_factory=Samples)
    costs: dict[int, int] = field(default_factory=dict)
    runs: int = 0
    counts: list[Counts] = field(default_factory=list)
    events: dict[str, Event] = field(default_factory=dict)

    @property
    def totals(self) -> Floats:
        """Units of each complete repetition."""
        return self.samples.totals(1 if self.phase == "prefill" else self.tokens)

    @property
    def latencies(self) -> Floats:
        """Units per token, one value for each token (decode) or for each repetition (prefill)."""
        return self.totals / self.tokens if self.phase == "prefill" else self.samples.units


@dataclass
class Run:
    """One run, built from its lines as they arrive. Fields whose record has not arrived are None or empty.

    path: file that the run is read from, or will be written to.
    stream: the state of the line reader.
    ops: the operators of the plan, in order.
    tests: by name, in order.
    readings: power records by (test, repetition).
    supply: readings of a sensor that is not on the board.
    roof: measured ceilings of the board.
    Each other field is the record of that kind (see schema), or a list of them."""

    path: str
    stream: Stream = field(default_factory=Stream)
    host: Host | None = None
    begin: Begin | None = None
    counter: Counter | None = None
    model: Model | None = None
    ops: list[Op] = field(default_factory=list)
    check: Check | None = None
    cold: list[Cold] = field(default_factory=list)
    tests: dict[str, Test] = field(default_factory=dict)
    overhead: Overhead | None = None
    sensor: Sensor | None = None
    markers: list[Marker] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    readings: dict[tuple[str, int], list[Power]] = field(default_factory=dict)
    perplexity: Perplexity | None = None
    supply: Trace | None = None
    memory: Memory | None = None
    roof: list[Roof] = field(default_factory=list)
    simulated: Simulated | None = None
    end: End | None = None

    def feed(self, line: bytes) -> AnyRecord | None:
        """Adds one line; returns its record if it is a new one of this run, else None."""
        record = self.stream.feed(line)
        if record is not None:
            self._take(record)
        return record

    def _take(self, record: AnyRecord) -> None:
        match record:
            case schema.Samples():
                if record.test in self.tests:
                    self.tests[record.test].samples.add(record.rep, record.at, record.v)
            case schema.Cost():
                if record.test in self.tests:
                    test = self.tests[record.test]
                    test.runs = record.runs
                    test.costs.update(enumerate(record.v, record.at))
            case Event():
                if record.test in self.tests:
                    self._event(self.tests[record.test].events, record)
            case Cold():
                self.cold.append(record)
            case Host():
                self.host = record
            case Begin():
                self.begin = record
            case Counter():
                self.counter = record
            case Model():
                self.model = record
            case Op():
                self.ops.append(record)
            case Check():
                self.check = record
            case schema.Test():
                self.tests[record.test] = Test(record.test, record.phase, record.tokens, record.depth, record.cold)
            case Overhead():
                self.overhead = record
            case Perplexity():
                self.perplexity = record
            case Sensor():
                self.sensor = record
            case Marker():
                self.markers.append(record)
            case Window():
                self.windows.append(record)
            case Power():
                self.readings.setdefault((record.test, record.rep), []).append(record)
            case Memory():
                self.memory = record
            case Simulated():
                self.simulated = record
            case Counts():
                if record.test in self.tests:
                    self.tests[record.test].counts.append(record)
            case Roof():
                self.roof.append(record)
            case End():
                self.end = record

    @staticmethod
    def _event(events: dict[str, Event], record: Event) -> None:
        """Joins the records of one event, each with a part of the plan, into one. Parts arrive in order."""
        before = events.get(record.event)
        if before is None or record.at == 0:
            events[record.event] = record
        elif record.at == len(before.v):
            before.v += record.v

    @property
    def complete(self) -> bool:
        """Whether the run ended without an error and no record is missing."""
        return self.stream.complete

    @property
    def torn(self) -> int:
        """Number of damaged records."""
        return self.stream.torn

    @property
    def missing(self) -> int:
        """Number of missing records before the last one that arrived."""
        return sum(map(len, self.stream.gaps))

    @property
    def losses(self) -> str:
        """A text: how many records are missing, the first sequence numbers of them, and how many are damaged."""
        gaps = self.stream.gaps
        names = [str(gap[0]) if len(gap) == 1 else f"{gap[0]}-{gap[-1]}" for gap in gaps[:_NAMED]]
        which = f" ({', '.join(names)}{', …' if len(gaps) > _NAMED else ''})" if names else ""
        return f"{self.missing} records missing{which}, {self.torn} damaged"

    @property
    def unit(self) -> str:
        """The counter's unit, such as "instr" or "cycles"; "?" without a counter record."""
        return self.counter.unit if self.counter else "?"

    @property
    def source(self) -> str:
        """How the counter gets its figures, such as "hw-cycles" (schema.Source); "?" without a counter record."""
        return self.counter.source if self.counter else "?"

    @property
    def per_second(self) -> float | None:
        """Counter units per second; None where seconds mean nothing (counted instructions, modelled cycles)."""
        if self.source == "modelled":
            return None
        if self.counter and self.counter.unit == "cycles" and self.begin and self.begin.clock_hz:
            return float(self.begin.clock_hz)
        return _PER_SECOND.get(self.unit)

    @property
    def correctness(self) -> str:
        """'match', 'WRONG' or 'not checked': the logits compared with the unix port's for the same model."""
        reference = None
        if self.begin and self.host:
            reference = self.host.reference_logits.get(self.begin.native.path)
        if not self.check or not reference:
            return "not checked"
        return "match" if self.check.logits_crc32 == reference else "WRONG"


def load(path: Path) -> Run:
    """Returns the run in a file. Raises BadInput if the file cannot be read or contains no run."""
    try:
        with path.open("rb") as lines:
            run = read(lines, str(path))
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from None
    if run.stream.last is None:
        why = run.stream.newer or f"it has no intact record ({run.torn} damaged); give a .jsonl file of `collect`"
        raise BadInput(f"{path} is not a run of tinyprof: {why}")
    return run


def read(lines: Iterable[bytes], path: str) -> Run:
    """Returns the run in lines of text; lines without records are ignored.

    path: the name of the run in messages."""
    run = Run(path)
    for line in lines:
        run.feed(line)
    return run


def supply_of(path: Path) -> Path:
    """The file with the power trace of a run, recorded by a sensor at the host."""
    return path.with_suffix(".power.csv")
