from collections.abc import Iterable

from .counters import Counter

def show(candidates: Iterable[tuple[Counter, bool]]) -> None: ...
