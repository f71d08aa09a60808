"""Figures of a run: its tests, operators and events, and the work (MACs, bytes) that follows from shapes.

"Units" are those of the run's counter: instructions, cycles, ns, us or ticks (Run.unit). docs/measuring.md says how
each figure is measured."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..quantize import weight_types
from ..tables import Rows
from .runs import Run, Test
from .schema import Op, Perplexity

if TYPE_CHECKING:  # loading pandas takes longer than printing a report
    import pandas as pd

# Roles of operators that prefill runs for its last token only, as no other token needs logits.
HEAD = ("output_norm", "output_q8", "output", "argmax", "output_softcap")


def test_rows(run: Run) -> Rows:
    """Returns one row per test.

    Columns: test, reps (complete repetitions), source (of the counter); units per token: per_token (mean), stddev (over
    repetitions), p50, p95, p99, cold (of the first, unmeasured run); first_token (units of a whole prefill); tok_s and
    tok_s_stddev (NaN unless the counter's rate is known); per_mac (units per MAC); interpreter (share of the time
    outside of operators)."""
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
    return rows


def tests(run: Run) -> "pd.DataFrame":
    """Returns test_rows as a DataFrame."""
    import pandas as pd

    return pd.DataFrame(test_rows(run))


def operator_rows(run: Run, test_name: str) -> Rows:
    """Returns one row per role in the model for one test, highest cost first; no rows if it has no operator costs.

    Columns: role, op (kernel), type (of the weights); per token of the test: calls, units, macs, bytes; share (of all
    operators' units); per_mac (units per MAC, NaN where there are none).

    test_name: a key of run.tests."""
    test = run.tests[test_name]
    rows: dict[str, dict[str, Any]] = {}
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
    whole = max(float(np.sum([row["units"] for row in rows.values()])), 1)
    for row in rows.values():
        row["share"] = row["units"] / whole
        row["per_mac"] = row["units"] / row["macs"] if row["macs"] > 0 else math.nan
    return sorted(rows.values(), key=lambda row: float(row["units"]), reverse=True)


def operators(run: Run, test_name: str) -> "pd.DataFrame":
    """Returns operator_rows as a DataFrame."""
    import pandas as pd

    return pd.DataFrame(operator_rows(run, test_name))


def event_rows(run: Run) -> Rows:
    """Returns one row per event of the chip: event, counter, and for each test a column of events per token.

    A count that overflowed its counter is NaN."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for test in run.tests.values():
        for event in test.events.values():
            key = (event.counter, event.event)
            row = rows.setdefault(key, {"event": event.event, "counter": event.counter})
            row[test.name] = math.nan if event.count is None else event.count / event.tokens
    return list(rows.values())


def kv_bytes(type_: str, head_dim: int) -> int:
    """Returns the bytes that one head's keys (or values) of one position take in the KV cache.

    It is tp_kv_bytes of native_modules/kernels.

    type_: F32, F16 or Q8_0."""
    return 4 + (head_dim + 3 & ~3) if type_ == "Q8_0" else head_dim * (2 if type_ == "F16" else 4)


def batches(run: Run, op: Op, test: Test) -> list[int]:
    """Returns the number of tokens in each call of an operator, over one repetition of a test."""
    n = test.tokens
    if test.phase == "decode" or run.model is None:
        return [1] * n
    if op.role in HEAD:
        return [1]
    batch = run.model.batch
    return [batch] * (n // batch) + ([n % batch] if n % batch else [])


def attended(op: Op, depth: int, tokens: int) -> int:
    """Returns the positions that an attention reads for consecutive tokens, summed over these tokens.

    depth: positions in the KV cache before the first of them.
    tokens: how many tokens."""
    # Without a window, and until it is full, each token sees one position more than the one before it.
    free = min(max(op.window - depth, 0), tokens) if op.window else tokens
    return free * depth + free * (free + 1) // 2 + (tokens - free) * op.window


def seen(run: Run, depth: int, tokens: int) -> float:
    """Returns the positions that one token attends to, the mean over tokens and attention layers.

    depth: positions in the KV cache before the first token.
    tokens: how many tokens."""
    found = [attended(op, depth, tokens) for op in run.ops if op.op == "attention"]
    return sum(found) / len(found) / tokens if found else depth + (tokens + 1) / 2


def work(run: Run, op: Op, test: Test) -> tuple[float, float, float]:
    """Returns (MACs, bytes, calls) of an operator over one repetition of a test, computed from shapes.

    Bytes are the weights once per call, the activations read and written, and the keys and values once per token. All
    three are 0 for a weight type that this version does not know."""
    if run.model is None or op.type not in weight_types.TYPES:
        return 0, 0, 0
    groups = batches(run, op, test)
    n, calls = sum(groups), len(groups)
    if op.op == "matmul":
        weights = op.rows * weight_types.row_bytes(op.type, op.cols)
        return op.rows * op.cols * n, weights * calls + (op.p2 + op.rows * 4) * n, calls
    if op.op == "attention":
        lengths = attended(op, test.depth, n)
        kv = 2 * lengths * op.p2 * kv_bytes(op.type, op.cols)
        return 2 * op.rows * op.cols * lengths, kv + 2 * op.rows * op.cols * 4 * n, calls
    if op.op == "embed":
        return 0, (weight_types.row_bytes(op.type, op.cols) + op.cols * 4) * n, calls
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
    """Returns the perplexity of a text by token: e to the mean loss, which is recorded in millionths of a nat."""
    return math.exp(min(judged.loss / judged.tokens / 1e6, 700))


def profiler_overhead(run: Run) -> tuple[float, float] | None:
    """Returns what per-operator timestamps cost: (units per token, fraction of a token); None if not measured.

    It is the difference between the medians of the same decode with and without timestamps."""
    o = run.overhead
    if o is None or not o.on or not o.off:
        return None
    on, off = float(np.median(o.on)), float(np.median(o.off))
    return (on - off) / o.tokens, (on - off) / off if off else 0.0
