"""From records to figures: tests, operators, memory. Every figure keeps its source."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from . import quants, schema
from .errors import BadInput
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
from .supply import Trace
from .wire import Stream

# units of a counter in one second; instructions and unknown ticks have no seconds
_PER_SECOND = {"ns": 1e9, "us": 1e6}
# roles that prefill runs for its last token alone
HEAD = ("output_norm", "output_q8", "output", "argmax", "output_softcap")
_NAMED = 10  # gaps between records that are named


@dataclass
class Test:
    """One test. tokens: how many; samples: of each token, or of the whole prompt;
    costs: units per record of the plan, summed over runs repetitions."""

    name: str
    phase: str
    tokens: int
    depth: int
    cold: int
    samples: Samples = field(default_factory=Samples)
    costs: dict[int, int] = field(default_factory=dict)
    runs: int = 0
    counts: list[Counts] = field(default_factory=list)
    events: dict[str, Event] = field(default_factory=dict)  # by name

    @property
    def totals(self) -> Floats:
        """Units of each whole repetition; one that lacks samples is left out."""
        return self.samples.totals(1 if self.phase == "prefill" else self.tokens)

    @property
    def latencies(self) -> Floats:
        """Units per token: of each token (decode), of each repetition (prefill)."""
        return self.totals / self.tokens if self.phase == "prefill" else self.samples.units


@dataclass
class Run:
    """All that one run says: lines are fed to it as they come."""

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
    supply: Trace | None = None  # of a sensor elsewhere
    memory: Memory | None = None
    roof: list[Roof] = field(default_factory=list)
    simulated: Simulated | None = None
    end: End | None = None

    def feed(self, line: bytes) -> AnyRecord | None:
        """Takes one line; returns its record if it is a new one of this run."""
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
        """One record a part of the plan, the first one first, becomes one with all of them."""
        before = events.get(record.event)
        if before is None or record.at == 0:
            events[record.event] = record
        elif record.at == len(before.v):
            before.v += record.v

    @property
    def complete(self) -> bool:
        """It ended well and no record is missing."""
        return self.stream.complete

    @property
    def torn(self) -> int:
        return self.stream.torn

    @property
    def missing(self) -> int:
        return sum(map(len, self.stream.gaps))

    @property
    def losses(self) -> str:
        """How many records are missing, which (the first of them), and how many lines were damaged."""
        gaps = self.stream.gaps
        names = [str(gap[0]) if len(gap) == 1 else f"{gap[0]}-{gap[-1]}" for gap in gaps[:_NAMED]]
        which = f" ({', '.join(names)}{', …' if len(gaps) > _NAMED else ''})" if names else ""
        return f"{self.missing} records missing{which}, {self.torn} damaged"

    @property
    def unit(self) -> str:
        return self.counter.unit if self.counter else "?"

    @property
    def source(self) -> str:
        return self.counter.source if self.counter else "?"

    @property
    def per_second(self) -> float | None:
        """Units in a second, None where a second means nothing (counted instructions, modelled cycles)."""
        if self.source == "modelled":
            return None
        if self.counter and self.counter.unit == "cycles" and self.begin and self.begin.clock_hz:
            return float(self.begin.clock_hz)
        return _PER_SECOND.get(self.unit)

    @property
    def correctness(self) -> str:
        """'match', 'WRONG' or 'not checked': logits against the unix port of the same model."""
        reference = None
        if self.begin and self.host:
            reference = self.host.reference_logits.get(self.begin.native.path)
        if not self.check or not reference:
            return "not checked"
        return "match" if self.check.logits_crc32 == reference else "WRONG"


def load(path: Path) -> Run:
    """Reads a saved run. Raises BadInput if it cannot be read or holds no run."""
    try:
        with path.open("rb") as lines:
            run = read(lines, str(path))
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from None
    if run.stream.last is None:
        why = run.stream.newer or f"no intact record in it ({run.torn} damaged)"
        raise BadInput(f"{path} is not a run of tinyprof: {why}")
    return run


def read(lines: Iterable[bytes], path: str) -> Run:
    run = Run(path)
    for line in lines:
        run.feed(line)
    return run


def tests(run: Run) -> pd.DataFrame:
    """One row a test: units per token (mean, stddev over repetitions; p50, p95, p99), tok/s where
    the counter knows seconds, units to the first token, interpreter share of the whole."""
    rows = []
    for test in run.tests.values():
        totals = test.totals
        if not len(totals):
            continue
        per_token = totals / test.tokens
        p50, p95, p99 = np.percentile(test.latencies, [50, 95, 99])
        row: dict[str, object] = {
            "test": test.name,
            "reps": len(totals),
            "per_token": per_token.mean(),
            "stddev": per_token.std(ddof=1) if len(per_token) > 1 else 0.0,
            "p50": p50,
            "p95": p95,
            "p99": p99,
            "cold": test.cold / test.tokens,
            "first_token": totals.mean() if test.phase == "prefill" else math.nan,
            "tok_s": math.nan,
            "tok_s_stddev": math.nan,
            "per_mac": math.nan,
            "interpreter": math.nan,
            "source": run.source,
        }
        if run.per_second:
            speeds = run.per_second / per_token
            row["tok_s"] = speeds.mean()
            row["tok_s_stddev"] = speeds.std(ddof=1) if len(speeds) > 1 else 0.0
        macs = sum(work(run, op, test)[0] for op in run.ops)
        if macs:
            row["per_mac"] = totals.mean() / macs
        if test.runs == len(totals) and len(test.costs) == len(run.ops) and totals.sum():
            row["interpreter"] = 1 - sum(test.costs.values()) / totals.sum()
        rows.append(row)
    return pd.DataFrame(rows)


def operators(run: Run, test_name: str) -> pd.DataFrame:
    """One row a role in the model, for one test, greatest cost first. Per token of the test:
    calls, units, MACs, bytes; share of the operators' total; units per MAC."""
    test = run.tests[test_name]
    rows: dict[str, dict[str, float | str]] = {}
    for op in run.ops:
        if op.i not in test.costs or not test.runs:
            continue
        macs, moved, calls = work(run, op, test)
        row = rows.setdefault(
            op.role,
            {"role": op.role, "op": op.op, "type": op.type, "calls": 0, "units": 0, "macs": 0, "bytes": 0},
        )
        for key, value in (
            ("calls", calls),
            ("units", test.costs[op.i] / test.runs),
            ("macs", macs),
            ("bytes", moved),
        ):
            row[key] = float(row[key]) + value / test.tokens
    frame = pd.DataFrame(list(rows.values()))
    if frame.empty:
        return frame
    frame["share"] = frame["units"] / max(frame["units"].sum(), 1)
    frame["per_mac"] = frame["units"] / frame["macs"].where(frame["macs"] > 0)
    return frame.sort_values("units", ascending=False, ignore_index=True)


def events(run: Run) -> pd.DataFrame:
    """One row an event: its counter, and a column each test with events a token; those that were too many, nan."""
    rows: dict[tuple[str, str], dict[str, object]] = {}
    for test in run.tests.values():
        for event in test.events.values():
            key = (event.counter, event.event)
            row = rows.setdefault(key, {"event": event.event, "counter": event.counter})
            row[test.name] = math.nan if event.count is None else event.count / event.tokens
    return pd.DataFrame(list(rows.values()))


def kv_bytes(type_: str, head_dim: int) -> int:
    """Bytes of one head's keys or values of one position in a cache of that type (kernels.h, tp_kv_bytes)."""
    return 4 + (head_dim + 3 & ~3) if type_ == "Q8_0" else head_dim * (2 if type_ == "F16" else 4)


def batches(run: Run, op: Op, test: Test) -> list[int]:
    """How many tokens each call of a record takes, over one repetition of a test."""
    n = test.tokens
    if test.phase == "decode" or run.model is None:
        return [1] * n
    if op.role in HEAD:
        return [1]
    batch = run.model.batch
    return [batch] * (n // batch) + ([n % batch] if n % batch else [])


def attended(op: Op, depth: int, tokens: int) -> int:
    """Positions that so many tokens behind others see in an attention, in all."""
    free = min(max(op.window - depth, 0), tokens) if op.window else tokens  # tokens of which each sees one more
    return free * depth + free * (free + 1) // 2 + (tokens - free) * op.window


def seen(run: Run, depth: int, tokens: int) -> float:
    """Positions that one of so many tokens sees, the mean of all attentions."""
    found = [attended(op, depth, tokens) for op in run.ops if op.op == "attention"]
    return sum(found) / len(found) / tokens if found else depth + (tokens + 1) / 2


def work(run: Run, op: Op, test: Test) -> tuple[float, float, float]:
    """(MACs, bytes, calls) of a record over one repetition of a test, from shapes alone.

    Bytes: weights once a call, activations read and written, keys and values once a token."""
    if run.model is None or op.type not in quants.TYPES:
        return 0, 0, 0
    groups = batches(run, op, test)
    n, calls = sum(groups), len(groups)
    if op.op == "matmul":
        weights = op.rows * quants.row_bytes(op.type, op.cols)
        return op.rows * op.cols * n, weights * calls + (op.p2 + op.rows * 4) * n, calls
    if op.op == "attention":
        lengths = attended(op, test.depth, n)
        kv = 2 * lengths * op.p2 * kv_bytes(op.type, op.cols)
        return 2 * op.rows * op.cols * lengths, kv + 2 * op.rows * op.cols * 4 * n, calls
    if op.op == "embed":
        return 0, (quants.row_bytes(op.type, op.cols) + op.cols * 4) * n, calls
    if op.op == "read":  # of storage, once a batch
        return 0, op.p2 * calls, calls
    per_token = {
        "rmsnorm": op.rows * op.cols * 12,
        "quantize": op.cols * 4 + op.p2,
        "rope_table": op.cols * 6,
        "rope": op.rows * op.cols * 8,
        "kv_store": op.rows * (op.cols * 4 + kv_bytes(op.type, op.cols)),
        "add": op.cols * 12,
        "bias": op.cols * 12,
        "scale": op.cols * 8,
        "softcap": op.cols * 8,
        "swiglu": op.cols * 12,
        "geglu": op.cols * 12,
        "argmax": op.cols * 4,
    }
    return 0, per_token.get(op.op, 0) * n, calls


def perplexity(judged: Perplexity) -> float:
    """Of a text, by token."""
    return math.exp(min(judged.loss / judged.tokens / 1e6, 700))


def profiler_overhead(run: Run) -> tuple[float, float] | None:
    """(units per token, share of the token) that operator stamps cost, medians of the run."""
    o = run.overhead
    if o is None or not o.on or not o.off:
        return None
    on, off = float(np.median(o.on)), float(np.median(o.off))
    return (on - off) / o.tokens, (on - off) / off if off else 0.0
