"""A link that loses nothing: faults between board and host, through a real pty in the middle.

Each trial is a whole `collect` on a real emulated board; a seed chooses what happens to the records on
their way and when; half of them run the command line. TINYPROF_FAULTS=1000 runs as many trials, and prints a
table of them."""

import fcntl
import os
import random
import re
import resource
import select
import struct
import subprocess
import sys
import termios
import threading
import time
import tty
from collections import Counter

import pytest
from links import a_board, usable, whole_lines
from models import make_model
from tinyprof_bridge.errors import BadInput, RunFailed
from tinyprof_bridge.measure.collect import Request, collect, partial_of
from tinyprof_bridge.progress import Progress
from tinyprof_bridge.records import runs, wire


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("link") / "m.gguf", type_="Q8_0", context=32)


TRIALS = int(os.environ.get("TINYPROF_FAULTS", "28"))
KINDS = (
    "none",
    "drop",
    "duplicate",
    "corrupt",
    "cut",
    "print",
    "garbage",
    "delay",
    "hang",
    "unplug",
    "interrupt",
    "two",
    "reset",
    "full disk",
)
TIMEOUT = 1.5


class Middle:
    """A pty towards the host whose other end is the board's; harms what passes once records come."""

    def __init__(self, behind):
        self.behind = behind
        self._open()
        self._wake, self._waker = os.pipe()
        self._thread = None

    def _open(self):
        self.board = os.open(self.behind.device, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self.board)

    def begin(self, kind, rng):
        self.kind, self.rng = kind, rng
        self.process = None  # that collects, where one does
        self.host, slave = os.openpty()
        tty.setraw(slave)
        self._slave = slave  # held open: the host comes and goes
        self.sent, self.delivered = bytearray(), bytearray()  # by the board, to the host; from the first record on
        self.at = rng.randrange(20, 9000)  # bytes behind the first record's begin
        self.before = bytearray()
        self.skip = 0  # bytes that are still to be dropped
        self.harmed = 0
        self.dead = False
        self._thread = threading.Thread(target=self._pass, daemon=True)
        self._thread.start()
        return os.ttyname(slave)

    def end(self):
        os.write(self._waker, b"x")
        self._thread.join()
        os.read(self._wake, 1)
        for descriptor in (self.host, self._slave):
            try:
                os.close(descriptor)
            except OSError:
                pass

    def _pass(self):
        while True:
            watched = [self.board, self._wake] + ([] if self.dead else [self.host])
            ready = select.select(watched, [], [], 0.5)[0]
            if self._wake in ready:
                return
            if self.board in ready:
                data = os.read(self.board, 512)
                if self.sent:
                    self.sent += data
                    self._deliver(self._harm(data))
                else:
                    self._deliver(data)
                    self.before += data
                    if (begin := self.before.find(b'{"tp":')) >= 0:
                        self.sent += self.before[begin:]
                        self.delivered += self.before[begin:]
            if not self.dead and self.host in ready:
                try:
                    os.write(self.board, os.read(self.host, 512))
                except OSError:
                    pass

    def _deliver(self, data):
        if self.dead or not data:
            return
        if self.sent:
            self.delivered += data
        os.write(self.host, data)

    def _harm(self, data):
        """What becomes of data: at most twice in a trial something happens, in the middle of it."""
        if self.skip:
            dropped = min(self.skip, len(data))
            self.skip -= dropped
            return data[dropped:]
        if self.kind == "none" or self.harmed >= (2 if self.kind == "two" else 1) or len(self.sent) < self.at:
            return data
        self.harmed += 1
        self.at = len(self.sent) + self.rng.randrange(1, 3000)
        kind = (
            self.kind if self.kind != "two" else self.rng.choice(("drop", "duplicate", "corrupt", "print", "garbage"))
        )
        i, n = self.rng.randrange(len(data)), self.rng.randrange(1, 120)
        if kind == "drop":
            self.skip = max(i + n - len(data), 0)
            return data[:i] + data[i + n :]
        if kind == "duplicate":
            return data[: i + n] + data[i:]
        if kind == "corrupt":
            harmed = bytearray(data)
            for at in range(i, min(i + n, len(data))):
                harmed[at] = self.rng.choice(b'0123456789abcdef{}",:')
            return bytes(harmed)
        if kind == "cut":
            return data[:i] + b"\r\n"
        if kind == "print":
            return data[:i] + b'\r\nsomebody prints {"tp":1, and more\r\n' + data[i:]
        if kind == "garbage":
            return data[:i] + bytes(self.rng.choice(range(5, 256)) for _ in range(n)) + data[i:]
        if kind == "delay":
            self._deliver(data[:i])
            time.sleep(TIMEOUT / 3)
            return data[i:]
        if kind == "interrupt":
            os.write(self.board, b"\x03")
            return data
        if kind == "reset" and self.rng.random() < 0.5:  # a soft one
            os.write(self.board, b"\x03\x04")
            return data
        if kind == "reset":
            os.close(self.board)
            self.behind.restart()
            self._open()
            return data[:i]
        if kind == "full disk":
            self.limit = self.rng.randrange(1500, 12000)
            resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (self.limit, resource.RLIM_INFINITY))
            return data
        self._deliver(data[:i])
        self.dead = True
        if kind == "unplug":
            # what the host has not read yet goes with the pty, and has not arrived
            time.sleep(0.02)
            while struct.unpack("i", fcntl.ioctl(self._slave, termios.FIONREAD, bytes(4)))[0]:
                time.sleep(0.001)
            time.sleep(0.02)
            os.close(self.host)
            os.close(self._slave)
        return b""


def collected(middle, kind, device, model, out, by_command):
    """(exit code, what was said) of one run, by the command line in a process of its own or by its function."""
    if not by_command:
        try:
            collect(Request(device, model, p=(4,), n=(4,), r=2, timeout=TIMEOUT), out, Progress(quiet=True))
        except BadInput as error:
            return 2, str(error)
        except RunFailed as error:
            return 1, str(error)
        return 0, ""
    command = [sys.executable, "-m", "tinyprof_bridge", "collect", "--board", device, "--model", model]
    command += ["-p", "4", "-n", "4", "-r", "2", "--timeout", str(TIMEOUT), "--out", out]
    middle.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    said = middle.process.communicate(timeout=60)[1]
    assert "Traceback" not in said, (kind, said)
    return middle.process.returncode, said.splitlines()[-1]


def trial(seed, board, middle, model, folder):
    """(kind, exit code) of one run under one fault; asserts all that must hold."""
    rng = random.Random(seed)
    kind = KINDS[seed % len(KINDS)]
    out = folder / f"{seed}.jsonl"
    device = middle.begin(kind, rng)
    by_command = kind == "full disk" or seed // len(KINDS) % 2 == 0
    try:
        code, said = collected(middle, kind, device, model, out, by_command)
    finally:
        middle.end()
    file = out if out.exists() else partial_of(out)
    kept = file.read_bytes().splitlines(keepends=True) if file.exists() else []
    if kind == "full disk" and kept and not kept[-1].endswith(b"\n"):  # what was still written of a line
        kept.pop()
    records = [line.rstrip() for line in kept if b'"kind":"host"' not in line]
    original = whole_lines(middle.sent)
    # what arrived whole is kept, once each; nothing is there that the board did not send
    arrived = {line for line in whole_lines(middle.delivered) if line in original}
    if kind == "full disk":  # all up to there
        assert records == original[: len(records)], seed
        assert code == 0 or "cannot write" in said, (seed, said)
        assert code == 0 or not records or file.stat().st_size >= middle.limit, seed
    elif any(b'"kind":"begin"' in line for line in arrived):
        assert set(records) == arrived, (seed, kind, len(arrived ^ set(records)))
    else:
        assert not records, (seed, kind)
    assert len(set(records)) == len(records), (seed, kind)
    # a whole run is a good one, any other is marked
    complete = (
        set(records) == set(original)
        and bool(records)
        and any(b'"kind":"end"' in x and b'"ok":true' in x for x in records)
    )
    assert (code == 0) == complete == out.exists() and code in (0, 1), (seed, kind, code, said)
    if records and not complete:
        run = runs.load(file)
        assert not run.complete, (seed, kind)
        # each gap before the last record that is kept is named
        numbers = [int(re.search(rb'"seq":(\d+)', line)[1]) for line in records]
        missing = [n for n in range(max(numbers)) if n not in numbers]
        assert [n for gap in run.stream.gaps for n in gap] == missing, (seed, kind)
        if run.end is not None and run.end.ok:
            assert len(missing) == len(original) - len(records) > 0, (seed, kind)
            assert f"incomplete: {without_damaged(run.losses)}, {damaged(middle.delivered)} damaged" in said, (
                seed,
                said,
            )
    assert usable(board), (seed, kind)
    return kind, code


def without_damaged(losses):
    return losses.rpartition(", ")[0]


def damaged(data):
    """How many lines were meant to be records and are none."""
    found = 0
    for line in bytes(data).partition(b"\x04")[0].split(b"\n"):
        try:
            wire.decode(line)
        except wire.Torn:
            found += 1
    return found


@pytest.mark.timeout(60 + 30 * TRIALS)
def test_faults_between_board_and_host(model, tmp_path):
    results = Counter()
    began = time.monotonic()
    with a_board(model, tmp_path) as board:
        middle = Middle(board)
        for seed in range(TRIALS):
            results[trial(seed, board, middle, model, tmp_path)] += 1
    print(f"\n{TRIALS} trials in {time.monotonic() - began:.0f} s\n{'fault':12} {'whole':>6} {'marked':>7}")
    for kind in KINDS:
        print(f"{kind:12} {results[kind, 0]:6} {results[kind, 1] + results[kind, 2]:7}")
    assert results["none", 0] == sum(n for (kind, _), n in results.items() if kind == "none")


@pytest.mark.parametrize("seed", [0])
def test_the_middle_alone_harms_nothing(seed, model, tmp_path):
    with a_board(model, tmp_path) as board:
        assert trial(seed, board, Middle(board), model, tmp_path) == ("none", 0)
