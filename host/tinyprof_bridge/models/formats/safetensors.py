"""Reads the tensors of safetensors files, mapped into memory.

The safetensors package checks the header: sizes, overlaps, types. Format: README of huggingface/safetensors."""

import json
from pathlib import Path

import numpy as np

from ...errors import BadInput, plain
from ..source import Bytes, Floats, Tensor, file_size

HEADER_LIMIT = 32 << 20
TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "F64": "<f8"}


def read(path: Path) -> dict[str, Tensor]:
    """Returns the tensors of a file by name. Raises BadInput if it is damaged, or has tensors that are not floats."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise BadInput(f"{path}: the safetensors package is missing; pip install 'tinyprof[models]'") from None
    try:
        size = file_size(path)
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, HEADER_LIMIT):
                raise BadInput(f"{path}: truncated, or not a safetensors file; copy it again")
            with safe_open(path, framework="np"):
                header = json.loads(file.read(length))
        data = np.memmap(path, dtype=np.uint8, mode="r")
    except BadInput:
        raise
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from error
    except (SafetensorError, ValueError, RecursionError) as error:
        why = plain(str(error))[:200]
        raise BadInput(f"{path}: damaged, or not a safetensors file: {why}; copy it again") from None
    header.pop("__metadata__", None)
    return {name: _tensor(path, name, about, data[8 + length :]) for name, about in header.items()}


def _tensor(path: Path, name: str, about: dict[str, object], data: Bytes) -> Tensor:
    type_, shape, at = about["dtype"], about["shape"], about["data_offsets"]
    assert isinstance(shape, list) and isinstance(at, list)
    if type_ not in TYPES:
        raise BadInput(f"{path}: {name[:128]!r} is of type {type_}; give the model before quantization")
    if not shape or 0 in shape:
        raise BadInput(f"{path}: {name[:128]!r} is empty; copy it again")
    raw = data[at[0] : at[1]].reshape(-1, shape[-1] * np.dtype(TYPES[str(type_)]).itemsize)
    return Tensor(tuple(shape), Rows(raw, str(type_)).floats)


class Rows:
    """Reads rows of a tensor as floats."""

    def __init__(self, raw: Bytes, type_: str) -> None:
        """raw: bytes (rows, bytes of a row); type_: a key of TYPES."""
        self.raw, self.type = raw, type_

    def floats(self, first: int, count: int) -> Floats:
        """Returns `count` rows as float32 (count, cols)."""
        # the data may start at any byte; the copy aligns it
        values = np.ascontiguousarray(self.raw[first : first + count]).view(TYPES[self.type])
        if self.type == "BF16":
            return (values.astype("<u4") << 16).view(np.float32)
        with np.errstate(over="ignore"):  # the converter reports infinity
            return values.astype(np.float32)
