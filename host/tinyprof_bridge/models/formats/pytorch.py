"""Reads PyTorch's files: a state_dict as torch.save has written it since 1.6, or a program of torch.export.

torch.load runs with weights_only, and only after a check that the pickle names nothing but tensors: even the other
names that weights_only allows could take any amount of memory."""

import mmap
import pickletools
import struct
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from ...errors import BadInput, plain
from ..source import MOST, Bytes, Floats, Sizes, Source, Tensor, file_size, read_json, sha256
from . import hf_config, llama2c, tensor_names, torch_export

MAGIC = b"PK\x03\x04"
OLD_MAGIC = b"\x80\x02\x8a\x0a"
PICKLE_LIMIT = 16 << 20
CONTAINERS = ("model", "state_dict", "model_state_dict")  # keys of a checkpoint that may contain the state_dict
TYPES = ("FloatStorage", "HalfStorage", "BFloat16Storage", "DoubleStorage")
HARMLESS = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    "torch Size",
    *(f"torch {name}" for name in (*TYPES, "LongStorage", "IntStorage", "BoolStorage")),
}


def read(path: Path, tokenizer: Path | None) -> Source:
    """Returns the model in a PyTorch file.

    Sizes come from config.json or params.json in its folder, else from the file itself.

    tokenizer: file with the tokenizer; None reads the one in the model's folder.
    Raises BadInput if the file is damaged, or boards do not support the model."""
    parts = members(path)
    exported = torch_export.is_one(parts)
    tensors, settings = (torch_export.load if exported else load)(path, parts)
    beside, bos, eos = path.with_name("config.json"), None, None
    if beside.exists() and (exported or "n_heads" not in settings):
        config = hf_config.read_config(beside)
        sizes, tied = hf_config.sizes_of(beside, config), config.tied
        score_factor, bos, eos = hf_config.score_factor(config, sizes), config.bos_token_id, config.eos
    else:
        params = path.with_name("params.json")
        if params.exists():
            settings = read_json(params, 1 << 20) | settings
        sizes = _sizes(path, tensors, settings)
        if exported:
            torch_export.check(path, settings)
        names = {name: tensor_names.gguf_name(name) for name in tensors if not tensor_names.is_table(name)}
        shapes = sizes.tensors()
        if others := [name for name, known in names.items() if known not in shapes]:
            raise BadInput(
                f"{path}: a llama has no tensor {plain(others[0])[:128]!r}; put the model's config.json into its folder"
            )
        tied, score_factor = "output.weight" not in names.values(), 1.0
    found = tensor_names.to_gguf(path, sizes, tensors, tied, score_factor)
    vocabulary, notes = llama2c.vocabulary_for(path, tokenizer, sizes.vocab_size, bos, eos)
    return Source(path, sizes, vocabulary, found, sha256(path), notes=tuple(notes))


def load(path: Path, parts: dict[str, Bytes]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns the tensors of a state_dict by name, and the settings stored with it (llama2.c's model_args).

    path: of the file.
    parts: what `members` returns for it.
    Raises BadInput if the file is damaged, or contains anything but plain tensors of floats."""
    _check(path, parts)
    try:
        import torch
    except ImportError:
        raise BadInput(f"{path}: torch is missing; pip install torch, or save the model as safetensors") from None
    try:
        with warnings.catch_warnings(action="ignore"):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file may raise anything
        first = plain((str(error) or type(error).__name__).splitlines()[0])
        raise BadInput(f"{path}: damaged, or not a state_dict: {first[:200]}; save model.state_dict()") from None
    if not isinstance(loaded, dict):
        raise BadInput(f"{path}: contains no state_dict; save model.state_dict()")
    module = next((loaded[key] for key in CONTAINERS if isinstance(loaded.get(key), dict)), loaded)
    settings = loaded.get("model_args", {}) if module is not loaded else {}
    tensors = {}
    for name, value in module.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise BadInput(f"{path}: {plain(str(name))[:128]!r} is not a tensor; save model.state_dict()")
        if tensor_names.is_table(name):
            settings = _from_table(name, tuple(value.shape)) | (settings if isinstance(settings, dict) else {})
            continue
        plainly = value.dim() and value.layout == torch.strided and not value.is_quantized
        # an expanded tensor has less storage than values, and would grow when it is read
        plainly = plainly and value.nbytes <= value.untyped_storage().nbytes()
        if not (plainly and value.dtype.is_floating_point and value.numel() and value.device.type == "cpu"):
            raise BadInput(f"{path}: {plain(name)[:128]!r} is not a plain tensor of floats; save it as float32")
        tensors[name] = Tensor(tuple(value.shape), _Rows(value).floats)
    if not tensors:
        raise BadInput(f"{path}: contains no tensors; save model.state_dict()")
    return tensors, settings if isinstance(settings, dict) else {}


class _Rows:
    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor.detach().reshape(-1, tensor.shape[-1])

    def floats(self, first: int, count: int) -> Floats:
        values: Floats = self.tensor[first : first + count].float().contiguous().numpy()
        return values


class _Mapped(mmap.mmap):
    """A mapped file with the method that zipfile needs. mmap has it since Python 3.13."""

    def seekable(self) -> bool:
        return True


def members(path: Path) -> dict[str, Bytes]:
    """Returns the parts of an archive of torch.save or torch.export by name, mapped into memory.

    Raises BadInput if the archive is damaged or compressed."""
    try:
        size = file_size(path)
        # a mapped file cannot be read beyond its end, whatever the archive's directory says
        with (
            path.open("rb") as file,
            _Mapped(file.fileno(), size, access=mmap.ACCESS_READ) as mapped,
            zipfile.ZipFile(cast(IO[bytes], mapped)) as archive,
        ):
            parts = archive.infolist()
            if len({m.filename for m in parts}) < len(parts):
                raise BadInput(f"{path}: damaged archive: a name occurs twice; copy it again")
            if any(m.compress_type != zipfile.ZIP_STORED for m in parts) or sum(m.file_size for m in parts) > size:
                raise BadInput(
                    f"{path}: not written by torch: parts of the archive are compressed or overlap; copy it again"
                )
            found, data = {}, np.memmap(path, dtype=np.uint8, mode="r")
            for m in parts:
                archive.open(m).close()  # compares both headers
                names = struct.unpack_from("<HH", mapped, m.header_offset + 26)
                begin = m.header_offset + 30 + sum(names)
                found[m.filename] = data[begin : begin + m.file_size]
                if found[m.filename].size < m.file_size or (
                    m.filename.endswith((".pkl", ".json")) and zlib.crc32(found[m.filename].data) != m.CRC
                ):
                    raise BadInput(f"{path}: damaged archive: {plain(m.filename)[:64]}; copy it again")
            return found
    except BadInput:
        raise
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from error
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, struct.error) as error:
        raise BadInput(f"{path}: damaged archive: {plain(str(error))[:200]}; copy it again") from None


def _check(path: Path, parts: dict[str, Bytes]) -> None:
    """Raises BadInput if the pickle names anything but tensors."""
    pickles = [part for name, part in parts.items() if name.endswith(".pkl")]
    if len(pickles) != 1 or pickles[0].size > PICKLE_LIMIT:
        raise BadInput(f"{path}: an archive without one small data.pkl; save model.state_dict()")
    data = bytes(pickles[0])
    try:
        for code, argument, _ in pickletools.genops(data):
            if code.name in ("STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"):
                raise BadInput(f"{path}: its pickle creates objects; save model.state_dict()")
            if code.name == "GLOBAL" and argument not in HARMLESS:
                named = plain(str(argument).replace(" ", "."))[:64]
                raise BadInput(f"{path}: its pickle names {named}, which is not a tensor; save model.state_dict()")
    except BadInput:
        raise
    except Exception as error:  # pickletools may raise anything
        raise BadInput(f"{path}: damaged pickle: {plain(str(error))[:100]}; copy it again") from None


def _from_table(name: str, shape: tuple[int, ...]) -> dict[str, int]:
    """Settings from the shape of a RoPE table: the head size, and for cosines and sines the number of positions."""
    found = {"head_dim": 2 * shape[-1]} if shape and "freqs_cis" not in name else {}
    return found | ({"max_seq_len": shape[0]} if len(shape) == 2 else {})


def _number(path: Path, settings: dict[str, Any], key: str, kind: type[int] | type[float], default: Any) -> Any:
    value = settings.get(key)
    if value is None or value == -1:
        return default
    known = isinstance(value, int | float) and not isinstance(value, bool)
    if not known or not 0 < value <= MOST or kind(value) != value:
        raise BadInput(f"{path}: {key} is {plain(str(value))[:32]}, which is out of range; correct params.json")
    return kind(value)


def _sizes(path: Path, tensors: dict[str, Tensor], settings: dict[str, Any]) -> Sizes:
    """Sizes from the tensors' shapes, with heads, context and RoPE from the settings."""
    shapes = {known: t.shape for name, t in tensors.items() if (known := tensor_names.gguf_name(name))}
    wanted = ("token_embd.weight", "blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.ffn_gate.weight")
    for name in wanted:
        if len(shapes.get(name, ())) != 2:
            raise BadInput(f"{path}: not a llama: tensor {name} is missing, or not a matrix; take another model")
    (vocab, dim), (q_dim, _), (kv_dim, _), (hidden, _) = (shapes[name] for name in wanted)
    head_dim = _number(path, settings, "head_dim", int, None)
    heads = _number(path, settings, "n_heads", int, head_dim and q_dim // head_dim)
    if not heads or q_dim % heads:
        raise BadInput(
            f"{path}: does not contain the number of heads; put the model's config.json or params.json into its folder"
        )
    sizes = Sizes(
        dim=dim,
        hidden_dim=hidden,
        n_layers=1 + max(int(name.split(".")[1]) for name in shapes if name.startswith("blk.")),
        n_heads=heads,
        n_kv_heads=max(kv_dim // (q_dim // heads), 1),
        vocab_size=vocab,
        context=_number(path, settings, "max_seq_len", int, 2048),
        rope_base=_number(path, settings, "rope_theta", float, 10000.0),
        rope_scale=_number(path, settings, "rope_scale", float, 1.0),
        eps=_number(path, settings, "norm_eps", float, 1e-5),
        head_size=q_dim // heads,
    )
    if fault := sizes.fault():
        raise BadInput(f"{path}: {fault}")
    if not 1e-37 < sizes.eps < 1 or sizes.rope_base < 1:
        raise BadInput(f"{path}: norm_eps {sizes.eps} or rope_theta {sizes.rope_base} is out of range; copy it again")
    if settings.get("use_scaled_rope"):
        raise BadInput(f"{path}: does not contain RoPE's scaling; put the model's config.json into its folder")
    return sizes
