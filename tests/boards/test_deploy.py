"""Bringing package and model onto a board, over the link that a real board has."""

import re
import shutil
import subprocess
import sys

import pytest
from models import make_model
from on_board import FILES_IN_RAM, board
from tinyprof_bridge import __version__, device_package
from tinyprof_bridge.boards import deploy
from tinyprof_bridge.boards.emulators import Emulator
from tinyprof_bridge.boards.transport import SerialBoard
from tinyprof_bridge.errors import RunFailed
from tinyprof_bridge.measure.collect import Request, collect
from tinyprof_bridge.progress import Progress
from tinyprof_bridge.report import run_report

BRIDGE = [sys.executable, "-m", "tinyprof_bridge"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("deploy") / "m.gguf", type_="Q8_0", context=32)


def nothing(done, total):
    pass


@pytest.mark.parametrize("size", [100, 4096, 100_001, 1_000_002, 3_000_003])
def test_the_model_lies_aligned_in_an_image(size):
    data = b"GGUF" + bytes(range(256)) * (size // 256)
    for package in ({}, {"a.mpy": b"x"}, {"a.mpy": b"xx", "b.mpy": b"yyy" * 1000}):
        image = deploy.romfs_image(package, data)
        assert image.find(data) % deploy.MODEL_ALIGNMENT == 0 and len(image) % 2 == 0


@pytest.mark.parametrize("name", ["m4", "rv32"])
def test_a_bare_board_is_deployed_to_and_profiled(name, model, tmp_path):
    with Emulator(name) as emulator:
        link = SerialBoard(emulator.device)
        assert link.execute("import sys; print('/rom' in sys.path)").strip() in (b"True", b"False")
        link.close()
        for sent in (True, False):  # the second time nothing is sent
            result = subprocess.run(
                [*BRIDGE, "deploy", "--board", emulator.device, "--model", str(model)], capture_output=True, text=True
            )
            assert result.returncode == 0 and "model at /rom/model.gguf" in result.stdout, result.stderr
            assert bool(re.search(r"\d of [\d,]+ bytes", result.stderr)) == sent
        command = ["collect", "--board", emulator.device, "--model", str(model), "-p", "4", "-n", "4", "-r", "1"]
        result = subprocess.run([*BRIDGE, *command, "-o", "md"], capture_output=True, text=True, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert "the same bits as the unix port" in result.stdout and "mapped" in result.stdout


OLD = "0.0.9"


@pytest.fixture
def old_package(tmp_path, monkeypatch):
    """The device package of another version, as this program would bring it."""
    folder = tmp_path / "old" / "tinyprof"
    shutil.copytree(device_package.folder(), folder)
    text = (folder / "__init__.py").read_text()
    (folder / "__init__.py").write_text(text.replace(f'"{__version__}"', f'"{OLD}"'))
    monkeypatch.setattr(device_package, "folder", lambda: folder)


def steps(capsys):
    return " ".join(capsys.readouterr().err.split())


def test_another_version_on_the_board_is_said(old_package, model, tmp_path, capsys, monkeypatch):
    """By collect, which goes on, and by its report; deploy replaces it, or fails if it is not gone."""
    for name in ("m4", "unix"):
        run, _ = collect(Request(name, model, p=(4,), n=(), r=1), tmp_path / f"{name}.jsonl", Progress())
        assert run.begin.tinyprof == OLD and f"the board runs tinyprof {OLD}, not {__version__}" in steps(capsys)
        assert f"tinyprof {OLD} on the board, {__version__} on the host" in run_report.markdown(run, None)
    image = tmp_path / "old.romfs"
    image.write_bytes(deploy.romfs_image(deploy.compiled_package(), None))
    with Emulator("m4", image) as emulator:
        link = SerialBoard(emulator.device)
        with pytest.raises(RunFailed, match=f"the board runs tinyprof {OLD}"):
            deploy.replace(link, None, Progress())
        assert f"replacing tinyprof {OLD} on the board by {__version__}" in steps(capsys)
        monkeypatch.undo()
        assert deploy.replace(link, None, Progress()) and "replacing tinyprof" in steps(capsys)
        assert deploy.replace(link, None, Progress()) and "tinyprof" not in steps(capsys)
        link.close()


def test_files_on_a_filesystem(model):
    """Only what differs is sent; a file appears under its name when it is whole."""
    sent = []
    files = {"lib/" + n: d for n, d in deploy.compiled_package().items()} | {"model.gguf": model.read_bytes()}
    with Emulator("m4") as emulator:
        link = SerialBoard(emulator.device)
        link.execute(FILES_IN_RAM)
        deploy.write_files(link, files, lambda done, total: sent.append(done))
        assert sent[-1] == sum(map(len, files.values()))
        sent.clear()
        deploy.write_files(link, files, lambda done, total: sent.append(done))
        assert sent == []
        files["lib/tinyprof/errors.mpy"] += b" "
        deploy.write_files(link, files, lambda done, total: sent.append(done))
        assert len(sent) == 1
        assert b".new" not in link.execute("print(os.listdir(), os.listdir('lib/tinyprof'))")
        code = "import tinyprof\nm = tinyprof.load('model.gguf', context=16)\nprint(m.placement, m.step(1) >= 0)"
        assert b"\n".join(link.run(code, 20)).split() == [b"ram", b"True"]
        link.close()


def test_the_board_says_what_a_misaligned_model_needs(model):
    with board("m4", model) as b:
        code = f"""
import tinyprof
with open({b.source!r}, 'rb') as f:
    d = bytearray(b'xx' + f.read())
try:
    tinyprof.load(memoryview(d)[2:])
except ValueError as e:
    print(e)
"""
        assert "is not at a multiple of 4 bytes: deploy it with tinyprof-bridge" in b.run(code)


def test_installed_package_alone_has_all_it_needs(tmp_path):
    """pip install of a wheel, without a checkout beside it: the device package and the demo model."""
    from on_board import ROOT

    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, str(ROOT)], check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = subprocess.run([sys.executable, "-m", "zipfile", "-l", wheel], capture_output=True, text=True).stdout
    wanted = (
        "device/tinyprof/measure.py",
        "demo/demo-q4_0.gguf",
        "cli/__init__.py",
        "py.typed",
        "boards/known_boards.csv",
        "report/templates/base.html.j2",
        "report/templates/page.html.j2",
        "report/templates/comparison.html.j2",
    )
    for name in (*wanted, "modules/armv6m.mpy", "modules/armv7emsp.mpy", "modules/rv32imc.mpy"):
        assert f"tinyprof_bridge/{name}" in names
