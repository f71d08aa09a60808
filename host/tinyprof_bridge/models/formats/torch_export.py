"""Reads programs of torch.export (.pt2), as torch.export.save has written them since 2.8: raw weights and JSON.

No code of the program runs, and PyTorch is not needed. The graph gives the number of heads and epsilon, RoPE's tables
give base and factor. Format: torch/_export/serde/schema.py in PyTorch."""

import json
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import BadInput, plain
from ..source import Bytes, Floats, Tensor
from . import rope, tensor_names
from .safetensors import Rows

JSON_LIMIT = 64 << 20
TYPES = {6: "F16", 7: "F32", 8: "F64", 13: "BF16"}  # by the numbers of ScalarType in the schema
BYTES = {"F16": 2, "F32": 4, "F64": 8, "BF16": 2}


def is_one(parts: dict[str, Bytes]) -> bool:
    """Returns whether an archive contains a program of torch.export.

    parts: of the archive, by name."""
    return any(name.endswith(("/archive_format", "serialized_exported_program.json")) for name in parts)


def load(path: Path, parts: dict[str, Bytes]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns the program's tensors by name, and the settings that its graph and tables contain.

    path: for error messages.
    parts: of the archive, by name.
    Raises BadInput if the program is damaged, or of PyTorch before 2.8."""
    root = next((name.partition("/")[0] for name in parts if name.endswith("/archive_format")), "")
    if not root:
        raise BadInput(f"{path}: from torch.export before 2.8; load it and save program.state_dict instead")
    try:
        weights = _tensors(path, parts, f"{root}/data/weights/", "model_weights_config.json")
        constants = _tensors(path, parts, f"{root}/data/constants/", "model_constants_config.json")
        models = [name for name in parts if name.startswith(f"{root}/models/") and name.endswith(".json")]
        if len(models) != 1:
            raise BadInput(f"{path}: contains {len(models)} programs; export one alone")
        settings = _settings(_parse(path, parts[models[0]])["graph_module"]) | _of_tables(weights | constants)
    except BadInput:
        raise
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, RecursionError) as error:
        why = plain(repr(error))[:100]
        raise BadInput(f"{path}: damaged, or not a program of torch.export: {why}; export it again") from None
    return weights, settings


def check(path: Path, settings: dict[str, Any]) -> None:
    """Raises BadInput if a program without config.json does not tell that it is a llama, and its RoPE.

    settings: from its graph, its tables and params.json."""
    if why := settings.get("no_rope"):
        raise BadInput(f"{path}: {why}; put the model's config.json into its folder")
    if "rope_theta" not in settings:
        raise BadInput(
            f"{path}: does not contain RoPE's base; put the model's config.json or params.json into its folder"
        )
    if not settings.get("silu"):
        raise BadInput(f"{path}: has no SiLU, so it is not a llama; put the model's config.json into its folder")


def _parse(path: Path, part: Bytes) -> dict[str, Any]:
    if part.size > JSON_LIMIT:
        raise BadInput(f"{path}: damaged: {part.size:,} bytes of JSON are too many; export it again")
    parsed: dict[str, Any] = json.loads(bytes(part))
    return parsed


def _tensors(path: Path, parts: dict[str, Bytes], folder: str, listed: str) -> dict[str, Tensor]:
    """The tensors that the JSON file `listed` of a folder in the archive lists, without a tied output."""
    found, places = {}, {}
    for name, about in _parse(path, parts[folder + listed])["config"].items():
        meta, shown = about["tensor_meta"], plain(name)[:128]
        shape = tuple(size["as_int"] for size in meta["sizes"])
        type_ = TYPES.get(meta["dtype"])
        if tensor_names.is_scale(name):
            continue
        if about["use_pickle"] or not type_:
            if "constants" in folder:
                continue
            raise BadInput(f"{path}: {shown!r} is not a plain tensor of floats; export it as float32")
        raw = parts[folder + about["path_name"]]
        strides = tuple(prod(shape[i + 1 :]) for i in range(len(shape)))
        if not shape or min(shape) < 1 or prod(shape) * BYTES[type_] != raw.size or meta["storage_offset"]["as_int"]:
            raise BadInput(f"{path}: {shown!r} has {raw.size} bytes, which do not match its shape; export it again")
        if tuple(stride["as_int"] for stride in meta["strides"]) != strides:
            raise BadInput(f"{path}: {shown!r} is not contiguous; call contiguous() on it and export again")
        found[name] = Tensor(shape, Rows(raw.reshape(-1, shape[-1] * BYTES[type_]), type_).floats)
        places[tensor_names.gguf_name(name)] = name, about["path_name"]
    embedding, output = places.get("token_embd.weight"), places.get("output.weight")
    if embedding and output and embedding[1] == output[1]:
        del found[output[0]]
    return found


def _settings(module: dict[str, Any]) -> dict[str, Any]:
    """Number and size of heads, epsilon, and whether there is SiLU, as far as the graph tells."""
    weights = {
        spec["parameter"]["arg"]["name"]: tensor_names.gguf_name(spec["parameter"]["parameter_name"])
        for spec in module["signature"]["input_specs"]
        if "parameter" in spec
    }
    found: dict[str, Any] = {}
    queries, means = "", set()
    for node in module["graph"]["nodes"]:
        target, given = node["target"], {i["name"]: i["arg"] for i in node["inputs"]}
        tensors = {name: arg["as_tensor"]["name"] for name, arg in given.items() if "as_tensor" in arg}
        made = next((out["as_tensor"]["name"] for out in node["outputs"] if "as_tensor" in out), "")
        if "aten.linear" in target and weights.get(tensors.get("weight", "")) == "blk.0.attn_q.weight":
            queries = made
        elif queries and tensors.get("self") == queries and "n_heads" not in found:
            sizes = [s for arg in given.values() for s in arg.get("as_sym_ints") or arg.get("as_ints") or ()]
            if len(sizes) > 1:
                n_heads, head_dim = (size["as_int"] if isinstance(size, dict) else size for size in sizes[-2:])
                found |= {"n_heads": n_heads, "head_dim": head_dim}
        elif "aten.silu" in target:
            found["silu"] = True
        elif "aten.mean" in target:
            means.add(made)
        elif "aten.add" in target and tensors.get("self") in means and "as_float" in given["other"]:
            found["norm_eps"] = given["other"]["as_float"]
        elif "aten.rms_norm" in target and "as_float" in given.get("eps", {}):
            found["norm_eps"] = given["eps"]["as_float"]
    return found


def _of_tables(tensors: dict[str, Tensor]) -> dict[str, Any]:
    """RoPE's base and factor, from a table of frequencies or of cosines and sines; or why they cannot be found."""
    tables = {name.rpartition(".")[2]: t.rows(0, min(t.matrix[0], 2)) for name, t in tensors.items()}
    if "inv_freq" in tables:
        freqs: Floats = tables["inv_freq"].reshape(-1)
    elif "freqs_cos" in tables and "freqs_sin" in tables and len(tables["freqs_cos"]) == len(tables["freqs_sin"]) == 2:
        freqs = np.arctan2(tables["freqs_sin"][1], tables["freqs_cos"][1])
    else:
        return {}
    try:
        base, scale = rope.base_and_scale(freqs, 1e-5)
    except rope.NoRope as error:
        return {"no_rope": str(error)}
    return {"rope_theta": base, "rope_scale": scale}
