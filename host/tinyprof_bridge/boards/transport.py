"""Running code on a board and reading its lines: the only file that knows mpremote's API."""

import contextlib
import io
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, Queue
from typing import Protocol

import serial
from mpremote.transport import TransportError, TransportExecError
from mpremote.transport_serial import SerialTransport
from serial import rfc2217

from ..errors import BadInput, RunFailed

_EOT = b"\x04"


class Transport(Protocol):
    def run(self, code: str, timeout: float) -> Iterator[bytes]:
        """Runs code and yields its lines as they come, without their newline.

        Raises RunFailed if nothing comes for timeout seconds, if the board goes away, or with
        the traceback's last line if the code raised."""

    def interrupt(self, timeout: float) -> list[bytes]:
        """Stops what runs, as Ctrl-C does; returns the lines that still came.

        Native code runs to its end first, so this may take as long as one batch of tokens; a
        board that stays silent for timeout seconds is left alone."""

    def close(self) -> None:
        """Leaves the board at its normal REPL."""


class SerialBoard:
    """A board on a serial port, a pty, or any URL that pyserial opens."""

    def __init__(self, device: str) -> None:
        self.device = device
        if device.startswith("/") and not os.path.exists(device):
            raise BadInput(f"no such port: {device}")
        try:
            self._link = SerialTransport(device, baudrate=115200, timeout=5)  # else a silent pty would hold us for ever
        except (TransportError, OSError, ValueError) as error:
            raise BadInput(
                f"cannot open {device}: another program may be using it, or you may not (see `ls -l {device}`)"
                if os.path.exists(device)
                else f"cannot open {device}: {error}"
            ) from None
        self._port: serial.Serial = self._link.serial
        self._pending = self._tail = b""
        # Once its connection has ended, an RFC 2217 port's read gives no more of what had come; its queue does.
        is_rfc2217 = isinstance(self._port, rfc2217.Serial)
        self._received: Queue[bytes | None] | None = vars(self._port)["_read_buffer"] if is_rfc2217 else None
        try:
            if self._received is None:
                self._port.write_timeout = 10
            self._quietly(self._link.enter_raw_repl, soft_reset=True)
        except BaseException:
            with contextlib.suppress(OSError):
                self._link.close()
            raise

    def _quietly(self, function: object, *args: object, **kwargs: object) -> object:
        """Calls into mpremote, which prints on errors, and turns its errors into ours."""
        assert callable(function)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                return function(*args, **kwargs)
        except TransportExecError as error:
            raise RunFailed(f"{self.device}: {_last_line(error.error_output)}") from None
        except TransportError as error:
            raise RunFailed(f"{self.device} does not answer as MicroPython does: {error}") from None
        except OSError as error:  # pyserial's among them
            raise RunFailed(f"{self.device} went away: {error}") from None

    def _patience(self, seconds: float) -> None:
        """How long a read may take. Nothing for RFC 2217: each setting is a conversation over the network."""
        if self._received is None:
            self._port.timeout = seconds

    def soft_reset(self) -> None:
        """Starts MicroPython anew: what lies in ROMFS now is found only then."""
        self._patience(5)
        self._quietly(self._link.enter_raw_repl, soft_reset=True)

    def execute(self, code: str) -> bytes:
        """Runs short code to its end and returns what it printed."""
        self._patience(5)
        result = self._quietly(self._link.exec, code)
        assert isinstance(result, bytes)
        return result

    def evaluate(self, expression: str) -> object:
        self._patience(5)
        return self._quietly(self._link.eval, expression)

    def run(self, code: str, timeout: float) -> Iterator[bytes]:
        self._patience(5)
        self._quietly(self._link.exec_raw_no_follow, code)
        self._patience(0.1)
        self._pending = self._tail = b""
        yield from self._lines(timeout)
        error = b"".join(self._until_eot(10))
        # we may have read the next prompt too, which mpremote waits for: ask for another
        self._patience(5)
        self._quietly(self._link.enter_raw_repl, soft_reset=False)
        if error.strip():
            raise RunFailed(f"{self.device}: {_last_line(error.decode('utf-8', 'replace'))}")

    def _lines(self, timeout: float) -> Iterator[bytes]:
        """Lines up to the next end-of-transmission mark. What came of a line that has not ended is kept for
        the next call, and told when nothing more can come."""
        try:
            for data in self._until_eot(timeout):
                *lines, self._tail = (self._tail + data).split(b"\n")
                yield from lines
        except RunFailed:
            yield from self._rest()
            raise
        yield from self._rest()

    def _rest(self) -> Iterator[bytes]:
        tail, self._tail = self._tail, b""
        if tail:
            yield tail

    def _until_eot(self, timeout: float) -> Iterator[bytes]:
        """Bytes as they come, up to the next end-of-transmission mark."""
        deadline = time.monotonic() + timeout
        while True:
            data = self._pending
            self._pending = b""
            if not data:
                data = self._read()
            if data:
                deadline = time.monotonic() + timeout
            elif time.monotonic() > deadline:
                raise RunFailed(f"{self.device} stopped answering: nothing came for {timeout:.0f} s")
            if _EOT in data:
                data, self._pending = data.split(_EOT, 1)
                yield data
                return
            yield data

    def _read(self) -> bytes:
        """What has come, nothing after a while."""
        try:
            if self._received is None:
                return self._port.read(max(1, self._port.in_waiting))
            byte = self._received.get(timeout=0.1)
        except OSError as error:
            raise RunFailed(f"{self.device} went away: {error}") from None
        except Empty:
            return b""
        if byte is None:
            self._received.put(None)
            raise RunFailed(f"{self.device} went away: the connection ended")
        return byte

    def interrupt(self, timeout: float) -> list[bytes]:
        lines: list[bytes] = []
        with contextlib.suppress(RunFailed, OSError):
            self._port.write(b"\x03")
            for line in self._lines(timeout):
                lines.append(line)
            for _ in self._until_eot(2):
                pass
        return lines

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._port.timeout = 1
            self._link.exit_raw_repl()
        with contextlib.suppress(Exception):
            self._link.close()


class UnixBoard:
    """The unix port as a process: its output is the link, SIGINT its Ctrl-C."""

    device = "unix"

    def __init__(self, program: Path, library: Path, heap_bytes: int) -> None:
        self._argv = [str(program), "-X", f"heapsize={heap_bytes}", "-c"]
        self._environment = {**os.environ, "MICROPYPATH": str(library)}
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, code: str, timeout: float) -> Iterator[bytes]:
        self._process = process = subprocess.Popen(
            [*self._argv, code],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        yield from self._lines(timeout)
        assert process.stderr is not None
        error = process.stderr.read().decode("utf-8", "replace")
        if process.wait() != 0:
            raise RunFailed(f"unix port: {_last_line(error) or f'exit code {process.returncode}'}")

    def _lines(self, timeout: float) -> Iterator[bytes]:
        assert self._process is not None and self._process.stdout is not None
        descriptor, tail = self._process.stdout.fileno(), b""
        while True:
            if not select.select([descriptor], [], [], timeout)[0]:
                raise RunFailed(f"the unix port stopped answering: nothing came for {timeout:.0f} s")
            data = os.read(descriptor, 65536)
            if not data:
                break
            *lines, tail = (tail + data).split(b"\n")
            yield from lines
        if tail:
            yield tail

    def interrupt(self, timeout: float) -> list[bytes]:
        if self._process is None or self._process.poll() is not None:
            return []
        self._process.send_signal(signal.SIGINT)
        with contextlib.suppress(RunFailed):
            return list(self._lines(timeout))
        return []

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else ""
