"""Ceilings: the best that the board can do, as measured in the roof records of a run."""

from collections.abc import Callable
from dataclasses import dataclass, field

from ..records.runs import Run
from ..records.schema import Roof


@dataclass
class Ceilings:
    """The measured ceilings of a board, in units of its counter.

    call: units of an operator that does nothing, including one counter read; None in a run without ceilings.
    reads: units per byte read, by place ("hot", "ram", "mapped", "storage", "copy").
    batches: the numbers of tokens per call that were measured, ascending.
    skipped: what was not measured for lack of RAM, one reason each.
    products: records of matrix products, by (type, columns, tokens).
    hot: units of other operators by position in the KV cache, by (operator number, tokens)."""

    call: int | None = None
    reads: dict[str, float] = field(default_factory=dict)
    batches: list[int] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    products: dict[tuple[str, int, int], Roof] = field(default_factory=dict)
    hot: dict[tuple[int, int], dict[int, int]] = field(default_factory=dict)

    @property
    def types(self) -> list[str]:
        """Weight types whose products were measured."""
        return list(dict.fromkeys(type_ for type_, _, _ in self.products))

    def product(self, type_: str, rows: int, cols: int, n: int) -> float | None:
        """Units of a matrix product with hot weights, including its call; None if it was not measured.

        type_: weight type.
        rows, cols: shape of the weights.
        n: tokens per call."""

        def units(record: Roof) -> float:
            (few, many), (less, more) = record.rows, record.v
            return less + (more - less) * (rows - few) / (many - few)

        return self._of(type_, cols, n, units)

    def quantize(self, type_: str, cols: int, n: int) -> float | None:
        """Units of quantizing n activation vectors of cols values for a product with weights of that type."""
        return self._of(type_, cols, n, lambda record: record.quantize)

    def embed(self, type_: str, cols: int, n: int) -> float | None:
        """Units of looking up the embeddings of n tokens, cols values each."""
        return self._of(type_, cols, n, lambda record: record.embed)

    def portable(self, type_: str, rows: int, cols: int) -> float | None:
        """Units of the product by the portable kernel, for one token; None if that was not measured."""
        record = self.products.get((type_, cols, 1))
        return None if record is None or record.portable is None else record.portable * rows / record.rows[1]

    def operator(self, i: int, n: int, pos: float | None) -> float | None:
        """Units of an operator other than a product; None if it was not measured.

        i: number of the operator.
        n: tokens per call.
        pos: position of the first token, for attention; None for the mean over all measured positions."""

        def units(at: int) -> float | None:
            measured = sorted((where, cost) for where, cost in self.hot.get((i, at), {}).items() if cost)
            if not measured:
                return None
            if pos is None:
                return sum(cost for _, cost in measured) / len(measured)
            (first, low), (last, high) = measured[0], measured[-1]
            return low + (high - low) * (pos - first) / (last - first) if last > first else low

        return self._between(n, units)

    def peak(self, type_: str, n: int) -> float | None:
        """Units per MAC of a product with many rows: the minimum over the model's row lengths.

        None if it was not measured, or if a host's clock was too coarse to show a difference."""
        found = [
            (r.v[1] - r.v[0]) / (r.rows[1] - r.rows[0]) / (r.cols * n)
            for (has, _, at), r in self.products.items()
            if has == type_ and at == n
        ]
        return min((units for units in found if units > 0), default=None)

    def _of(self, type_: str, cols: int, n: int, units: Callable[[Roof], float]) -> float | None:
        def measured(at: int) -> float | None:
            record = self.products.get((type_, cols, at))
            return None if record is None else units(record)

        return self._between(n, measured)

    def _between(self, n: int, units: Callable[[int], float | None]) -> float | None:
        """Units for n tokens: measured, or interpolated between the smallest and the largest measured batch."""
        if n in self.batches or not self.batches:
            return units(n)
        first, last = self.batches[0], self.batches[-1]
        low, high = units(first), units(last)
        if low is None or high is None or first == last:
            return None
        return low + (high - low) * (n - first) / (last - first)


def ceilings(run: Run) -> Ceilings:
    """The ceilings in a run's roof records; all empty for an older run without them."""
    found = Ceilings()
    for record in run.roof:
        match record.what:
            case "call":
                found.call = record.units
            case "read" if record.bytes:
                found.reads[record.place] = record.units / record.bytes
            case "hot":
                for i, units in enumerate(record.v, record.at):
                    found.hot.setdefault((i, record.n), {})[record.pos] = units
            case "product" if len(record.rows) == len(record.v) == 2 and 0 < record.rows[0] < record.rows[1]:
                if record.cols and record.n:
                    found.products[record.type, record.cols, record.n] = record
            case "skipped":
                found.skipped.append(record.reason)
    found.batches = sorted({n for _, n in found.hot} | {n for _, _, n in found.products})
    return found
