from collections.abc import Callable, Sequence
from typing import Any

from .counters import Counter
from .power import Meter
from .records import Records
from .session import Model

def profile(
    model: Model,
    p: Sequence[int] = (16, 64),
    n: Sequence[int] = (32,),
    d: Sequence[int] = (0,),
    r: int = 5,
    warmup: int = 1,
    run: str | None = None,
    out: Callable[[str], object] | None = None,
    meta: dict[str, Any] | None = None,
    power: Meter | dict[str, Any] | None = None,
    text: Sequence[int] | None = None,
    events: Sequence[str] | None = None,
    cold: Sequence[str] = (),
) -> Summary: ...
def begin(records: Records, counter: Counter, **fields: Any) -> int | None: ...
def check(model: Model) -> tuple[str, int, list[int]]: ...

class Summary:
    logits: str
    overhead: tuple[int, int]
    share: tuple[list[int], int] | None
    tests: list[list[Any]]
    def __init__(self, model: Model, counter: Counter) -> None: ...
    def add(self, name: str, tokens: Sequence[int], spent: int) -> None: ...
