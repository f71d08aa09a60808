"""The verbs that measure parts of the device code: bench kernels."""

from typing import Annotated

import typer

from . import options


def kernels(
    board: options.BoardOption = "m4",
    types: Annotated[
        str, typer.Option("--types", metavar="TYPE,…", help="types of the weights")
    ] = "Q4_0,Q8_0,TP2,TPT,TP3,Q4_K,Q6_K",
    shapes: Annotated[
        str, typer.Option("--shapes", metavar="ROWSxCOLUMNS,…", help="shapes of the matrices")
    ] = "256x256,64x512",
    n: Annotated[str, typer.Option("-n", metavar="N,…", help="tokens multiplied at once")] = "1,16",
    timeout: Annotated[float, options.timeout_option()] = 120,
    o: Annotated[str, options.choice("table", "md", "json")] = "table",
) -> None:
    """Measure the cost of matrix products per MAC.

    Next to it: the bound of the core, and the portable kernels."""
    lengths = options.numbers("-n", n)

    from ..measure import kernel_bench

    names = [t.strip().upper() for t in types.split(",") if t.strip()]
    kernel_bench.show(kernel_bench.run(board, names, kernel_bench.shapes(shapes), lengths, timeout), o)
