from collections.abc import Iterator

RULES: tuple[str, ...]

def words(text: bytes, rule: str) -> Iterator[bytes]: ...
