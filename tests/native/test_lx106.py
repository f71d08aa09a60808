"""The kernels on an ESP8266's core, in QEMU: the bits that the host gives, and what they cost.

There is no emulated board of it that runs MicroPython; `pytest -s tests/native/test_lx106.py` prints the costs."""

import shutil
import subprocess

import pytest
from on_board import ROOT

KERNELS = ROOT / "native_modules/kernels"
NATIVE = ROOT / "tests/support/c_programs"
NAMES = {2: "Q4_0", 6: "Q5_0", 8: "Q8_0", 12: "Q4_K", 14: "Q6_K", 35: "TQ2_0", 192: "TP2", 193: "TP3", 194: "TPT"}
MOST = {"Q4_0": 4.1, "Q8_0": 6.0, "TP2": 3.6, "TPT": 3.6, "TP3": 4.1, "Q4_K": 4.1}  # instructions a MAC
MACS = 64 * 256
SOURCES = [str(NATIVE / "products.c"), *map(str, sorted(KERNELS.rglob("*.c")))]
COMMON = ["-Wall", "-Wextra", "-Werror", "-ffp-contract=off", "-fno-strict-aliasing", "-DTP_PATH_FIXED", f"-I{KERNELS}"]


def lines(command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    head, *rows, variant = done.stdout.split("\n")[:-1]
    return int(head.split()[2]), {int(r.split()[0]): [int(v) for v in r.split()[1:]] for r in rows}, variant


def test_an_esp8266_gives_the_bits_of_the_host(tmp_path):
    cross = "xtensa-lx106-elf-gcc"
    for program in (cross, "qemu-system-xtensa"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed: run `python3 firmware_builds/build tools xtensa`")
    subprocess.run(["gcc", "-std=c99", "-O2", *COMMON, *SOURCES, "-o", tmp_path / "host"], check=True)
    bare = ["-std=gnu99", "-O3", "-ffreestanding", "-nostdlib", "-mlongcalls", "-fno-tree-loop-distribute-patterns"]
    bare += [
        "-ffunction-sections",
        "-Wl,--gc-sections",
        "-T",
        str(NATIVE / "lx106/sim.ld"),
        str(NATIVE / "lx106/start.S"),
    ]
    subprocess.run([cross, *bare, *COMMON, *SOURCES, "-lgcc", "-o", tmp_path / "lx106.elf"], check=True)
    _, host, _ = lines([str(tmp_path / "host")])
    qemu = [
        "qemu-system-xtensa",
        "-M",
        "sim",
        "-cpu",
        "lx106",
        "-icount",
        "shift=0",
        "-semihosting",
        "-display",
        "none",
    ]
    qemu += ["-monitor", "none", "-serial", "none", "-kernel", str(tmp_path / "lx106.elf")]
    turns, board, variant = lines(qemu)
    assert variant == "scalar" and board.keys() == host.keys() == NAMES.keys()
    for type_, (same, crc, fast, portable) in board.items():
        assert (same, crc) == (1, host[type_][1]), NAMES[type_]
        per_mac = 2_000_000 / turns / MACS  # instructions for a count: a turn has two
        assert fast * per_mac <= MOST.get(NAMES[type_], 100), NAMES[type_]
        print(f"{NAMES[type_]:6} {fast * per_mac:6.2f} instructions a MAC, portable {portable * per_mac:6.1f}")
