from typing import Any

CORES: tuple[int | str, ...]
BANKS: tuple[tuple[Any, ...], ...]
FLUSHES: tuple[tuple[str, int, int], ...]
