"""Rewrites a GGUF file with its matrices in another type, to measure their cost. Its output is worse."""

from pathlib import Path

import numpy as np
from gguf import GGUFReader, GGUFValueType, GGUFWriter
from gguf.quants import dequantize

from ..errors import BadInput
from ..quantize import weight_types
from .tokenize import field


def requantize(source: Path, out: Path, type_: str) -> None:
    """Writes the model `source` to `out` with all matrices in `type_`.

    A matrix whose rows do not fit the type gets the fallback of weight_types.fitting. Vectors become F32.
    Raises BadInput if the file cannot be read, or a matrix fits no type."""
    try:
        reader = GGUFReader(source)
    except (OSError, ValueError, IndexError) as error:
        raise BadInput(f"{source}: cannot be read to change its type: {error}; convert it again") from None
    writer = GGUFWriter(out, field(reader, "general.architecture"))
    for name, item in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        kind = item.types[0]
        writer.add_key_value(name, item.contents(), kind, item.types[-1] if kind == GGUFValueType.ARRAY else None)
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if len(tensor.shape) < 2:
            writer.add_tensor(tensor.name, values)
            continue
        cols, rows = (int(n) for n in tensor.shape)
        values = values.reshape(rows, cols)
        try:
            chosen = weight_types.fitting(type_, rows, cols)
        except ValueError as error:
            raise BadInput(f"{source}: {tensor.name}: {error}") from None
        data = weight_types.quantize(values, chosen)
        if data.dtype == np.uint8:  # of uint8 data the writer takes the shape for one in bytes
            data = data.view(np.int8)
        writer.add_tensor(tensor.name, data, (rows, cols), raw_dtype=weight_types.raw_type(chosen))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
