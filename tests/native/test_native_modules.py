"""Native modules: stock firmware that loads them gives the bits of firmware that has them built in."""

import functools
import http.server
import json
import shutil
import subprocess
import sys
import threading

import pytest
from models import make_model
from on_board import FILES_IN_RAM, QEMU, ROOT, board, reference
from tinyprof_bridge import device_package
from tinyprof_bridge.boards import deploy, emulators
from tinyprof_bridge.boards.emulators import EMULATED, Emulator
from tinyprof_bridge.boards.transport import SerialBoard, UnixBoard
from tinyprof_bridge.errors import BadInput

STOCK = [name for name in QEMU if EMULATED[name].stock]
DEMO = ROOT / "host/tinyprof_bridge/demo/demo-q4_0.gguf"
CHECK = """
import _tinyprof, tinyprof
from tinyprof.measure import check
print(hasattr(_tinyprof, "__file__"), _tinyprof.build()[1], check(tinyprof.load({!r}, context=32))[0])
"""
CODE_LIMIT = 24 * 1024


def said(link, path):
    return b"".join(link.run(CHECK.format(path), 120)).decode().split()


@pytest.fixture(scope="module")
def golden():
    """The logits of the demo model on each path."""
    found = {}
    for path in emulators.REFERENCES.values():
        with board(path, DEMO) as b:
            found[path] = said(b.transport, str(DEMO))[2]
    return found


@pytest.mark.parametrize("name", STOCK)
def test_stock_firmware_gives_the_golden_logits(name, golden):
    with board(name, DEMO) as b:
        _, variant, logits = said(b.transport, b.source)
    assert variant != "portable"
    assert logits == golden[reference(name.removesuffix("-stock"))]


def test_stock_unix_gives_the_golden_logits(golden, tmp_path):
    shutil.copytree(ROOT / "device/tinyprof", tmp_path / "tinyprof")
    (tmp_path / "_tinyprof.mpy").write_bytes(deploy.native_module("x64")["_tinyprof.mpy"])
    unix = UnixBoard(emulators.firmware("unix-stock"), tmp_path, 64 << 20)
    from_file, _, logits = said(unix, str(DEMO))
    assert (from_file, logits) == ("True", golden["unix"])


@pytest.mark.parametrize("arch", ["x64", "armv6m", "armv7m", "armv7emsp", "armv7emdp", "rv32imc", "xtensa"])
def test_size(arch):
    if arch == "xtensa" and not (device_package.PACKAGE / "modules/xtensa.mpy").exists():
        pytest.skip("no native module for xtensa: run `firmware_builds/build tools xtensa`, then `make modules`")
    assert len(deploy.native_module(arch)["_tinyprof.mpy"]) <= CODE_LIMIT


def test_types_can_be_left_out(golden, tmp_path):
    """Such a module is smaller, runs what it has, and says which type it lacks."""
    folder = tmp_path / "native_modules"
    shutil.copytree(ROOT / "native_modules", folder)
    build = ROOT / "build"
    options = {
        "MPY_DIR": build / "micropython",
        "MPY_CROSS": build / "firmware/mpy-cross/mpy-cross",
        "PYTHON": sys.executable,
        "ARCH": "x64",
        "BUILD": "../objects",
        "TINYPROF_WITHOUT": "LEGACY K TQ OWN",
    }
    make = ["make", "-C", str(folder), *(f"{name}={value}" for name, value in options.items())]
    result = subprocess.run(make, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    module = (folder / "_tinyprof.mpy").read_bytes()
    assert len(module) < len(deploy.native_module("x64")["_tinyprof.mpy"]) - 1000
    shutil.copytree(ROOT / "device/tinyprof", tmp_path / "tinyprof")
    (tmp_path / "_tinyprof.mpy").write_bytes(module)
    unix = UnixBoard(emulators.firmware("unix-stock"), tmp_path, 64 << 20)
    assert said(unix, str(DEMO))[2] == golden["unix"]
    model = make_model(tmp_path / "m.gguf", type_="Q4_K", dim=256, hidden=256, context=32)
    with pytest.raises(Exception, match="block of Q4_K, or this firmware was built without that type"):
        said(unix, str(model))


@pytest.mark.parametrize("name", ["m0-stock", "m4-stock", "rv32-stock"])
def test_a_stock_board_is_deployed_to_and_profiled(name, tmp_path):
    model = make_model(tmp_path / "m.gguf", type_="Q8_0", context=32)
    with Emulator(name) as emulator:
        command = [sys.executable, "-m", "tinyprof_bridge", "deploy", "--board", emulator.device, "--model", str(model)]
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0 and "model at /rom/model.gguf" in result.stdout, result.stderr
        arch = EMULATED[name].arch
        assert f"native modules of {arch}" in result.stderr and f"native module for {arch}: " in result.stderr
        link = SerialBoard(emulator.device)
        assert len(said(link, "/rom/model.gguf")) == 3
        link.close()


def test_a_board_without_module_says_how_to_get_one():
    with Emulator("m4-stock") as emulator:
        link = SerialBoard(emulator.device)
        with pytest.raises(Exception, match="no module named '_tinyprof'"):
            list(link.run("import _tinyprof", 20))
        about = deploy.survey(link)
        link.close()
    assert (about.arch, about.built_in, about.version) == ("armv7emsp", False, (6, 3))
    assert about.rom > 1 << 20 and 1 << 20 < about.heap < 2 << 20


def a_board(**changes):
    facts = {"micropython": "1.26.1", "machine": "x", "version": (6, 3), "arch": "armv7emsp", "built_in": False}
    return deploy.Survey(**(facts | {"heap": 100_000, "rom": 0, "files": 0} | changes))


@pytest.mark.parametrize(
    "changes,why",
    [
        ({"arch": "none"}, "cannot load native modules"),
        ({"arch": "xtensawin"}, "no native module for xtensawin"),
        ({"version": (5, 0)}, "version 5.0, tinyprof needs 6.3"),
        ({"heap": 40_000}, "only 40,000 are free"),
    ],
)
def test_why_no_module_fits(changes, why):
    with pytest.raises(BadInput, match=why):
        deploy.module_for(a_board(**changes))


def test_where_a_module_is_built_in_none_is_sent():
    assert deploy.module_for(a_board(built_in=True, arch="none")) == {}
    assert deploy.module_for(a_board(arch="armv7em")) == deploy.native_module("armv7m")


@pytest.mark.parametrize("where", ["checkout", "url"])
def test_mip_installs_the_package_with_the_module(where, tmp_path):
    folder = ROOT / "build/mip/armv7emsp"
    urls = json.loads((folder / "package.json").read_text())["urls"]
    assert all((folder / path).is_file() for path, _ in urls)
    code = "import _tinyprof, tinyprof; print('kernels', _tinyprof.build()[1])"
    asked = []

    class Files(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format, *args):
            asked.append(self.path)

    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Files, directory=folder)) as server,
        Emulator("m4-stock") as emulator,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        package = f"http://127.0.0.1:{server.server_port}/package.json" if where == "url" else folder / "package.json"
        (tmp_path / "lfs.py").write_text(FILES_IN_RAM)
        mpremote = [sys.executable, "-m", "mpremote", "connect", emulator.device]
        steps = ["run", tmp_path / "lfs.py", "+", "resume", "mip", "install", "--target", "/flash/lib", package]
        result = subprocess.run([*mpremote, *steps, "+", "resume", "exec", code], capture_output=True, text=True)
        server.shutdown()
    assert "kernels armv7em" in result.stdout, result.stdout + result.stderr
    assert len(asked) == (len(urls) + 1 if where == "url" else 0)
