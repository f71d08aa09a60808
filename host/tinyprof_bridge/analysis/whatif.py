"""What-if predictions from one run's figures: another weight type, context, clock or placement.

Each prediction has an interval. It covers the disagreement between the available ways to compute it and the noise of
the run's repetitions. What the run does not show is NaN and printed as unknown."""

import math
import re
from dataclasses import dataclass, field

import numpy as np

from ..errors import BadInput
from ..quantize import weight_types
from ..records.metrics import batches, seen
from ..records.runs import Run, Test
from ..records.schema import Op
from . import attribution
from .ceilings import Ceilings, ceilings

PLACEMENTS = ("mapped", "ram", "stream")
# Products can share quantized activations: the first of each group.
_LEADERS = ("attn_q", "attn_output", "ffn_gate", "ffn_down", "output")
_HERTZ = {"": 1.0, "hz": 1.0, "khz": 1e3, "mhz": 1e6, "ghz": 1e9}
UNKNOWN = math.nan


@dataclass(frozen=True)
class Change:
    """One change to a run.

    what: type, context, clock or placement.
    value: as the user wrote it; types in upper case."""

    what: str
    value: str

    @property
    def number(self) -> float:
        """The value as a number, a clock in Hz. Raises BadInput if it is not a number."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?(?:e\d+)?)\s*([kmg]?hz)?", self.value.lower())
        if match is None:
            raise BadInput(f"--what-if {self.what}= takes a number, not '{self.value}'")
        return float(match[1]) * _HERTZ[match[2] or ""]


@dataclass(frozen=True)
class Estimate:
    """The prediction of one figure.

    name: the test, or the field of the memory record.
    now: measured in the run.
    low, expected, high: predicted, with its interval.
    unit: the counter's unit (per token), "s" (per token) or "bytes"."""

    name: str
    now: float
    low: float
    expected: float
    high: float
    unit: str


@dataclass
class Prediction:
    """All predictions for one change.

    change: the change.
    tests: one estimate per test.
    memory: estimates in bytes, named as in the memory record.
    notes: assumptions and what is missing."""

    change: Change
    tests: list[Estimate] = field(default_factory=list)
    memory: list[Estimate] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def parse(text: str) -> Change:
    """The change that a text such as "type=Q8_0" or "clock=80MHz" describes. Raises BadInput if it is not valid."""
    what, _, value = (part.strip() for part in text.partition("="))
    if what not in ("type", "context", "clock", "placement") or not value:
        raise BadInput(f"--what-if takes type=Q8_0, context=512, clock=80MHz or placement=ram, not '{text}'")
    change = Change(what, value.upper() if what == "type" else value)
    if what == "type" and change.value not in weight_types.TYPES:
        raise BadInput(f"no weight type '{value}'; choose from {', '.join(weight_types.TYPES)}")
    if what == "placement" and value not in PLACEMENTS:
        raise BadInput(f"--what-if placement= takes {', '.join(PLACEMENTS)}, not '{value}'")
    if what in ("context", "clock") and change.number < 1:
        raise BadInput(f"--what-if {what}= takes a positive number, not '{value}'")
    return change


def predict(run: Run, change: Change) -> Prediction:
    """The prediction of a run's tests and memory after a change.

    Raises BadInput if the run lacks the records that the prediction needs."""
    if run.model is None or not run.tests:
        raise BadInput(f"{run.path}: no measured test; collect it again")
    roof = ceilings(run)
    if roof.call is None:
        raise BadInput(f"{run.path}: no measured ceilings (an older run, or too little RAM); collect it again")
    for test in run.tests.values():
        attribution.attribute(run, test.name, roof)  # raises if records are missing
    match change.what:
        case "type":
            return _type(run, change, roof)
        case "context":
            return _context(run, change, roof)
        case "clock":
            return _clock(run, change, roof)
    return _placement(run, change, roof)


def _now(test: Test) -> float:
    return float(test.totals.mean()) / test.tokens


def _noise(test: Test) -> float:
    """Two standard errors of the mean over repetitions, in units per token."""
    totals = test.totals / test.tokens
    return 2 * float(totals.std(ddof=1)) / math.sqrt(len(totals)) if len(totals) > 1 else 0.0


def _between(test: Test) -> float:
    """Units per token between operators: the interpreter's, which vary between runs with its memory layout."""
    whole = float(test.totals.sum())
    return max(whole - sum(test.costs.values()), 0.0) / (test.tokens * len(test.totals)) if test.costs else 0.0


def _bytes(run: Run, name: str, change: float, spread: float = 0.0) -> Estimate:
    now = float(getattr(run.memory, name)) if run.memory else UNKNOWN
    return Estimate(name, now, now + change - spread, now + change, now + change + spread, "bytes")


def _fitting(type_: str, op: Op) -> str:
    try:
        return weight_types.fitting(type_, op.rows, op.cols)
    except ValueError as error:
        raise BadInput(f"{op.role}: {error}") from None


def _type(run: Run, change: Change, roof: Ceilings) -> Prediction:
    result = Prediction(change)
    ratio = _weights(run, change.value) / max(_weights(run, None), 1)
    for test in run.tests.values():
        # units of the affected operators in one repetition: ceilings now and then, measured; and reading from storage
        ceiling, then, spent, reading = 0.0, 0.0, 0.0, 0.0
        for op in run.ops:
            cost, groups = test.costs[op.i] / test.runs, batches(run, op, test)
            if op.op == "read":
                reading += cost
            elif op.op == "quantize":
                ceiling += sum(_need(roof.quantize(op.type, op.cols, n), op.type, run) for n in groups)
                spent += cost
            elif op.op in ("matmul", "embed"):
                type_ = _fitting(change.value, op)
                ceiling += _ideal(run, op, test, roof, op.type)
                then += _ideal(run, op, test, roof, type_)
                spent += cost
                if op.role in _LEADERS and type_ not in ("F32", "F16") and not _later_part(run, op):
                    then += sum(_need(roof.quantize(type_, op.cols, n), type_, run) for n in groups)
        # assume that the ratio of measured units to the ceiling stays the same
        likely = then * spent / ceiling if ceiling else then
        same = _now(test) - (spent + reading) / test.tokens
        expected = same + (likely + reading * ratio) / test.tokens
        found = attribution.attribute(run, test.name, roof)
        unknown = found.per_token(found.part("unknown"))  # per operator: in the sum above they may cancel out
        spread = 2 * abs(likely - then) / test.tokens + unknown + _noise(test)
        result.tests.append(Estimate(test.name, _now(test), expected - spread, expected, expected + spread, run.unit))
    more = float(_weights(run, change.value) - _weights(run, None))
    result.memory.append(_bytes(run, "model_storage", more, 64.0 * len(run.ops)))
    if run.model and run.model.placement == "ram":
        result.memory.append(_bytes(run, "model_ram", more, 64.0 * len(run.ops)))
    result.memory.append(_bytes(run, "kv", 0))
    fallbacks = {_fitting(change.value, op) for op in run.ops if op.op == "matmul"} - {change.value}
    if fallbacks:
        result.notes.append(f"matrices whose rows do not fit {change.value} become {', '.join(sorted(fallbacks))}")
    result.notes.append("quality is not predicted; compare the models with `quality`")
    return result


def _later_part(run: Run, op: Op) -> bool:
    """Whether this is not the first part of a product that a streamed model splits into parts."""
    return any(o.role == op.role and o.layer == op.layer and o.i < op.i for o in run.ops)


def _need(units: float | None, type_: str, run: Run) -> float:
    """The units. Raises BadInput if they are None."""
    if units is None:
        raise BadInput(
            f"{run.path}: {type_} was not measured (not in the build, or too little RAM); choose another type"
        )
    return units


def _ideal(run: Run, op: Op, test: Test, roof: Ceilings, type_: str) -> float:
    """Units of a product or embedding in one repetition by the ceilings, with another weight type, placed as now."""
    other = op.model_copy(update={"type": type_})
    total = attribution.memory(run, other, test, roof)
    for n in batches(run, op, test):
        cost = roof.product(type_, op.rows, op.cols, n) if op.op == "matmul" else roof.embed(type_, op.cols, n)
        total += _need(cost, type_, run)
    return total


def _weights(run: Run, type_: str | None) -> int:
    """Bytes of all matrices if they had that type (None: as they are).

    Embedding and output share one matrix if the file is too small for two."""
    sizes: dict[str, int] = {}
    as_is = 0
    for op in run.ops:
        if op.op in ("matmul", "embed"):
            size = op.rows * weight_types.row_bytes(_fitting(type_, op) if type_ else op.type, op.cols)
            as_is += op.rows * weight_types.row_bytes(op.type, op.cols)
            key = op.op if op.op == "embed" or op.role == "output" else "body"
            sizes[key] = sizes.get(key, 0) + size
    if run.model and as_is > run.model.bytes:
        sizes.pop("embed", None)
    return sum(sizes.values())


def _context(run: Run, change: Change, roof: Ceilings) -> Prediction:
    context = int(change.number)
    result = Prediction(change)
    decodes = [t for t in run.tests.values() if t.phase == "decode"]
    if not decodes:
        raise BadInput(f"{run.path}: no decode test to predict from; collect it with -n")
    for length in dict.fromkeys(t.tokens for t in decodes):
        if length > context:
            raise BadInput(f"--what-if context={context}: the decode test needs at least {length} positions")
        known = sorted((t for t in decodes if t.tokens == length), key=lambda t: t.depth)
        base, depth = known[-1], context - length
        slopes = _slopes(run, known, roof)
        further = seen(run, depth, length) - seen(run, base.depth, length)
        guesses = [_now(base) + slope * further for slope in slopes]
        noise = _noise(base) + _between(base)
        name = f"tg{length}" + (f" @ d{depth}" if depth else "")
        result.tests.append(
            Estimate(name, _now(base), min(guesses) - noise, guesses[0], max(guesses) + noise, run.unit)
        )
        result.notes.append(f"now: {base.name}; predicted: the last {length} of {context} positions")
        if len(known) < 2:
            result.notes.append("measured at one depth only; a run with two (-d 0,64) predicts better")
    m, model = run.memory, run.model
    if m and model and model.context:
        more = m.kv // model.context * context - m.kv
        scores = 4 * (context - model.context)
        garbage = m.heap_peak - m.heap_live  # may differ in the other run
        result.memory += [_bytes(run, "kv", more), _bytes(run, "arena", scores, 64 + abs(scores))]
        result.memory.append(_bytes(run, "heap_peak", more + scores, garbage + abs(scores)))
        if m.heap_total and m.heap_peak + more > m.heap_total:
            result.notes.append(f"does not fit: the heap has {m.heap_total:,} bytes")
    return result


def _slopes(run: Run, known: list[Test], roof: Ceilings) -> list[float]:
    """Estimates of the units per token that each visible position adds, the best first.

    From two depths; from the ceilings of attention; from the tokens within one decode test. Raises BadInput without
    any of them.

    known: decode tests of one length, by depth."""
    found = []
    base = known[-1]
    more = seen(run, base.depth, base.tokens) - seen(run, known[0].depth, base.tokens)
    if more > 0:
        found.append((_now(base) - _now(known[0])) / more)
    layers = [op for op in run.ops if op.op == "attention"]
    if layers:
        ends = [roof.operator(layers[0].i, 1, at) for at in (0.0, 1.0)]
        if ends[0] is not None and ends[1] is not None:
            found.append((ends[1] - ends[0]) * len(layers))
    if base.tokens >= 8 and not any(op.window for op in layers):
        found.append(float(np.polyfit(base.samples.positions, base.samples.units, 1)[0]))
    if not found:
        raise BadInput(f"{run.path}: the cost per position was not measured; collect it with -d 0,64")
    return found


def _clock(run: Run, change: Change, roof: Ceilings) -> Prediction:
    result = Prediction(change)
    begin = run.begin
    if run.source != "hw-cycles" or begin is None or not begin.clock_hz:
        for test in run.tests.values():
            now = _now(test)
            same = run.source in ("emulated-icount", "modelled")
            values = (now, now, now) if same else (UNKNOWN,) * 3
            result.tests.append(Estimate(test.name, now, *values, run.unit))
        result.notes.append(
            f"seconds at another clock are unknown: they need a chip's cycles, and this run has {run.unit} from"
            f" {run.source}"
        )
        return result
    ratio = begin.clock_hz / change.number
    for test in run.tests.values():
        found = attribution.attribute(run, test.name, roof)
        now = _now(test) / begin.clock_hz
        waits = found.per_token(found.part("memory") + found.part("storage")) / begin.clock_hz
        unknown = found.per_token(found.part("unknown")) / begin.clock_hz
        noise = _noise(test) / begin.clock_hz * ratio
        # waiting for memory takes the same time at any core clock, assuming that the memory's clock does not change
        guesses = (now * ratio, (now - waits) * ratio + waits, (now - waits - unknown) * ratio + waits + unknown)
        result.tests.append(Estimate(test.name, now, min(guesses) - noise, guesses[1], max(guesses) + noise, "s"))
    result.notes.append("assumes that memory and storage keep their own clock; wait states of flash may change")
    return result


def _placement(run: Run, change: Change, roof: Ceilings) -> Prediction:
    result = Prediction(change)
    model, m = run.model, run.memory
    if model is None or m is None:
        raise BadInput(f"{run.path}: no memory record; collect it again")
    if model.placement == change.value:
        raise BadInput(f"--what-if placement={change.value}: the model of {run.path} has that placement already")
    for test in run.tests.values():
        found = attribution.attribute(run, test.name, roof)
        now, noise = _now(test), _noise(test)
        away = now - found.per_token(found.part("storage"))
        if model.placement == "stream":
            between = next(s.units for s in found.shares if s.role == attribution.BETWEEN)
            low, high = away - found.per_token(between), now if change.value == "mapped" else away
            expected = away
        elif change.value == "stream":
            rate = roof.reads.get("copy", UNKNOWN)
            calls = len(batches(run, run.ops[0], test)) / test.tokens
            expected = low = now + rate * calls * _weights(run, None)
            high = UNKNOWN
        else:
            to, at = roof.reads.get(change.value), roof.reads.get(model.placement)
            step = UNKNOWN if to is None or at is None else to - at
            expected = now + step * _read_bytes(run, test) / test.tokens
            low, high = min(now, expected), max(now, expected)
        result.tests.append(Estimate(test.name, now, low - noise, expected, high + noise, run.unit))
    if change.value == "stream":
        result.notes.append("a lower bound: a filesystem is slower than copying, and this run did not measure one")
    elif change.value == "mapped" and model.placement == "stream":
        result.notes.append("reading mapped memory was not measured; it costs at most what streaming did")
    elif change.value == "mapped":
        result.notes.append("reading mapped memory was not measured in this run")
    in_ram = {"ram": model.bytes, "mapped": 0}.get(change.value)
    if in_ram is not None:
        result.memory.append(_bytes(run, "model_ram", in_ram - m.model_ram))
        after = m.heap_peak + in_ram - m.model_ram
        if m.heap_total and after > m.heap_total:
            result.notes.append(f"does not fit: it needs {after:,} bytes of heap and there are {m.heap_total:,}")
    return result


def _read_bytes(run: Run, test: Test) -> float:
    """Bytes of weights that one repetition reads."""
    return float(
        sum(
            op.rows * weight_types.row_bytes(op.type, op.cols) * len(batches(run, op, test))
            for op in run.ops
            if op.op == "matmul"
        )
    )
