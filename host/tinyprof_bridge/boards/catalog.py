"""The known boards: those on QEMU from emulated_boards.toml, all others from known_boards.csv."""

import csv
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from . import emulators

TABLE = Path(__file__).with_name("known_boards.csv")


@dataclass(frozen=True)
class Known:
    """One board, as in the table. A field is empty if it is unknown or does not apply.

    board: name of the board's firmware in MicroPython.
    family: MicroPython's port.
    chip, core: of the board.
    clock_mhz: CPU clock that MicroPython sets, in MHz.
    ram_kb, flash_kb, psram_kb: sizes in KiB.
    fpu, dsp: extensions of the core.
    counter: the counter that tinyprof uses there.
    arch: architecture of its native modules.
    usb: vendor and product id, as lsusb prints them.
    evidence: how far tinyprof was tried there, such as "run in an emulator"."""

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
    """Returns all known boards, those on QEMU first."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        others = [Known(**row) for row in csv.DictReader(file)]
    return [_emulated(name, facts) for name, facts in emulators.TABLE.items() if "known" in facts] + others


def _emulated(name: str, facts: dict[str, Any]) -> Known:
    """Returns the row of an emulated board.

    facts: its entry in emulators.TABLE."""
    empty = dict.fromkeys((field.name for field in fields(Known)), "")
    own = {"board": name, "family": facts["port"], "arch": facts["arch"], "evidence": "run in an emulator"}
    return Known(**empty | own | {field: str(value) for field, value in facts["known"].items()})


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
    """Returns the Markdown table of docs/known_boards.md."""
    lines = [f"| {' | '.join(HEADINGS.values())} |"]
    lines.append(f"|{'|'.join('---:' if name in NUMBERS else '---' for name in HEADINGS)}|")
    lines += [f"| {' | '.join(getattr(board, name) for name in HEADINGS)} |" for board in boards()]
    return "\n".join(lines) + "\n"


def show_known() -> None:
    """Prints the table of known boards."""
    table = Table(box=None, pad_edge=False)
    for name, heading in HEADINGS.items():
        table.add_column(heading, justify="right" if name in NUMBERS else "left", no_wrap=True)
    for board in boards():
        table.add_row(*(getattr(board, name) for name in HEADINGS))
    Console(width=None if Console().is_terminal else 200).print(table)
