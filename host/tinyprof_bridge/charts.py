"""Charts of a run, by matplotlib: on white for files, and in the reader's colours for the page."""

import io
from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from .report import main_test, number
from .table import Run, Test, operators, tests

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999")
MANY = 20_000  # decoded tokens from which on they are drawn as a band
BINS = 400
# Stands for the colour of the text around: a page replaces it.
_TEXT = "#010203"

# What an operator is for, by its role; the rest is "other".
GROUPS = {
    "feed-forward": ("ffn_gate", "ffn_up", "ffn_down"),
    "attention projections": ("attn_q", "attn_k", "attn_v", "attn_output"),
    "attention": ("attention",),
    "output": ("output",),
    "storage": ("storage",),
    "quantize": ("attn_q8", "attn_output_q8", "ffn_q8", "ffn_down_q8", "output_q8"),
    "activation": ("ffn_swiglu",),
}


def group_of(role: str) -> str:
    return next((name for name, roles in GROUPS.items() if role in roles), "other")


def _axes(width: float, height: float) -> tuple[Figure, Any]:
    figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
    _plain(figure)
    return figure, axes


def _plain(figure: Figure) -> None:
    """Transparent, without frames, in the colour of the text."""
    figure.patch.set_alpha(0)
    for axes in figure.axes:
        axes.patch.set_alpha(0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(_TEXT)
        axes.tick_params(colors=_TEXT)
        axes.xaxis.label.set_color(_TEXT)
        axes.yaxis.label.set_color(_TEXT)


def _legend(figure: Figure) -> None:
    """Below the axes, where it covers nothing."""
    figure.legend(frameon=False, labelcolor=_TEXT, ncols=4, loc="outside lower left", fontsize=8)


def _per_token(run: Run) -> str:
    return f"{run.unit} a token"


def speed(run: Run) -> Figure | None:
    """What a token costs in each test; prefill and decode against what is in the KV cache."""
    frame = tests(run)
    if frame.empty:
        return None
    figure, axes = _axes(9, 0.4 * len(frame) + 1.4)
    phases = [run.tests[name].phase for name in frame["test"]]
    colours = [COLOURS[0] if phase == "prefill" else COLOURS[1] for phase in phases]
    bars = axes.barh(frame["test"], frame["per_token"], xerr=frame["stddev"], color=colours, ecolor=_TEXT, height=0.6)
    axes.bar_label(bars, [f" {number(v)}" for v in frame["per_token"]], color=_TEXT)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_xlabel(_per_token(run))
    for phase, colour in (("prefill", COLOURS[0]), ("decode", COLOURS[1])):
        if phase in phases:
            axes.barh([0], [0], color=colour, label=phase)
    axes.xaxis.set_major_formatter(EngFormatter())
    _legend(figure)
    return figure


def icicle(run: Run) -> Figure | None:
    """A mean token of the main test from above: the token, its layers, the operators of each."""
    name = main_test(run)
    test = run.tests[name] if name else None
    if test is None or not test.runs:
        return None
    figure, axes = _axes(10, 3.6)
    scale = 1 / (test.runs * test.tokens)
    whole = test.totals.sum() / max(len(test.totals), 1) / test.tokens
    blocks: list[tuple[str, list[tuple[str, float]]]] = []
    for op in run.ops:
        title = f"layer {op.layer}" if op.layer >= 0 else "outside the layers"
        if not blocks or blocks[-1][0] != title:
            blocks.append((title, []))
        blocks[-1][1].append((op.role, test.costs.get(op.i, 0) * scale))

    def draw(row: int, left: float, width: float, text: str, colour: str) -> None:
        axes.barh(row, width, left=left, height=0.94, color=colour, edgecolor="white", linewidth=0.4)
        if width > whole * 0.011 * len(text):
            axes.text(left + width / 2, row, text, ha="center", va="center", fontsize=8, color="black")

    draw(0, 0, whole, f"{name}: {number(whole)} {_per_token(run)}", "#bbbbbb")
    at = 0.0
    names = list(GROUPS)
    for title, parts in blocks:
        width = sum(units for _, units in parts)
        draw(1, at, width, title.replace("outside the layers", "ends"), "#dddddd")
        for role, units in parts:
            group = group_of(role)
            colour = COLOURS[names.index(group)] if group in names else "#cccccc"
            draw(2, at, units, role, colour)
            at += units
    draw(1, at, max(whole - at, 0), "interpreter", "#eeeeee")
    for name, colour in zip(GROUPS, COLOURS, strict=False):
        if any(group_of(op.role) == name for op in run.ops):
            axes.barh([0], [0], color=colour, label=name)
    axes.barh([0], [0], color="#cccccc", label="other")
    axes.xaxis.set_major_formatter(EngFormatter())
    _legend(figure)
    axes.set_ylim(2.6, -0.6)
    axes.set_xlim(0, whole)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(_per_token(run))
    return figure


def breakdown(run: Run) -> Figure | None:
    """Shares of the operators in each test."""
    named = [name for name, test in run.tests.items() if test.costs]
    if not named:
        return None
    figure, axes = _axes(9, 0.4 * len(named) + 1.4)
    shares = {}
    for name in named:
        frame = operators(run, name)
        shares[name] = frame.groupby(frame["role"].map(group_of))["share"].sum()
    left = dict.fromkeys(named, 0.0)
    for i, group in enumerate((*GROUPS, "other")):
        widths = [100 * float(shares[name].get(group, 0.0)) for name in named]
        if any(widths):
            axes.barh(named, widths, left=list(left.values()), label=group, height=0.6, color=COLOURS[i % len(COLOURS)])
            left = {name: left[name] + width for name, width in zip(named, widths, strict=True)}
    axes.invert_yaxis()
    axes.set_xlabel("% of the operators' sum")
    _legend(figure)
    return figure


def latency(run: Run) -> Figure | None:
    """Each decoded token's latency as the KV cache fills, and how latencies are distributed."""
    decodes = [t for t in run.tests.values() if t.phase == "decode" and len(t.samples)]
    if not decodes:
        return None
    figure, (axes, spread) = plt.subplots(1, 2, figsize=(10, 3), layout="constrained", width_ratios=(2, 1), sharey=True)
    _plain(figure)
    for i, test in enumerate(decodes):
        colour = COLOURS[i % len(COLOURS)]
        if len(test.samples) <= MANY:
            for rep in test.samples.repetitions():
                axes.plot(
                    [test.depth + at for at, _ in rep], [u for _, u in rep], color=colour, linewidth=0.8, alpha=0.7
                )
        else:
            _band(axes, test, colour)
        axes.plot([], [], color=colour, label=test.name)
        spread.hist(test.latencies, bins=24, orientation="horizontal", color=colour, alpha=0.7)
    axes.set_xlabel("position in the context")
    axes.set_ylabel(_per_token(run))
    axes.yaxis.set_major_formatter(EngFormatter())
    spread.set_xlabel("tokens")
    axes.legend(frameon=False, labelcolor=_TEXT)
    return figure


def _band(axes: Any, test: Test, colour: str) -> None:
    """Least, median and greatest of all repetitions; neighbouring tokens are one where there are many."""
    positions = test.samples.positions
    width = int(positions.max()) // BINS + 1
    bins = (positions // width).astype(np.uint16)
    del positions
    counts = np.bincount(bins)
    present = np.flatnonzero(counts)
    by_bin = test.samples.units[np.argsort(bins, kind="stable")]
    units = np.split(by_bin, np.cumsum(counts[present])[:-1])
    at = test.depth + present * width
    axes.fill_between(at, [u.min() for u in units], [u.max() for u in units], color=colour, alpha=0.3, linewidth=0)
    axes.plot(at, [np.median(u) for u in units], color=colour, linewidth=0.8)


def memory(run: Run) -> Figure | None:
    """What the heap holds: the parts of tinyprof, what else is live, and what is free."""
    m = run.memory
    if m is None or not m.heap_total:
        return None
    figure, axes = _axes(9, 1.7)
    parts = [("arena", m.arena), ("KV cache", m.kv), ("plan", m.plan), ("model", m.model_ram)]
    known = sum(size for _, size in parts)
    parts += [("other live", max(m.heap_live - known, 0)), ("free", max(m.heap_total - max(m.heap_live, known), 0))]
    left = 0
    for i, (name, size) in enumerate(parts):
        if size:
            colour = "#eeeeee" if name == "free" else COLOURS[i]
            axes.barh(0, size / 1024, left=left / 1024, color=colour, label=f"{name} {size / 1024:,.0f}")
            left += size
    axes.axvline(m.heap_peak / 1024, color="#d55e00", linestyle="--", linewidth=1)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(f"KiB of heap; dashed: the peak, {m.heap_peak / 1024:,.0f}")
    _legend(figure)
    return figure


CHARTS: dict[str, tuple[str, Callable[[Run], Figure | None]]] = {
    "speed": ("What a token costs", speed),
    "icicle": ("Where a token goes", icicle),
    "breakdown": ("Operators in each test", breakdown),
    "latency": ("Latency of decoded tokens", latency),
    "memory": ("Memory", memory),
}


def draw(run: Run) -> dict[str, dict[str, bytes]]:
    """Each chart that this run has something for, as png, svg and, for the page, inline (svg in the
    colour of the text around it)."""
    drawn = {}
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "tinyprof", "font.family": "sans-serif"}):
        for name, (_, make) in CHARTS.items():
            figure = make(run)
            if figure is None:
                continue
            svg = io.BytesIO()
            figure.savefig(svg, format="svg", metadata={"Date": None})
            inline = svg.getvalue()
            black = inline.replace(_TEXT.encode(), b"#000000")
            png = io.BytesIO()
            figure.patch.set_alpha(1)
            figure.savefig(png, format="png", dpi=160, facecolor="white")
            plt.close(figure)
            begin = inline.index(b"<svg")
            drawn[name] = {
                "png": png.getvalue(),
                "svg": black,
                "inline": inline[begin:].replace(_TEXT.encode(), b"currentColor"),
            }
    return drawn
