"""Counters of an emulated board that no chip has: QEMU runs our plugin (firmware_builds/plugin), which counts
instructions by class, bytes by memory region, cache misses, branches, and models cycles, for each operator."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import BadInput, RunFailed
from . import emulators

# in the order of firmware_builds/plugin
CLASSES = ("alu", "mul", "load", "store", "branch", "float", "simd", "other")
RANGES = ("weights", "activations", "kv", "plan", "stack", "code", "other")
BOARDS = tuple(name for name, spec in emulators.EMULATED.items() if spec.plugin_core and not spec.stock)
_VALUES = 2 + len(CLASSES) + 3 + 2 * len(RANGES) + 2
_ALLOCATED = 2  # and not 1, writable: flags of an ELF file's section
_CACHE = re.compile(r"(\d{1,7})(K?):(\d{1,4}):(\d{1,4})", re.IGNORECASE)


@dataclass(frozen=True)
class Cache:
    """bytes in lines of line bytes, ways of them in a set."""

    bytes: int
    ways: int
    line: int

    def __str__(self) -> str:
        return f"{self.bytes}:{self.ways}:{self.line}"


@dataclass(frozen=True)
class Wanted:
    """What to simulate. None: no such cache."""

    icache: Cache | None = Cache(16384, 4, 32)
    dcache: Cache | None = Cache(16384, 4, 32)


def cache(option: str, text: str) -> Cache | None:
    """A cache as an option gives it: 16K:4:32, or none."""
    if text == "none":
        return None
    match = _CACHE.fullmatch(text)
    if match is not None:
        size = int(match[1]) * (1024 if match[2] else 1)
        found = Cache(size, int(match[3]), int(match[4]))
        powers = all(n & (n - 1) == 0 and n for n in (found.bytes, found.ways, found.line))
        if powers and found.line >= 4 and found.bytes >= found.ways * found.line and found.bytes <= 1 << 24:
            return found
    raise BadInput(f"{option} takes bytes:ways:line in powers of two, such as 16K:4:32, or none, not '{text}'")


def core_of(board: str) -> str:
    """The core that the plugin models for a board. Raises BadInput for a board without plugin."""
    if board not in emulators.EMULATED or not emulators.EMULATED[board].plugin_core:
        raise BadInput(f"--counters full needs QEMU: --board {', '.join(BOARDS)}, not {board}")
    return emulators.EMULATED[board].plugin_core


def arguments(board: str, wanted: Wanted, out: Path) -> list[str]:
    """What QEMU takes so that the plugin writes to a file. Raises BadInput if it is not built."""
    core = core_of(board)
    plugin = emulators.build_folder() / "plugin" / "counters.so"
    if not plugin.is_file():
        raise BadInput(f"no counters for QEMU ({plugin} is missing): run `make firmware` in a checkout of tinyprof")
    options = {"file": str(plugin), "out": str(out), "core": core}
    if code := _code_of(emulators.firmware(board)):
        options["code"] = f"{code[0]}:{code[1]}"
    options |= {"icache": str(wanted.icache)} if wanted.icache else {}
    options |= {"dcache": str(wanted.dcache)} if wanted.dcache else {}
    return ["-plugin", ",".join(f"{name}={value.replace(',', ',,')}" for name, value in options.items())]


def _code_of(elf: Path) -> tuple[int, int] | None:
    """Address and size of the code, with its constants, in an ELF file of 32 bits."""
    data = elf.read_bytes()
    if data[:6] != b"\x7fELF\x01\x01":
        return None
    try:
        (table,) = struct.unpack_from("<I", data, 0x20)
        entry, count = struct.unpack_from("<HH", data, 0x2E)
        sections = [struct.unpack_from("<IIIIII", data, table + i * entry) for i in range(count)]
    except struct.error:
        return None
    places = [(address, address + size) for _, _, flags, address, _, size in sections if flags & 3 == _ALLOCATED]
    if not places:
        return None
    first = min(begin for begin, _ in places)
    return first, max(end for _, end in places) - first


class Dumps:
    """What the plugin writes into its file, test after test, as fields of records."""

    def __init__(self, core: str, wanted: Wanted, path: Path) -> None:
        self._core = core
        self._wanted = wanted
        self._path = path
        self._at = 0

    def about(self) -> dict[str, object]:
        """The fields of the simulated record."""
        i, d = self._wanted.icache, self._wanted.dcache
        return {
            "kind": "simulated",
            "core": self._core,
            "source": "modelled",
            "icache": i and [i.bytes, i.ways, i.line],
            "dcache": d and [d.bytes, d.ways, d.line],
        }

    def take(self, test: str, runs: int) -> Iterator[dict[str, object]]:
        """The counts of the test that has just ended, as fields of their records."""
        with self._path.open() as file:
            file.seek(self._at)
            while (line := file.readline()) != "end\n":
                if not line.endswith("\n"):
                    raise RunFailed("the emulator counted nothing: build firmware and counters anew (make firmware)")
                yield {"kind": "counts", "test": test, "runs": runs, **self._fields(line)}
            self._at = file.tell()

    def _fields(self, line: str) -> dict[str, object]:
        i, region, *values = map(int, line.split())
        if len(values) != _VALUES:
            raise RunFailed("the emulator's counters are of another version: run `make firmware`")
        take = iter(values)

        def named(names: tuple[str, ...]) -> dict[str, int]:
            return {name: value for name in names if (value := next(take))}

        def misses(cache: Cache | None) -> int | None:
            value = next(take)
            return value if cache else None

        return {
            "i": i,
            "region": region,
            "calls": next(take),
            "instr": next(take),
            "classes": named(CLASSES),
            "cycles": next(take),
            "taken": next(take),
            "not_taken": next(take),
            "loaded": named(RANGES),
            "stored": named(RANGES),
            "icache_misses": misses(self._wanted.icache),
            "dcache_misses": misses(self._wanted.dcache),
        }
