"""Runs the device package's GGUF reader and planner on the host, so that host and board agree on every model.

A substitute for the native module gives them the sizes of rows, activations and KV cache. The tests compare these with
the boards."""

import bisect
import functools
import importlib
import re
import struct
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from .. import device_package
from ..boards.kernel_variants import FIXED, FLOAT, VARIANTS
from ..quantize import weight_types

BLOCK = 32
_NAMES = {type_.id: name for name, type_ in weight_types.TYPES.items()}


def row_bytes(type_: int, cols: int) -> int:
    """Returns the bytes of a row of `cols` weights; 0 if the type is unknown, or the row does not fit it.

    type_: number of the type in GGUF, of llama.cpp's types or tinyprof's own."""
    if type_ in _NAMES:
        name = _NAMES[type_]
        return 0 if cols % weight_types.TYPES[name].values else weight_types.row_bytes(name, cols)
    try:
        values, size = GGML_QUANT_SIZES[GGMLQuantizationType(type_)]
    except (ValueError, KeyError):
        return 0
    return 0 if cols % values else cols // values * size


def _strings(data: Any, at: int, count: int, text: None) -> int:
    """Returns the offset after an array of strings, -1 if the data ends before it."""
    for _ in range(count):
        if at + 8 > len(data):
            return -1
        at += 8 + int(struct.unpack_from("<Q", data, at)[0])
        if at > len(data):
            return -1
    return at


def _unicode_class(text: bytearray, table: bytes) -> None:
    text[:] = b"".join(_class_of(match[0], table) for match in re.finditer(rb"[^\x80-\xbf]?[\x80-\xbf]*", text))


@functools.cache
def _class_of(character: bytes, table: bytes) -> bytes:
    """Returns a character's Unicode class, repeated for each of its bytes. A character may lack its first byte."""
    begins, of_runs = _runs(table)
    code = ord(character.decode(errors="replace")[:1] or "\0")
    return bytes([of_runs[bisect.bisect(begins, code) - 1]]) * len(character)


@functools.cache
def _runs(table: bytes) -> tuple[list[int], list[int]]:
    """Returns the first character of each run in the table, and the Unicode class of each run."""
    begins, of_runs, run, begin = [], [], 0, 0
    for byte in table:
        run = run << 7 | byte & 127
        if byte < 128:
            begins.append(begin)
            of_runs.append(run & 3)
            begin += run >> 2
            run = 0
    return begins, of_runs


def native(variant: str) -> ModuleType:
    """Returns a substitute for the native module `_tinyprof`: the sizes of a variant's kernels, and text functions."""
    kernels = VARIANTS[variant]
    path, blocks = kernels.path, kernels.activations

    def activation_bytes(type_: int, cols: int) -> int:
        name, count = _NAMES.get(type_, ""), cols // BLOCK
        if name in blocks:
            size = round(blocks[name] * count)
            if path == FIXED:
                return size + 4 * (2 if name in weight_types.OWN else 1)
            return size + (count + 7) // 8 * kernels.group_bytes.get(name, 0)
        return cols + 4 * count if path == FLOAT else 4 + cols + (count + 3) // 4 * 4

    def kv_bytes(type_: int, head_dim: int) -> int:
        sizes = {weight_types.TYPES["Q8_0"].id: 4 + (head_dim + 3) // 4 * 4}
        if path == FLOAT:
            sizes |= {weight_types.TYPES["F32"].id: 4 * head_dim, weight_types.TYPES["F16"].id: 2 * head_dim}
        return sizes.get(type_, 0)

    module = ModuleType("_tinyprof")
    vars(module).update(
        build=lambda: (0, variant, "", "", path),
        row_bytes=row_bytes,
        activation_bytes=activation_bytes,
        kv_bytes=kv_bytes,
        strings=_strings,
        unicode_class=_unicode_class,
    )
    return module


class Device:
    """The device package's modules, imported on the host for one variant of the kernels."""

    def __init__(self, variant: str, any_type: bool = False) -> None:
        """any_type: accept tensors of all types of GGUF, also of those that no kernel has."""
        name = f"tinyprof_bridge._device_{variant}{'_any' if any_type else ''}"
        package, micropython = ModuleType(name), ModuleType("micropython")
        package.__path__ = [str(device_package.folder())]
        vars(micropython)["const"] = lambda value: value
        shims = {"_tinyprof": native(variant), "micropython": micropython, name: package}
        with device_package.stand_ins(shims):
            self.gguf, self.llama, self.stream, self.tokenizer, self.bpe, self.ops, self.errors, *_ = (
                importlib.import_module(f"{name}.{module}")
                for module in ("gguf", "llama", "stream", "tokenizer", "bpe", "ops", "errors", "sentencepiece")
            )
            own = {key: module for key, module in sys.modules.items() if key.startswith(name)}
        sys.modules.update(own)  # the package also imports modules inside functions
        if any_type:
            self.ops.TYPES.update({t.value: t.name for t in GGMLQuantizationType if t.value not in self.ops.TYPES})

    @property
    def error(self) -> type[Exception]:
        """Exception class that the package raises for models it cannot run."""
        error: type[Exception] = self.errors.ModelError
        return error

    def read(self, data: Any, scan: Callable[..., int] | None = None) -> Any:
        """Returns the package's GGUF object of a file.

        data: the file's bytes.
        scan: returns 0 for a tensor that contains NaN or infinity, given its offset, type, rows and cols; by default
        no values are checked.
        Raises `error` if the file is damaged or not supported."""
        return self.gguf.GGUF(data, None, scan or (lambda *_: 1))


@functools.cache
def device(variant: str, any_type: bool = False) -> Device:
    """Returns the device package's modules for a variant of the kernels; imports them once."""
    return Device(variant, any_type)
