from collections.abc import Sequence

from .records import Records
from .session import Model

def judge(model: Model, tokens: Sequence[int], records: Records) -> int: ...
