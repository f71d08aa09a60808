"""From records to figures: tests, operators, memory. Every figure keeps its source."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from . import quants, schema
from .errors import BadInput
from .schema import Begin, Check, Counter, Counts, End, Host, Memory, Model, Op, Overhead, Simulated
from .wire import Stream

# units of a counter in one second; instructions and unknown ticks have no seconds
_PER_SECOND = {"ns": 1e9, "us": 1e6}


@dataclass
class Test:
    """One test. tokens: how many; samples: [repetition][token or whole prompt] in units;
    costs: units per record of the plan, summed over runs repetitions."""

    name: str
    phase: str
    tokens: int
    depth: int
    cold: int
    samples: dict[int, dict[int, int]] = field(default_factory=dict)
    costs: dict[int, int] = field(default_factory=dict)
    runs: int = 0
    counts: list[Counts] = field(default_factory=list)

    @property
    def totals(self) -> list[int]:
        """Units of each whole repetition; one that lacks samples is left out."""
        wanted = 1 if self.phase == "prefill" else self.tokens
        return [sum(v.values()) for _, v in sorted(self.samples.items()) if len(v) == wanted]

    @property
    def latencies(self) -> list[float]:
        """Units per token: of each token (decode), of each repetition (prefill)."""
        if self.phase == "prefill":
            return [total / self.tokens for total in self.totals]
        return [float(v) for rep in self.samples.values() for v in rep.values()]


@dataclass
class Run:
    """All that one run says. complete: it ended well and no record is missing."""

    path: str
    host: Host | None = None
    begin: Begin | None = None
    counter: Counter | None = None
    model: Model | None = None
    ops: list[Op] = field(default_factory=list)
    check: Check | None = None
    tests: dict[str, Test] = field(default_factory=dict)
    overhead: Overhead | None = None
    memory: Memory | None = None
    simulated: Simulated | None = None
    end: End | None = None
    complete: bool = False
    torn: int = 0
    missing: int = 0

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
            stream = Stream().feed_all(lines)
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from None
    if not stream.records:
        newer = [t for t in stream.torn if "newer" in t]
        why = newer[0] if newer else f"no intact record in it ({len(stream.torn)} damaged)"
        raise BadInput(f"{path} is not a run of tinyprof: {why}")
    return from_stream(stream, str(path))


def from_stream(stream: Stream, path: str) -> Run:
    run = Run(path, complete=stream.complete, torn=len(stream.torn), missing=len(stream.missing))
    for record in stream.records:
        match record:
            case Host():
                run.host = record
            case Begin():
                run.begin = record
            case Counter():
                run.counter = record
            case Model():
                run.model = record
            case Op():
                run.ops.append(record)
            case Check():
                run.check = record
            case schema.Test():
                run.tests[record.test] = Test(record.test, record.phase, record.tokens, record.depth, record.cold)
            case schema.Samples() if record.test in run.tests:
                test = run.tests[record.test]
                values = test.samples.setdefault(record.rep, {})
                values.update(enumerate(record.v, record.at))
            case schema.Cost() if record.test in run.tests:
                test = run.tests[record.test]
                test.runs = record.runs
                test.costs.update(enumerate(record.v, record.at))
            case Overhead():
                run.overhead = record
            case Memory():
                run.memory = record
            case Simulated():
                run.simulated = record
            case Counts() if record.test in run.tests:
                run.tests[record.test].counts.append(record)
            case End():
                run.end = record
    return run


def tests(run: Run) -> pd.DataFrame:
    """One row a test: units per token (mean, stddev over repetitions; p50, p95, p99), tok/s where
    the counter knows seconds, units to the first token, interpreter share of the whole."""
    rows = []
    for test in run.tests.values():
        totals = np.array(test.totals, dtype=float)
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


def kv_bytes(type_: str, head_dim: int) -> int:
    """Bytes of one head's keys or values of one position in a cache of that type (kernels.h, tp_kv_bytes)."""
    return 4 + (head_dim + 3 & ~3) if type_ == "Q8_0" else head_dim * (2 if type_ == "F16" else 4)


def work(run: Run, op: Op, test: Test) -> tuple[float, float, float]:
    """(MACs, bytes, calls) of a record over one repetition of a test, from shapes alone.

    Bytes: weights once a call, activations read and written, keys and values once a token."""
    if run.model is None or op.type not in quants.TYPES:
        return 0, 0, 0
    n, batch = test.tokens, run.model.batch if test.phase == "prefill" else 1
    head = op.role in ("output_norm", "output_q8", "output", "argmax")
    calls = 1 if head and test.phase == "prefill" else math.ceil(n / batch)
    if head:
        n = calls
    if op.op == "matmul":
        weights = op.rows * quants.row_bytes(op.type, op.cols)
        return op.rows * op.cols * n, weights * calls + (op.p2 + op.rows * 4) * n, calls
    if op.op == "attention":
        lengths = n * test.depth + n * (n + 1) // 2
        kv = 2 * lengths * op.p2 * kv_bytes(op.type, op.cols)
        return 2 * op.rows * op.cols * lengths, kv + 2 * op.rows * op.cols * 4 * n, calls
    if op.op == "embed":
        return 0, (quants.row_bytes(op.type, op.cols) + op.cols * 4) * n, calls
    if op.op == "read":  # of storage, once a batch
        return 0, op.p2 * calls, calls
    per_token = {
        "rmsnorm": op.cols * 12,
        "quantize": op.cols * 4 + op.p2,
        "rope_table": op.cols * 6,
        "rope": op.rows * op.cols * 8,
        "kv_store": op.rows * (op.cols * 4 + kv_bytes(op.type, op.cols)),
        "add": op.cols * 12,
        "swiglu": op.cols * 12,
        "geglu": op.cols * 12,
        "argmax": op.cols * 4,
    }
    return 0, per_token.get(op.op, 0) * n, calls


def profiler_overhead(run: Run) -> tuple[float, float] | None:
    """(units per token, share of the token) that operator stamps cost, medians of the run."""
    o = run.overhead
    if o is None or not o.on or not o.off:
        return None
    on, off = float(np.median(o.on)), float(np.median(o.off))
    return (on - off) / o.tokens, (on - off) / off if off else 0.0
