"""Boards by name: emulated ones, the unix port, and those on a serial port."""

import contextlib
import os
import re
import select
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from ..errors import BadInput, RunFailed


@dataclass(frozen=True)
class Emulated:
    """How an emulator runs one of our firmware images. program: the emulator; rom: where the ROMFS segment
    lies; arch: of the native modules that its firmware takes; stock: that firmware has none built in."""

    description: str
    program: str
    arguments: tuple[str, ...]
    rom: int
    arch: str
    rom_bytes: int = 12 << 20
    stock: bool = False
    image: str = "firmware.elf"
    setup: str = "make setup"  # installs the emulator

    @property
    def about(self) -> str:
        """The emulator as records name it."""
        return " ".join((self.program, *self.arguments))

    def command(self, program: str, firmware: Path, romfs: Path | None) -> list[str]:
        """What to run; it prints where the REPL is to be found."""
        command = [program, *self.arguments, "-nographic", "-monitor", "null", "-semihosting"]
        command += ["-serial", "pty", "-kernel", str(firmware)]
        if romfs is not None:
            loader = f"loader,file={str(romfs).replace(',', ',,')},addr={self.rom:#x},force-raw=on"
            command += ["-device", loader]
        return command

    def device(self, output: bytes) -> str | None:
        """The port of the REPL, once the emulator has printed it."""
        match = re.search(rb"char device redirected to (\S+)", output)
        return match[1].decode() if match else None


class Simulated(Emulated):
    """An RP2040 in rp2040js. rom: offset in flash. rom_bytes is 0 where the firmware has no ROMFS: package
    and model are sent over the link then, as to any board."""

    def command(self, program: str, firmware: Path, romfs: Path | None) -> list[str]:
        command = [program, str(firmware.with_name("simulate.mjs")), str(firmware)]
        command.append(str(firmware.with_name("bootrom.bin")))
        return command + ([str(romfs), str(self.rom)] if romfs is not None else [])

    def device(self, output: bytes) -> str | None:
        match = re.search(rb"listening on (\d+)", output)
        return f"socket://127.0.0.1:{match[1].decode()}" if match else None


EMULATED = {
    "m0": Emulated(
        "Cortex-M0+ code on a Cortex-M3 (QEMU mps2-an385)",
        "qemu-system-arm",
        ("-machine", "mps2-an385", "-icount", "shift=6"),
        0x21000000,
        "armv6m",
    ),
    "m3": Emulated(
        "Cortex-M3, no FPU (QEMU mps2-an385)",
        "qemu-system-arm",
        ("-machine", "mps2-an385", "-icount", "shift=6"),
        0x21000000,
        "armv7m",
    ),
    "m4": Emulated(
        "Cortex-M4F (QEMU mps2-an386)",
        "qemu-system-arm",
        ("-machine", "mps2-an386", "-icount", "shift=6"),
        0x21000000,
        "armv7emsp",
    ),
    "m7": Emulated(
        "Cortex-M7 with FPU (QEMU mps2-an500)",
        "qemu-system-arm",
        ("-machine", "mps2-an500", "-icount", "shift=6"),
        0x60000000,
        "armv7emsp",
    ),
    "m33": Emulated(
        "Cortex-M33 with FPU and DSP (QEMU mps2-an505)",
        "qemu-system-arm",
        ("-machine", "mps2-an505", "-icount", "shift=10"),
        0x80000000,
        "armv7emsp",
    ),
    "m55": Emulated(
        "Cortex-M55 with Helium (QEMU mps3-an547)",
        "qemu-system-arm",
        ("-machine", "mps3-an547", "-icount", "shift=10"),
        0x70000000,
        "armv7emsp",
    ),
    "rv32": Emulated(
        "RV32IMAC, no FPU (QEMU virt)",
        "qemu-system-riscv32",
        ("-machine", "virt", "-bios", "none", "-icount", "shift=0"),
        0x81000000,
        "rv32imc",
    ),
}
# The same with stock firmware.
EMULATED |= {
    f"{name}-stock": replace(EMULATED[name], description=f"{EMULATED[name].description}, stock firmware", stock=True)
    for name in ("m0", "m3", "m4", "m7", "rv32")
}
EMULATED |= {
    "rp2040": Simulated(
        "Raspberry Pi Pico, RP2040 (rp2040js)",
        "node",
        ("rp2040js",),
        0x80000,
        "armv6m",
        1280 << 10,
        image="firmware.bin",
        setup="make rp2040",
    ),
    "rp2040-stock": Simulated(
        "Raspberry Pi Pico, RP2040 (rp2040js), stock firmware",
        "node",
        ("rp2040js",),
        0,
        "armv6m",
        0,
        stock=True,
        image="firmware.bin",
        setup="make rp2040",
    ),
}
# The boards that give each path's logits: all others must give the same.
REFERENCES = {"float": "unix", "fixed": "unix-fixed"}
NAMES = (*EMULATED, *REFERENCES.values())


def build_folder() -> Path:
    """Where `make firmware` puts its images."""
    root = os.environ.get("TINYPROF_BUILD")
    return Path(root) if root else Path(__file__).resolve().parents[3] / "build"


def firmware(board: str) -> Path:
    """The image of an emulated board or the unix port. Raises BadInput if it is not built."""
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
    """A running emulated board; device is the port of its REPL, a pty or a socket. Use as a context manager."""

    def __init__(self, board: str, romfs: Path | None = None, options: Sequence[str] = ()) -> None:
        """romfs: an image that lies in the board's flash when it starts; options: more of the emulator's.
        Raises BadInput if it does not fit."""
        self.spec = EMULATED[board]
        if romfs is not None and romfs.stat().st_size > self.spec.rom_bytes:
            raise BadInput(
                f"package and model need {romfs.stat().st_size} bytes of flash, board {board} has {self.spec.rom_bytes}"
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
            start_new_session=True,  # Ctrl-C is for us: we tell the board, and stop it afterwards
        )
        self._said = b""  # until the port was known
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
        """Waits, and raises RunFailed if the emulator has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
            self.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait(self) -> NoReturn:
        """Waits until the emulator ends, which it does not by itself: raises RunFailed then."""
        code = self._process.wait()
        output = self._said + (self._process.stdout.read() if self._process.stdout else b"")
        raise RunFailed(f"the emulator ended (exit code {code}): {output.decode(errors='replace').strip()[-300:]}")

    def close(self) -> None:
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
    """The port that a name stands for, 'auto' for that of the only board attached.

    Raises BadInput for what can be no port, and where auto finds none or several."""
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
