from collections.abc import Sequence

from .counters import Counter
from .records import Records
from .session import Model

def measure(model: Model, counter: Counter, records: Records, lengths: Sequence[int] = ()) -> None: ...
