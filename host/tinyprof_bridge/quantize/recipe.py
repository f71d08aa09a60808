"""Which type each matrix of a model gets: a file of patterns and types.

TOML or JSON, e.g. "blk.*.ffn_down" = "Q8_0". Patterns are those of a shell, of names as GGUF has them, with or without
their ".weight"; the first that fits counts."""

import json
import tomllib
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from ..errors import BadInput
from . import weight_types

LIMIT = 1 << 20  # bytes

Recipe = dict[str, str]  # pattern to type


def read(path: Path) -> Recipe:
    """Raises BadInput for what is no recipe."""
    try:
        with path.open("rb") as file:
            data = file.read(LIMIT + 1)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(data) > LIMIT:
        raise BadInput(f"{path}: too long for a recipe")
    try:
        text = data.decode()
        found = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: neither TOML nor (by its name) JSON: {error}") from None
    if not isinstance(found, dict):
        raise BadInput(f'{path}: a recipe is a table of "pattern" = "type"')
    recipe: Recipe = {}
    for pattern, type_ in found.items():
        if not isinstance(type_, str) or type_.upper() not in weight_types.TYPES:
            raise BadInput(
                f"{path}: the type of {pattern!r} is none of {', '.join(weight_types.TYPES)}"
                + (' (a pattern with dots stands in quotes: "blk.*")' if isinstance(type_, dict) else "")
            )
        recipe[pattern] = type_.upper()
    return recipe


def type_of(recipe: Recipe, name: str) -> str | None:
    """What the recipe says of a tensor, None if nothing."""
    return next((type_ for pattern, type_ in recipe.items() if _fits(pattern, name)), None)


def check(recipe: Recipe, names: Iterable[str]) -> None:
    """Raises BadInput for a pattern that fits none of the matrices: most often a slip of the pen."""
    names = list(names)
    for pattern in recipe:
        if not any(_fits(pattern, name) for name in names):
            raise BadInput(f"recipe: {pattern!r} fits none of the model's matrices, such as {names[-1]}")


def _fits(pattern: str, name: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name.removesuffix(".weight"), pattern)
