"""Boards on USB: those with a serial port by pyserial, those without by pyusb."""

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import plain
from . import catalog

# By usb.ids, the sources of Pico SDK's picotool, and MicroPython's ports/mimxrt/boards/*/deploy*.md.
BOOTLOADERS = {
    "0483:df11": ("stm32", "STM32 in its bootloader (DFU)", "dfu-util -a 0 -D firmware.dfu"),
    "16c0:0478": ("mimxrt", "Teensy in its bootloader", "write MicroPython with teensy_loader_cli"),
    "1fc9:0130": ("mimxrt", "i.MX RT1020 or RT1050 in its serial downloader", "write MicroPython with sdphost"),
    "1fc9:0135": ("mimxrt", "i.MX RT1060 in its serial downloader", "write MicroPython with sdphost"),
    "1fc9:0145": ("mimxrt", "i.MX RT1010 in its serial downloader", "write MicroPython with sdphost"),
    "2e8a:0003": ("rp2", "RP2040 in its bootloader", "copy MicroPython's .uf2 to its drive, or press reset"),
    "2e8a:000f": ("rp2", "RP2350 in its bootloader", "copy MicroPython's .uf2 to its drive, or press reset"),
}
NO_PORT = "no serial port: press reset; on Linux, modprobe cdc_acm; on Windows, look for its driver"
NO_LIBUSB = "boards in their bootloader are not looked for, as libusb is missing: sudo apt install libusb-1.0-0"


@dataclass(frozen=True)
class Attached:
    """A USB device. device: its serial port, empty for none, and then todo is what to do; names: known boards with its
    USB id."""

    device: str
    usb: str
    serial_number: str
    product: str
    names: tuple[str, ...]
    families: tuple[str, ...]
    todo: str = ""


def attached() -> tuple[list[Attached], str]:
    """All serial ports of USB devices, then boards without one; and why some may be missing, else an empty string."""
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
    """Bootloaders and known boards; locations: of devices that have a port."""
    import usb.core

    try:
        devices = list(usb.core.find(find_all=True))
    except usb.core.NoBackendError:
        return [], NO_LIBUSB
    except usb.core.USBError as error:
        return [], f"boards in their bootloader are not looked for: libusb says {error}"
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
    """A string of the device's; empty where there is none, or we may not ask for it."""
    import usb.core

    try:
        return getattr(device, name) or ""
    except (usb.core.USBError, NotImplementedError, ValueError):
        return ""


def show(found: list[Attached], problem: str) -> None:
    """Which boards a USB id allows: makers give one id to many boards, and deploy asks the board itself."""
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
