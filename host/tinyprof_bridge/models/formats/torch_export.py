"""Reads programs of torch.export (.pt2), as torch.export.save writes them since 2.8: raw weights, and JSON.

No code of the program runs, and PyTorch is not needed. Of the graph some constants are read: heads, epsilon, and RoPE's
table."""

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
TYPES = {6: "F16", 7: "F32", 8: "F64", 13: "BF16"}  # of ScalarType
BYTES = {"F16": 2, "F32": 4, "F64": 8, "BF16": 2}


def is_one(parts: dict[str, Bytes]) -> bool:
    return any(name.endswith(("/archive_format", "serialized_exported_program.json")) for name in parts)


def load(path: Path, parts: dict[str, Bytes]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The program's tensors by name, and settings as its graph tells them."""
    root = next((name.partition("/")[0] for name in parts if name.endswith("/archive_format")), "")
    if not root:
        raise BadInput(f"{path}: a program of torch.export before 2.8: load it, and save program.state_dict instead")
    try:
        weights = _tensors(path, parts, f"{root}/data/weights/", "model_weights_config.json")
        constants = _tensors(path, parts, f"{root}/data/constants/", "model_constants_config.json")
        models = [name for name in parts if name.startswith(f"{root}/models/") and name.endswith(".json")]
        if len(models) != 1:
            raise BadInput(f"{path}: holds {len(models)} programs, not one")
        settings = _settings(_parse(path, parts[models[0]])["graph_module"]) | _of_tables(weights | constants)
    except BadInput:
        raise
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, RecursionError) as error:
        raise BadInput(f"{path}: damaged, or no program of torch.export: {plain(repr(error))[:100]}") from None
    return weights, settings


def check(path: Path, settings: dict[str, Any]) -> None:
    """That a program alone says what it is. settings: as its graph and params.json tell them."""
    if why := settings.get("no_rope"):
        raise BadInput(f"{path}: {why}: put its config.json beside it")
    if "rope_theta" not in settings:
        raise BadInput(f"{path}: does not say RoPE's base: put its config.json or params.json beside it")
    if not settings.get("silu"):
        raise BadInput(f"{path}: has no SiLU, so is no llama: put its config.json beside it")


def _parse(path: Path, part: Bytes) -> dict[str, Any]:
    if part.size > JSON_LIMIT:
        raise BadInput(f"{path}: {part.size:,} bytes of JSON are too many")
    parsed: dict[str, Any] = json.loads(bytes(part))
    return parsed


def _tensors(path: Path, parts: dict[str, Bytes], folder: str, listed: str) -> dict[str, Tensor]:
    """The tensors that a file of the folder lists. An output that is the embedding is left out."""
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
            raise BadInput(f"{path}: {shown!r} is no plain tensor of floats")
        raw = parts[folder + about["path_name"]]
        strides = tuple(prod(shape[i + 1 :]) for i in range(len(shape)))
        if not shape or min(shape) < 1 or prod(shape) * BYTES[type_] != raw.size or meta["storage_offset"]["as_int"]:
            raise BadInput(f"{path}: {shown!r} has {raw.size} bytes, which its shape does not ask for")
        if tuple(stride["as_int"] for stride in meta["strides"]) != strides:
            raise BadInput(f"{path}: {shown!r} is no plain tensor: its rows do not follow one another")
        found[name] = Tensor(shape, Rows(raw.reshape(-1, shape[-1] * BYTES[type_]), type_).floats)
        places[tensor_names.gguf_name(name)] = name, about["path_name"]
    embedding, output = places.get("token_embd.weight"), places.get("output.weight")
    if embedding and output and embedding[1] == output[1]:
        del found[output[0]]
    return found


def _settings(module: dict[str, Any]) -> dict[str, Any]:
    """The number of heads and epsilon, where the graph tells them."""
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
    """RoPE's base and factor from its frequencies, or from cosines and sines of positions; or why they tell none."""
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
