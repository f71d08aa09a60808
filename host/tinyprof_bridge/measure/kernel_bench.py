"""Matrix products alone on a board: counts per MAC, beside the portable kernel's and the bound."""

import json
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import BadInput, RunFailed, plain
from ..progress import Progress
from ..quantize import weight_types
from .collect import prepare

# Instructions per MAC below which the scheme of a variant cannot come, without block scales: loads
# of the weights, unpacking, products, and the activations' loads, which two to eight rows share. For
# one token; docs/kernels.md counts them.
BOUNDS = {
    "armv7em": {"Q4_0": 1.16, "Q8_0": 1.28, "TP2": 0.69, "TPT": 0.69, "TP3": 1.28, "Q4_K": 1.19, "Q6_K": 2.19},
    "mve": {"Q4_0": 0.17, "Q8_0": 0.14, "TP2": 0.17, "TPT": 0.17, "TP3": 0.21, "Q4_K": 0.17, "Q6_K": 0.28},
    "armv6m": {"Q4_0": 2.42, "Q8_0": 3.5, "TP2": 2.15, "TPT": 2.15, "TP3": 2.56, "Q4_K": 2.31},
    "armv7m": {"Q4_0": 1.19, "Q8_0": 1.56, "TP2": 1.13, "TPT": 1.13, "TP3": 1.28, "Q4_K": 1.19},
    "rv32": {"Q4_0": 2.19, "Q8_0": 3.13, "TP2": 1.88, "TPT": 1.88, "TP3": 2.34, "Q4_K": 2.13},
}


@dataclass(frozen=True)
class Product:
    """One measured product, counts of the whole record; bound: per MAC, None where not known."""

    type: str
    rows: int
    cols: int
    n: int
    same: bool
    quantize: int
    fast: int
    portable: int
    bound: float | None

    @property
    def macs(self) -> int:
        return self.rows * self.cols * self.n


@dataclass(frozen=True)
class Result:
    board: str
    kernels: str
    source: str
    unit: str
    products: list[Product]


def shapes(text: str) -> list[tuple[int, int]]:
    """'256x256,64x512' as rows and columns. Raises BadInput."""
    try:
        found = [tuple(int(v) for v in part.split("x")) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or any(len(s) != 2 or s[0] < 1 or s[1] < 32 or s[1] % 32 for s in found):
        raise BadInput(f"--shapes takes ROWSxCOLUMNS with commas between, columns a multiple of 32, not '{text}'")
    return [(s[0], s[1]) for s in found]


def run(board: str, types: list[str], sizes: list[tuple[int, int]], tokens: tuple[int, ...], timeout: float) -> Result:
    """Measures each type with each shape and number of tokens.

    Raises RunFailed if a fast kernel's result is not the portable one's to the bit."""
    if unknown := [t for t in types if t not in weight_types.TYPES]:
        raise BadInput(f"no type '{unknown[0]}': there are {', '.join(weight_types.TYPES)}")
    code = (
        f"from tinyprof.bench import kernels\nkernels({[weight_types.TYPES[t].id for t in types]},{sizes},{tokens})\n"
    )
    with prepare(board, None, Progress()) as place:
        lines = [json.loads(line) for line in place.transport.run(code, timeout) if line.strip()]
    about, products = lines[0], lines[1:]
    bounds = BOUNDS.get(about["kernels"], {}) if about["unit"] == "instr" else {}
    measured = [Product(**p, bound=bounds.get(p["type"]) if p["n"] == 1 else None) for p in products]
    result = Result(board, **about, products=measured)
    for p in result.products:
        if not p.same:
            raise RunFailed(f"{p.type} {p.rows}x{p.cols}, {p.n} tokens: not the bits of the portable kernel")
    return result


def _rows(result: Result) -> tuple[list[str], list[list[str]]]:
    unit = result.unit
    heading = ["type", "rows x cols", "tokens", f"{unit}/MAC", "bound", "portable", "portable / fast", "same bits"]
    heading.append(f"quantizing, {unit}/value")
    body = [
        [
            p.type,
            f"{p.rows}x{p.cols}",
            str(p.n),
            f"{p.fast / p.macs:.3f}",
            "–" if p.bound is None else f"{p.bound:.2f}",
            f"{p.portable / p.macs:.2f}",
            f"{p.portable / max(p.fast, 1):.2f}",
            "yes" if p.same else "NO",
            f"{p.quantize / (p.cols * p.n):.1f}" if p.quantize else "–",
        ]
        for p in result.products
    ]
    return heading, body


def show(result: Result, form: str) -> None:
    if form == "json":
        print(json.dumps(asdict(result), indent=1))
        return
    heading, body = _rows(result)
    title = f"matrix products on {result.board}: kernels {result.kernels}, {result.unit} by {result.source}"
    if form == "md":
        print(f"{title}\n\n| {' | '.join(heading)} |\n|---|---{'|---:' * (len(heading) - 2)}|")
        for row in body:
            print(f"| {' | '.join(row)} |")
        return
    table = Table(title=Text(plain(title)), title_justify="left")
    for i, name in enumerate(heading):
        table.add_column(name, justify="left" if i < 2 else "right")
    for row in body:
        table.add_row(*(Text(plain(cell)) for cell in row))
    Console(width=None if Console().is_terminal else 150).print(table)
