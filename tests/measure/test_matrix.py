"""Many runs by one command."""

import csv
import hashlib
import io
import json
import os
import signal
import subprocess
import sys

import pytest
from bridge import bridge
from interrupts import heed_interrupts
from models import make_model
from tinyprof_bridge import __version__, device_package
from tinyprof_bridge.boards import deploy, emulators
from tinyprof_bridge.boards.emulators import Emulator
from tinyprof_bridge.records import runs


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("matrix")
    return [make_model(folder / f"{t}.gguf", type_=t, context=32) for t in ("Q8_0", "Q4_0")]


def collect(boards, models, folder, *more):
    command = ["collect", "--board", boards, "--model", ",".join(map(str, models)), "--out", "all"]
    return bridge(*command, "-p", "4", "-n", "4", "-r", "1", *more, cwd=folder, timeout=240)


def test_each_board_with_each_model_once(models, tmp_path):
    first = collect("m4,rv32", models, tmp_path, "--jobs", "2")
    assert first.returncode == 0 and "4 runs in all" in first.stderr, first.stderr
    entries = json.loads((tmp_path / "all/manifest.json").read_text())["runs"]
    assert {(r["cell"]["request"]["board"], r["cell"]["request"]["model"]) for r in entries} == {
        (b, str(m)) for b in ("m4", "rv32") for m in models
    }
    for r in entries:
        data = (tmp_path / "all" / r["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == r["sha256"] and r["error"] == "" and len(r["firmware_sha256"]) == 64
        assert runs.load(tmp_path / "all" / r["file"]).complete
    again = collect("m4,rv32,m3", models, tmp_path)
    assert "4 of 6 runs are already finished" in again.stderr and "6 runs in all" in again.stderr
    other = collect("m4", models, tmp_path, "--kv", "q8")  # not the same runs
    assert "already finished" not in other.stderr and other.returncode == 0


def test_the_manifest_names_inputs_and_outputs(models, tmp_path):
    """Whoever has the files can check each of its sums."""
    with Emulator("m4-stock") as emulator:
        boards_ = f"m3,m4-stock,unix,{emulator.device}"
        done = collect(boards_, models[:1], tmp_path)
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "all/manifest.json").read_text())
    entries = {r["cell"]["request"]["board"]: r for r in manifest["runs"]}

    def sha256(data):
        return hashlib.sha256(data).hexdigest()

    def listing(files):
        return sha256("".join(f"{sha256(data)}  {path}\n" for path, data in sorted(files.items())).encode())

    compiled = listing(deploy.compiled_package())
    sources = listing({f"tinyprof/{p.name}": p.read_bytes() for p in device_package.folder().glob("*.py")})
    module = sha256((device_package.PACKAGE / "modules/armv7emsp.mpy").read_bytes())
    for board, expected_module, package in (
        ("m3", None, compiled),
        ("m4-stock", module, compiled),
        ("unix", None, sources),
        (emulator.device, module, compiled),
    ):
        run = entries[board]
        assert run["tinyprof"] == __version__ and run["cell"]["model_sha256"] == sha256(models[0].read_bytes())
        assert run["sha256"] == sha256((tmp_path / "all" / run["file"]).read_bytes())
        assert (run["module_sha256"], run["package_sha256"]) == (expected_module, package), board
        image = board in emulators.NAMES and sha256(emulators.firmware(board).read_bytes())
        assert run["firmware_sha256"] == (image or None), board  # nobody knows what a real board was flashed with


def test_the_request_reaches_each_run(models, tmp_path):
    """As it is, --timeout too, which is no reason to run again."""
    done = collect("unix", models, tmp_path, "--timeout", "77", "--batch", "4", "--events", "all")
    assert done.returncode == 0, done.stderr
    for entry in json.loads((tmp_path / "all/manifest.json").read_text())["runs"]:
        request = entry["cell"]["request"]
        assert request["timeout"] == 77 and request["events"] == [] and request["p"] == [4]
        run = runs.load(tmp_path / "all" / entry["file"])
        assert run.model.batch == 4 and "--timeout 77" in run.host.command  # which names what the user typed
    again = collect("unix", models, tmp_path, "--timeout", "88", "--batch", "4", "--events", "all")
    assert "2 of 2 runs are already finished" in again.stderr


def test_a_timeout_ends_a_run(models, tmp_path):
    """Loading takes longer than this: the board counts as silent."""
    result = collect("m4,m3", models[:1], tmp_path, "--timeout", "0.001")
    entries = json.loads((tmp_path / "all/manifest.json").read_text())["runs"]
    assert result.returncode == 1 and all("stopped answering" in entry["error"] for entry in entries)


def test_results_in_each_format(models, tmp_path):
    def printed(form):
        result = collect("unix", models, tmp_path, "-o", form)
        assert result.returncode == 0 and "2 runs in all" in result.stderr, result.stderr
        return result.stdout

    files = sorted(str(model.stem) for model in models)
    assert [run["host"]["model_file"] for run in json.loads(printed("json"))] == [m.name for m in models]
    rows = list(csv.DictReader(io.StringIO(printed("csv"))))
    assert [row["test"] for row in rows] == ["pp4", "tg4"] * 2 and len({row["model_sha256"] for row in rows}) == 2
    assert sum(b'"kind":"begin"' in line for line in printed("jsonl").encode().splitlines()) == 2
    assert printed("md").count("\n## Tests") == 2
    table = printed("table")
    assert table.count("tests (") == 2 and all(f"unix-{name}" in table for name in files)


def test_a_run_that_fails_leaves_the_others(models, tmp_path):
    result = collect("m4,/dev/nothing", models[:1], tmp_path)
    assert result.returncode == 1 and "1 of 2 runs failed" in result.stderr and "Traceback" not in result.stderr
    manifest = json.loads((tmp_path / "all/manifest.json").read_text())
    entries = {r["cell"]["request"]["board"]: r for r in manifest["runs"]}
    assert entries["m4"]["error"] == "" and "no such port: /dev/nothing" in entries["/dev/nothing"]["error"]


def test_ten_boards_at_once(models, tmp_path):
    names = "m0,m3,m4,m7,m33,m55,rv32,m3-stock,m4-stock,rv32-stock"
    result = collect(names, models[:1], tmp_path, "--jobs", "10")
    assert result.returncode == 0 and "10 runs in all" in result.stderr, result.stderr
    logits = {runs.load(p).check.logits_crc32 for p in (tmp_path / "all").glob("*.jsonl")}
    assert len(logits) == 2  # one of each path


def test_names_given_twice(models, tmp_path):
    result = collect("m4,m4", models[:1], tmp_path)
    assert result.returncode == 2 and "give each board and each model once" in result.stderr


def test_ctrl_c_keeps_what_is_done(models, tmp_path):
    command = [sys.executable, "-m", "tinyprof_bridge", "collect", "--board", "m4,m3,rv32", "--out", "all"]
    process = subprocess.Popen(
        [*command, "--model", ",".join(map(str, models)), "-p", "4", "-n", "4", "-r", "1"], cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heed_interrupts,
    )  # fmt: skip
    assert process.stderr.readline()  # the first run is done
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 1 and "to continue" in said and "Traceback" not in said, said
    entries = json.loads((tmp_path / "all/manifest.json").read_text())["runs"]
    assert entries[0]["error"] == "" and len(entries) < 6
