"""Report on a model file: its tensors, the memory it needs, and the known boards that it fits."""

import json
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import plain
from ..models import board_fit
from ..models.board_fit import Fit
from ..models.inspection import Inspection


def as_json(found: Inspection) -> str:
    """The report as JSON."""
    result = asdict(found)
    for kind in ("mapped", "streamed"):
        for variant, need in getattr(found, kind).items():
            result[kind][variant]["ram"] = need.ram
    result["boards"] = [asdict(fit) for fit in board_fit.of(found)]
    return json.dumps(result, indent=1)


def _kib(size: int) -> str:
    return f"{size / 1024:,.1f}"


def terminal(found: Inspection, console: Console) -> None:
    """Prints the report."""
    types: dict[str, list[int]] = {}
    for tensor in found.tensors:
        count = types.setdefault(tensor["type"], [0, 0])
        count[0] += 1
        count[1] += tensor["bytes"]
    console.print(
        Text(plain(f"{found.name}: {found.architecture}, {found.parameters:,} parameters, {found.bytes:,} bytes"))
    )
    sizes = ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in found.sizes.items())
    if sizes:
        console.print(Text(sizes))
    held = ", ".join(f"{count} {name} of {size:,} bytes" for name, (count, size) in types.items())
    console.print(Text(f"tensors: {held}"))
    if found.reason:
        console.print(Text(plain(f"no board runs it: {found.reason}")))
        return
    console.print()
    table = Table(title="RAM in KiB, weights in flash", box=None, pad_edge=False, title_justify="left")
    for i, heading in enumerate(
        ("kernels", "KV", "arena", "KV cache", "per 100 tokens", "plan", "package", "total", "streamed")
    ):
        table.add_column(heading, justify="left" if i < 2 else "right")
    for variant, ram in found.mapped.items():
        cells = (ram.arena, ram.kv, ram.kv_per_100, ram.plan, ram.package, ram.ram, found.streamed[variant].ram)
        table.add_row(variant, ram.kv_type, *map(_kib, cells))
    console.print(table)
    first = next(iter(found.mapped.values()))
    console.print(Text(f"context {first.context}, batch {first.batch}, activations {first.activations}"))
    console.print()
    show_fits(board_fit.of(found), console)


def show_fits(fits: list[Fit], console: Console) -> None:
    """Prints which known boards the model fits, those first."""
    flash = max((fit.flash_needed for fit in fits), default=0)  # the same for all
    title = f"known boards, KiB; {flash >> 10:,} of flash needed"
    table = Table(title=title, box=None, pad_edge=False, title_justify="left")
    for i, heading in enumerate(("board", "chip", "kernels", "RAM\nneeded", "has", "flash", "fits")):
        # in a narrow terminal, reasons wrap and figures do not
        table.add_column(heading, justify="right" if 3 <= i <= 5 else "left", no_wrap=i < 6)
    for fit in sorted(fits, key=lambda f: not f.good):
        sizes = [f"{size >> 10:,}" for size in (fit.ram_needed, fit.ram, fit.flash)]
        sizes[1] = ("" if fit.measured else "~") + sizes[1]
        table.add_row(fit.board, fit.chip, fit.kernels, *sizes, Text(fit.how, style="" if fit.good else "dim"))
    console.print(table)
    console.print(Text("~ estimated RAM left by the firmware; `deploy` asks the board itself"))
