"""Recipes: files that choose the weight type of each matrix by patterns of its name.

A recipe is TOML or JSON with entries such as "blk.*.ffn_down" = "Q8_0". Patterns are shell wildcards (fnmatch) and
match the tensor's GGUF name, with or without its ".weight". The first entry that matches counts."""

import json
import tomllib
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from ..errors import BadInput
from . import weight_types

LIMIT = 1 << 20  # bytes; a longer file was hardly meant to be a recipe

Recipe = dict[str, str]  # pattern to type


def read(path: Path) -> Recipe:
    """Returns the recipe in a file: a weight type (a key of weight_types.TYPES) for each pattern, in the file's order.

    path: a name that ends in .json is read as JSON, any other as TOML.
    Raises BadInput if the file cannot be read, is not a recipe, or names an unknown type."""
    try:
        with path.open("rb") as file:
            data = file.read(LIMIT + 1)
    except OSError as error:
        raise BadInput(f"{path}: cannot read this recipe: {error.strerror or error}") from None
    if len(data) > LIMIT:
        raise BadInput(f"{path}: larger than {LIMIT >> 20} MiB, so it is not a recipe; give a TOML or JSON file")
    try:
        text = data.decode()
        found = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(
            f"{path}: not valid {'JSON' if path.suffix == '.json' else 'TOML'}: {error}"
            "; a file is read as JSON if its name ends in .json, else as TOML"
        ) from None
    if not isinstance(found, dict):
        raise BadInput(f'{path}: the JSON is not an object; a recipe has entries such as {{"blk.*": "Q8_0"}}')
    recipe: Recipe = {}
    for pattern, type_ in found.items():
        if not isinstance(type_, str) or type_.upper() not in weight_types.TYPES:
            raise BadInput(
                f"{path}: {pattern!r} has no known type; use one of {', '.join(weight_types.TYPES)}"
                + (', and put a pattern that contains dots in quotes: "blk.*"' if isinstance(type_, dict) else "")
            )
        recipe[pattern] = type_.upper()
    return recipe


def type_of(recipe: Recipe, name: str) -> str | None:
    """Returns the weight type that a recipe gives to a tensor; None if no pattern matches.

    name: of the tensor in GGUF."""
    return next((type_ for pattern, type_ in recipe.items() if _fits(pattern, name)), None)


def check(recipe: Recipe, names: Iterable[str]) -> None:
    """Raises BadInput for a pattern that matches none of the matrices, which is usually a typing error.

    names: of the model's matrices in GGUF, at least one."""
    names = list(names)
    for pattern in recipe:
        if not any(_fits(pattern, name) for name in names):
            raise BadInput(
                f"recipe: {pattern!r} matches none of the model's matrices; correct it (one matrix is {names[-1]})"
            )


def _fits(pattern: str, name: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name.removesuffix(".weight"), pattern)
