"""Boards on USB, with a serial port and without."""

from array import array
from types import SimpleNamespace

import pytest
import usb.core
from tinyprof_bridge.boards import doctor, usb_devices
from usb.backend import IBackend

LANGUAGES, STRINGS = 0, ("serial", "product")  # indices of string descriptors: of languages, then 1, 2


class Bus(IBackend):
    """A bus as libusb shows it, by USB 2.0, 9.6: device descriptors, and string descriptors if one may open them."""

    def __init__(self, *devices):
        self.devices = devices

    def enumerate_devices(self):
        return iter(self.devices)

    def get_device_descriptor(self, device):
        return SimpleNamespace(
            bLength=18, bDescriptorType=1, bcdUSB=0x200, bDeviceClass=0, bDeviceSubClass=0, bDeviceProtocol=0,
            bMaxPacketSize0=64, idVendor=device.vid, idProduct=device.pid, bcdDevice=0x100, iManufacturer=0, iProduct=2,
            iSerialNumber=1, bNumConfigurations=1, address=device.address, bus=1, port_number=device.ports[-1],
            port_numbers=device.ports, speed=2,
        )  # fmt: skip

    def open_device(self, device):
        if not device.may_open:
            raise usb.core.USBError("Access denied (insufficient permissions)", -3, 13)
        return device

    def close_device(self, handle):
        pass

    def ctrl_transfer(self, handle, request_type, request, value, index, data, timeout):
        assert (request_type, request, value >> 8) == (0x80, 6, 3)  # GET_DESCRIPTOR of a string
        which = value & 0xFF
        text = b"\x09\x04" if which == LANGUAGES else getattr(handle, STRINGS[which - 1]).encode("utf-16-le")
        reply = array("B", bytes([2 + len(text), 3]) + text)
        data[: len(reply)] = reply
        return len(reply)


def device(vid, pid, ports, serial="", product="", may_open=True):
    return SimpleNamespace(
        vid=vid, pid=pid, ports=ports, address=ports[-1], serial=serial, product=product, may_open=may_open
    )


def port(name, vid, pid, serial, location=None):
    return SimpleNamespace(
        device=name, vid=vid, pid=pid, serial_number=serial, product="Board in FS mode", location=location
    )


@pytest.fixture
def host(monkeypatch):
    """Sets what is on this machine's USB."""

    def put(ports, *devices):
        monkeypatch.setattr("serial.tools.list_ports.comports", lambda: ports)
        monkeypatch.setattr("usb.backend.libusb1.get_backend", lambda find_library=None: Bus(*devices))

    return put


def test_ports_are_told_by_their_ids(host, capsys):
    host(
        [
            port("/dev/ttyACM1", 0x2E8A, 0x0005, "e66"),
            port("/dev/ttyS0", None, None, None),
            port("/dev/ttyACM0", 0x1, 0x2, None),
        ]
    )
    (other, pico), problem = usb_devices.attached()
    assert (other.device, other.names, problem) == ("/dev/ttyACM0", (), "")
    assert pico.families == ("rp2",) and "RPI_PICO" in pico.names and pico.serial_number == "e66"
    usb_devices.show([other, pico], "")
    assert "e66" in capsys.readouterr().out


def test_boards_without_a_port_are_there_too(host, capsys):
    host(
        [port("/dev/ttyACM0", 0x2E8A, 0x0005, "e66", "1-2:1.0")],
        device(0x2E8A, 0x0005, (2,), "e66", "Board in FS mode"),  # has the port
        device(0x2E8A, 0x0005, (3,), "e77", "Board in FS mode"),  # of the same maker, without
        device(0x2E8A, 0x0003, (1, 4), "E0C9", "RP2 Boot"),
        device(0x0483, 0xDF11, (5,), "may not be read", may_open=False),
        device(0x046D, 0xC077, (6,), "", "a mouse"),
    )
    found, problem = usb_devices.attached()
    assert not problem
    assert [(b.device, b.usb, b.serial_number, b.families) for b in found] == [
        ("/dev/ttyACM0", "2e8a:0005", "e66", ("rp2",)),
        ("", "0483:df11", "", ("stm32",)),
        ("", "2e8a:0003", "E0C9", ("rp2",)),
        ("", "2e8a:0005", "e77", ("rp2",)),
    ]
    usb_devices.show(found, problem)
    out = capsys.readouterr().out
    assert "2e8a:0003: copy MicroPython's .uf2" in out and "2e8a:0005: no serial port" in out and "mouse" not in out
    checks = [f for f in doctor.machine() if f.what == "no port"]
    assert len(checks) == 3 and all(f.good is None and f.todo for f in checks)


def test_without_libusb_it_says_so(host, monkeypatch, capsys):
    host([])
    for module in ("libusb1", "libusb0", "openusb"):
        monkeypatch.setattr(f"usb.backend.{module}.get_backend", lambda find_library=None: None)
    found, problem = usb_devices.attached()
    usb_devices.show(found, problem)
    out = capsys.readouterr().out
    assert not found and "no board found" in out and "libusb is missing" in out


def test_ids_are_in_one_table():
    from tinyprof_bridge.boards import catalog

    assert not {b.usb for b in catalog.boards()} & set(usb_devices.BOOTLOADERS)
