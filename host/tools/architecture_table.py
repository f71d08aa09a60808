"""The native modules as the table of docs/native_modules.md: built, size, loaded on, logits, instructions a token.

    python host/tools/architecture_table.py [--boards m4-stock,unix-stock]

Each board is an emulated one with stock firmware, or the unix port, that gets the module and runs the demo model."""

import argparse
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tinyprof_bridge.boards import deploy, emulators
from tinyprof_bridge.boards.transport import UnixBoard
from tinyprof_bridge.measure.collect import Request, collect
from tinyprof_bridge.models.demo import DEMO_MODEL
from tinyprof_bridge.progress import Progress
from tinyprof_bridge.records.metrics import tests

# Cores, and the boards that load the module.
MODULES = {
    "armv6m": ("Cortex-M0, M0+ (RP2040, SAMD21, nRF51)", ("m0-stock", "rp2040-stock")),
    "armv7m": ("Cortex-M3, M4 without FPU", ("m3-stock",)),
    "armv7emsp": (
        "Cortex-M4F, M7 and M33 with single precision (STM32F4, nRF52840, RP2350)",
        ("m4-stock", "m7-stock"),
    ),
    "armv7emdp": ("Cortex-M7 with double precision (STM32H7, i.MX RT)", ()),
    "rv32imc": ("RV32 (ESP32-C3, C6, RP2350)", ("rv32-stock",)),
    "x64": ("unix port", ("unix-stock",)),
    "xtensa": ("ESP8266", ()),
    "xtensawin": ("ESP32, S2, S3", ()),
}
CHECK = f"""
import tinyprof
from tinyprof.measure import check
print(check(tinyprof.load({str(DEMO_MODEL)!r}, context=32))[0])
"""


def unix_logits() -> str:
    """Of the unix port that loads the module from a file."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shutil.copytree(deploy.device_package(), folder / "tinyprof")
        for name, data in deploy.native_module("x64").items():
            (folder / name).write_bytes(data)
        unix = UnixBoard(emulators.firmware("unix-stock"), folder, 64 << 20)
        return b"".join(unix.run(CHECK, 120)).decode().strip()


def run(board: str) -> tuple[str, str]:
    """Logits, and instructions a token in decode of 32."""
    if board == "unix-stock":
        return unix_logits(), "(host time)"
    with tempfile.TemporaryDirectory() as folder:
        request = Request(board, DEMO_MODEL, p=(), n=(32,), r=1, warmup=0, timeout=900.0)
        got, _ = collect(request, Path(folder) / "run.jsonl", Progress(quiet=True))
    assert got.check is not None and got.counter is not None and got.model is not None
    per_token = tests(got).set_index("test").loc["tg32", "per_token"]
    unit = "" if got.counter.source == "emulated-icount" else f" {got.counter.unit} ({got.counter.source})"
    streamed = ", streamed" if got.model.placement == "stream" else ""
    return got.check.logits_crc32, f"{per_token:,.0f}{unit}{streamed}"


def rows(wanted: list[str]) -> Iterator[str]:
    for arch, (cores, loaded_on) in MODULES.items():
        path = deploy.package_folder() / "modules" / f"{arch}.mpy"
        head = f"| `{arch}` | {cores} | {f'{path.stat().st_size:,}' if path.is_file() else 'not built'} |"
        there = [board for board in loaded_on if board in wanted and path.is_file()]
        for board in there:
            logits, cost = run(board)
            yield f"{head} `{board}` | {logits} | {cost} |"
        if not there:
            yield f"{head} | | |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    every = [board for _, loaded_on in MODULES.values() for board in loaded_on]
    parser.add_argument("--boards", default=",".join(every), help="those to run (default: all)")
    wanted = parser.parse_args().boards.split(",")
    if unknown := [board for board in wanted if board not in every]:
        parser.error(f"no board {unknown[0]!r}: some of {','.join(every)}")
    print("| architecture | cores | bytes | loaded on, by stock firmware | logits | instructions a token |")
    print("|---|---|---:|---|---|---:|")
    for row in rows(wanted):
        print(row, flush=True)


if __name__ == "__main__":
    main()
