"""Boards behind a network: socket:// and rfc2217://, as pyserial opens them."""

import contextlib
import re
import select
import socket
import subprocess
import sys
import threading

import pytest
import serial
from links import a_board, usable, whole_lines
from models import make_model
from serial import rfc2217
from tinyprof_bridge.records import runs

BRIDGE = [sys.executable, "-m", "tinyprof_bridge"]


class Pty(serial.Serial):
    """A pty as a serial port: it has no modem lines."""

    cts = dsr = ri = cd = False

    def _update_rts_state(self):
        pass

    def _update_dtr_state(self):
        pass


class Server(threading.Thread):
    """Brings an emulated board's port to the network, for one client; cut: the bytes of the run's records
    after which the connection ends, None for never."""

    def __init__(self, device, kind, cut=None):
        super().__init__(daemon=True)
        self.port = Pty(device, timeout=0)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.kind, self.cut = kind, cut
        self.url = f"{kind}://127.0.0.1:{self.listener.getsockname()[1]}"
        self.before, self.sent = b"", b""  # to the client: until the run begins, from its first record on
        self.start()

    def write(self, data):
        """PortManager's own messages."""
        self.client.sendall(data)

    def run(self):
        self.client, _ = self.listener.accept()
        manager = rfc2217.PortManager(self.port, self) if self.kind == "rfc2217" else None
        with self.client, contextlib.suppress(ConnectionError):
            while self.cut is None or len(self.sent) < self.cut:
                for ready in select.select([self.client, self.port], [], [])[0]:
                    if ready is self.client:
                        data = self.client.recv(1024)
                        if not data:
                            return
                        self.port.write(b"".join(manager.filter(data)) if manager else data)
                    else:
                        self.pass_on(self.port.read(1024), manager)

    def pass_on(self, data, manager):
        if not self.sent:
            self.before += data
            begin = self.before.find(b'{"tp":')
            self.sent = self.before[begin:] if begin >= 0 else b""
        else:
            self.sent += data
        if self.cut is not None and len(self.sent) > self.cut:
            data = data[: len(data) - (len(self.sent) - self.cut)]
            self.sent = self.sent[: self.cut]
        self.client.sendall(b"".join(manager.escape(data)) if manager else data)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("network") / "m.gguf", type_="Q8_0", context=32)


def collect(url, model, folder, *more):
    command = [*BRIDGE, "collect", "--board", url, "--model", model, "-p", "4", "-n", "4", "-r", "2"]
    command += ["--out", folder / "r.jsonl", "--timeout", "5", *more]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=60)


@pytest.mark.parametrize("kind", ["socket", "rfc2217"])
def test_a_board_on_the_network(kind, model, tmp_path):
    with a_board(model, tmp_path) as emulator:
        server = Server(emulator.device, kind)
        done = collect(server.url, model, tmp_path)
        server.join(10)
        assert done.returncode == 0, done.stderr
        run = runs.load(tmp_path / "r.jsonl")
        assert run.complete and run.correctness == "match" and run.host.board == server.url
        assert usable(emulator)


@pytest.mark.parametrize("cut", [1000, 2000, 5555])
@pytest.mark.parametrize("kind", ["socket", "rfc2217"])
def test_a_network_that_ends_in_the_middle(kind, cut, model, tmp_path):
    with a_board(model, tmp_path) as emulator:
        server = Server(emulator.device, kind, cut)
        done = collect(server.url, model, tmp_path)
        assert usable(emulator)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert re.search(r"was disconnected: .*; the records so far are in .*r\.partial\.jsonl", done.stderr), done.stderr
    kept = (tmp_path / "r.partial.jsonl").read_bytes().splitlines()[1:]
    assert kept == whole_lines(server.sent) and len(server.sent) == cut


@pytest.mark.parametrize("kind", ["socket", "rfc2217"])
def test_nobody_listens(kind, model, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    done = collect(f"{kind}://127.0.0.1:{port}", model, tmp_path)
    assert done.returncode == 2 and f"cannot open {kind}://127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr and not list(tmp_path.glob("r*"))
