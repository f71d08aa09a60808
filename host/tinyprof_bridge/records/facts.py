"""The conditions of a run (model, board, kernels, counter, memory ...), as lines of text for every report."""

from collections.abc import Sequence

from ..errors import plain
from .metrics import perplexity, profiler_overhead
from .runs import Run


def main_test(run: Run) -> str | None:
    """Returns the name of the test whose operators are shown by default; None if no test has operators.

    It is the first decode test, or the first test if there is no decode."""
    for test in run.tests.values():
        if test.phase == "decode" and test.costs:
            return test.name
    return next((t.name for t in run.tests.values() if t.costs), None)


def facts(run: Run, more: Sequence[tuple[str, str]] = ()) -> list[tuple[str, str]]:
    """Returns the conditions and the overall figures of a run as (name, text) lines, safe to print.

    more: further lines, such as those of the energy; they come before the warnings."""
    lines: list[tuple[str, str]] = []
    if run.model:
        m = run.model
        lines.append(
            (
                "model",
                f"{m.name}, {m.types}, {m.bytes:,} bytes, {m.macs_per_token:,} MAC/token in matrix products",
            )
        )
        lines.append(("weights", f"{m.placement}; context {m.context}, batch {m.batch}, activations {m.activations}"))
    if run.begin:
        b = run.begin
        clock = f", {b.clock_hz / 1e6:g} MHz" if b.clock_hz else ""
        lines.append(("board", f"{b.machine}{clock}; MicroPython {b.micropython}"))
        lines.append(("kernels", f"{b.native.kernels}, {b.native.compiler}, {b.native.flags}"))
        if run.host and run.host.tinyprof != b.tinyprof:
            lines.append(("versions", f"tinyprof {b.tinyprof} on the board, {run.host.tinyprof} on the host"))
    if run.counter:
        c = run.counter
        clock = f"{c.clock}, emulated" if c.source == "emulated-icount" else "the board's own clock"
        rate = f"; {c.rate:,} per second by {clock}" if c.rate else ""
        lines.append(("counted by", f"{c.name}: {c.source}, in {c.unit}, a read costs {c.read_cost}{rate}"))
    if run.check:
        against = {
            "match": "the same bits as the unix port",
            "WRONG": "NOT the bits of the unix port: this result is wrong",
            "not checked": "not checked against the unix port",
        }[run.correctness]
        lines.append(("logits", f"{run.check.logits_crc32}, {against}"))
    if run.cold:
        how = {"load": "after loading", "cache": "after emptying the caches", "sleep": "after light sleep"}
        said = (
            f"{c.units:,} {run.unit} {how[c.after]}, then {min(c.warm):,} ({c.units / max(min(c.warm), 1):.2f} times)"
            for c in run.cold
        )
        lines.append(("cold start", f"a first token takes {'; '.join(said)}"))
    if run.perplexity:
        judged = run.perplexity
        of = plain(run.host.text_file) if run.host and run.host.text_file else "a text"
        lines.append(
            (
                "perplexity",
                f"{perplexity(judged):.3f} on {judged.tokens:,} tokens of {of}, in windows of {judged.window:,};"
                f" {100 * judged.right / judged.tokens:.1f} % predicted; logits {judged.logits_crc32}",
            )
        )
    if run.memory:
        m2 = run.memory
        lines.append(
            (
                "RAM",
                f"arena {m2.arena:,}, KV cache {m2.kv:,}, plan {m2.plan:,}, model {m2.model_ram:,} bytes;"
                f" heap peak {m2.heap_peak:,} of {m2.heap_total:,};"
                f" allocated while measuring {m2.allocated_in_region:,}",
            )
        )
        lines.append(("storage", f"{m2.model_storage:,} bytes of model"))
    overhead = profiler_overhead(run)
    if overhead:
        lines.append(("profiler", f"{overhead[0]:,.0f} {run.unit}/token, {100 * overhead[1]:.3f} % of a token"))
    lines += more
    if not run.complete:
        lines.append(("INCOMPLETE", f"{run.losses}; do not compare this run, measure again"))
    if run.source == "emulated-icount":
        lines.append(("note", "an emulator counted instructions; these are not cycles or seconds of a chip"))
    return [(name, plain(text)) for name, text in lines]
