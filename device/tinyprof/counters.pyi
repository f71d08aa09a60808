from array import array

class Counter:
    name: str
    kind: int
    address: int
    modulus: int
    source: str
    unit: str
    num: int
    den: int
    second: tuple[Counter, int] | None
    def __init__(
        self,
        name: str,
        kind: int,
        address: int,
        source: str,
        unit: str,
        num: int = 1,
        den: int = 1,
        modulus: int = 1 << 32,
        second: tuple[Counter, int] | None = None,
    ) -> None: ...
    def select(self, ctl: array[int]) -> None: ...
    def units(self, ticks: int) -> int: ...
    def between(self, before: int, after: int) -> int: ...
    def spin(self, turns: int) -> int: ...
    def rate(self) -> tuple[int, str, int] | None: ...
    def cost(self) -> int: ...

def find() -> Counter: ...
def runs(counter: Counter) -> bool: ...
def info() -> None: ...
