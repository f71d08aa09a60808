"""Firmware for real boards, with tinyprof inside. Imports boards, rp2, source, shell."""

import os
import sys

from .boards import MPY_CROSS_PROGRAM, prepare
from .rp2 import RP2_ENVIRONMENT, rp2_libraries
from .shell import BUILD, REPO, fail, fail_with_log, run
from .source import SOURCE

# Ports that build a user C module by CMake; the others build it by Make.
CMAKE_PORTS = ("rp2", "esp32")
FAMILIES = (*CMAKE_PORTS, "stm32", "nrf", "samd", "mimxrt", "renesas-ra", "alif")
UF2_FAMILIES = {"2040": "0xe48bff56", "2350": "0xe48bff59"}


def family(port: str, board: str) -> None:
    """Builds firmware for a real board, with the native module built in and the package frozen; prints its folder.

    Needs MICROPY_DIR, a tree with the port's submodules, and the SDK that MicroPython's documentation of the port
    names; rp2 needs neither.
    """
    pinned = not os.environ.get("MICROPY_DIR")
    if pinned and port != "rp2":
        fail(
            f"port {port} needs its submodules; run `make submodules` in a clone of MicroPython, set MICROPY_DIR to it",
            2,
        )
    _, env = prepare()
    env |= {k: v for k, v in os.environ.items() if k.startswith(("IDF_", "PICO_", "ESP"))}
    if pinned:
        rp2_libraries()
        env |= RP2_ENVIRONMENT
    folder = BUILD / "family" / "-".join([port, board, *env["TINYPROF_WITHOUT"].split()])
    command = ["make", "-C", str(SOURCE / "ports" / port), f"BUILD={folder}", f"-j{os.cpu_count() or 1}"]
    command += [f"MICROPY_MPYCROSS={MPY_CROSS_PROGRAM}", f"MICROPY_MPYCROSS_DEPENDENCY={MPY_CROSS_PROGRAM}"]
    command += [f"FROZEN_MANIFEST={REPO / 'firmware_builds/manifest.py'}"]
    command += [f"USER_C_MODULES={REPO / 'native_modules/micropython.cmake' if port in CMAKE_PORTS else REPO}"]
    command += [f"BOARD={board}"]
    log = BUILD / "log" / f"family-{port}-{board}.txt"
    log.unlink(missing_ok=True)
    if not run(f"building {port} {board}", command, log, env):
        fail_with_log(f"building {port} {board} failed", log)
    if pinned:  # without picotool the port does not make one
        uf2 = [sys.executable, str(SOURCE / "tools/uf2conv.py"), "-b", "0x10000000", "-c"]
        uf2 += ["-f", UF2_FAMILIES["2350" if "pico2" in board.lower() else "2040"]]
        uf2 += ["-o", str(folder / "firmware.uf2"), str(folder / "firmware.bin")]
        if not run("converting", uf2, log):
            fail_with_log("converting to UF2 failed", log)
    print(folder)
