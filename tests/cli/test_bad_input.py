"""Whatever is wrong: one clear line, the right exit code, no traceback, and nothing lost."""

import os
import signal
import subprocess
import sys
import time

import pytest
import serial
from bridge import bridge
from interrupts import heed_interrupts
from models import make_model
from on_board import board
from tinyprof_bridge.boards.emulators import Emulator
from tinyprof_bridge.boards.transport import SerialBoard
from tinyprof_bridge.models.demo import DEMO_MODEL
from tinyprof_bridge.records import runs

BRIDGE = [sys.executable, "-m", "tinyprof_bridge"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("bad") / "good.gguf", type_="Q4_0", context=64)


def says(result, code, *parts):
    """One line of error on standard error with these parts, and this exit code."""
    lines = [x for x in result.stderr.splitlines() if x.startswith("tinyprof-bridge:")]
    assert result.returncode == code, result.stderr + result.stdout
    assert len(lines) == 1 and "Traceback" not in result.stderr + result.stdout
    for part in parts:
        assert part in lines[0], lines[0]


def leftovers(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def collect(tmp_path, model, *more, name="m4"):
    return bridge("collect", "--board", name, "--model", model, "-p", 4, "-n", 4, "-r", 1, *more, cwd=tmp_path)


@pytest.mark.parametrize(
    "options,part",
    [
        (["-p", "x"], "-p takes comma-separated whole numbers"),
        (["-p", "0"], "-p takes numbers from 1"),
        (["-n", "-3"], "-n takes numbers from 1"),
        (["-r", "0"], "must be positive"),
        (["-p", "16,16"], "-p takes each number once"),
        (["-d", "0,0"], "-d takes each number once"),
        (["--timeout", "0"], "--timeout takes seconds, more than 0"),
        (["--timeout", "-1"], "--timeout takes seconds, more than 0"),
        (["--timeout", "nan"], "--timeout takes seconds, more than 0"),
        (["--timeout", "inf"], "--timeout takes seconds, more than 0 and at most 86400"),
        (["-p", "", "-n", ""], "nothing to measure"),
        (["-o", "pdf"], "-o takes table, md, csv, json or jsonl"),
        (["--colour"], "No such option"),
        (["-r", "many"], "Invalid value"),
    ],
)
def test_options(options, part, model, tmp_path):
    says(collect(tmp_path, model, *options), 2, part)
    assert leftovers(tmp_path) == []


def test_unknown_verb(tmp_path):
    says(bridge("colect", cwd=tmp_path), 2, "No such command")


@pytest.mark.parametrize(
    "content,part", [(None, "cannot read the model"), (b"", "not a GGUF"), (b"PK\x03\x04", "not a GGUF")]
)
@pytest.mark.parametrize("name", ["m4", "unix"])
def test_model_that_is_none(name, content, part, tmp_path):
    file = tmp_path / "x.gguf"
    if content is not None:
        file.write_bytes(content)
    says(collect(tmp_path, file, name=name), 2, part)
    assert leftovers(tmp_path) == (["x.gguf"] if content is not None else [])


@pytest.mark.parametrize("name", ["m4", "unix"])
def test_truncated_model(name, model, tmp_path):
    (tmp_path / "x.gguf").write_bytes(model.read_bytes()[:-20000])
    says(collect(tmp_path, tmp_path / "x.gguf", name=name), 2, "truncated GGUF: tensor")
    assert leftovers(tmp_path) == ["x.gguf"]


def test_unknown_tensor_type(model, tmp_path):
    data = bytearray(model.read_bytes())
    at = data.find(b"blk.0.attn_q.weight") + len("blk.0.attn_q.weight") + 4 + 2 * 8  # behind dimensions and sizes
    data[at : at + 4] = (30).to_bytes(4, "little")
    (tmp_path / "x.gguf").write_bytes(data)
    message = "tensor blk.0.attn_q.weight has type 30, which is not supported: F16 F32 "
    says(collect(tmp_path, tmp_path / "x.gguf"), 2, message)


def test_context_that_the_model_lacks(model, tmp_path):
    says(collect(tmp_path, model, "-d", 100), 2, "needs a context of 104, the model is loaded with 64")


def test_too_little_ram(tmp_path):
    big = make_model(
        tmp_path / "x.gguf", type_="Q4_0", dim=256, layers=4, heads=4, kv_heads=4, hidden=256, context=4096
    )
    says(collect(tmp_path, big, "-c", 2048), 2, "bytes of RAM (arena", "KV cache 16777216 for context 2048", "are free")
    assert leftovers(tmp_path) == ["x.gguf"]


def test_too_little_flash(tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + bytes(13 << 20))
    says(collect(tmp_path, tmp_path / "x.gguf"), 2, "bytes of flash, board m4 has 12582912")


def test_no_such_port(model, tmp_path):
    says(collect(tmp_path, model, name="/dev/ttyNONE"), 2, "no such port: /dev/ttyNONE")
    says(collect(tmp_path, model, name="/tmp/[/x]"), 2, "no such port: /tmp/[/x]")


def test_unknown_board(model, tmp_path):
    message = "no board 'm5': one of m"
    says(collect(tmp_path, model, name="m5"), 2, message, "or a serial port such as /dev/ttyACM0")
    says(bridge("deploy", "--board", "m5", cwd=tmp_path), 2, message)


@pytest.mark.parametrize("arguments", [[], ["bench"]])
def test_help_without_a_verb(arguments, tmp_path):
    result = bridge(*arguments, cwd=tmp_path)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.startswith("Usage:") and "\nCommands:\n" in result.stderr


def test_the_command_is_the_module(tmp_path):
    command = os.path.join(os.path.dirname(sys.executable), "tinyprof-bridge")
    result = subprocess.run([command, "--version"], capture_output=True, text=True)
    assert result.stdout == bridge("--version", cwd=tmp_path).stdout and result.stdout.startswith("tinyprof-bridge ")


SHORT = ["collect", "--board", "unix", "-p", "4", "-n", "4", "-r", "1"]


def test_names_that_are_not_utf8(model, tmp_path):
    odd = tmp_path / os.fsdecode(b"m\xff.gguf")
    odd.write_bytes(model.read_bytes())
    for name in ("unix", "m4"):
        out = os.fsdecode(b"o\xff.jsonl")
        result = bridge(*SHORT, "--board", name, "--model", odd, "--out", out, "-o", "md", cwd=tmp_path)
        assert result.returncode == 0 and "Traceback" not in result.stderr, result.stderr
        assert runs.load(tmp_path / out).host.model_file == "m?.gguf"
    says(bridge("report", os.fsdecode(b"\xff.jsonl"), cwd=tmp_path), 2, "cannot read ?.jsonl")
    says(bridge("emulate", os.fsdecode(b"\xff"), cwd=tmp_path), 2, "no emulated board '?'")


@pytest.mark.parametrize("form", ["table", "md", "csv", "json", "jsonl"])
def test_an_encoding_that_lacks_characters(form, model, tmp_path):
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    command = [*BRIDGE, *SHORT, "--model", str(model), "-o", form]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0 and "Traceback" not in result.stderr and "pp4" in result.stdout, result.stderr


@pytest.mark.parametrize("closing,code", [(">&-", 0), ("2>&-", 0), ("<&- >&- 2>&-", 0), (">/dev/full", 1)])
def test_standard_streams_that_cannot_be_written(closing, code, model, tmp_path):
    command = subprocess.list2cmdline([*BRIDGE, *SHORT, "--model", str(model), "--out", "r.jsonl"])
    result = subprocess.run(["sh", "-c", f"{command} {closing}"], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == code and "Traceback" not in result.stderr and "Exception" not in result.stderr
    assert runs.load(tmp_path / "r.jsonl").complete


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8])
def test_early_interrupt(delay, tmp_path):
    """From the first line of the package on; before it, Python itself is still starting."""
    code = "print('begun', flush=True)\nfrom tinyprof_bridge.__main__ import main\nmain()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "emulate", "m4"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts,
    )  # fmt: skip
    assert process.stdout.readline() == "begun\n"
    time.sleep(0.05 + delay)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=20)
    assert "Traceback" not in error and process.returncode in (-signal.SIGINT, 0, 1), error


def emulate(tmp_path, *arguments):
    """An emulated board that is up, and the port of its REPL."""
    process = subprocess.Popen(
        [*BRIDGE, "emulate", "m4", *arguments],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts,
    )  # fmt: skip
    line = process.stdout.readline()
    assert " at /dev/" in line, process.communicate()
    process.stdout.readline()
    return process


def test_emulate_ends_well_with_an_interrupt(tmp_path):
    process = emulate(tmp_path)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20) == ("stopped\n", "") and process.returncode == 0


def test_emulate_notices_that_its_emulator_died(tmp_path):
    process = emulate(tmp_path, "--bare")
    (qemu,) = open(f"/proc/{process.pid}/task/{process.pid}/children").read().split()
    os.kill(int(qemu), signal.SIGKILL)
    says(result_of(process), 1, "the emulator ended (exit code -9)")


def test_emulate_with_a_model_that_does_not_fit(tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + bytes(13 << 20))
    says(bridge("emulate", "m4", "--model", "x.gguf", cwd=tmp_path), 2, "bytes of flash, board m4 has 12582912")


def test_no_board_attached(model, tmp_path):
    says(collect(tmp_path, model, name="auto"), 2, "no board found on USB")


def test_no_firmware(model, tmp_path):
    none = {"TINYPROF_BUILD": str(tmp_path / "none")}
    result = bridge("collect", "--board", "m4", "--model", model, cwd=tmp_path, env=none)
    says(result, 2, "no firmware for board 'm4': run `make firmware`")


def test_port_that_is_no_board(model, tmp_path):
    """Something that swallows what it gets and never answers."""
    controller, port = os.openpty()
    says(collect(tmp_path, model, name=os.ttyname(port)), 1, "does not answer like MicroPython")
    os.close(controller)


def test_busy_port(model, tmp_path):
    with Emulator("m4") as emulator:
        other = serial.Serial(emulator.device, exclusive=True)
        says(collect(tmp_path, model, name=emulator.device), 2, "another program may be using it")
        other.close()


def test_report_of_something_else(tmp_path):
    (tmp_path / "x.jsonl").write_text("hello\n")
    says(bridge("report", "x.jsonl", cwd=tmp_path), 2, "x.jsonl is not a run of tinyprof")
    says(bridge("report", "y.jsonl", cwd=tmp_path), 2, "cannot read y.jsonl")


def test_results_folder_that_cannot_be_written(model, tmp_path):
    (tmp_path / "results").write_text("a file, not a folder")
    result = collect(tmp_path, model)
    assert result.returncode in (1, 2) and "Traceback" not in result.stderr
    assert "results" in result.stderr.splitlines()[-1]


LONG = ["-p", "64", "-n", "60", "-r", "200"]


def start(tmp_path, model, device):
    """A long run on a board that is already there; returns when the first samples have come."""
    process = subprocess.Popen(
        [*BRIDGE, "collect", "--board", device, "--model", str(model), *LONG, "--timeout", "4", "--out", "r.jsonl"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        partial = tmp_path / "r.partial.jsonl"
        if partial.exists() and partial.read_bytes().count(b'"kind":"samples"') >= 3:
            return process
        time.sleep(0.05)
    raise AssertionError(process.communicate())


def kept(tmp_path):
    """The partial run can be read, and says that it is not whole."""
    assert not (tmp_path / "r.jsonl").exists()
    run = runs.load(tmp_path / "r.partial.jsonl")
    assert not run.complete and run.torn == 0 and len(run.tests["pp64"].samples) >= 3
    shown = bridge("report", "r.partial.jsonl", cwd=tmp_path)
    assert shown.returncode == 0 and "INCOMPLETE" in shown.stdout


def result_of(process):
    out, error = process.communicate(timeout=60)
    return subprocess.CompletedProcess([], process.returncode, out, error)


def test_interrupt(model, tmp_path):
    with board("m4", model) as b:
        b.transport.close()
        process = start(tmp_path, model, b.transport.device)
        process.send_signal(signal.SIGINT)
        says(result_of(process), 1, "interrupted", "r.partial.jsonl")
        kept(tmp_path)
        again = SerialBoard(b.transport.device)  # the board is at a usable prompt
        assert again.execute("print(6 * 7)").strip() == b"42"
        again.close()


def test_board_that_stops_answering(model, tmp_path):
    with board("m4", model) as b:
        b.transport.close()
        process = start(tmp_path, model, b.transport.device)
        qemu = b.emulator.pid
        os.kill(qemu, signal.SIGSTOP)
        try:
            says(result_of(process), 1, "stopped answering", "r.partial.jsonl")
        finally:
            os.kill(qemu, signal.SIGCONT)
        kept(tmp_path)


def test_pulled_cable(model, tmp_path):
    with board("m4", model) as b:
        b.transport.close()
        process = start(tmp_path, model, b.transport.device)
        os.kill(b.emulator.pid, signal.SIGKILL)
        says(result_of(process), 1, "r.partial.jsonl")
        kept(tmp_path)


def test_interrupt_on_unix(tmp_path):
    process = start(tmp_path, DEMO_MODEL, "unix")
    process.send_signal(signal.SIGINT)
    says(result_of(process), 1, "interrupted", "r.partial.jsonl")
    kept(tmp_path)


LIMITED = ["prlimit", "--fsize=30000", "--"]
# A file system of its own with 32 KB; what is on it is copied away before it goes.
TINY = (
    'mkdir tiny && mount -t tmpfs -o size=32k tmpfs tiny && cd tiny || exit 77; "$@"; code=$?; cp -a . .. ; exit $code'
)
SMALL_DISK = ["unshare", "--user", "--mount", "--map-root-user", "sh", "-c", TINY, "sh"]


@pytest.mark.parametrize("prefix", (LIMITED, SMALL_DISK), ids=("limit", "tmpfs"))
def test_full_disk(model, tmp_path, prefix):
    """A limit of a file's size, and a file system that is full: the board is stopped, what was written stays."""
    with board("m4", model) as b:
        b.transport.close()
        device = b.transport.device
        result = subprocess.run(
            [*prefix, *BRIDGE, "collect", "--board", device, "--model", str(model), *LONG, "--out", "r.jsonl"],
            cwd=tmp_path, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        if result.returncode == 77 or result.stderr.startswith("unshare:"):
            pytest.skip("this user may not mount a file system")
        says(result, 1, "cannot write r.partial.jsonl")
        assert runs.load(tmp_path / "r.partial.jsonl").begin is not None
        again = SerialBoard(device)
        assert again.execute("print(6 * 7)").strip() == b"42"
        again.close()
