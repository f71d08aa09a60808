"""Boards on USB: those with a serial port (found by pyserial), and those without one (found by pyusb)."""

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import plain
from . import catalog

# USB id: MicroPython's port, description, how to install MicroPython. Sources: usb.ids, picotool (Pico SDK), and
# MicroPython's ports/mimxrt/boards/*/deploy*.md.
BOOTLOADERS = {
    "0483:df11": ("stm32", "STM32 in its bootloader (DFU)", "dfu-util -a 0 -D firmware.dfu"),
    "16c0:0478": ("mimxrt", "Teensy in its bootloader", "write MicroPython with teensy_loader_cli"),
    "1fc9:0130": ("mimxrt", "i.MX RT1020 or RT1050 in its serial downloader", "write MicroPython with sdphost"),
    "1fc9:0135": ("mimxrt", "i.MX RT1060 in its serial downloader", "write MicroPython with sdphost"),
    "1fc9:0145": ("mimxrt", "i.MX RT1010 in its serial downloader", "write MicroPython with sdphost"),
    "2e8a:0003": ("rp2", "RP2040 in its bootloader", "copy MicroPython's .uf2 to its drive, or press reset"),
    "2e8a:000f": ("rp2", "RP2350 in its bootloader", "copy MicroPython's .uf2 to its drive, or press reset"),
}
NO_PORT = "no serial port: press reset; on Linux, run modprobe cdc_acm; on Windows, install its driver"
NO_LIBUSB = "cannot look for boards in their bootloader, as libusb is missing: sudo apt install libusb-1.0-0"


@dataclass(frozen=True)
class Attached:
    """A board on USB.

    device: its serial port; empty if it has none.
    usb: vendor and product id, such as "2e8a:0005".
    serial_number, product: as the device reports them; may be empty.
    names: known boards with this USB id.
    families: their MicroPython ports.
    todo: what to do if it has no serial port, else empty."""

    device: str
    usb: str
    serial_number: str
    product: str
    names: tuple[str, ...]
    families: tuple[str, ...]
    todo: str = ""


def attached() -> tuple[list[Attached], str]:
    """Returns (boards, problem): all serial ports on USB, then known boards without one.

    The problem says why boards without a port may be missing; it is empty if there is none."""
    from serial.tools.list_ports import comports

    ports = [port for port in sorted(comports(), key=lambda p: str(p.device)) if port.vid is not None]
    found = [
        _board(str(port.device), f"{port.vid:04x}:{port.pid:04x}", port.serial_number or "", port.product or "")
        for port in ports
    ]
    # pyserial writes "1-2.3:1.0" where the device has several interfaces
    others, problem = _without_port({(port.location or "").split(":")[0] for port in ports})
    return found + others, problem


def _board(device: str, usb: str, serial_number: str, product: str, todo: str = "") -> Attached:
    same = [board for board in catalog.boards() if board.usb == usb]
    families = tuple(dict.fromkeys(board.family for board in same))
    return Attached(device, usb, serial_number, product, tuple(board.board for board in same), families, todo)


def _without_port(locations: set[str]) -> tuple[list[Attached], str]:
    """Returns (boards, problem), as attached(), for bootloaders and known boards without a serial port.

    locations: "bus-port" of the devices that have a serial port."""
    import usb.core

    try:
        devices = list(usb.core.find(find_all=True))
    except usb.core.NoBackendError:
        return [], NO_LIBUSB
    except usb.core.USBError as error:
        return [], f"cannot look for boards in their bootloader, as libusb failed: {error}"
    ids = {board.usb for board in catalog.boards()}
    found = []
    for device in devices:
        where = f"{device.bus}-{'.'.join(map(str, device.port_numbers or ()))}"
        usb_id = f"{device.idVendor:04x}:{device.idProduct:04x}"
        if where in locations or usb_id not in ids | set(BOOTLOADERS):
            continue
        serial_number, product = _text(device, "serial_number"), _text(device, "product")
        if usb_id in BOOTLOADERS:
            family, what, todo = BOOTLOADERS[usb_id]
            found.append(Attached("", usb_id, serial_number, what, (), (family,), todo))
        else:
            found.append(_board("", usb_id, serial_number, product, NO_PORT))
    return sorted(found, key=lambda board: (board.usb, board.serial_number)), ""


def _text(device: object, name: str) -> str:
    """Returns a string of a USB device; empty if it has none, or reading it is not permitted."""
    import usb.core

    try:
        return getattr(device, name) or ""
    except (usb.core.USBError, NotImplementedError, ValueError):
        return ""


def show(found: list[Attached], problem: str) -> None:
    """Prints the boards on USB.

    Vendors use one USB id for many boards, so the table lists candidates only; deploy asks the board itself.

    found, problem: from attached()."""
    if found:
        table = Table(box=None, pad_edge=False)
        for heading in ("port", "USB id", "serial number", "product", "family", "may be"):
            table.add_column(heading)
        for board in found:
            may_be = ", ".join(board.names[:3]) + (" …" if len(board.names) > 3 else "")
            family = ", ".join(board.families) or "?"
            cells = (board.device or "none", board.usb, board.serial_number, board.product, family, may_be)
            table.add_row(*(Text(plain(cell)) for cell in cells))
        Console(width=None if Console().is_terminal else 150).print(table)
    else:
        print("no board found on USB; `tinyprof-bridge devices --known` lists those that would be recognized")
    for board in found:
        if board.todo:
            print(f"{board.usb}: {board.todo}")
    if problem:
        print(problem)
