"""Report on an optimization: tables, JSON, a chart of the Pareto front, and the recipe."""

import io
import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from rich.console import Console
from rich.text import Text

from ..energy.regression import Fit
from ..errors import BadInput, plain
from ..models.inspection import of_run
from ..records.metrics import perplexity
from ..tables import Column, markdown_table, number, rich_table, scaled
from .costs import token
from .optimizer import BASE, Finalist, Found, Plan, figure

PICTURES = (".svg", ".png")
ROWS = 16  # rows of the front to print
PLACES = {"mapped": "in flash", "ram": "in RAM", "stream": "streamed"}

Section = tuple[str, pd.DataFrame, list[Column]]


def recipe(found: Found, plan: Plan) -> str:
    """The recipe of a plan as TOML, for `convert --recipe`."""
    lines = [
        f"# convert MODEL --type {BASE} --recipe THIS --calibration {plain(found.wanted.text.name)}"
        f" --tokens {found.wanted.calibration_tokens}"
    ]
    return "\n".join([*lines, *(f'"{matrix}" = "{type_}"' for matrix, type_ in plan.types.items())]) + "\n"


def types_of(plan: Plan) -> str:
    """The types of a plan as text, for example "28 Q4_0, 4 Q5_0"."""
    counts = Counter(plan.types.values())
    return next(iter(counts)) if len(counts) == 1 else ", ".join(f"{n} {type_}" for type_, n in counts.most_common())


def row(plan: Plan, what: str = "") -> dict[str, Any]:
    """A plan as a row of a table. what: it is."""
    return {
        "what": what,
        "context": plan.context,
        "units": plan.units,
        "flash": plan.bytes,
        "ram": plan.need.ram,
        "loss": plan.loss,
        "joules": plan.joules,
        "types": types_of(plan),
    }


def _loss(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.5f}"


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:+.2f} %"


def _plan_columns(found: Found) -> list[Column]:
    energy = [Column("energy/token (modelled)", "joules", scaled("J"))] if found.energy else []
    return [
        Column("", "what", plain),
        Column("context", "context", number),
        Column(f"{found.costs.unit}/token", "units", lambda v: _latency(found, v)),
        Column("flash", "flash", number),
        Column("RAM", "ram", number),
        Column("KL (nats)", "loss", _loss),
        *energy,
        Column("matrices", "types", plain),
    ]


def _contexts(found: Found) -> Section:
    rows = [row(p) if p else {"what": "nothing within the bounds", "context": c} for c, p in found.contexts]
    frame = pd.DataFrame(rows, columns=["what", "context", "units", "flash", "ram", "loss", "joules", "types"])
    frame["types"] = frame["types"].astype(object).fillna("")
    return "contexts: best plan within the bounds, predicted", frame, _plan_columns(found)


def _latency(found: Found, units: float) -> str:
    return "–" if math.isnan(units) else figure(found.costs.shown(units))


def _front(found: Found) -> Section:
    step = max(-(-len(found.front) // ROWS), 1)
    plans = [(plan, "") for plan in found.front[::step]]
    plans += [(plan, "uniform") for plan in found.uniform]
    chosen = found.best.plan if found.best else found.nearest
    if chosen:
        plans.append((chosen, "chosen" if found.best else "nearest"))
    each = {tuple(plan.types.items()): (plan, what) for plan, what in plans}.values()
    rows = [row(plan, what) for plan, what in sorted(each, key=lambda p: (p[0].loss, p[0].units))]
    shown = f"{len(found.front)} plans, 1 in {step} shown" if step > 1 else f"{len(found.front)} plans"
    return f"Pareto front ({shown}) and uniform types, predicted", pd.DataFrame(rows), _plan_columns(found)


def _quality(found: Found) -> Section:
    best = found.best
    assert best is not None
    judged = [(f"{found.wanted.text.name} (calibration)", best.whole)]
    if best.held_out and found.wanted.held_out:
        judged.append((found.wanted.held_out.name, best.held_out))
    rows = [
        {"text": name, "predicted": best.plan.loss, "kl": q.kl, "perplexity": q.perplexity, "reference": q.reference}
        | {"change": q.perplexity / q.reference - 1}
        for name, q in judged
    ]
    columns = [
        Column("text", "text", plain),
        Column("KL predicted", "predicted", _loss),
        Column("KL", "kl", _loss),
        Column("perplexity", "perplexity", lambda v: f"{v:.3f}"),
        Column("F32", "reference", lambda v: f"{v:.3f}"),
        Column("change", "change", _percent),
    ]
    tokens = best.whole.tokens
    return (
        f"quality of the chosen model, with the board's arithmetic ({best.whole.path} path), {tokens:,} tokens",
        pd.DataFrame(rows),
        columns,
    )


def _verified(found: Found) -> Section:
    rows = [row | {"what": _name(found, f)} for f in found.finalists for row in verified(found, f)]
    columns = [
        Column("finalist", "what", plain),
        Column("", "name", plain),
        Column("predicted", "predicted", _figure),
        Column("measured", "measured", _figure),
        Column("error", "error", _percent),
    ]
    source = found.costs.run.source
    return f"on the board ({source}): predicted and measured", pd.DataFrame(rows), columns


def _figure(value: float) -> str:
    return f"{value:.4f}" if value < 100 and value != int(value) else figure(value)


def _name(found: Found, finalist: Finalist) -> str:
    return "chosen" if finalist is found.best else types_of(finalist.plan)


def verified(found: Found, finalist: Finalist) -> list[dict[str, Any]]:
    """Predicted and measured figures of a finalist: name, predicted, measured, error. Empty if it did not run."""
    run, plan = finalist.run, finalist.plan
    if run is None or run.memory is None:
        return []
    (test,) = run.tests.values()
    more = of_run(test.depth, run.perplexity.tokens) if run.perplexity else 0
    shown, exact = found.costs.shown, run.memory.arena + run.memory.kv + run.memory.plan + run.memory.model_ram
    measured = [
        (f"{found.costs.unit}/token", shown(plan.units), shown(token(run, test))),
        ("flash, bytes", plan.bytes, run.memory.model_storage),
        ("arena, bytes", plan.need.arena, run.memory.arena),
        ("KV cache, bytes", plan.need.kv, run.memory.kv),
        ("plan, bytes", plan.need.plan, run.memory.plan),
        ("weights in RAM, bytes", plan.need.weights, run.memory.model_ram),
        ("rest of the heap, bytes", plan.need.package + more, run.memory.heap_live - exact),
        ("RAM in all, bytes", plan.need.ram + more, run.memory.heap_live),
    ]
    if finalist.board and run.perplexity:
        measured.append(("perplexity", finalist.board.perplexity, perplexity(run.perplexity)))
    return [{"name": n, "predicted": p, "measured": m, "error": p / m - 1} for n, p, m in measured if m]


def sections(found: Found) -> list[Section]:
    """(title, rows, columns) of contexts, front, quality, and finalists that ran."""
    tables = [_contexts(found), _front(found)]
    if found.best:
        tables.append(_quality(found))
    if found.finalists:
        tables.append(_verified(found))
    return tables


def about(found: Found) -> list[str]:
    """Board, bounds, and where costs and losses come from, as lines of text."""
    run, wanted = found.costs.run, found.wanted
    how = "from the cache, measured" if found.costs.kept else "measured now,"
    made = found.sensitivity.made
    bounds = [
        f"{figure(value)} {what}"
        for what, value in (
            ("bytes of RAM", found.most_ram),
            ("bytes of flash", found.most_flash),
            (f"{found.costs.unit}/token at the end of the context", found.costs.shown(found.most_units)),
        )
        if math.isfinite(value)
    ]
    lines = [
        f"{wanted.source.name} on {wanted.board}: weights {PLACES[found.costs.placement]}, kernels"
        f" {found.costs.kernels}, {run.unit} from {run.source}",
        f"costs: {how} {found.costs.when}; losses: {f'{made} computed now' if made else 'from the cache'}",
        f"bounds: {', '.join(bounds)}",
    ]
    if found.energy and wanted.energy:
        lines.append(f"energy: modelled, {_fit(found.energy, wanted.energy, found.costs.machine)}")
    if found.best and not found.best.plan.choice.proven:
        lines.append("not proven optimal: the search reached its time limit")
    return [*lines, *(f"not searched: {plain(reason)}" for reason in found.costs.roof.skipped)]


def _fit(fit: Fit, path: Path, machine: str) -> str:
    other = "" if machine in fit.machines else f"; NOT from this board, {machine}"
    return (
        f"by {path.name}: {fit.rows} tests on {', '.join(fit.machines)}{other};"
        f" median error on held-out tests {100 * fit.held_out:.2f} %"
    )


def show(found: Found, form: str) -> None:
    """Prints the result. form: one of FORMATS."""
    if form == "json":
        print(as_json(found))
        return
    text = recipe(found, found.best.plan) if found.best else ""
    if form == "md":
        print("\n".join(f"- {line}" for line in about(found)))
        for title, frame, columns in sections(found):
            print(f"\n**{plain(title)}**\n\n{markdown_table(frame, columns)}")
        if text:
            print(f"\n```toml\n{text}```")
        return
    console = Console(width=None if Console().is_terminal else 150)
    for line in about(found):
        console.print(Text(plain(line)))
    for title, frame, columns in sections(found):
        console.print(rich_table(frame, columns, title, console.width))
    if text:
        console.print(Text("recipe"))
        console.print(Text(text))


def as_json(found: Found) -> str:
    """The result as JSON."""

    def plan(p: Plan | None) -> dict[str, Any] | None:
        if p is None:
            return None
        made = {**row(p), "types": p.types, "arena": p.need.arena, "kv": p.need.kv, "plan": p.need.plan}
        del made["what"]
        made["joules"] = None if math.isnan(p.joules) else p.joules
        return made | {"proven": p.choice.proven}

    best = found.best
    return json.dumps(
        {
            "board": found.wanted.board,
            "placement": found.costs.placement,
            "unit": found.costs.run.unit,
            "source": found.costs.run.source,
            "costs_from": found.costs.when,
            "costs_kept": found.costs.kept,
            "energy": {"source": "modelled", **asdict(found.energy)} if found.energy else None,
            "best": plan(best.plan) if best else None,
            "nearest": plan(found.nearest),
            "why": found.why,
            "quality": best.whole.figures() if best else None,
            "held_out": best.held_out.figures() if best and best.held_out else None,
            "front": [plan(p) for p in found.front],
            "uniform": [plan(p) for p in found.uniform],
            "verified": [{"types": f.plan.types, "rows": verified(found, f)} for f in found.finalists],
        },
        indent=1,
    )


def picture(found: Found, form: str) -> bytes:
    """Chart of KL divergence against latency and against flash. form: "svg" or "png"."""
    chosen = found.best.plan if found.best else found.nearest
    assert chosen is not None
    least = min((p.loss for p in [*found.front, *found.uniform] if p.loss > 0), default=1e-6)
    groups = (
        (found.front, "front", {"s": 30, "color": "#56b4e9"}),
        (found.uniform, "uniform type", {"s": 45, "marker": "s", "color": "#999999", "edgecolors": "black"}),
        ([chosen], "chosen" if found.best else "nearest", {"s": 220, "marker": "*", "color": "#d55e00"}),
    )
    shown, unit, source = found.costs.shown, found.costs.unit, found.costs.run.source
    panels: tuple[tuple[str, Callable[[Plan], float], float], ...] = (
        (f"{unit} per token at the end of the context ({source})", lambda p: shown(p.units), shown(found.most_units)),
        ("flash, KiB", lambda p: p.bytes / 1024, (found.wanted.bounds.flash or math.inf) / 1024),
    )
    box = {"boxstyle": "square,pad=0", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "tinyprof", "font.family": "sans-serif"}):
        drawing = Figure(figsize=(10, 4.6), layout="constrained")
        both = drawing.subplots(1, 2, sharey=True)
        for axes, (label, at, most) in zip(both, panels, strict=True):
            for plans, name, style in groups:
                axes.scatter([at(p) for p in plans], [max(p.loss, least) for p in plans], label=name, **style)
            for i, p in enumerate(found.uniform):  # neighbours may be equally fast: one above, one below
                where = {
                    "xytext": (6, -11 if axes is both[0] and i % 2 else 5),
                    "textcoords": "offset points",
                    "bbox": box,
                }
                axes.annotate(types_of(p), (at(p), max(p.loss, least)), fontsize=8, **where)
            if math.isfinite(most):
                axes.axvline(most, color="#d55e00", linestyle="--", linewidth=1, label="bound")
            axes.set_yscale("log")
            axes.set_xlabel(label)
            if at(chosen) >= 1:
                axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            axes.spines[["top", "right"]].set_visible(False)
        both[0].set_ylabel("KL divergence from F32, nats per token (predicted)")
        both[0].legend(frameon=False, fontsize=8)
        name = f"{found.wanted.source.name} on {found.wanted.board}, context {chosen.context}"
        drawing.suptitle(plain(f"{name}, RAM {chosen.need.ram / 1024:,.0f} KiB"), fontsize=10)
        out = io.BytesIO()
        drawing.savefig(
            out, format=form, dpi=160, facecolor="white", metadata={"Date": None} if form == "svg" else None
        )
    return out.getvalue()


def check_picture(path: Path) -> None:
    """Raises BadInput unless the name ends in a supported format."""
    if path.suffix.lower() not in PICTURES:
        raise BadInput(f"--picture takes a name that ends in {' or '.join(PICTURES)}, not {path}")


def verdict(found: Found) -> str:
    """Why no plan is within the bounds, and the plan nearest to them, in one line."""
    plan = found.nearest
    assert plan is not None
    latency, unit = figure(found.costs.shown(plan.units)), found.costs.unit
    return (
        f"no plan is within the bounds: {'; '.join(found.why)}; the nearest is context {plan.context} with"
        f" {latency} {unit}/token, {plan.bytes:,} bytes of flash, {plan.need.ram:,} of RAM, KL {plan.loss:.5f}"
        f" ({types_of(plan)})"
    )
