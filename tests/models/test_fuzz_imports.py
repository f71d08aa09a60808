"""Damaged and hostile models of every format: imported, or refused in one line; no crash, no hang, no memory without
measure; and the reader on the board says of each GGUF file what it says on the host.

TINYPROF_IMPORTS=100000 tries so many files, and says with -s what became of them."""

import os
import random
import struct
import time
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from checkpoints import SIZES, later, make_source, tokenizer_bytes
from fuzzing import INTERESTING, Fields, mutated, patches
from hf_folders import make_folder
from models import make_model
from on_board import board
from tinyprof_bridge.errors import BadInput
from tinyprof_bridge.models import planner
from tinyprof_bridge.models.convert import convert

TRIALS = int(os.environ.get("TINYPROF_IMPORTS", "0"))
DEFAULT = 40  # of each format
SECONDS = 20  # that one file may take, on a busy machine
ROOM = 16 << 20  # bytes that are no file's: slabs, and the heap's own


class Format:
    """A good model: what is given to convert, and the files that are damaged."""

    def __init__(self, source, tokenizer, files):
        self.source, self.tokenizer = source, tokenizer
        self.files = {path: path.read_bytes() for path in files}
        self.size = sum(map(len, self.files.values()))
        self.out = source.with_name("out.gguf")

    def harm(self, rng):
        path = rng.choice(list(self.files))
        path.write_bytes(self.harmed(rng, path, self.files[path]))
        return path

    def harmed(self, rng, path, data):
        return mutated(rng, data)

    def mend(self, path):
        path.write_bytes(self.files[path])


class Gguf(Format):
    def __init__(self, folder, **options):
        path = make_model(folder / "model.gguf", type_="Q4_0", layers=1, context=32, **options)
        super().__init__(path, None, [path])
        self.fields = Fields(path.read_bytes()).found

    def harmed(self, rng, path, data):
        if rng.randrange(3) == 0:
            return mutated(rng, data)
        numbers = (rng.choice(INTERESTING), rng.randrange(100), rng.getrandbits(64), (rng.randint(-40, 40),))
        edits = [(rng.randrange(10_000), rng.choice(numbers)) for _ in range(rng.choice((1, 1, 2, 4)))]
        harmed = bytearray(data)
        for at, new in patches(self.fields, data, edits):
            harmed[at : at + len(new)] = new
        return bytes(harmed[: rng.randrange(len(data)) if rng.randrange(8) == 0 else len(data)])


class Llama2c(Format):
    def __init__(self, folder, version):
        made = make_source(folder, layers=1)
        if version:
            made.checkpoint.write_bytes(later(made.weights, SIZES | {"layers": 1}, version)[0])
        super().__init__(made.checkpoint, made.tokenizer, [made.checkpoint, made.tokenizer])


class HuggingFace(Format):
    """The header of safetensors is also damaged with its length kept right, else few changes get past that."""

    def __init__(self, folder):
        source = make_folder(folder / "hf")
        (source / "source.gguf").unlink()
        super().__init__(source, None, sorted(source.iterdir()))

    def harmed(self, rng, path, data):
        if path.suffix != ".safetensors" or rng.randrange(2):
            return mutated(rng, data)
        size = 8 + int.from_bytes(data[:8], "little")
        header = mutated(rng, data[8:size])
        return struct.pack("<Q", len(header)) + header + data[size:]


class Archive(Format):
    """A member of a zip archive is also damaged with its checksum kept right."""

    def harmed(self, rng, path, data):
        if rng.randrange(3) == 0:
            return mutated(rng, data)
        with zipfile.ZipFile(path) as archive:
            members = {m.filename: archive.read(m) for m in archive.infolist()}
        name = rng.choice([n for n in members if members[n] and (rng.randrange(8) == 0 or self.inner(n))])
        with zipfile.ZipFile(path, "w") as archive:
            for member, content in members.items():
                archive.writestr(member, mutated(rng, content) if member == name else content)
        return path.read_bytes()

    def inner(self, name):
        return name.endswith((".pkl", ".json", ".pt"))


class PyTorch(Archive):
    def __init__(self, folder):
        pytest.importorskip("torch", reason="torch is not installed")
        from torch_files import ARGS, meta_state, save, weights_of

        weights = weights_of(make_model(folder / "source.gguf", layers=1))
        path = save(folder, {"model": meta_state(weights), "model_args": ARGS})
        super().__init__(path, folder / "tok.bin", [path])


class TorchExport(Archive):
    def __init__(self, folder):
        pytest.importorskip("torch", reason="torch is not installed")
        from torch_files import exported

        path, _ = exported(folder, make_model(folder / "source.gguf", layers=1), layers=1)
        super().__init__(path, folder / "tok.bin", [path])


class Onnx(Format):
    """Nodes, attributes, shapes and constants are also changed in a message that stays one; the weights lie beside."""

    def __init__(self, folder):
        pytest.importorskip("onnx", reason="onnx is not installed")
        from onnx_llama import build, write

        source = make_model(folder / "source.gguf", layers=1)
        path = write(folder / "m.onnx", build(source), external=True)
        (folder / "tok.bin").write_bytes(tokenizer_bytes(288))
        super().__init__(path, folder / "tok.bin", [path])
        self.size += folder.joinpath("m.onnx.data").stat().st_size

    def harmed(self, rng, path, data):
        if rng.randrange(3) == 0:
            return mutated(rng, data)
        from onnx import ModelProto

        model = ModelProto.FromString(data)
        for _ in range(rng.choice((1, 1, 2, 4))):
            self.change(rng, model.graph)
        return model.SerializeToString()

    def change(self, rng, graph):
        node, tensor = rng.choice(graph.node), rng.choice(graph.initializer)
        number = rng.choice((*INTERESTING, -1, -2, rng.randrange(300))) % (1 << 63)
        match rng.randrange(9):
            case 0:
                node.op_type = rng.choice(graph.node).op_type
            case 1 if node.input:
                other = rng.choice(graph.node)
                node.input[rng.randrange(len(node.input))] = rng.choice((tensor.name, "", "x", *other.output))
            case 2:
                graph.node.insert(rng.randrange(len(graph.node)), node)
            case 3:
                graph.node.remove(node)
            case 4 if node.attribute:
                rng.choice(node.attribute).i = number
            case 5 if tensor.dims:
                tensor.dims[rng.randrange(len(tensor.dims))] = number
            case 6 if tensor.raw_data:
                tensor.raw_data = mutated(rng, tensor.raw_data)[: len(tensor.raw_data)].ljust(len(tensor.raw_data))
            case 7 if tensor.external_data:
                rng.choice(tensor.external_data).value = rng.choice(("../x", "", "m.onnx", "1e9", str(number), "-5"))
            case _:
                tensor.data_type = rng.randrange(20)


FORMATS = {
    "GGUF": Gguf,
    "GGUF, byte-level": lambda folder: Gguf(folder, pre="qwen2", vocab=384),
    "llama2.c v0": lambda folder: Llama2c(folder, 0),
    "llama2.c v1": lambda folder: Llama2c(folder, 1),
    "llama2.c v2": lambda folder: Llama2c(folder, 2),
    "Hugging Face": HuggingFace,
    "PyTorch": PyTorch,
    "torch.export": TorchExport,
    "ONNX": Onnx,
}
COUNT = TRIALS // len(FORMATS) if TRIALS else DEFAULT


def resident(which):
    """Bytes of the process: VmRSS now, VmHWM at most since the last call that asked for VmRSS."""
    if which == "VmRSS":
        Path("/proc/self/clear_refs").write_text("5")
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(which))
    return int(line.split()[1]) << 10


def trial(good, rng, results):
    """One damaged file."""
    harmed = good.harm(rng)
    before, began = resident("VmRSS"), time.monotonic()
    kind = rng.choice(("F32", "Q8_0", "Q4_0", "TP2", "KEEP"))
    try:
        convert(good.source, good.tokenizer, good.out, kind)
        results["imported"] += 1
    except BadInput as error:
        results["refused"] += 1
        line = str(error)
        assert line.isprintable() and len(line) < 600, line
        assert not good.out.exists()
    took, peak = time.monotonic() - began, resident("VmHWM") - before
    assert took < SECONDS
    assert peak < 2 * good.size + ROOM, peak
    results["ms"], results["peak"] = max(results["ms"], took * 1e3), max(results["peak"], peak)
    good.out.unlink(missing_ok=True)
    assert list(good.out.parent.glob(".*.partial")) == []
    good.mend(harmed)


@pytest.mark.filterwarnings("error")
@pytest.mark.timeout(300 + COUNT)
@pytest.mark.parametrize("name", FORMATS)
def test_imported_or_refused(name, tmp_path):
    good, results = FORMATS[name](tmp_path), Counter()
    convert(good.source, good.tokenizer, good.out, "Q8_0")  # what is imported at first is not counted
    good.out.unlink()
    for seed in range(COUNT):
        try:
            trial(good, random.Random(f"{name} {seed}"), results)
        except BaseException:
            print(name, seed)
            raise
    assert results["refused"]
    print(
        f"\n{name:12} {COUNT:,} files: {results['imported']:,} imported, {results['refused']:,} refused; at most"
        f" {results['ms']:.0f} ms and {results['peak'] >> 10:,} KB, of a model of {good.size >> 10:,} KB"
    )


ON_BOARD = """
import tinyprof, gc
for path in {paths!r}:
    with open(path, "rb") as f:
        data = f.read()
    try:
        tinyprof.load(data, context=8, batch=2).prefill([1])
        print("ok")
    except ValueError as e:
        print(type(e).__name__, e)
    data = None
    gc.collect()
"""


def on_host(data):
    """What the package's reader and planner say when they run on the host."""
    device = planner.device("portable")
    try:
        gguf = device.read(data)
        device.tokenizer.load(gguf, device.llama.Llama(gguf, 2, 8).vocab)
    except device.error as error:
        return f"ModelError {error}"
    return "ok"


@pytest.mark.timeout(300 + COUNT)
@pytest.mark.parametrize("name", ["GGUF", "GGUF, byte-level"])
def test_the_reader_on_the_board(name, tmp_path):
    """The same files as above."""
    good, at_a_time = FORMATS[name](tmp_path), 50
    with board("unix") as b:
        for first in range(0, COUNT, at_a_time):
            files = []
            for seed in range(first, min(first + at_a_time, COUNT)):
                files.append(good.harmed(random.Random(f"{name} {seed}"), good.source, good.files[good.source]))
                (tmp_path / f"{seed - first}.gguf").write_bytes(files[-1])
            paths = [str(tmp_path / f"{i}.gguf") for i in range(len(files))]
            lines = b.run(ON_BOARD.format(paths=paths)).splitlines()
            assert len(lines) == len(files)
            for seed, data, line in zip(range(first, first + at_a_time), files, lines, strict=False):
                # values are looked at by the native module only
                assert line == on_host(data) or "contains NaN or infinity" in line, (seed, line)
