"""What would it cost? Predictions from one run's own numbers: another type of weights, context, clock or placement.

Each comes with an interval: what the ways of computing it that this run allows disagree by, and what the run's
repetitions do. What the run cannot say is nan, and shown as unknown."""

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
# The first product of those that share quantized activations.
_LEADERS = ("attn_q", "attn_output", "ffn_gate", "ffn_down", "output")
_HERTZ = {"": 1.0, "hz": 1.0, "khz": 1e3, "mhz": 1e6, "ghz": 1e9}
UNKNOWN = math.nan


@dataclass(frozen=True)
class Change:
    """One thing that is different. what: type, context, clock or placement."""

    what: str
    value: str

    @property
    def number(self) -> float:
        match = re.fullmatch(r"(\d+(?:\.\d+)?(?:e\d+)?)\s*([kmg]?hz)?", self.value.lower())
        if match is None:
            raise BadInput(f"--what-if {self.what}= takes a number, not '{self.value}'")
        return float(match[1]) * _HERTZ[match[2] or ""]


@dataclass(frozen=True)
class Estimate:
    """now: measured; expected between low and high; unit: of the counter a token, s a token, or bytes."""

    name: str
    now: float
    low: float
    expected: float
    high: float
    unit: str


@dataclass
class Prediction:
    change: Change
    tests: list[Estimate] = field(default_factory=list)
    memory: list[Estimate] = field(default_factory=list)  # named as in the memory record
    notes: list[str] = field(default_factory=list)


def parse(text: str) -> Change:
    """'type=Q8_0' and so on. Raises BadInput."""
    what, _, value = (part.strip() for part in text.partition("="))
    if what not in ("type", "context", "clock", "placement") or not value:
        raise BadInput(f"--what-if takes type=Q8_0, context=512, clock=80MHz or placement=ram, not '{text}'")
    change = Change(what, value.upper() if what == "type" else value)
    if what == "type" and change.value not in weight_types.TYPES:
        raise BadInput(f"no type '{value}': there are {', '.join(weight_types.TYPES)}")
    if what == "placement" and value not in PLACEMENTS:
        raise BadInput(f"--what-if placement= takes {', '.join(PLACEMENTS)}, not '{value}'")
    if what in ("context", "clock") and change.number < 1:
        raise BadInput(f"--what-if {what}= takes a positive number, not '{value}'")
    return change


def predict(run: Run, change: Change) -> Prediction:
    """Raises BadInput where the run lacks what a prediction is made from."""
    if run.model is None or not run.tests:
        raise BadInput(f"{run.path} has no measured test: collect it again")
    roof = ceilings(run)
    if roof.call is None:
        raise BadInput(f"{run.path} has no measured ceilings (an older run, or no RAM for them): collect it again")
    for test in run.tests.values():
        attribution.attribute(run, test.name, roof)  # all of it is there
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
    """Two standard errors of a token's mean."""
    totals = test.totals / test.tokens
    return 2 * float(totals.std(ddof=1)) / math.sqrt(len(totals)) if len(totals) > 1 else 0.0


def _between(test: Test) -> float:
    """Units a token between operators: MicroPython's own, which change from run to run with where its names lie."""
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
        ceiling, then, spent, reading = 0.0, 0.0, 0.0, 0.0  # of what changes, over a repetition
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
        # what the ceilings leave unexplained is taken to be as great a share then
        likely = then * spent / ceiling if ceiling else then
        same = _now(test) - (spent + reading) / test.tokens
        expected = same + (likely + reading * ratio) / test.tokens
        found = attribution.attribute(run, test.name, roof)
        unknown = found.per_token(found.part("unknown"))  # of single operators, which may cancel out in the sum
        spread = 2 * abs(likely - then) / test.tokens + unknown + _noise(test)
        result.tests.append(Estimate(test.name, _now(test), expected - spread, expected, expected + spread, run.unit))
    more = float(_weights(run, change.value) - _weights(run, None))
    result.memory.append(_bytes(run, "model_storage", more, 64.0 * len(run.ops)))
    if run.model and run.model.placement == "ram":
        result.memory.append(_bytes(run, "model_ram", more, 64.0 * len(run.ops)))
    result.memory.append(_bytes(run, "kv", 0))
    fallbacks = {_fitting(change.value, op) for op in run.ops if op.op == "matmul"} - {change.value}
    if fallbacks:
        result.notes.append(f"{', '.join(sorted(fallbacks))} where rows do not fit {change.value}")
    result.notes.append("quality is not predicted: hold the logits of both against each other")
    return result


def _later_part(run: Run, op: Op) -> bool:
    """Whether this is a further part of an output that a streamed model takes in pieces."""
    return any(o.role == op.role and o.layer == op.layer and o.i < op.i for o in run.ops)


def _need(units: float | None, type_: str, run: Run) -> float:
    if units is None:
        raise BadInput(f"{type_} was not measured in {run.path}: this build lacks it, or there was no RAM for it")
    return units


def _ideal(run: Run, op: Op, test: Test, roof: Ceilings, type_: str) -> float:
    """Units of a product or an embedding over one repetition, of that type, where its weights lie."""
    other = op.model_copy(update={"type": type_})
    total = attribution.memory(run, other, test, roof)
    for n in batches(run, op, test):
        cost = roof.product(type_, op.rows, op.cols, n) if op.op == "matmul" else roof.embed(type_, op.cols, n)
        total += _need(cost, type_, run)
    return total


def _weights(run: Run, type_: str | None) -> int:
    """Bytes of all matrices, of that type (None: as they are). Embedding and output are one where there is no
    room for two in the file."""
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
        raise BadInput(f"{run.path} has no decode to predict from: collect it with -n")
    for length in dict.fromkeys(t.tokens for t in decodes):
        if length > context:
            raise BadInput(f"a decode of {length} tokens does not fit a context of {context}")
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
        result.notes.append(f"now: {base.name}; then: the last {length} of {context} positions")
        if len(known) < 2:
            result.notes.append("from one depth: a run with two (-d 0,64) knows better what a position costs")
    m, model = run.memory, run.model
    if m and model and model.context:
        more = m.kv // model.context * context - m.kv
        scores = 4 * (context - model.context)
        garbage = m.heap_peak - m.heap_live  # of which there may be more or less then
        result.memory += [_bytes(run, "kv", more), _bytes(run, "arena", scores, 64 + abs(scores))]
        result.memory.append(_bytes(run, "heap_peak", more + scores, garbage + abs(scores)))
        if m.heap_total and m.heap_peak + more > m.heap_total:
            result.notes.append(f"does not fit: the heap has {m.heap_total:,} bytes")
    return result


def _slopes(run: Run, known: list[Test], roof: Ceilings) -> list[float]:
    """Units a token for each position that it sees, the best estimate first: from two depths, from the ceilings of
    attention, from the tokens of one decode."""
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
        raise BadInput(f"{run.path} does not say what a position costs: collect it with -d 0,64")
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
            f"{run.unit} by {run.source}: seconds at another clock are unknown; they take cycles of a chip"
        )
        return result
    ratio = begin.clock_hz / change.number
    for test in run.tests.values():
        found = attribution.attribute(run, test.name, roof)
        now = _now(test) / begin.clock_hz
        waits = found.per_token(found.part("memory") + found.part("storage")) / begin.clock_hz
        unknown = found.per_token(found.part("unknown")) / begin.clock_hz
        noise = _noise(test) / begin.clock_hz * ratio
        # what waits for memory takes as long at any clock, if that memory keeps its own
        guesses = (now * ratio, (now - waits) * ratio + waits, (now - waits - unknown) * ratio + waits + unknown)
        result.tests.append(Estimate(test.name, now, min(guesses) - noise, guesses[1], max(guesses) + noise, "s"))
    result.notes.append("memory and storage are taken to keep their own clock: wait states of flash may change")
    return result


def _placement(run: Run, change: Change, roof: Ceilings) -> Prediction:
    result = Prediction(change)
    model, m = run.model, run.memory
    if model is None or m is None:
        raise BadInput(f"{run.path} has no memory record: collect it again")
    if model.placement == change.value:
        raise BadInput(f"the model is {change.value} in this run already")
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
        result.notes.append("a filesystem costs more than copying, how much is unknown: this run did not read one")
    elif change.value == "mapped" and model.placement == "stream":
        result.notes.append("what reading mapped weights costs was not measured: at most what streaming them did")
    elif change.value == "mapped":
        result.notes.append("reading mapped memory was not measured in this run")
    in_ram = {"ram": model.bytes, "mapped": 0}.get(change.value)
    if in_ram is not None:
        result.memory.append(_bytes(run, "model_ram", in_ram - m.model_ram))
        after = m.heap_peak + in_ram - m.model_ram
        if m.heap_total and after > m.heap_total:
            result.notes.append(f"does not fit: it takes {after:,} of {m.heap_total:,} bytes of heap")
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
