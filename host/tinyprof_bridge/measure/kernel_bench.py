"""Benchmarks matrix products on a board: cost per MAC, compared with the portable kernel and a lower bound."""

import json
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..boards.kernel_variants import VARIANTS
from ..errors import BadInput, RunFailed, plain
from ..progress import Progress
from ..quantize import weight_types
from .collect import prepare


@dataclass(frozen=True)
class Product:
    """One measured product.

    type: weight type.
    rows, cols: shape of the weights.
    n: tokens per call.
    same: whether the fast kernel gave the same bits as the portable one.
    quantize: units of quantizing the activations.
    fast, portable: units of the whole product by each kernel.
    bound: lower bound in instructions per MAC; None if unknown."""

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
        """MACs of the product."""
        return self.rows * self.cols * self.n


@dataclass(frozen=True)
class Result:
    """The products measured on one board.

    board: its name.
    kernels: its kernel variant.
    source, unit: of the counter.
    products: one per type, shape and number of tokens."""

    board: str
    kernels: str
    source: str
    unit: str
    products: list[Product]


def shapes(text: str) -> list[tuple[int, int]]:
    """(rows, columns) of each shape in a text such as "256x256,64x512". Raises BadInput if it is not valid."""
    try:
        found = [tuple(int(v) for v in part.split("x")) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or any(len(s) != 2 or s[0] < 1 or s[1] < 32 or s[1] % 32 for s in found):
        raise BadInput(f"--shapes takes ROWSxCOLUMNS,… with columns a multiple of 32, not '{text}'")
    return [(s[0], s[1]) for s in found]


def run(board: str, types: list[str], sizes: list[tuple[int, int]], tokens: tuple[int, ...], timeout: float) -> Result:
    """Measurements of each weight type with each shape and number of tokens.

    sizes: (rows, columns) of the weights.
    tokens: numbers of tokens per call.
    timeout: seconds.

    Raises BadInput for an unknown type, RunFailed if a fast kernel does not give the portable kernel's bits."""
    if unknown := [t for t in types if t not in weight_types.TYPES]:
        raise BadInput(f"no weight type '{unknown[0]}'; choose from {', '.join(weight_types.TYPES)}")
    code = (
        f"from tinyprof.bench import kernels\nkernels({[weight_types.TYPES[t].id for t in types]},{sizes},{tokens})\n"
    )
    with prepare(board, None, Progress()) as place:
        lines = [json.loads(line) for line in place.transport.run(code, timeout) if line.strip()]
    about, products = lines[0], lines[1:]
    known = about["unit"] == "instr" and about["kernels"] in VARIANTS
    bounds = VARIANTS[about["kernels"]].bounds if known else {}
    measured = [Product(**p, bound=bounds.get(p["type"]) if p["n"] == 1 else None) for p in products]
    result = Result(board, **about, products=measured)
    for p in result.products:
        if not p.same:
            raise RunFailed(
                f"{p.type} {p.rows}x{p.cols}, {p.n} tokens: the fast kernel's result differs from the portable"
                " kernel's; fix the kernel or use a build without it"
            )
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
    """Prints the result. form: one of FORMATS."""
    if form == "json":
        print(json.dumps(asdict(result), indent=1))
        return
    heading, body = _rows(result)
    title = f"matrix products on {result.board}: kernels {result.kernels}, {result.unit} from {result.source}"
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
