"""Charts of a run, drawn by matplotlib: on white for files, in the page's text colour for the HTML page."""

import contextlib
import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from ..analysis import attribution
from ..analysis.ceilings import ceilings
from ..analysis.compare import Comparison
from ..energy.run_energy import Energy
from ..errors import plain
from ..records.facts import main_test
from ..records.metrics import operators, tests
from ..records.runs import Run, Test
from ..records.stats import median_interval
from ..tables import number

# Okabe and Ito's palette, safe for colour-blind readers.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999")
MANY = 20_000  # decoded tokens above which a band is drawn instead of lines
BINS = 400
# Placeholder for the text colour, replaced in _forms.
_TEXT = "#010203"

# Groups of operator roles; all other roles are "other".
GROUPS = {
    "feed-forward": ("ffn_gate", "ffn_up", "ffn_down"),
    "attention projections": ("attn_q", "attn_k", "attn_v", "attn_output"),
    "attention": ("attention",),
    "output": ("output",),
    "storage": ("storage",),
    "quantize": ("attn_q8", "attn_output_q8", "ffn_q8", "ffn_down_q8", "output_q8"),
    "activation": ("ffn_swiglu", "ffn_geglu"),
}


def group_of(role: str) -> str:
    """The group of an operator role, a key of GROUPS or "other"."""
    return next((name for name, roles in GROUPS.items() if role in roles), "other")


def _axes(width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    _plain(figure)
    return figure, axes


def _plain(figure: Figure) -> None:
    """Makes a figure transparent, without frames, in the text colour."""
    figure.patch.set_alpha(0)
    for axes in figure.axes:
        axes.patch.set_alpha(0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(_TEXT)
        axes.tick_params(colors=_TEXT)
        axes.xaxis.label.set_color(_TEXT)
        axes.yaxis.label.set_color(_TEXT)


def _legend(figure: Figure) -> None:
    """Adds a legend below the axes, where it covers nothing."""
    figure.legend(frameon=False, labelcolor=_TEXT, ncols=4, loc="outside lower left", fontsize=8)


def _per_token(run: Run) -> str:
    return f"{run.unit} per token"


def speed(run: Run) -> Figure | None:
    """Bar chart of the cost per token in each test; None if no test finished."""
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
    """Icicle chart of a mean token in the main test: the token, its layers, their operators. None without a test."""
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
    """Stacked bars of the operator groups' shares in each test; None without per-operator times."""
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
    axes.set_xlabel("% of all operators")
    _legend(figure)
    return figure


def latency(run: Run) -> Figure | None:
    """Latency of each decoded token by position, and a histogram of latencies; None without a decode test."""
    decodes = [t for t in run.tests.values() if t.phase == "decode" and len(t.samples)]
    if not decodes:
        return None
    figure = Figure(figsize=(10, 3), layout="constrained")
    axes, spread = figure.subplots(1, 2, width_ratios=(2, 1), sharey=True)
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
    """Draws minimum, median and maximum over all repetitions; neighbouring positions share up to BINS bins."""
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
    """Bar chart of the heap: tinyprof's buffers, other live objects, free memory. None without a memory record."""
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
    axes.set_xlabel(f"heap in KiB; dashed: peak, {m.heap_peak / 1024:,.0f}")
    _legend(figure)
    return figure


def roofline(run: Run) -> Figure | None:
    """Roofline chart of the operators in the first decode and the first prefill test; None without ceilings."""
    roof = ceilings(run)
    measured = [t for t in run.tests.values() if t.costs]
    names = [next((t.name for t in measured if t.phase == phase), None) for phase in ("decode", "prefill")]
    if roof.call is None or not any(names):
        return None
    figure, axes = _axes(9, 4.6)
    frames = []
    for name, marker in zip(names, "os", strict=True):
        if name is None:
            continue
        frame = attribution.roofline(attribution.attribute(run, name, roof), run, roof)
        if not frame.empty:
            frames.append((name, marker, frame))
    if not frames:
        return None
    whole = pd.concat([frame for _, _, frame in frames])
    types = sorted(set(whole.loc[whole["op"] == "matmul", "type"]))
    top = 2 * max([1 / p for t in types for n in roof.batches if (p := roof.peak(t, n))] + [whole["speed"].max()])
    rates = {place: rate for place in _PLACES if (rate := roof.reads.get(place))}
    # start far enough to the left to show a sloping ceiling
    left, right = min([whole["intensity"].min() / 2] + [top * rate / 8 for rate in rates.values()]), 0.0
    right = whole["intensity"].max() * 3
    for (place, rate), also in _same(rates):
        ends = np.array([left, right])
        label = "reading " + " or ".join(_NAMES[p] for p in (place, *also))
        axes.plot(ends, ends / rate, color="#777777", linestyle=_PLACES[place], linewidth=1.2, label=label)
    for i, type_ in enumerate(types):
        peaks = {str(n): 1 / peak for n in roof.batches if (peak := roof.peak(type_, n))}
        for (n, speed), also in _same(peaks):
            axes.axhline(speed, color=COLOURS[i], linestyle="-" if n == "1" else "--", linewidth=1.2)
            text = f"{type_}, {' or '.join((n, *also))} token{'s' * (n != '1' or bool(also))} per call: {speed:.3f}"
            _note(axes, text, whole.loc[whole["type"] == type_, "intensity"].min(), speed, (-8, 3), "right")
    for name, marker, frame in frames:
        axes.scatter([], [], marker=marker, color="#777777", label=name)
        for _, row in frame.iterrows():
            colour = COLOURS[types.index(row["type"])] if row["op"] == "matmul" else "#555555"
            axes.scatter(row["intensity"], row["speed"], marker=marker, color=colour, s=26, zorder=3, alpha=0.85)
    for text, x, y in _labels(whole):
        _note(axes, text, x, y, (0, -16), "center")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(left, right)
    axes.set_ylim(whole["speed"].min() / 2, top)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("MAC/byte, from shapes")
    axes.set_ylabel(f"MAC/{run.unit}")
    _legend(figure)
    return figure


_PLACES = {"ram": "-", "mapped": (0, (6, 6)), "storage": ":"}
_NAMES = {"ram": "RAM", "mapped": "mapped flash", "storage": "storage"}


def _same(values: dict[str, float]) -> list[tuple[tuple[str, float], list[str]]]:
    """((name, value), names of later values within 5 % of it) for each distinct value: one line each in a chart."""
    found: list[tuple[tuple[str, float], list[str]]] = []
    for name, value in values.items():
        near = next((also for (_, first), also in found if abs(value - first) < 0.05 * first), None)
        if near is None:
            found.append(((name, value), []))
        else:
            near.append(name)
    return found


def _note(axes: Any, text: str, x: float, y: float, offset: tuple[int, int], align: str) -> None:
    axes.annotate(text, (x, y), xytext=offset, textcoords="offset points", ha=align, fontsize=8, color=_TEXT)


def _labels(frame: pd.DataFrame) -> list[tuple[str, float, float]]:
    """(text, x, y) of each label. Operators close to each other share a label."""
    groups: list[tuple[float, float, list[str]]] = []
    for _, row in frame.iterrows():
        x, y, role = math.log10(row["intensity"]), math.log10(row["speed"]), str(row["role"])
        near = next((names for gx, gy, names in groups if abs(gx - x) < 0.35 and abs(gy - y) < 0.12), None)
        if near is None:
            groups.append((x, y, [role]))
        elif role not in near:
            near.append(role)
    return [
        (", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else ""), 10**x, 10**y)
        for x, y, names in groups
    ]


def power_track(energy: Energy | None) -> Figure | None:
    """Chart of power over time: mean and range in each bin, with the sensor's windows. None without a trace."""
    if energy is None or energy.trace is None or not energy.windows:
        return None
    trace, windows = energy.trace, [m.window for m in energy.windows]
    first, last = min(w.begin for w in windows) * 1e-6, max(w.end for w in windows) * 1e-6
    seen = (trace.t >= first - (last - first) / 50) & (trace.t <= last + (last - first) / 50)
    t, watts = trace.t[seen], trace.watts[seen] * 1e3
    if len(t) < 2:
        return None
    figure, axes = _axes(9, 3)
    tests = list(dict.fromkeys(w.test for w in windows))
    for k, test in enumerate(tests):
        for n, w in enumerate([w for w in windows if w.test == test]):
            span = {"color": COLOURS[(k + 1) % len(COLOURS)], "alpha": 0.3, "linewidth": 0}
            axes.axvspan(w.begin * 1e-6 - first, w.end * 1e-6 - first, label=None if n else test, **span)
    bins = np.minimum(((t - t[0]) / (t[-1] - t[0]) * BINS).astype(int), BINS - 1)
    frame = pd.DataFrame({"t": t - first, "w": watts}).groupby(bins).agg({"t": "mean", "w": ["mean", "min", "max"]})
    frame = frame.reindex(range(BINS))  # bins without readings become gaps in the line
    axes.fill_between(
        frame["t", "mean"], frame["w", "min"], frame["w", "max"], color=COLOURS[0], alpha=0.35, linewidth=0
    )
    axes.plot(
        frame["t", "mean"], frame["w", "mean"], color=COLOURS[0], linewidth=1, label="mean, and range of readings"
    )
    axes.set_ylim(bottom=min(0.0, float(watts.min())))
    axes.set_xlabel(f"seconds since the first window (sensor, {energy.how})")
    axes.set_ylabel("mW")
    _plain(figure)
    _legend(figure)
    return figure


CHARTS: dict[str, tuple[str, Callable[[Run], Figure | None]]] = {
    "speed": ("Cost per token", speed),
    "icicle": ("One token by layer and operator", icicle),
    "breakdown": ("Operators in each test", breakdown),
    "roofline": ("Roofline: operators and the measured ceilings", roofline),
    "latency": ("Latency of decoded tokens", latency),
    "memory": ("Memory", memory),
}
TITLES = {name: title for name, (title, _) in CHARTS.items()} | {"power": "Power over time"}


def draw(run: Run, energy: Energy | None, png: bool = True) -> dict[str, dict[str, bytes]]:
    """The charts for which the run has data: by chart name, then by form.

    png: whether to draw that form, which takes as long as the others together.

    Forms: "png", "svg", and "inline" for the HTML page (SVG in the colour of the surrounding text)."""
    with _style():
        figures = {name: make(run) for name, (_, make) in CHARTS.items()} | {"power": power_track(energy)}
        return {name: _forms(figure, png) for name, figure in figures.items() if figure is not None}


def side_by_side(result: Comparison) -> dict[str, bytes]:
    """Bar chart of the tests of several groups, in the forms of `draw` except "png": medians with their 95 %
    intervals."""
    with _style():
        return _forms(_tests_of(result), png=False)


def _tests_of(result: Comparison) -> Figure:
    groups = len(result.groups)
    figure, axes = _axes(9, 0.22 * (groups + 1) * len(result.tests) + 1.2 + 0.2 * (groups / 4))
    for i, group in enumerate(result.groups):
        found = [median_interval(row.samples[i]) if row.samples[i] else (math.nan,) * 3 for row in result.tests]
        middles, low, high = np.array(found).T
        at = np.arange(len(result.tests)) + (i - (groups - 1) / 2) / (groups + 1)
        colour = COLOURS[i % len(COLOURS)]
        spread = np.nan_to_num((middles - low, high - middles))
        bars = axes.barh(
            at, middles, xerr=spread, color=colour, ecolor=_TEXT, height=0.9 / (groups + 1), label=plain(group.name)
        )
        texts = ["–" if math.isnan(m) else f" {number(m)}" for m in middles]
        axes.bar_label(bars, texts, color=_TEXT, fontsize=8)
    axes.set_yticks(range(len(result.tests)), [row.name for row in result.tests])
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_xlabel(f"{result.unit} per token")
    axes.xaxis.set_major_formatter(EngFormatter())
    _legend(figure)
    return figure


def _style() -> contextlib.AbstractContextManager[None]:
    return rc_context({"svg.fonttype": "none", "svg.hashsalt": "tinyprof", "font.family": "sans-serif"})


def _forms(figure: Figure, png: bool) -> dict[str, bytes]:
    file = io.BytesIO()
    # not savefig, which draws everything once more to find the size
    FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None})  # type: ignore[no-untyped-call]
    svg = file.getvalue()
    forms = {
        "svg": svg.replace(_TEXT.encode(), b"#000000"),
        "inline": svg[svg.index(b"<svg") :].replace(_TEXT.encode(), b"currentColor"),
    }
    if png:
        file = io.BytesIO()
        figure.patch.set_alpha(1)
        figure.savefig(file, format="png", dpi=160, facecolor="white")
        forms["png"] = file.getvalue()
    return forms
