"""Benchmarks of kernels alone, on any board."""

import pandas as pd

from .collect import prepare
from .errors import RunFailed
from .progress import Progress
from .schema import Begin, Bench, Counter
from .wire import Stream

TYPES = ("Q4_0", "Q8_0", "F16", "F32")

# Instructions per MAC that the best known method needs for 4-bit weights without block scales,
# counted from its inner loop, by the kernels' variant.
BOUND_W4 = {"armv7em": 1.25}


def kernels(board: str, types: tuple[str, ...], shapes: tuple[tuple[int, int, int], ...]) -> pd.DataFrame:
    """One row a type and shape (rows, cols, tokens): units per MAC, fast and portable, and their ratio.

    Columns board, kernels, source and unit say how they were obtained."""
    code = f"from tinyprof.bench import kernels\nkernels({types!r}, {shapes!r})\n"
    stream = Stream()
    with prepare(board, None, Progress()) as place:
        stream.feed_all(place.transport.run(code, 120))
    if not stream.complete:
        raise RunFailed(f"the benchmark on {board} is incomplete: {'; '.join(stream.torn + stream.log[-1:])}")
    begin = next(r for r in stream.records if isinstance(r, Begin))
    counter = next(r for r in stream.records if isinstance(r, Counter))
    rows = []
    for record in stream.records:
        if isinstance(record, Bench):
            macs = record.rows * record.cols * record.tokens
            rows.append(
                {
                    "board": board,
                    "kernels": begin.native.kernels,
                    "type": record.type,
                    "shape": f"{record.rows}x{record.cols}",
                    "tokens": record.tokens,
                    "per_mac": record.fast / macs,
                    "portable_per_mac": record.portable / macs,
                    "speed_up": record.portable / record.fast,
                    "bound_w4": BOUND_W4.get(begin.native.kernels) if record.type == "Q4_0" else None,
                    "unit": counter.unit,
                    "source": counter.source,
                }
            )
    return pd.DataFrame(rows)
