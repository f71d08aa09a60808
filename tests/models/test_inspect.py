"""inspect: its sizes are those that boards report, and bad files get one line."""

import json
import re

import pytest
from bridge import bridge
from fuzzing import CASES, Fields, fuzz, patches, refused_or_read
from gguf import GGUFReader, GGUFValueType
from hypothesis import given
from models import make_model
from on_board import ALL, KERNELS, board
from rich.console import Console
from tinyprof_bridge.boards import catalog, deploy
from tinyprof_bridge.boards.emulators import EMULATED, TABLE
from tinyprof_bridge.measure.collect import Request, collect
from tinyprof_bridge.models import board_fit, inspection, planner
from tinyprof_bridge.progress import Progress
from tinyprof_bridge.quantize import weight_types
from tinyprof_bridge.report import model_report

VARIANTS = {name: TABLE[name]["kernels"] for name in ALL}
LOADS = ((None, 8, None, 8), (20, 3, "q8", 8), (30, 4, None, 16))
SIZES = """
import tinyprof, _tinyprof
for context, batch, kv, activations in {loads!r}:
    m = tinyprof.load({source!r}, context=context, batch=batch, kv=kv, activations=activations)
    print(m.arena_bytes, m.arch.kv_bytes, 4 * len(m.arch.plan.words))
    m = None
for type, cols in {rows!r}:
    print(_tinyprof.activation_bytes(type, cols), _tinyprof.row_bytes(type, cols))
"""


@pytest.mark.parametrize("name", ALL)
def test_sizes_are_those_of_the_board(tmp_path, name):
    model = make_model(tmp_path / "model.gguf", type_="Q4_0", dim=128, hidden=256)
    rows = [(t.id, cols) for t in weight_types.TYPES.values() for cols in (32, 96, 256, 768) if cols % t.values == 0]
    with board(name, model) as b:
        lines = b.run(SIZES.format(source=b.source, loads=LOADS, rows=rows)).splitlines()
    said = [[int(x) for x in line.split()] for line in lines]
    variant = VARIANTS[name]
    needs = [inspection.inspect(model, *load).mapped[variant] for load in LOADS]
    assert said[:3] == [[n.arena, n.kv, n.plan] for n in needs]
    native = planner.native(variant)
    assert said[3:] == [[native.activation_bytes(*row), native.row_bytes(*row)] for row in rows]


@pytest.mark.parametrize("name", ["m4", "m3"])
@pytest.mark.parametrize(
    "layers,architecture,pre,placement",
    [
        (1, "llama", None, "mapped"),
        (4, "llama", None, "stream"),
        (12, "llama", None, "mapped"),
        (12, "qwen2", "qwen2", "mapped"),
    ],
)
def test_ram_is_enough_and_not_much_more(tmp_path, name, layers, architecture, pre, placement):
    model = make_model(
        tmp_path / "model.gguf", architecture=architecture, type_="Q4_0", layers=layers, pre=pre, vocab=384
    )
    streamed = placement == "stream"
    request = Request(board=name, model=model, p=(8,), n=(8,), r=2, stream=streamed)
    run, _ = collect(request, tmp_path / "run.jsonl", Progress())
    memory = run.memory
    found = inspection.inspect(model, run.model.context, run.model.batch)
    need = (found.streamed if streamed else found.mapped)[VARIANTS[name]]
    assert memory.heap_live <= need.ram <= memory.heap_live + 256


def test_streamed_weights_are_those_of_the_board(tmp_path):
    model = make_model(tmp_path / "model.gguf", type_="Q8_0", layers=3, vocab=1200)
    request = Request(board="unix", model=model, p=(8,), n=(8,), r=1, stream=True)
    run, _ = collect(request, tmp_path / "run.jsonl", Progress())
    need = inspection.inspect(model, run.model.context, run.model.batch).streamed["avx2"]
    assert need.weights == run.memory.model_ram
    assert (need.arena, need.plan) == (run.memory.arena, run.memory.plan)
    (storage,) = (op for op in run.ops if op.op == "read")
    assert (need.reads, need.read) == (storage.rows, storage.p2)


def test_the_package_fits_its_flash():
    assert len(deploy.romfs_image(deploy.compiled_package(), None)) <= board_fit.PACKAGE


def test_boards(tmp_path):
    small = inspection.inspect(make_model(tmp_path / "small.gguf", type_="Q4_0"))
    large = inspection.inspect(
        make_model(tmp_path / "large.gguf", type_="Q4_0", layers=8, dim=128, hidden=256, context=256)
    )
    of = {name: {fit.board: fit for fit in board_fit.of(found)} for name, found in (("small", small), ("large", large))}
    assert of["small"].keys() == {b.board for b in catalog.boards() if b.family != "unix"}
    assert of["small"]["RPI_PICO"].how == "mapped, streamed" and of["small"]["RPI_PICO"].measured
    assert of["large"]["m4"].good
    assert re.fullmatch(r"no: \d+ KiB of RAM missing|mapped, with -c \d+", of["large"]["RPI_PICO"].how)
    assert re.fullmatch(r"no: [\d,]+ KiB of flash missing", of["large"]["MICROBIT"].how)
    for fit in of["large"].values():
        if match := re.fullmatch(r"mapped, with -c (\d+)", fit.how):
            again = inspection.inspect(tmp_path / "large.gguf", int(match[1]))
            assert again.mapped[fit.kernels].ram <= fit.ram
    assert {board_fit.variant(b) for b in catalog.boards() if b.board in EMULATED} == set(KERNELS.values())
    shown = Console(width=100, record=True, quiet=True)
    model_report.show_fits(list(of["large"].values()), shown)
    assert "…" not in shown.export_text()


def run_inspect(*arguments):
    return bridge("inspect", *arguments)


def test_command(tmp_path):
    model = make_model(tmp_path / "model.gguf", type_="Q4_0")
    shown = json.loads(run_inspect(model, "-o", "json").stdout)
    assert shown["architecture"] == "llama" and shown["bytes"] == model.stat().st_size
    assert shown["tensors"][0]["type"] == "Q4_0" and len(shown["tensors"]) == len(GGUFReader(model).tensors)
    assert shown["sizes"]["layers"] == 2 and shown["sizes"]["context"] == 64
    assert shown["mapped"]["armv7em"]["kv_per_100"] == 2 * 2 * 100 * 32 * 4
    assert {"board", "how", "ram_needed"} <= shown["boards"][0].keys()
    text = run_inspect(model).stdout
    assert "random-1: llama, " in text and "RPI_PICO " in text and "15 Q4_0 of " in text
    bad = run_inspect(tmp_path / "none.gguf")
    assert bad.returncode == 2 and bad.stderr.count("\n") == 1 and "cannot be read" in bad.stderr
    assert run_inspect(model, "--batch", "0").returncode == 2
    assert run_inspect(model, "-o", "xml").returncode == 2


def test_a_model_that_no_board_runs(tmp_path):
    keys = {"llama.expert_count": (4, GGUFValueType.UINT32)}
    found = inspection.inspect(make_model(tmp_path / "moe.gguf", keys=keys))
    assert found.reason == "llama.expert_count: mixture of experts is not supported"
    assert not found.mapped and found.tensors and board_fit.of(found) == []
    assert "no board runs it: llama.expert_count" in run_inspect(tmp_path / "moe.gguf").stdout


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = make_model(tmp_path_factory.mktemp("fuzz") / "good.gguf", type_="Q4_0", layers=1)
    return path, path.read_bytes(), Fields(path.read_bytes()).found


@fuzz(40)
@given(case=CASES)
def test_damaged_files_are_shown_or_refused(good, case):
    path, data, fields = good
    edits, cut = case
    damaged = bytearray(data[:cut])
    for at, new in patches(fields, data, edits):
        damaged[at : at + len(new)] = new
    source = path.with_name("damaged.gguf")
    source.write_bytes(damaged)
    with refused_or_read(len(data)):
        model_report.as_json(inspection.inspect(source))
