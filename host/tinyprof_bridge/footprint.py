"""Bytes of a model with other types of matrices, before there is such a file: of flash, and of RAM on a board."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import gguf_files, inspection, planner, quants
from .matrices import matrices
from .schema import Op


class Footprint:
    """base: the model in some quantized type, as convert makes it; variant: the board's kernels."""

    def __init__(self, base: Path, variant: str, batch: int) -> None:
        self._device = planner.device(variant)
        self._native = planner.native(variant)
        self._variant, self._batch = variant, batch
        data = gguf_files.open_mapped(base)
        self._size = len(data)
        self._gguf: Any = self._device.read(data)
        tensors = self._gguf.tensors
        ids = {type_.id: name for name, type_ in quants.TYPES.items()}
        self._types = {name: ids[type_] for name, (type_, _, rows, _) in tensors.items() if rows > 1}
        llama = self._device.llama.Llama(self._device.read(data), None, batch)
        self.context: int = llama.trained_context
        sizes = ("architecture", "dim", "layers", "hidden", "heads", "kv_heads", "head_dim", "vocab", "rope_dims", "kv")
        # all that costs depend on, but for types
        self.sizes = {name: getattr(llama, name) for name in sizes}
        self.sizes |= {"window": llama.keys.window, "period": llama.keys.period}
        self.matrices = matrices({name: (tensors[name][2], tensors[name][1]) for name in self._types})

    def bytes(self, types: Mapping[str, str]) -> int:
        """Of the file. types: by matrix."""
        held = zip(self.matrices, self._types.values(), strict=True)
        return self._size + sum(matrix.bytes(types[matrix.name]) - matrix.bytes(type_) for matrix, type_ in held)

    def need(self, types: Mapping[str, str], context: int) -> inspection.Need:
        """RAM with the weights in flash, by the device package's planner."""
        return inspection.need(self._variant, self._gguf, self._llama(types, context))

    def records(self, types: Mapping[str, str], context: int) -> list[Op]:
        """Of the plan, as a run has them."""
        plan = self._llama(types, context).plan
        names = ("op", "role", "layer", "type", "rows", "cols", "p2")
        return [
            Op(tp=1, run="", seq=0, kind="op", i=i, **dict(zip(names, plan.describe(i), strict=True)))
            for i in range(plan.count)
        ]

    def _llama(self, types: Mapping[str, str], context: int) -> Any:
        for m in self.matrices:
            self._gguf.tensors[m.name + ".weight"] = (quants.TYPES[types[m.name]].id, m.cols, m.rows, 0)
        self._gguf.end = 1 << 40  # of a file that is not there
        return self._device.llama.Llama(self._gguf, context, self._batch)

    def activations(self, type_: str, cols: int) -> int:
        """Bytes of a row of inputs for a matrix of that type."""
        size: int = self._native.q8_bytes(quants.TYPES[type_].id, cols)
        return size
