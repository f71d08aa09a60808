"""Prints the table of docs/native_modules.md: size, boards, logits and instructions per token of each native module.

    python host/tools/architecture_table.py [--boards m4-stock,unix-stock]

The boards are emulated ones with stock firmware, and the unix port. Each gets its module and runs the demo model."""

import argparse
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tinyprof_bridge import device_package
from tinyprof_bridge.boards import deploy, emulators
from tinyprof_bridge.boards.emulators import EMULATED
from tinyprof_bridge.boards.transport import UnixBoard
from tinyprof_bridge.measure.collect import Request, collect
from tinyprof_bridge.models.demo import DEMO_MODEL
from tinyprof_bridge.progress import Progress
from tinyprof_bridge.records.metrics import tests

# Cores that each module is for.
MODULES = {
    "armv6m": "Cortex-M0, M0+ (RP2040, SAMD21, nRF51)",
    "armv7m": "Cortex-M3, M4 without FPU",
    "armv7emsp": "Cortex-M4F, M7 and M33 with single precision (STM32F4, nRF52840, RP2350)",
    "armv7emdp": "Cortex-M7 with double precision (STM32H7, i.MX RT)",
    "rv32imc": "RV32 (ESP32-C3, C6, RP2350)",
    "x64": "unix port",
    "xtensa": "ESP8266",
    "xtensawin": "ESP32, S2, S3",
}
CHECK = f"""
import tinyprof
from tinyprof.measure import check
print(check(tinyprof.load({str(DEMO_MODEL)!r}, context=32))[0])
"""


def unix_logits() -> str:
    """Returns the hash of the logits of the unix port with stock firmware, which loads the module from a file."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shutil.copytree(device_package.folder(), folder / "tinyprof")
        for name, data in deploy.native_module("x64").items():
            (folder / name).write_bytes(data)
        unix = UnixBoard(emulators.firmware("unix-stock"), folder, 64 << 20)
        return b"".join(unix.run(CHECK, 120)).decode().strip()


def run(board: str) -> tuple[str, str]:
    """Returns the hash of the logits, and the instructions per token of decoding 32 tokens, as text."""
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


def loaded_on(arch: str) -> list[str]:
    """Returns the boards whose stock firmware loads the module of an architecture."""
    if arch == "x64":
        return ["unix-stock"]
    return [name for name, spec in EMULATED.items() if spec.stock and spec.arch == arch]


def rows(wanted: list[str]) -> Iterator[str]:
    """Yields the rows of the table.

    wanted: boards to run; modules of other boards get empty cells."""
    for arch, cores in MODULES.items():
        path = device_package.PACKAGE / "modules" / f"{arch}.mpy"
        head = f"| `{arch}` | {cores} | {f'{path.stat().st_size:,}' if path.is_file() else 'not built'} |"
        there = [board for board in loaded_on(arch) if board in wanted and path.is_file()]
        for board in there:
            logits, cost = run(board)
            yield f"{head} `{board}` | {logits} | {cost} |"
        if not there:
            yield f"{head} | | |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    every = [board for arch in MODULES for board in loaded_on(arch)]
    parser.add_argument("--boards", default=",".join(every), help="boards to run, separated by commas (default: all)")
    wanted = parser.parse_args().boards.split(",")
    if unknown := [board for board in wanted if board not in every]:
        parser.error(f"no board {unknown[0]!r}; choose from {','.join(every)}")
    print("| architecture | cores | bytes | loaded on, by stock firmware | logits | instructions per token |")
    print("|---|---|---:|---|---|---:|")
    for row in rows(wanted):
        print(row, flush=True)


if __name__ == "__main__":
    main()
