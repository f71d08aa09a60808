"""Running code on a board and reading what it prints. No other file uses mpremote's API."""

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
    """A board that runs MicroPython code."""

    def run(self, code: str, timeout: float) -> Iterator[bytes]:
        """Runs code on the board and yields the lines that it prints, without newlines.

        timeout: seconds to wait for the next output.
        Raises RunFailed if nothing arrives in that time, the connection is lost, or the code raises an exception (the
        message is the last line of its traceback)."""

    def interrupt(self, timeout: float) -> list[bytes]:
        """Stops the running code, as Ctrl-C does, and returns the lines that still arrived.

        Native code cannot be interrupted, so this may take as long as one batch of tokens.

        timeout: seconds without output after which it gives up."""

    def close(self) -> None:
        """Ends the connection and leaves the board at its normal REPL."""


class SerialBoard:
    """A board on a serial port, a pty, or any URL that pyserial opens. Implements Transport.

    device: that port."""

    def __init__(self, device: str) -> None:
        """Opens the port and resets MicroPython (soft reset).

        Raises BadInput if the port cannot be opened; RunFailed if no MicroPython answers."""
        self.device = device
        if device.startswith("/") and not os.path.exists(device):
            raise BadInput(f"no such port: {device}; `tinyprof-bridge devices` lists the boards on USB")
        try:
            self._link = SerialTransport(device, baudrate=115200, timeout=5)  # without it a silent pty blocks for ever
        except (TransportError, OSError, ValueError) as error:
            raise BadInput(
                f"cannot open {device}: another program may be using it, or you lack permission (see `ls -l {device}`)"
                if os.path.exists(device)
                else f"cannot open {device}: {error}; check that the board is reachable"
            ) from None
        self._port: serial.Serial = self._link.serial
        self._pending = self._tail = b""
        # After an RFC 2217 connection has ended, pyserial's read no longer returns the data that had arrived before.
        # So we read its queue.
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
        """Calls a function of mpremote without its output, and turns its errors into RunFailed."""
        assert callable(function)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                return function(*args, **kwargs)
        except TransportExecError as error:
            raise RunFailed(f"{self.device}: {_last_line(error.error_output)}") from None
        except TransportError as error:
            raise RunFailed(
                f"{self.device} does not answer like MicroPython: {error}; press reset, then check the firmware"
            ) from None
        except OSError as error:  # includes those of pyserial
            raise RunFailed(f"{self.device} was disconnected: {error}") from None

    def _set_timeout(self, seconds: float) -> None:
        """Sets how long a read may take. Not for RFC 2217, where each setting is an exchange over the network."""
        if self._received is None:
            self._port.timeout = seconds

    def soft_reset(self) -> None:
        """Restarts MicroPython. Only then does it find a new ROMFS."""
        self._set_timeout(5)
        self._quietly(self._link.enter_raw_repl, soft_reset=True)

    def execute(self, code: str) -> bytes:
        """Runs short code to its end and returns what it printed. Raises RunFailed if it fails."""
        self._set_timeout(5)
        result = self._quietly(self._link.exec, code)
        assert isinstance(result, bytes)
        return result

    def evaluate(self, expression: str) -> object:
        """Returns the value of an expression, as a Python literal. Raises RunFailed if it fails."""
        self._set_timeout(5)
        return self._quietly(self._link.eval, expression)

    def run(self, code: str, timeout: float) -> Iterator[bytes]:
        """See Transport."""
        self._set_timeout(5)
        self._quietly(self._link.exec_raw_no_follow, code)
        self._set_timeout(0.1)
        self._pending = self._tail = b""
        yield from self._lines(timeout)
        error = b"".join(self._until_eot(10))
        # mpremote waits for a prompt that may have been read here already, so ask for another one.
        self._set_timeout(5)
        self._quietly(self._link.enter_raw_repl, soft_reset=False)
        if error.strip():
            raise RunFailed(f"{self.device}: {_last_line(error.decode('utf-8', 'replace'))}")

    def _lines(self, timeout: float) -> Iterator[bytes]:
        """Yields lines up to the next end-of-transmission mark.

        An incomplete line is kept for the next call, and yielded once nothing more can arrive."""
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
        """Yields bytes as they arrive, up to the next end-of-transmission mark."""
        deadline = time.monotonic() + timeout
        while True:
            data = self._pending
            self._pending = b""
            if not data:
                data = self._read()
            if data:
                deadline = time.monotonic() + timeout
            elif time.monotonic() > deadline:
                raise RunFailed(f"{self.device} stopped answering: no output for {timeout:.0f} s; press reset")
            if _EOT in data:
                data, self._pending = data.split(_EOT, 1)
                yield data
                return
            yield data

    def _read(self) -> bytes:
        """Returns the bytes that have arrived; none after a short wait."""
        try:
            if self._received is None:
                return self._port.read(max(1, self._port.in_waiting))
            byte = self._received.get(timeout=0.1)
        except OSError as error:
            raise RunFailed(f"{self.device} was disconnected: {error}") from None
        except Empty:
            return b""
        if byte is None:
            self._received.put(None)
            raise RunFailed(f"{self.device} was disconnected: the connection ended")
        return byte

    def interrupt(self, timeout: float) -> list[bytes]:
        """See Transport."""
        lines: list[bytes] = []
        with contextlib.suppress(RunFailed, OSError):
            self._port.write(b"\x03")
            for line in self._lines(timeout):
                lines.append(line)
            for _ in self._until_eot(2):
                pass
        return lines

    def close(self) -> None:
        """See Transport."""
        with contextlib.suppress(Exception):
            self._port.timeout = 1
            self._link.exit_raw_repl()
        with contextlib.suppress(Exception):
            self._link.close()


class UnixBoard:
    """The unix port of MicroPython as a process. Implements Transport; Ctrl-C is SIGINT."""

    device = "unix"

    def __init__(self, program: Path, library: Path, heap_bytes: int) -> None:
        """program: the MicroPython executable. library: folder that it imports modules from."""
        self._argv = [str(program), "-X", f"heapsize={heap_bytes}", "-c"]
        self._environment = {**os.environ, "MICROPYPATH": str(library)}
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, code: str, timeout: float) -> Iterator[bytes]:
        """See Transport."""
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
                raise RunFailed(f"the unix port stopped answering: no output for {timeout:.0f} s")
            data = os.read(descriptor, 65536)
            if not data:
                break
            *lines, tail = (tail + data).split(b"\n")
            yield from lines
        if tail:
            yield tail

    def interrupt(self, timeout: float) -> list[bytes]:
        """See Transport."""
        if self._process is None or self._process.poll() is not None:
            return []
        self._process.send_signal(signal.SIGINT)
        with contextlib.suppress(RunFailed):
            return list(self._lines(timeout))
        return []

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else ""
