"""What a search gives types to: the matrices of a model in groups that read the same inputs.

The matrices of a group have one type, so that their inputs are quantized once for all of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from . import quants

# Ends of patterns, as a recipe takes them.
KINDS = ("attn_[qkv]", "attn_output", "ffn_[gu]*", "ffn_down", "token_embd", "output")
Shape = tuple[int, int]  # rows, columns


@dataclass(frozen=True)
class Group:
    """name: a pattern that a recipe takes; shapes: by the name of the matrix."""

    name: str
    shapes: Mapping[str, Shape]
    tied: bool = False  # an embedding that is the output too

    @property
    def kind(self) -> str:
        return self.name.rpartition(".")[2]

    def takes(self, type_: str) -> bool:
        return all(fits(type_, shape) for shape in self.shapes.values())

    def bytes(self, type_: str) -> int:
        """In a file, whose tensors begin at multiples of 32."""
        return sum(-(-rows * quants.row_bytes(type_, cols) // 32) * 32 for rows, cols in self.shapes.values())


def fits(type_: str, shape: Shape) -> bool:
    try:
        return quants.fitting(type_, *shape) == type_
    except ValueError:
        return False


def groups(matrices: Mapping[str, Shape]) -> list[Group]:
    """All matrices of a model, in groups, in their order in the file."""
    names: dict[str, dict[str, Shape]] = {}
    for name, shape in matrices.items():
        block, _, role = name.removesuffix(".weight").rpartition(".")
        kind = next(kind for kind in KINDS if fnmatchcase(role, kind))
        names.setdefault(f"{block}.{kind}" if block else kind, {})[name] = shape
    return [
        Group(name, shapes, name == "token_embd" and "output.weight" not in matrices) for name, shapes in names.items()
    ]
