from collections.abc import Callable, Iterator
from typing import Any

from .ina import Ina
from .records import Records

MARKER_BITS: int
MARKER_US: int

def between(a: int, b: int) -> int: ...

class Board:
    def __init__(self) -> None: ...
    def sleep(self, us: int) -> None: ...
    def now(self) -> int: ...
    def busy(self, us: int) -> None: ...
    def timer(self, period: int, function: Callable[[Any], object] | None) -> None: ...

def listen(pin: Any, function: Callable[[Any], object] | None) -> None: ...

class Ring:
    count: int
    volts: int
    errors: int
    row: int
    until: int
    def __init__(self, chip: Ina, size: int, now: Callable[[], int]) -> None: ...
    def clear(self) -> None: ...
    def tick(self, _: object = None) -> None: ...
    @property
    def rate(self) -> int: ...
    @property
    def lost(self) -> int: ...
    def chunks(self, begin: int) -> Iterator[tuple[int, list[int], list[int], list[int]]]: ...

class Meter:
    chip: Ina | None
    board: Board
    rate: int
    reps: int
    warmup: int
    idle_us: int
    operator_us: int
    quiet: bool
    def __init__(
        self,
        chip: Ina | None,
        rate: int = 1000,
        ring: int = 1536,
        quiet: bool = False,
        alert: Any = None,
        pin: Any = None,
        reps: int = 10,
        warmup: int = 10,
        idle_ms: int = 1000,
        operator_ms: int = 250,
        board: Board | None = None,
    ) -> None: ...
    def about(self, records: Records) -> None: ...
    def marker(self, records: Records, name: str) -> None: ...
    def idle(self, records: Records, rep: int) -> None: ...
    def window(
        self, records: Records, test: str, rep: int, tokens: int, work: Callable[..., int | None], *args: Any
    ) -> None: ...

def open_meter(
    chip: str | None = None,
    id: int = 0,
    scl: int | None = None,
    sda: int | None = None,
    freq: int = 400000,
    address: int = 64,
    shunt_uohm: int = 100000,
    max_ma: int = 500,
    alert: int | None = None,
    pin: int | None = None,
    **options: Any,
) -> Meter: ...
