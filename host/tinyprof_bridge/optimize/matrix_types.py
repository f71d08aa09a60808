"""What a search gives types to: the matrices of a model, and which of them read the same inputs."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..quantize import weight_types

# The end of what matrices with the same inputs have for a name, by the ends of theirs.
SHARED = {"attn_q": "attn", "attn_k": "attn", "attn_v": "attn", "ffn_gate": "ffn", "ffn_up": "ffn"}
Shape = tuple[int, int]  # rows, columns


@dataclass(frozen=True)
class Matrix:
    """name: as a recipe takes it; read_by_row: an embedding; multiplied: also one that is the output too."""

    name: str
    rows: int
    cols: int
    read_by_row: bool = False
    multiplied: bool = True

    @property
    def role(self) -> str:
        return self.name.rpartition(".")[2]

    @property
    def inputs(self) -> str:
        """The same for all that read the same: of one type, these are quantized once for all of them."""
        block = self.name.removesuffix(self.role)
        return block + SHARED.get(self.role, self.role)

    def takes(self, type_: str) -> bool:
        try:
            return self.fitting(type_) == type_
        except ValueError:
            return False

    def fitting(self, type_: str) -> str:
        """The type, or what convert takes for it. Raises ValueError."""
        return weight_types.fitting(type_, self.rows, self.cols)

    def bytes(self, type_: str) -> int:
        """In a file, whose tensors begin at multiples of 32."""
        return -(-self.rows * weight_types.row_bytes(type_, self.cols) // 32) * 32


def matrices(shapes: Mapping[str, Shape]) -> list[Matrix]:
    """All of a model, in their order in the file. shapes: by the tensor's name."""
    found = []
    for name, shape in shapes.items():
        embedding = name == "token_embd.weight"
        multiplied = not embedding or "output.weight" not in shapes
        found.append(Matrix(name.removesuffix(".weight"), *shape, embedding, multiplied))
    return found
