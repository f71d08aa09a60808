"""The matrices of a model, to which the search assigns types, and which of them share an input."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..quantize import weight_types

# Name of the shared input by role; all other roles have an input of their own.
SHARED = {"attn_q": "attn", "attn_k": "attn", "attn_v": "attn", "ffn_gate": "ffn", "ffn_up": "ffn"}
Shape = tuple[int, int]  # rows, columns


@dataclass(frozen=True)
class Matrix:
    """One matrix of a model.

    name: as in a recipe, for example "blk.0.attn_q".
    rows, cols: shape.
    read_by_row: whether it is the embedding.
    multiplied: whether it is used in a product; true for an embedding that is also the output head."""

    name: str
    rows: int
    cols: int
    read_by_row: bool = False
    multiplied: bool = True

    @property
    def role(self) -> str:
        """Last part of the name, for example "attn_q"."""
        return self.name.rpartition(".")[2]

    @property
    def inputs(self) -> str:
        """Name of the input. Matrices with the same input and type share its quantized form."""
        block = self.name.removesuffix(self.role)
        return block + SHARED.get(self.role, self.role)

    def takes(self, type_: str) -> bool:
        """Whether the matrix's shape fits the type."""
        try:
            return self.fitting(type_) == type_
        except ValueError:
            return False

    def fitting(self, type_: str) -> str:
        """The type, or the fallback that convert uses if the shape does not fit. Raises ValueError without one."""
        return weight_types.fitting(type_, self.rows, self.cols)

    def bytes(self, type_: str) -> int:
        """Size in a file with that type, padded to the alignment of 32."""
        return -(-self.rows * weight_types.row_bytes(type_, self.cols) // 32) * 32


def matrices(shapes: Mapping[str, Shape]) -> list[Matrix]:
    """The matrices of a model, in file order. shapes: (rows, columns) by tensor name."""
    found = []
    for name, shape in shapes.items():
        embedding = name == "token_embd.weight"
        multiplied = not embedding or "output.weight" not in shapes
        found.append(Matrix(name.removesuffix(".weight"), *shape, embedding, multiplied))
    return found
