"""Counters that only an emulated board has (--counters full), from tinyprof's QEMU plugin.

The plugin (firmware_builds/plugin) counts, for each operator, instructions by class, bytes by memory region, branches
and cache misses, and models cycles. docs/counters.md describes its figures."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import BadInput, RunFailed
from . import emulators

# Instruction classes and memory regions, in the order in which the plugin writes them.
CLASSES = ("alu", "mul", "load", "store", "branch", "float", "simd", "other")
RANGES = ("weights", "activations", "kv", "plan", "stack", "code", "other")
BOARDS = tuple(name for name, spec in emulators.EMULATED.items() if spec.plugin_core and not spec.stock)
_VALUES = 2 + len(CLASSES) + 3 + 2 * len(RANGES) + 2
_ALLOCATED = 2  # SHF_ALLOC without SHF_WRITE (1): flags of an ELF section that is loaded and read-only
_CACHE = re.compile(r"(\d{1,7})(K?):(\d{1,4}):(\d{1,4})", re.IGNORECASE)


@dataclass(frozen=True)
class Cache:
    """A modelled cache.

    bytes: its size.
    ways: lines in a set.
    line: bytes in a line."""

    bytes: int
    ways: int
    line: int

    def __str__(self) -> str:
        return f"{self.bytes}:{self.ways}:{self.line}"


@dataclass(frozen=True)
class Wanted:
    """The instruction cache and the data cache to model; None for no cache."""

    icache: Cache | None = Cache(16384, 4, 32)
    dcache: Cache | None = Cache(16384, 4, 32)


def cache(option: str, text: str) -> Cache | None:
    """Returns the cache that the user asked for; None for "none".

    option: its name, for the error message.
    text: "none", or bytes:ways:line such as "16K:4:32", each a power of two.
    Raises BadInput for any other text."""
    if text == "none":
        return None
    match = _CACHE.fullmatch(text)
    if match is not None:
        size = int(match[1]) * (1024 if match[2] else 1)
        found = Cache(size, int(match[3]), int(match[4]))
        powers = all(n & (n - 1) == 0 and n for n in (found.bytes, found.ways, found.line))
        if powers and found.line >= 4 and found.bytes >= found.ways * found.line and found.bytes <= 1 << 24:
            return found
    raise BadInput(f"{option} takes bytes:ways:line, each a power of two, such as 16K:4:32, or none, not '{text}'")


def core_of(board: str) -> str:
    """Returns the name of the core that the plugin models for a board. Raises BadInput for a board outside QEMU."""
    if board not in emulators.EMULATED or not emulators.EMULATED[board].plugin_core:
        raise BadInput(f"--counters full needs QEMU and cannot run on {board}: use --board {', '.join(BOARDS)}")
    return emulators.EMULATED[board].plugin_core


def arguments(board: str, wanted: Wanted, out: Path) -> list[str]:
    """Returns the arguments with which QEMU loads the plugin.

    board: a name in emulators.EMULATED.
    out: file that the plugin writes.
    Raises BadInput if the board has no plugin, or it is not built."""
    core = core_of(board)
    plugin = emulators.build_folder() / "plugin" / "counters.so"
    if not plugin.is_file():
        raise BadInput(f"{plugin}: QEMU's counter plugin is missing; run `make firmware` in a checkout of tinyprof")
    options = {"file": str(plugin), "out": str(out), "core": core}
    if code := _code_of(emulators.firmware(board)):
        options["code"] = f"{code[0]}:{code[1]}"
    options |= {"icache": str(wanted.icache)} if wanted.icache else {}
    options |= {"dcache": str(wanted.dcache)} if wanted.dcache else {}
    return ["-plugin", ",".join(f"{name}={value.replace(',', ',,')}" for name, value in options.items())]


def _code_of(elf: Path) -> tuple[int, int] | None:
    """Returns (address, size) of the code and its constants in a 32-bit ELF file; None if it is not one."""
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
    """Reads the plugin's file while a run goes on, and turns its lines into fields of records."""

    def __init__(self, core: str, wanted: Wanted, path: Path) -> None:
        """core: from core_of. path: the plugin's file, as given to arguments()."""
        self._core = core
        self._wanted = wanted
        self._path = path
        self._at = 0

    def about(self) -> dict[str, object]:
        """Returns the fields of the run's `simulated` record."""
        i, d = self._wanted.icache, self._wanted.dcache
        return {
            "kind": "simulated",
            "core": self._core,
            "source": "modelled",
            "icache": i and [i.bytes, i.ways, i.line],
            "dcache": d and [d.bytes, d.ways, d.line],
        }

    def take(self, test: str, runs: int) -> Iterator[dict[str, object]]:
        """Yields the fields of the `counts` records of the test that has just ended.

        runs: its repetitions.
        Raises RunFailed if the plugin wrote nothing, or is of another version."""
        with self._path.open() as file:
            file.seek(self._at)
            while (line := file.readline()) != "end\n":
                if not line.endswith("\n"):
                    raise RunFailed(f"{self._path}: QEMU's counter plugin wrote no counts; run `make firmware` again")
                yield {"kind": "counts", "test": test, "runs": runs, **self._fields(line)}
            self._at = file.tell()

    def _fields(self, line: str) -> dict[str, object]:
        i, region, *values = map(int, line.split())
        if len(values) != _VALUES:
            raise RunFailed("QEMU's counter plugin is of another version than tinyprof-bridge: run `make firmware`")
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
