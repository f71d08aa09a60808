"""Findings: what stands out in a run, with evidence, the possible gain and what to try.

Evidence and gain come from the run's own figures. A gain that they do not give is None and is not shown."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..boards.kernel_variants import FIXED, VARIANTS
from ..quantize import weight_types
from ..records.metrics import batches
from ..records.runs import Run, Test
from ..tables import number
from .attribution import BETWEEN, Attribution, Share
from .ceilings import Ceilings
from .evidence import mix

WORTH = 0.05  # share of a token from which something is reported
NEAR_FULL = 0.9  # share of the heap
OFF_ROOF = 1.3  # units / units that the ceiling allows
COARSE = 20  # ticks per call: with fewer, one tick is a visible error
UNSTEADY = 0.03  # standard deviation between repetitions / mean
NO_FPU = [name for name, variant in VARIANTS.items() if variant.path == FIXED]


@dataclass(frozen=True)
class Finding:
    """One finding.

    name: its kind.
    what: the finding, as text.
    evidence: the figures that show it.
    step: what to try.
    gain: units per token that could be saved; None if unknown.
    alarm: whether it puts the run or its figures at risk.
    whole: units per token of the test that it refers to; None for the explained test."""

    name: str
    what: str
    evidence: str
    step: str
    gain: float | None = None
    alarm: bool = False
    whole: float | None = None


def find(run: Run, found: Attribution, roof: Ceilings) -> list[Finding]:
    """The findings in a run, alarms first, then by gain.

    found: attribution of the test to explain.
    roof: the run's ceilings."""
    parts = (_heap, _unsteady, _coarse, _storage, _slow_memory, _kernels, _between, _cache, _ends, _floats)
    all_ = [finding for part in parts for finding in part(run, found, roof)]
    return sorted(all_, key=lambda f: (not f.alarm, -(f.gain or 0)))


def _share(found: Attribution, units: float) -> str:
    return f"{100 * units / max(found.units, 1):.1f} %"


def _say(run: Run, found: Attribution, units: float) -> str:
    return f"{number(round(found.per_token(units)))} {run.unit}/token, {_share(found, units)}"


def _heap(run: Run, found: Attribution, roof: Ceilings) -> Iterator[Finding]:
    m = run.memory
    if m is None or not m.heap_total or m.heap_peak < NEAR_FULL * m.heap_total:
        return
    step = "use a smaller --batch"
    if run.model and run.model.context > 1 and m.kv:
        step = f"halve the context, which frees {m.kv // 2:,} bytes; or {step}"
    if run.model and run.model.kv == "f32":
        step += ", or --kv q8"
    yield Finding(
        "heap",
        "the heap is nearly full",
        f"peak {m.heap_peak:,} of {m.heap_total:,} bytes; {m.heap_total - m.heap_peak:,} left; KV cache {m.kv:,},"
        f" arena {m.arena:,}, model {m.model_ram:,}",
        step,
        alarm=True,
    )


def _unsteady(run: Run, found: Attribution, roof: Ceilings) -> Iterator[Finding]:
    totals = found.test.totals / found.test.tokens
    if len(totals) < 3:
        return
    mean, deviation = float(totals.mean()), float(totals.std(ddof=1))
    if deviation < UNSTEADY * mean:
        return
    # pairs of repetitions in rising order minus pairs in falling order (Kendall's S)
    order = sum(int(np.sign(b - a)) for i, a in enumerate(totals) for b in totals[i + 1 :])
    pairs = len(totals) * (len(totals) - 1) / 2
    values = ", ".join(number(round(float(t))) for t in totals[:8]) + " …" * (len(totals) > 8) + f" {run.unit}/token"
    if len(totals) >= 4 and abs(order) >= 0.8 * pairs:
        yield Finding(
            "drift",
            f"repetitions drift {'up' if order > 0 else 'down'}",
            f"{values}, in order of time",
            "the clock changes or the chip heats up: fix the clock, or use a longer --warmup",
            mean - float(totals.min()),
            alarm=True,
        )
    else:
        yield Finding(
            "variance",
            "repetitions differ",
            f"{values}; standard deviation {100 * deviation / mean:.1f} % of the mean",
            "interrupts or other work disturb the board: stop them while measuring, or use more repetitions",
            mean - float(totals.min()),
            alarm=True,
        )


def _coarse(run: Run, found: Attribution, roof: Ceilings) -> Iterator[Finding]:
    c = run.counter
    if c is None or not c.resolution[1]:
        return
    tick = c.resolution[0] / c.resolution[1]
    below = [s for s in found.shares if s.calls and s.units / s.calls < COARSE * tick and s.role != BETWEEN]
    units = sum(s.units for s in below)
    if tick <= 1 and c.unit != "us":
        return
    if units > WORTH * found.units:
        yield Finding(
            "counter",
            "the counter is too coarse for some operators",
            f"one tick of {c.name} is {tick:g} {c.unit}; {', '.join(s.role for s in below[:4])} take less than {COARSE}"
            f" ticks per call, together {_share(found, units)}",
            "use a cycle counter or more repetitions: only sums over many calls are reliable",
            alarm=True,
        )


def _storage(run: Run, found: Attribution, roof: Ceilings) -> Iterator[Finding]:
    units = found.part("storage")
    if units < WORTH * found.units:
        return
    op = next(op for op in run.ops if op.op == "read")
    rate = roof.reads.get("storage")
    m = run.memory
    free = m.heap_total - m.heap_peak if m else 0
    step = "put the model into memory-mapped flash (ROMFS)"
    if m and m.model_storage <= free:
        step += f", or into RAM: {free:,} bytes are free and it needs {m.model_storage:,}"
    yield Finding(
        "storage",
        "weights are read from storage for each token",
        f"{_say(run, found, units)}, {op.p2:,} bytes/token"
        + (f"; a sustained read costs {rate:.2f} {run.unit}/byte" if rate else ""),
        step + "; or use fewer bits per weight",
        found.per_token(units),
    )


def _slow_memory(run: Run, found: Attribution, roof: Ceilings) -> Iterator[Finding]:
    products = [s for s in found.shares if s.op == "matmul"]
    units = sum(s.parts["memory"] for s in products)
    if units < WORTH * found.units or run.model is None:
        return
    place = "mapped" if run.model.placement == "mapped" else "ram"
    worst = max(products, key=lambda s: s.parts["memory"])
    m = run.memory
    free = m.heap_total - m.heap_peak if m else 0
    room = "the model fits" if m and m.model_storage <= free else f"{free:,} bytes are free for the most used tensors"
    yield Finding(
        "slow memory",
        f"weights are in slow memory ({place})",
        f"{_say(run, found, units)}; a byte from there costs {roof.reads[place]:.3f} {run.unit}, a hot byte"
        f" {roof.reads['hot']:.3f}; most in {worst.role}",
        f"move weights to faster RAM ({room}), speed up the flash or enable its cache, or use fewer bits per weight",
        found.per_token(units),
    )


def _kernels(run: Run, found: Attribution, roof: Ceilings) -> Iterator[Finding]:
    """Products far slower than their ceiling, grouped by type and cause."""
    slow: dict[tuple[str, str], list[Share]] = {}
    for s in found.shares:
        if s.op != "matmul" or not s.roof or s.units < OFF_ROOF * s.roof:
            continue
        portable = _portable(run, found.test, s, roof)
        known = portable is not None and 0.75 * portable < s.units < 1.5 * portable
        slow.setdefault((s.type, "portable" if known else "roof"), []).append(s)
    for (type_, reason), shares in slow.items():
        units, allowed = sum(s.units for s in shares), sum(s.roof or 0 for s in shares)
        names = ", ".join(s.role for s in shares[:4]) + (" …" if len(shares) > 4 else "")
        if units - allowed < WORTH * found.units:
            continue
        portable = reason == "portable"
        yield Finding(
            "portable kernel" if portable else "below its roof",
            f"{type_} products are as slow as the portable kernel" if portable else f"{names}: far below the ceiling",
            f"{names}: {_say(run, found, units)}; {units / sum(s.macs for s in shares):.2f} {run.unit}/MAC instead of"
            f" the {allowed / sum(s.macs for s in shares):.2f} measured with the same shapes and hot weights"
            + mix(run, found.test, [s.role for s in shares]),
            "build for this core, without TP_ONLY_PORTABLE and PORTABLE; see `bench kernels`"
            if portable
            else "reading the weights does not explain it: check for few rows, misaligned weights or interrupts",
            found.per_token(units - allowed),
        )
    yield from _types(run, found, roof)


def _portable(run: Run, test: Test, s: Share, roof: Ceilings) -> float | None:
    """Units of a role's products over all repetitions if the portable kernel ran them; None if not measured."""
    total = 0.0
    for op in run.ops:
        if op.role == s.role:
            units = roof.portable(op.type, op.rows, op.cols)
            if units is None:
                return None
            total += units * sum(batches(run, op, test))
    return total * test.runs


def _types(run: Run, found: Attribution, roof: Ceilings) -> Iterator[Finding]:
    """Types that only have the portable kernel, if a type with at least as many bits has a faster one."""
    for type_ in {s.type for s in found.shares if s.op == "matmul"}:
        shares = [s for s in found.shares if s.op == "matmul" and s.type == type_]
        first = next(op for op in run.ops if op.role == shares[0].role)
        own, portable = roof.peak(type_, 1), roof.portable(type_, 1, first.cols)
        if own is None or portable is None or portable / first.cols > 1.2 * own or type_ == "F32":
            continue
        bits = weight_types.row_bytes(type_, first.cols)
        better = [(roof.peak(t, 1) or own, t) for t in roof.types if weight_types.row_bytes(t, first.cols) >= bits]
        cost, other = min(better, default=(own, type_))
        units = sum(s.units for s in shares)
        gain = units * (1 - cost / own)
        if gain < WORTH * found.units:
            continue
        yield Finding(
            "no fast kernel",
            f"this build has no fast kernel for {type_}",
            f"{_say(run, found, units)}; {own:.2f} {run.unit}/MAC, as slow as the portable kernel; {other} takes"
            f" {cost:.2f} here",
            f"convert the model to {other}, which has at least as many bits: explain --what-if type={other}",
            found.per_token(gain),
        )


def _between(run: Run, found: Attribution, roof: Ceilings) -> Iterator[Finding]:
    units = next(s.units for s in found.shares if s.role == BETWEEN)
    if units < WORTH * found.units:
        return
    m = run.memory
    evidence = _say(run, found, units)
    if m and m.allocated_in_region > 0:
        evidence += f"; {m.allocated_in_region:,} bytes allocated while measuring"
    rate = roof.reads.get("copy", roof.reads.get("storage"))
    if rate and m and _room_for_copies(run):
        once = rate * m.model_storage
        times = units / once / len(batches(run, run.ops[0], found.test)) / found.test.runs
        if 0.5 < times < 1.5:
            yield Finding(
                "copied weights",
                "weights seem to be copied for each token",
                f"{evidence}, between operators: {times:.2f} times the cost of copying the model's"
                f" {m.model_storage:,} bytes here ({number(round(once))} {run.unit}); the heap has room for a copy",
                "use the weights in place, or copy them once",
                found.per_token(units),
            )
            return
    yield Finding(
        "interpreter",
        "much time is spent between operators",
        f"{evidence}: the MicroPython interpreter, interrupts, garbage collection",
        "prefill more tokens per call (--batch); do nothing else in the loop and allocate nothing in it",
        found.per_token(units),
    )


def _room_for_copies(run: Run) -> bool:
    """Whether the heap holds, in addition to the known buffers, at least as many bytes as the largest tensor."""
    m = run.memory
    tensors = [op.rows * weight_types.row_bytes(op.type, op.cols) for op in run.ops if op.op == "matmul"]
    return m is not None and m.heap_peak - m.arena - m.kv - m.plan - m.model_ram > max(tensors, default=0)


def _cache(run: Run, found: Attribution, roof: Ceilings) -> Iterator[Finding]:
    """The cost of attention per position, from two depths."""
    slope = per_position(run)
    if slope is None:
        return
    growth, deepest = slope
    mean = deepest.depth + (deepest.tokens + 1) / 2
    whole = float(deepest.totals.mean()) / deepest.tokens
    if growth * mean / 2 < WORTH * whole:
        return
    m = run.model
    smaller = {"f32": "f16 or q8", "f16": "q8"}.get(m.kv if m else "", "")
    yield Finding(
        "KV cache",
        "the cost grows with the filled KV cache",
        f"attention takes {number(growth)} {run.unit}/token more per position: {100 * growth * mean / whole:.1f} %"
        f" of {deepest.name} ({number(round(whole))} {run.unit}/token)" + mix(run, deepest, ["attention"]),
        "keep fewer positions (the gain is for half as many)"
        + (f"; use --kv {smaller} to read fewer bytes" if smaller else ""),
        growth * mean / 2,
        whole=whole,
    )


def per_position(run: Run) -> tuple[float, Test] | None:
    """(units per token that each position in the KV cache adds to attention, the deepest test).

    It compares two decode tests of the same length at different depths. None without such tests."""
    decodes = [t for t in run.tests.values() if t.phase == "decode" and t.runs and len(t.totals)]
    for deepest in sorted(decodes, key=lambda t: -t.depth):
        least = min((t for t in decodes if t.tokens == deepest.tokens), key=lambda t: t.depth)
        if least.depth < deepest.depth:
            units = [
                sum(t.costs.get(op.i, 0) for op in run.ops if op.op == "attention") / t.runs / t.tokens
                for t in (least, deepest)
            ]
            return (units[1] - units[0]) / (deepest.depth - least.depth), deepest
    return None


def _ends(run: Run, found: Attribution, roof: Ceilings) -> Iterator[Finding]:
    """The output head or the embedding, if it dominates."""
    for roles, what, least in ((("output", "argmax"), "the output head", 0.25), (("embed",), "the embedding", 0.1)):
        units = sum(s.units for s in found.shares if s.role in roles)
        if units < least * found.units or run.model is None:
            continue
        head = roles[0] == "output"
        yield Finding(
            "head" if head else "embedding",
            f"{what} dominates",
            f"{_say(run, found, units)}; vocabulary {run.model.vocab:,}",
            "use a smaller vocabulary (the gain is for half of it)" if head else "use a type that is faster to unpack",
            found.per_token(units) / 2 if head else None,
        )


def _floats(run: Run, found: Attribution, roof: Ceilings) -> Iterator[Finding]:
    """Float products and other float operators on a core without FPU."""
    if run.begin is None or not (run.begin.native.path == "fixed" or run.begin.native.kernels in NO_FPU):
        return
    products = [s for s in found.shares if s.op == "matmul" and s.type in ("F32", "F16")]
    units = sum(s.units for s in products)
    quantized = [(peak, t) for t in roof.types if t not in ("F32", "F16") and (peak := roof.peak(t, 1)) is not None]
    if units >= WORTH * found.units and quantized:
        cost, type_ = min(quantized)
        gain = units - cost * sum(s.macs for s in products)
        yield Finding(
            "soft float",
            "float products on a core without FPU",
            f"{_say(run, found, units)}; {units / sum(s.macs for s in products):.2f} {run.unit}/MAC; {type_} takes"
            f" {cost:.2f} here",
            "use quantized weights",
            found.per_token(max(gain, 0)),
        )
    others = [s for s in found.shares if s.op not in ("matmul", "read", "embed", "") and s.role != "attention"]
    units = sum(s.units for s in others)
    if units >= 0.1 * found.units:
        largest = sorted(others, key=lambda s: -s.units)[:3]
        path = run.begin.native.path
        how = "in fixed-point integers" if path == "fixed" else "in software floating point"
        yield Finding(
            "soft float",
            "operators other than products are slow on a core without FPU",
            f"{_say(run, found, units)}, {how}; most in {', '.join(s.role for s in largest)}"
            + mix(run, found.test, [s.role for s in others]),
            "use a core with FPU, or a wider model with fewer layers; the share of float arithmetic is unknown",
        )
