"""Reads ONNX exports of decoders with llama's architecture.

ONNX's reference evaluator runs the graph on a short prompt. What the graph does with its constants tells which weights
they are (onnx_graph). The imported model must then give the same logits."""

import re
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import BadInput, plain
from ..numpy_llama import Forward
from ..source import Floats, Sizes, Source, Tensor, complete, file_size, of_array, sha256
from . import hf_config, llama2c, onnx_graph, rope, tensor_names
from .onnx_graph import Array, Llama, NoLlama

SUFFIX = ".onnx"
LIMIT = 2**31 - 1  # bytes of a protobuf message; larger models keep their weights in a separate file
PROMPT = 16  # tokens, where the graph takes any number
LONGEST = 256  # tokens of a graph with a fixed length
# numpy types by the numbers of TensorProto.DataType in onnx.proto
TYPES = {1: "<f4", 2: "u1", 3: "i1", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8"}
INTEGERS = (6, 7)
# By the graph's type: tolerated error of logits relative to the largest, and of RoPE's angles in radians per position.
TOLERANCE = {"float64": (1e-4, 1e-5), "float32": (1e-4, 1e-5), "float16": (3e-2, 2e-3)}


def read(path: Path, tokenizer: Path | None) -> Source:
    """Returns the model in an ONNX file.

    tokenizer: file with the tokenizer; None reads the one in the model's folder.
    Raises BadInput if the file is damaged, or its graph is not a llama with the same logits."""
    model = _parse(path)
    try:
        constants, files = _constants(path, model.graph)
        del model.graph.initializer[:]
        lean = type(model)()  # the message keeps the memory of deleted weights, so continue with a copy
        lean.CopyFrom(model)
        del model
        prompt, inputs = _inputs(lean.graph, constants)
        onnx_graph.check(lean.graph.node)
        with np.errstate(all="ignore"):
            llama = onnx_graph.recognise(onnx_graph.run(_evaluator(lean), constants, inputs))
            constants = {}
            return _source(path, llama, prompt, files, tokenizer)
    except rope.NoRope as error:
        raise BadInput(f"{path}: not a llama that boards run: {error}; {onnx_graph.INSTEAD}") from None
    except NoLlama as error:
        raise BadInput(f"{path}: not a llama that boards run: {plain(str(error))[:300]}") from None
    except BadInput:
        raise
    except Exception as error:  # a damaged graph may raise anything
        what = plain(f"{type(error).__name__}: {error}")
        raise BadInput(f"{path}: damaged, or cannot be run: {what[:200]}; export it again") from None


def _parse(path: Path) -> Any:
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise BadInput(f"{path}: the onnx package is missing; pip install 'tinyprof[models]'") from None
    try:
        if file_size(path) > LIMIT:
            raise BadInput(f"{path}: larger than 2 GB, so not an ONNX file; export with external weights")
        model = onnx.ModelProto.FromString(path.read_bytes())
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from error
    except DecodeError:
        raise BadInput(f"{path}: damaged, or not an ONNX file; copy it again") from None
    if not model.graph.node:
        raise BadInput(f"{path}: not an ONNX file, or one without a graph; export it again")
    if model.functions:
        raise BadInput(f"{path}: contains functions; inline them with onnx.inliner, or export with optimize=True")
    if model.graph.sparse_initializer:
        raise BadInput(f"{path}: sparse weights are not supported; export the dense model")
    return model


def _evaluator(model: Any) -> Any:
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(model)


def _constants(path: Path, graph: Any) -> tuple[dict[str, Array], list[Path]]:
    """The graph's tensors by name, and the files that contain them."""
    found: dict[str, Array] = {}
    files: dict[str, npt.NDArray[np.uint8]] = {}
    for tensor in graph.initializer:
        name = plain(tensor.name)[:128]
        if tensor.data_type not in TYPES:
            raise BadInput(f"{path}: {name!r} is of a type that is not supported; export in float32 or float16")
        if tensor.name in found:
            raise BadInput(f"{path}: damaged: tensor {name!r} occurs twice; export it again")
        type_, shape = np.dtype(TYPES[tensor.data_type]), tuple(tensor.dims)
        if tensor.data_location:
            raw = _external(path, tensor, files)
        elif tensor.HasField("raw_data"):
            raw = np.frombuffer(tensor.raw_data, np.uint8)
        else:
            raw = _listed(tensor, type_).view(np.uint8)
        if min(shape, default=1) < 0 or prod(shape) * type_.itemsize != raw.size:
            raise BadInput(f"{path}: {name!r} has {raw.size} bytes, which do not match its shape; copy it again")
        found[tensor.name] = raw.view(type_).reshape(shape)
    return found, [path, *(path.parent / name for name in sorted(files))]


def _listed(tensor: Any, type_: np.dtype[Any]) -> Array:
    """The numbers of a tensor whose message lists them one by one instead of as raw bytes."""
    if type_ == np.float16:
        return np.array(tensor.int32_data, np.int32).astype(np.uint16)
    fields = {"float32": tensor.float_data, "float64": tensor.double_data, "int64": tensor.int64_data}
    return np.array(fields.get(type_.name, tensor.int32_data)).astype(type_)


def _external(path: Path, tensor: Any, files: dict[str, npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """The bytes of a tensor in another file of the folder."""
    about = {entry.key: entry.value for entry in tensor.external_data}
    name = about.get("location", "")
    file = path.parent / name
    if not name.isprintable() or Path(name).name != name or not file.is_file() or not _near(file, path):
        raise BadInput(f"{path}: its weights are in {plain(name)[:64]!r}, which is not in its folder; copy it there")
    try:
        begin, size = int(about.get("offset", "0")), int(about.get("length", "-1"))
        if name not in files:
            files[name] = np.memmap(file, dtype=np.uint8, mode="r")
    except (OSError, ValueError):
        raise BadInput(f"{file}: cannot be read, or {path.name} has a wrong offset into it; copy both again") from None
    size = files[name].size - begin if size < 0 else size
    if not 0 <= begin <= begin + size <= files[name].size:
        raise BadInput(
            f"{file}: has {files[name].size:,} bytes, but {path.name} needs {begin:,} to {begin + size:,} of it"
            "; copy both again"
        )
    return files[name][begin : begin + size]


def _near(file: Path, path: Path) -> bool:
    """Whether both are in one folder, before or after resolving the model's symbolic link."""
    return file.resolve().parent in (path.parent.resolve(), path.resolve().parent)


def _inputs(graph: Any, constants: dict[str, Array]) -> tuple[npt.NDArray[np.int64], dict[str, Array]]:
    """A prompt, and the graph's inputs by name: the prompt, and where wanted a mask, positions, an empty KV cache."""
    wanted = [i for i in graph.input if i.name not in constants]
    shapes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in wanted}
    of_tokens = [
        i.name
        for i in wanted
        if i.type.tensor_type.elem_type in INTEGERS and not re.search("mask|position", i.name) and shapes[i.name]
    ]
    if len(of_tokens) != 1:
        raise NoLlama(f"{len(of_tokens)} of its inputs may be tokens; export it with input_ids only")
    batch, length = ([1, *shapes[of_tokens[0]]])[-2:]
    batch, length = batch or 1, length or PROMPT
    if batch != 1 or not 2 <= length <= LONGEST:
        raise NoLlama(f"it takes {batch} x {length} tokens; export it for 1 x 2 to {LONGEST}, or a dynamic length")
    tokens = np.arange(length) % PROMPT + 1
    inputs: dict[str, Array] = {}
    for i in wanted:
        shape = shapes[i.name]
        type_ = TYPES.get(i.type.tensor_type.elem_type)
        if "past" in i.name and len(shape) == 4 and type_:
            data = np.zeros((1, shape[1], 0, shape[3]))
        elif len(shape) in (1, 2) and i.type.tensor_type.elem_type in INTEGERS:
            row = np.ones(length) if "mask" in i.name else np.arange(length) if "position" in i.name else tokens
            data = row.reshape((1, -1)[-len(shape) :])
        else:
            raise NoLlama(f"its input {i.name[:64]!r} is unknown; export it with input_ids only")
        inputs[i.name] = data.astype(type_)
    return tokens, inputs


def _source(
    path: Path, llama: Llama, prompt: npt.NDArray[np.int64], files: list[Path], tokenizer: Path | None
) -> Source:
    before, after = _queries(llama, len(prompt))
    halves, freqs = rope.rotation(before, after)
    most, exact = TOLERANCE[llama.logits.dtype.name]
    beside, tensors = path.with_name("config.json"), {name: of_array(data) for name, data in llama.tensors.items()}
    bos = eos = None
    if beside.exists():
        config = hf_config.read_config(beside)
        sizes, bos, eos = hf_config.sizes_of(beside, config), config.bos_token_id, config.eos
    else:
        sizes = _sizes(path, llama, before.shape[1], *rope.base_and_scale(freqs, exact))
    if np.array_equal(llama.tensors["token_embd.weight"], llama.tensors["output.weight"]):
        del tensors["output.weight"]
    tensors = complete(path, sizes, tensors)
    if halves:
        tensor_names.interleave(sizes, tensors)
    off = _difference(sizes, tensors, prompt, llama.logits) / max(1, np.abs(llama.logits).max())
    if not off <= most:
        raise NoLlama(
            f"the graph's logits differ from those of a llama with its weights by {off:.2g} of the largest"
            "; check config.json, or give the Hugging Face folder"
        )
    vocabulary, notes = llama2c.vocabulary_for(path, tokenizer, sizes.vocab_size, bos, eos)
    notes = [*notes, f"logits match its graph's within {off:.0e} of the largest, over {len(prompt)} tokens"]
    return Source(path, sizes, vocabulary, tensors, sha256(*files), notes=tuple(notes))


def _queries(llama: Llama, length: int) -> tuple[Floats, Floats]:
    """The first layer's queries (T, H, D) before and after RoPE."""
    dim = llama.tensors["blk.0.attn_q.weight"].shape[0]
    shape = llama.after.shape
    if llama.before.size != length * dim or llama.after.size != length * dim or shape[-2] != length or dim % shape[-1]:
        raise NoLlama(f"its queries are not split into heads before attention; {onnx_graph.INSTEAD}")
    after = llama.after.reshape(-1, *shape[-2:]).swapaxes(0, 1)
    return llama.before.reshape(after.shape), after


def _sizes(path: Path, llama: Llama, heads: int, base: float, scale: float) -> Sizes:
    shapes = {name: data.shape for name, data in llama.tensors.items()}
    vocab, dim = shapes["token_embd.weight"]
    q_dim = shapes["blk.0.attn_q.weight"][0]
    if llama.eps is None or not 1e-37 < llama.eps < 1:
        raise BadInput(f"{path}: does not contain the epsilon of its norms; put its config.json into the same folder")
    sizes = Sizes(
        dim=dim,
        hidden_dim=shapes["blk.0.ffn_gate.weight"][0],
        n_layers=sum(name.endswith("attn_q.weight") for name in shapes),
        n_heads=heads,
        n_kv_heads=max(shapes["blk.0.attn_k.weight"][0] * heads // q_dim, 1),
        vocab_size=vocab,
        context=2048,
        rope_base=base,
        rope_scale=scale,
        eps=llama.eps,
        head_size=q_dim // heads,
    )
    if fault := sizes.fault():
        raise BadInput(f"{path}: {fault}")
    if not 1 <= base < 1e38 or not 2**-10 <= scale <= 2**20:
        raise BadInput(f"{path}: RoPE's base {base} or factor {scale} is out of range; export it again")
    return sizes


def _difference(sizes: Sizes, tensors: dict[str, Tensor], prompt: npt.NDArray[np.int64], logits: Array) -> float:
    """The greatest difference of the imported model's logits from the graph's, over the tokens the graph gives."""
    ours = Forward(tensors, sizes).run(prompt[None])[0]
    theirs = logits.reshape(-1, logits.shape[-1])
    if theirs.shape[1] != ours.shape[1] or not 0 < len(theirs) <= len(ours):
        raise NoLlama(f"it does not have one logit for each token of the vocabulary; {onnx_graph.INSTEAD}")
    return float(np.abs(ours[-len(theirs) :] - theirs).max())
