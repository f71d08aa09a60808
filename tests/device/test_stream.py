"""Models that are read from storage while they run."""

import pytest
from models import make_model
from on_board import board
from tinyprof_bridge.boards.emulators import EMULATED
from tinyprof_bridge.measure.collect import Request, collect
from tinyprof_bridge.progress import Progress
from tinyprof_bridge.records import metrics

SAME = """
import tinyprof
from tinyprof.measure import check
whole = check(tinyprof.load({path!r}, context=32, batch={batch}, activations={activations}))
model = tinyprof.load({path!r}, context=32, batch={batch}, activations={activations}, stream=True)
print(whole == check(model), model.placement, len(model.stream.buffer), model.bytes)
"""


@pytest.mark.parametrize("name", ["unix-asan", "unix-fixed-asan"])
@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize(
    "options",
    [
        {"type_": "Q8_0", "rope_factors": [1, 2, 3, 4, 5, 6, 7, 8]},
        {"type_": "F16", "tied": False},
        {"type_": "TP2", "vocab": 300},
        {"type_": "TP3", "tied": False},
        {"type_": "Q4_K", "dim": 256, "hidden": 256},
        {"type_": "Q8_0", "architecture": "qwen2", "tied": False},
        {"type_": "Q8_0", "architecture": "qwen3", "heads": 8, "head_dim": 32},
        {"type_": "Q8_0", "architecture": "gemma2", "window": 9},
        {"type_": "Q8_0", "architecture": "gemma3", "window": 9},
        {"type_": "Q4_0", "activations": 16},
    ],
    ids=lambda o: o.get("architecture", o["type_"]),
)
def test_the_same_logits(name, batch, options, tmp_path):
    options = options.copy()
    activations = options.pop("activations", 8)
    model = make_model(tmp_path / "m.gguf", context=64, **options)
    with board(name) as b:
        same, placement, buffer, size = b.run(
            SAME.format(path=str(model), batch=batch, activations=activations)
        ).split()
    assert (same, placement) == ("True", "stream")
    assert int(buffer) < int(size) / 2


def test_three_times_the_ram(tmp_path):
    model = make_model(
        tmp_path / "m.gguf", type_="Q8_0", dim=256, layers=8, heads=8, kv_heads=4, hidden=704, context=64
    )
    request = Request("m4", model, p=(8,), n=(4,), r=1, stream=True)
    run, _ = collect(request, tmp_path / "run.jsonl", Progress(quiet=True))
    assert run.model.bytes > 3 * run.memory.heap_total
    assert run.model.placement == "stream" and run.memory.model_ram < run.model.bytes / 10
    assert run.memory.allocated_in_region == 0
    assert run.check.logits_crc32 == run.host.reference_logits["float"]
    costs = metrics.operators(run, "tg4").set_index("role")
    storage = costs.loc["storage"]
    # each weight is read once a token, and nothing is counted twice
    assert 0.98 < storage["bytes"] / run.model.bytes < 1.01
    total = metrics.tests(run).set_index("test").loc["tg4"]
    assert costs["units"].sum() < total["per_token"] and storage["units"] > 0
    share = storage["units"] / total["per_token"]
    print(
        f"model {run.model.bytes:,} bytes, heap {run.memory.heap_total:,}, of it weights {run.memory.model_ram:,};"
        f" {total['per_token']:,.0f} instructions a token, {share:.0%} reading {storage['bytes']:,.0f} bytes"
    )


FILES = """
import gc, os, uctypes, vfs
class Memory:
    def __init__(self, address, blocks):
        self.data = memoryview(uctypes.bytearray_at(address, blocks * 4096))
    def readblocks(self, n, buf, off=0):
        at = n * 4096 + off
        buf[:] = self.data[at : at + len(buf)]
    def writeblocks(self, n, buf, off=0):
        at = n * 4096 + off
        self.data[at : at + len(buf)] = buf
    def ioctl(self, op, arg):
        return len(self.data) // 4096 if op == 4 else 4096 if op == 5 else 0
device = Memory({address}, 1000)
vfs.VfsLfs2.mkfs(device)
vfs.mount(vfs.VfsLfs2(device, progsize=256), "/flash")  # as a Pico has it
piece = bytearray(4096)
with open("/rom/model.gguf", "rb") as f, open("/flash/model.gguf", "wb") as g:
    while n := f.readinto(piece):
        g.write(memoryview(piece)[:n])
import tinyprof
from tinyprof.measure import check
size = os.stat("/flash/model.gguf")[6]
ballast = []
for step in (100_000, 10_000):
    gc.collect()
    while gc.mem_free() > size + step:
        ballast.append(bytearray(step))
ballast.append(bytearray(10_000))
try:
    tinyprof.load("/flash/model.gguf", context=32, stream=False)
except ValueError as e:
    print(e)
few = tinyprof.load("/flash/model.gguf", context=32).placement
for i in range(0, len(ballast) - 1, 2):
    ballast[i] = None
gc.collect()
enough = gc.mem_free() > size
model = tinyprof.load("/flash/model.gguf", context=32)
mapped = tinyprof.load("/rom/model.gguf", context=32)
print(few, enough, model.placement, check(model) == check(mapped), size > 250_000)
"""


def test_a_file_that_does_not_fit_in_one_piece_is_streamed_from_a_filesystem(tmp_path):
    model = make_model(
        tmp_path / "m.gguf", type_="Q8_0", dim=128, layers=2, heads=8, kv_heads=4, hidden=256, context=64
    )
    with board("m4", model) as b:
        spec = EMULATED["m4"]
        refused, said = b.run(FILES.format(address=spec.rom + spec.rom_bytes)).splitlines()
        assert said == "stream True stream True True"
        assert refused.startswith(f"/flash/model.gguf needs {model.stat().st_size} bytes of RAM in one piece, ")
        assert refused.endswith(" free: put it into ROMFS, load it with stream=True, or use a smaller model")
