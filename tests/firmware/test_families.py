"""Firmware of one's own for boards that can be built here: `make families`. It takes minutes."""

import os
import shutil
import struct
import subprocess
import sys

import pytest
from on_board import ROOT
from tinyprof_bridge.boards import emulators
from tinyprof_bridge.boards.emulators import Emulator
from tinyprof_bridge.boards.transport import SerialBoard

FLASH = 0x10000000
# What a UF2 file says of its chip, and the bytes that MicroPython leaves a program.
CHIPS = {"RPI_PICO": (0xE48BFF56, 640 << 10), "RPI_PICO2": (0xE48BFF59, 1 << 20)}

pytestmark = [
    pytest.mark.skipif("TINYPROF_FAMILIES" not in os.environ, reason="takes minutes: make families"),
    pytest.mark.timeout(1800),
]


def build(board):
    command = [sys.executable, str(ROOT / "firmware_builds/build"), "family", "rp2", board]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return emulators.build_folder() / "family" / f"rp2-{board}"


@pytest.mark.parametrize("board", CHIPS)
def test_the_image_is_whole_and_for_its_chip(board):
    folder = build(board)
    family, room = CHIPS[board]
    image = (folder / "firmware.bin").read_bytes()
    assert len(image) < room and b"tinyprof/session.py" in image
    data = b""
    uf2 = (folder / "firmware.uf2").read_bytes()
    for at in range(0, len(uf2), 512):
        magic, magic2, _, address, size, _, _, of = struct.unpack_from("<8I", uf2, at)
        assert (magic, magic2, of) == (0x0A324655, 0x9E5D5157, family)
        assert address == FLASH + len(data)
        data += uf2[at + 32 : at + 32 + size]
    assert data[: len(image)] == image


def test_it_boots_with_the_package_inside(tmp_path, monkeypatch):
    folder = build("RPI_PICO")
    there = emulators.firmware("rp2040").parent
    firmware = tmp_path / "firmware/rp2040"
    shutil.copytree(there, firmware)
    shutil.copy(folder / "firmware.bin", firmware)
    monkeypatch.setenv("TINYPROF_BUILD", str(tmp_path))
    with Emulator("rp2040") as emulator:
        link = SerialBoard(emulator.device)
        said = link.execute("import tinyprof, _tinyprof\nprint(tinyprof.__file__, _tinyprof.build()[1])")
        link.close()
    assert said.split() == [b"tinyprof/__init__.py", b"armv6m"]
