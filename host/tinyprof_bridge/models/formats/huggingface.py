"""Reads folders of Hugging Face's transformers: config.json, weights in one or several files, and a tokenizer."""

from pathlib import Path

from ...errors import BadInput, plain
from ..source import Source, Tensor, read_json, sha256
from . import pytorch, safetensors, tensor_names, tokenizers
from .hf_config import read_config, score_factor, sizes_of

ONE_FILE, PICKLED = "model.safetensors", "pytorch_model.bin"


def read(folder: Path) -> Source:
    """Returns the model in a folder. Raises BadInput if it is incomplete, damaged, or not supported by boards."""
    config = read_config(folder / "config.json")
    sizes = sizes_of(folder / "config.json", config)
    files = weight_files(folder)
    tensors: dict[str, Tensor] = {}
    for file in files:
        for name, tensor in _tensors(file).items():
            if name in tensors:
                raise BadInput(f"{file}: tensor {plain(name)[:128]!r} is also in another file; copy the folder again")
            tensors[name] = tensor
    found = tensor_names.to_gguf(folder, sizes, tensors, config.tied, score_factor(config, sizes))
    vocabulary, notes = tokenizers.read(folder, sizes.vocab_size, config.bos_token_id, config.eos)
    return Source(folder, sizes, vocabulary, found, sha256(*files), notes=tuple(notes))


def _tensors(file: Path) -> dict[str, Tensor]:
    if file.suffix == ".bin":
        return pytorch.load(file, pytorch.members(file))[0]
    return safetensors.read(file)


def weight_files(folder: Path) -> list[Path]:
    """Returns the files with the weights: one, or those that an index lists. Raises BadInput if one is missing."""
    found = (folder / f"{name}{end}" for name in (ONE_FILE, PICKLED) for end in ("", ".index.json"))
    path = next((path for path in found if path.exists()), None)
    if path is None:
        raise BadInput(f"{folder}: has no weights; it needs {ONE_FILE}, {PICKLED}, or the index of one with its parts")
    if path.suffix != ".json":
        return [path]
    listed = read_json(path, 64 << 20).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise BadInput(f"{path}: has no weight_map; copy it again")
    names = sorted({str(name) for name in listed.values()})
    for name in names:
        if Path(name).name != name or not name.isprintable():
            raise BadInput(f"{path}: {plain(name)[:64]!r} is not the name of a file in the folder; copy it again")
        if not (folder / name).is_file():
            raise BadInput(f"{folder}: {name[:64]} is missing; copy it too")
    return [folder / name for name in names]
