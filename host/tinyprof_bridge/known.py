"""The table of known boards, and which of them are attached."""

import csv
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .errors import plain

TABLE = Path(__file__).with_name("known_boards.csv")


@dataclass(frozen=True)
class Known:
    """One board. Sizes in KiB; arch: of its native modules; usb: vendor and product, as lsusb writes them;
    evidence: how we know that tinyprof works there. Empty: not known, or none."""

    board: str
    family: str
    chip: str
    core: str
    clock_mhz: str
    ram_kb: str
    flash_kb: str
    psram_kb: str
    fpu: str
    dsp: str
    counter: str
    arch: str
    usb: str
    evidence: str


def boards() -> list[Known]:
    with TABLE.open(newline="", encoding="utf-8") as file:
        return [Known(**row) for row in csv.DictReader(file)]


HEADINGS = {
    "board": "board",
    "family": "family",
    "chip": "chip",
    "core": "core",
    "clock_mhz": "MHz",
    "ram_kb": "RAM KiB",
    "flash_kb": "flash KiB",
    "psram_kb": "PSRAM KiB",
    "fpu": "FPU",
    "dsp": "DSP",
    "counter": "counter",
    "arch": "modules",
    "usb": "USB id",
    "evidence": "known by",
}
NUMBERS = ("clock_mhz", "ram_kb", "flash_kb", "psram_kb")


def markdown() -> str:
    """The table for docs/known_boards.md."""
    lines = [f"| {' | '.join(HEADINGS.values())} |"]
    lines.append(f"|{'|'.join('---:' if name in NUMBERS else '---' for name in HEADINGS)}|")
    lines += [f"| {' | '.join(getattr(board, name) for name in HEADINGS)} |" for board in boards()]
    return "\n".join(lines) + "\n"


def show_known() -> None:
    table = Table(box=None, pad_edge=False)
    for name, heading in HEADINGS.items():
        table.add_column(heading, justify="right" if name in NUMBERS else "left", no_wrap=True)
    for board in boards():
        table.add_row(*(getattr(board, name) for name in HEADINGS))
    Console(width=None if Console().is_terminal else 200).print(table)


@dataclass(frozen=True)
class Attached:
    """A serial port on USB; names: known boards with its USB id."""

    device: str
    usb: str
    serial_number: str
    product: str
    names: tuple[str, ...]
    families: tuple[str, ...]


def attached() -> list[Attached]:
    """The serial ports of USB devices."""
    from serial.tools.list_ports import comports

    found = []
    for port in sorted(comports(), key=lambda p: str(p.device)):
        if port.vid is None:
            continue
        usb = f"{port.vid:04x}:{port.pid:04x}"
        same = [board for board in boards() if board.usb == usb]
        found.append(
            Attached(
                str(port.device),
                usb,
                port.serial_number or "",
                port.product or "",
                tuple(board.board for board in same),
                tuple(dict.fromkeys(board.family for board in same)),
            )
        )
    return found


def show_attached(ports: list[Attached]) -> None:
    """Which boards a port's USB id allows: makers give one id to many boards, and deploy asks the board itself."""
    if not ports:
        print("no board found on USB; `tinyprof-bridge devices --known` lists those that would be recognized")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("port", "USB id", "serial number", "product", "family", "may be"):
        table.add_column(heading)
    for port in ports:
        may_be = ", ".join(port.names[:3]) + (" …" if len(port.names) > 3 else "")
        cells = (port.device, port.usb, port.serial_number, port.product, ", ".join(port.families) or "?", may_be)
        table.add_row(*(Text(plain(cell)) for cell in cells))
    Console(width=None if Console().is_terminal else 150).print(table)
