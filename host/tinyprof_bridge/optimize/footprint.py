"""Flash and RAM that a model would need with other weight types, computed without making the file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..models import inspection, planner
from ..models.formats import gguf
from ..quantize import weight_types
from ..records.schema import Op
from .matrix_types import matrices


class Footprint:
    """Sizes of a model with any weight type for each matrix.

    base: the model file in some quantized type.
    variant: the board's kernel variant.
    batch: tokens per prefill call.
    placement: where the weights are: "mapped", "ram" or "stream".

    Attributes: context, for which the model was trained; sizes, its dimensions; matrices."""

    def __init__(self, base: Path, variant: str, batch: int, placement: str = "mapped") -> None:
        self._device = planner.device(variant)
        self._native = planner.native(variant)
        self._variant, self._batch, self._placement = variant, batch, placement
        data = gguf.open_mapped(base)
        self._size = len(data)
        self._gguf: Any = self._device.read(data)
        tensors = self._gguf.tensors
        ids = {type_.id: name for name, type_ in weight_types.TYPES.items()}
        self._types = {name: ids[type_] for name, (type_, _, rows, _) in tensors.items() if rows > 1}
        llama = self._device.llama.Llama(self._device.read(data), None, batch)
        self._gguf.read = lambda *_: llama.rope_factors  # nothing else is read once tensors are moved
        self.context: int = llama.trained_context
        sizes = ("architecture", "dim", "layers", "hidden", "heads", "kv_heads", "head_dim", "vocab", "rope_dims", "kv")
        # all that costs depend on, except the weight types
        self.sizes = {name: getattr(llama, name) for name in sizes}
        self.sizes |= {"window": llama.keys.window, "period": llama.keys.period}
        self.matrices = matrices({name: (tensors[name][2], tensors[name][1]) for name in self._types})

    def bytes(self, types: Mapping[str, str]) -> int:
        """Size of the file. types: weight type by matrix name."""
        held = zip(self.matrices, self._types.values(), strict=True)
        return self._size + sum(matrix.bytes(types[matrix.name]) - matrix.bytes(type_) for matrix, type_ in held)

    def need(self, types: Mapping[str, str], context: int) -> inspection.Need:
        """RAM that the model would need, by the device package's planner."""
        gguf = self._lay(types)
        if self._placement == "stream":
            return inspection.need_streamed(self._device, self._variant, gguf, context, self._batch)
        weights = gguf.end if self._placement == "ram" else 0
        return inspection.need(self._variant, gguf, self._llama(gguf, context), weights)

    def records(self, types: Mapping[str, str], context: int) -> list[Op]:
        """Op records that a run of the model would have; the output of a streamed model is one record here."""
        plan = self._llama(self._lay(types), context).plan
        names = ("op", "role", "layer", "type", "rows", "cols", "p2", "window")
        records = [plan.describe(i) for i in range(plan.count)]
        if self._placement == "stream":
            need = self.need(types, context)
            records.append(("read", "storage", -1, "F32", need.reads, 0, need.read, 0))
        return [
            Op(tp=1, run="", seq=0, kind="op", i=i, **dict(zip(names, record, strict=True)))
            for i, record in enumerate(records)
        ]

    def _llama(self, gguf: Any, context: int) -> Any:
        return self._device.llama.Llama(gguf, context, self._batch)

    def _lay(self, types: Mapping[str, str]) -> Any:
        """The file's header with these types and tensors placed accordingly."""
        gguf, at = self._gguf, 0
        gguf.end = self.bytes(types)
        for name, (type_, cols, rows, _) in gguf.tensors.items():
            if name in self._types:
                type_ = weight_types.TYPES[types[name.removesuffix(".weight")]].id
            gguf.tensors[name] = (type_, cols, rows, at)
            at += -(-rows * planner.row_bytes(type_, cols) // 32) * 32
        return gguf

    def activations(self, type_: str, cols: int) -> int:
        """Bytes of one quantized input vector of cols values for a matrix of that type."""
        size: int = self._native.activation_bytes(weight_types.TYPES[type_].id, cols)
        return size
