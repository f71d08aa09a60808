from collections.abc import Callable, Sequence
from typing import Any

from _tinyprof import ReadableBuffer

from .measure import Summary
from .power import Meter
from .session import Model

__version__: str

# The options of session.load and measure.profile.
def load(
    source: str | int | ReadableBuffer,
    size: int = 0,
    context: int | None = None,
    batch: int = 8,
    kv: str | None = None,
    stream: bool | None = None,
    activations: int = 8,
) -> Model: ...
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
def find_model() -> str: ...
