"""Boards by name: emulated boards, the unix port, and serial ports."""

import contextlib
import os
import re
import select
import shutil
import subprocess
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ..errors import BadInput, RunFailed

# The boards that need no hardware. firmware_builds/build reads this file, too; comments in it explain its fields.
TABLE: dict[str, dict[str, Any]] = tomllib.loads(Path(__file__).with_name("emulated_boards.toml").read_text())


@dataclass(frozen=True)
class Emulated:
    """An emulated board with one firmware image, from TABLE.

    description: as printed when it starts.
    program: the emulator, such as qemu-system-arm.
    arguments: that select the machine.
    arch: architecture of the native modules that the firmware loads.
    kernels: the kernel variant that it runs (kernel_variants.py).
    plugin_core: core that QEMU's counter plugin models; "" if it has no plugin.
    rom: address (RP2040: offset in flash) of the ROMFS.
    rom_bytes: size of the ROMFS; 0 if the firmware has none.
    heap: size of MicroPython's heap in bytes.
    stock: the firmware has no native module built in.
    image: name of the firmware file.
    setup: the command that installs the emulator."""

    description: str
    program: str
    arguments: tuple[str, ...]
    arch: str
    kernels: str
    plugin_core: str
    rom: int
    rom_bytes: int
    heap: int
    stock: bool
    image: str = "firmware.elf"
    setup: str = "make setup"

    @property
    def about(self) -> str:
        """The emulator's program and arguments, as the `host` record has it."""
        return " ".join((self.program, *self.arguments))

    def command(self, program: str, firmware: Path, romfs: Path | None) -> list[str]:
        """Returns the command that starts the board. The emulator prints the port of the REPL.

        program: path of the emulator.
        romfs: image to load at rom; None for none."""
        command = [program, *self.arguments, "-nographic", "-monitor", "null", "-semihosting"]
        command += ["-serial", "pty", "-kernel", str(firmware)]
        if romfs is not None:
            loader = f"loader,file={str(romfs).replace(',', ',,')},addr={self.rom:#x},force-raw=on"
            command += ["-device", loader]
        return command

    def device(self, output: bytes) -> str | None:
        """Returns the port of the REPL; None until the emulator has printed it.

        output: of the emulator so far."""
        match = re.search(rb"char device redirected to (\S+)", output)
        return match[1].decode() if match else None


class Simulated(Emulated):
    """An RP2040 in the simulator rp2040js. Without a ROMFS, package and model are sent over the link."""

    def command(self, program: str, firmware: Path, romfs: Path | None) -> list[str]:
        """See Emulated."""
        command = [program, str(firmware.with_name("simulate.mjs")), str(firmware)]
        command.append(str(firmware.with_name("bootrom.bin")))
        return command + ([str(romfs), str(self.rom)] if romfs is not None else [])

    def device(self, output: bytes) -> str | None:
        """See Emulated."""
        match = re.search(rb"listening on (\d+)", output)
        return f"socket://127.0.0.1:{match[1].decode()}" if match else None


def _emulated(facts: dict[str, Any], stock: bool) -> Emulated:
    """Returns an emulated board with one of its firmware images.

    facts: its entry in TABLE, with the differences of this firmware applied."""
    board = Emulated(
        description=facts["description"] + (", stock firmware" if stock else ""),
        program=facts["emulator"],
        arguments=("-machine", facts["machine"], *facts["options"]) if facts["port"] == "qemu" else (facts["machine"],),
        arch=facts["arch"],
        kernels=facts["kernels"],
        plugin_core=facts["plugin_core"],
        rom=facts["rom"],
        rom_bytes=facts["rom_bytes"],
        heap=facts.get("heap", 0),
        stock=stock,
    )
    if facts["port"] == "rp2":
        return Simulated(**vars(board) | {"image": "firmware.bin", "setup": "make rp2040"})
    return board


EMULATED = {
    name if firmware == "ours" else f"{name}-stock": _emulated(facts | facts.get(firmware, {}), firmware == "stock")
    for firmware in ("ours", "stock")
    for name, facts in TABLE.items()
    if facts["port"] != "unix" and firmware in facts["firmware"]
}
# For each path, the board whose logits all other boards must reproduce.
REFERENCES = {"float": "unix", "fixed": "unix-fixed"}
NAMES = (*EMULATED, *REFERENCES.values())


def build_folder() -> Path:
    """Returns the folder of built firmware: $TINYPROF_BUILD, by default build/ of the checkout."""
    root = os.environ.get("TINYPROF_BUILD")
    return Path(root) if root else Path(__file__).resolve().parents[3] / "build"


def firmware(board: str) -> Path:
    """Returns the firmware file of an emulated board or the unix port. Raises BadInput if it is not built."""
    name = EMULATED[board].image if board in EMULATED else "micropython"
    path = build_folder() / "firmware" / board / name
    if not path.is_file():
        stock = f" BOARDS={board}" if "-" in board else ""
        simulated = isinstance(EMULATED.get(board), Simulated)
        how = EMULATED[board].setup if simulated else f"make firmware{stock}"
        raise BadInput(
            f"no firmware for board '{board}': run `{how}` in a checkout of tinyprof"
            " (or set TINYPROF_BUILD to its build folder)"
        )
    return path


class Emulator:
    """A running emulated board. Use it as a context manager, so that the emulator ends.

    spec: the board.
    command: that runs it.
    device: port of its REPL, a pty or a socket."""

    def __init__(self, board: str, romfs: Path | None = None, options: Sequence[str] = ()) -> None:
        """Starts the emulator and waits for the port of the REPL.

        board: a name in EMULATED.
        romfs: ROMFS image in the board's flash.
        options: further arguments of the emulator.
        Raises BadInput if the image does not fit, or firmware or emulator is missing; RunFailed if starting fails."""
        self.spec = EMULATED[board]
        if romfs is not None and romfs.stat().st_size > self.spec.rom_bytes:
            raise BadInput(
                f"package and model need {romfs.stat().st_size} bytes of flash, board {board} has"
                f" {self.spec.rom_bytes}: use a smaller model or weight type"
            )
        image = firmware(board)
        program = shutil.which(self.spec.program)
        if program is None:
            raise BadInput(f"{self.spec.program} is not installed: run `{self.spec.setup}` in a checkout of tinyprof")
        self.command = [*self.spec.command(program, image, romfs), *options]
        self._process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C must not end the emulator: the board is interrupted over its link
        )
        self._said = b""  # output until the port was known, for error messages
        try:
            self.device = self._wait_for_device()
            if options:
                self._check_alive(0.3)  # QEMU loads plugins after it has opened the port
        except BaseException:  # an interrupt too must leave no process
            self.close()
            raise

    def _wait_for_device(self) -> str:
        stdout = self._process.stdout
        assert stdout is not None
        output, deadline = b"", time.monotonic() + 20
        while time.monotonic() < deadline:
            if select.select([stdout], [], [], 0.2)[0]:
                chunk = os.read(stdout.fileno(), 4096)
                self._said = output = output + chunk
                if device := self.spec.device(output):
                    return device
                if not chunk:
                    break
        raise RunFailed(f"the emulator did not start: {output.decode(errors='replace').strip()[-300:]}")

    def _check_alive(self, seconds: float) -> None:
        """Raises RunFailed if the emulator ends within some seconds."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
            self.wait()

    @property
    def pid(self) -> int:
        """Process id of the emulator."""
        return self._process.pid

    def wait(self) -> NoReturn:
        """Waits until the emulator ends, and raises RunFailed, because it ends only on a failure."""
        code = self._process.wait()
        output = self._said + (self._process.stdout.read() if self._process.stdout else b"")
        raise RunFailed(f"the emulator ended (exit code {code}): {output.decode(errors='replace').strip()[-300:]}")

    def close(self) -> None:
        """Ends the emulator."""
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> "Emulator":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serial_port(board: str) -> str:
    """Returns the serial port for the value of --board.

    board: a port or URL, returned as it is; or "auto" for the only board on USB.
    Raises BadInput if the value cannot be a port, or "auto" finds no board or several."""
    from serial.tools.list_ports import comports

    if board != "auto":
        if "/" not in board and not os.path.exists(board):
            raise BadInput(f"no board '{board}': one of {', '.join(NAMES)}, or a serial port such as /dev/ttyACM0")
        return board
    ports = [p for p in comports() if p.vid is not None]
    if not ports:
        raise BadInput("no board found on USB: attach one, name its port, or use --board m4 (emulated)")
    if len(ports) > 1:
        names = ", ".join(p.device for p in ports)
        raise BadInput(f"several boards found ({names}): name one with --board")
    return str(ports[0].device)
