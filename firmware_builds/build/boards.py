"""The boards that need no hardware: their table, and building them. Imports rp2, source, shell.

An image is built again when its inputs change. They are: make's command line, the compiler's version, the origin of
MicroPython's source, the groups of types left out, and the C, make and linker files that go into it (build_files). The
files of this package and the table of boards are not among them: of these, only what reaches make's command line
decides the image, and that is an input already.
"""

import hashlib
import json
import os
import re
import shutil
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .rp2 import RP2, RP2_ENVIRONMENT, RP2040JS, rp2_libraries, simulator
from .shell import BUILD, REPO, fail, fail_with_log, output, run, sha256
from .source import SOURCE, make_environment, source

TABLE = REPO / "host/tinyprof_bridge/boards/emulated_boards.toml"  # the host reads it too, and it explains the fields
PLUGIN = REPO / "firmware_builds/plugin"
IMAGES = {"qemu": "firmware.elf", "rp2": "firmware.bin", "unix": "micropython"}


@dataclass(frozen=True)
class Board:
    """How one image is built."""

    machine: str  # QEMU's machine, "rp2040js", or "host"
    compiler: str  # its prefix
    port: str  # the folder in MicroPython's source
    image: str
    make_args: tuple[str, ...]
    ours: bool = True  # with the native module built in; else MicroPython alone
    default: bool = False  # built where no board is named


def make_args(facts: dict[str, Any], firmware: str) -> Iterator[str]:
    """What make is called with, besides folders, for a board of the table with one of its kinds of firmware."""
    if facts["port"] == "unix":
        yield from (f"VARIANT_DIR={REPO / 'firmware_builds/unix'}", "VARIANT=tinyprof")
        if firmware == "asan":
            yield "SANITIZE=1"
    else:
        name = facts["folder"]
        folder = REPO / "firmware_builds" / facts["port"] / "boards" / name
        if not folder.is_dir():  # a board of MicroPython's own
            folder = SOURCE / "ports" / facts["port"] / "boards" / name
        yield from (f"BOARD={name}", f"BOARD_DIR={folder}")
    if facts["port"] == "rp2":
        yield f"FROZEN_MANIFEST={RP2 / 'manifest.py'}"
    yield from facts.get("make", [])


def table() -> dict[str, Board]:
    """The boards by name, one for each board of the table and kind of firmware."""
    boards = {}
    for board, common in tomllib.loads(TABLE.read_text()).items():
        for firmware in common["firmware"]:
            name = board if firmware == "ours" else f"{board}-{firmware}"
            facts = common | common.get(firmware, {})
            boards[name] = Board(
                facts["machine"],
                facts["compiler"],
                f"ports/{facts['port']}",
                IMAGES[facts["port"]],
                tuple(make_args(facts, firmware)),
                ours=firmware != "stock",
                default=firmware == "ours" and facts.get("default", True),
            )
    return boards


BOARDS = table()
# Names that stand for several boards. Boards with `default = false` may need more tools: they are built by name only.
GROUPS = {
    "default": [name for name, board in BOARDS.items() if board.default],
    "stock": [f"{name}-stock" for name, board in BOARDS.items() if board.default and f"{name}-stock" in BOARDS],
}
MPY_CROSS = Board("host", "", "mpy-cross", "mpy-cross", (), ours=False)
MPY_CROSS_PROGRAM = BUILD / "firmware/mpy-cross/mpy-cross"


def build_files(*folders: str) -> list[Path]:
    """The files in these folders of the repository that go into an image, or run it (.mjs)."""
    kinds = {".c", ".h", ".S", ".s", ".inc", ".mk", ".ld", ".cmake", ".py", ".mjs"}
    return sorted(p for folder in folders for p in (REPO / folder).rglob("*") if p.suffix in kinds)


def digest_of(parts: Iterable[str], files: Iterable[Path]) -> str:
    """The SHA-256 of strings, and of the names and contents of files in the repository."""
    total = hashlib.sha256(repr(list(parts)).encode())
    for path in files:
        total.update(f"{path.relative_to(REPO)}\0{sha256(path)}\0".encode())
    return total.hexdigest()


def compiler_version(board: Board) -> str:
    """The first line that the board's compiler prints about its version."""
    text = output([board.compiler + "gcc", "--version"])
    if not text:
        fail(f"{board.compiler}gcc is missing; run `make tools`", 2)
    return text.splitlines()[0]


def compiler_flags(command: list[str], env: dict[str, str], objects: Path) -> list[str]:
    """The flags that decide the code, as make has them after it has read all its files."""
    by_cmake = objects / "CMakeFiles/firmware.dir/flags.make"
    if by_cmake.exists():
        flags = re.findall(r"^C_FLAGS = (.*)$", by_cmake.read_text(), re.MULTILINE)
    else:
        rule = "tinyprof-flags: ; @echo 'FLAGS:' $(CFLAGS)"
        text = output([*command, f"--eval={rule}", "tinyprof-flags"], env) or ""
        flags = re.findall(r"^FLAGS: (.*)$", text, re.MULTILINE)
    matters = re.compile(r"-(m|O|f|std=|D(NDEBUG|MICROPY|QEMU|TP_|TINYPROF))")
    return [f for f in (flags[-1].split() if flags else []) if matters.match(f)]


def build(name: str, board: Board, info: dict[str, str], env: dict[str, str]) -> None:
    """Builds one image, unless the existing one has the same inputs.

    name: of its folder. info, env: as prepare() returns them.
    """
    objects = BUILD / "obj" / name
    result = BUILD / "firmware" / name
    image, record = result / board.image, result / "build.json"
    command = ["make", "-C", str(SOURCE / board.port), f"BUILD={objects}", *board.make_args]
    command += [f"-j{os.cpu_count() or 1}"]
    files: list[Path] = []
    if board.port == "ports/rp2":
        rp2_libraries()
        env = env | RP2_ENVIRONMENT
        command += [f"MICROPY_MPYCROSS={MPY_CROSS_PROGRAM}", f"MICROPY_MPYCROSS_DEPENDENCY={MPY_CROSS_PROGRAM}"]
        command += [f"USER_C_MODULES={REPO / 'native_modules/micropython.cmake'}"] if board.ours else []
    else:
        # with VPATH alone, make finds the board's own files in the repository, but not the module
        command += [f"USER_C_MODULES={REPO}" if board.ours else f"VPATH={REPO}"]
    if name != "mpy-cross":
        files = build_files("native_modules", f"firmware_builds/{Path(board.port).name}")
    compiler = compiler_version(board)
    what = [part for part in command if not part.startswith(("-j", "USER_C_MODULES=", "VPATH="))]
    how = [*what, compiler, json.dumps(info), json.dumps(env.get("MICROPY_GIT_HASH"))]
    how += env["TINYPROF_WITHOUT"].split()
    how += [RP2040JS] if board.machine == "rp2040js" else []
    inputs = digest_of(how, files)
    if info["origin"] != "MICROPY_DIR" and is_current(image, record, inputs):
        return

    # make does not notice a change of flags: remove what it built with others.
    flags_stamp = objects / "tinyprof.flags"
    recipe = digest_of(how, [p for p in files if p.suffix in (".mk", ".ld", ".cmake")])
    if not flags_stamp.exists() or flags_stamp.read_text() != recipe:
        shutil.rmtree(objects, ignore_errors=True)
        objects.mkdir(parents=True)
        flags_stamp.write_text(recipe)
    for linked in {board.image, "firmware.elf"}:  # link again: a source file may have been removed
        (objects / linked).unlink(missing_ok=True)
    log = BUILD / "log" / f"{name}.txt"
    log.unlink(missing_ok=True)
    if not run(f"building {name}", command, log, env):
        fail_with_log(f"building {name} failed", log)

    result.mkdir(parents=True, exist_ok=True)
    if board.machine == "rp2040js":
        simulator(result)
    temporary = result / "image.tmp"
    shutil.copy(objects / board.image, temporary)
    temporary.replace(image)
    flags = compiler_flags(command, env, objects)
    romfs = next((f.partition("=")[2] for f in flags if f.startswith("-DTP_ROMFS_BASE=")), None)
    facts = {
        "board": name,
        "machine": board.machine,
        "micropython": info["version"],
        "source": info["origin"],
        "compiler": compiler,
        "cflags": flags,
        "romfs_address": romfs,  # where QEMU's loader device puts an image for /rom
        "sha256": sha256(image),
        "inputs": inputs,
    }
    record.write_text(json.dumps(facts, indent=1) + "\n")


def is_current(image: Path, record: Path, inputs: str) -> bool:
    """Whether an image exists, unchanged, and its record has these inputs."""
    try:
        facts = json.loads(record.read_text())
        return (facts["inputs"], facts["sha256"]) == (inputs, sha256(image))
    except (OSError, ValueError, KeyError):
        return False


def plugin() -> None:
    """Builds the counters for QEMU, unless the existing ones have the same inputs."""
    folder, log = BUILD / "plugin", BUILD / "log/plugin.txt"
    result, record = folder / "counters.so", folder / "build.json"
    flags = ["-std=c99", "-O3", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-fvisibility=hidden"]
    files = [*sorted(PLUGIN.iterdir()), REPO / "native_modules/marks/marks.h"]
    inputs = digest_of([*flags, compiler_version(MPY_CROSS)], files)
    if is_current(result, record, inputs):
        return
    folder.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    temporary = folder / "counters.tmp"
    sources = [str(path) for path in files if path.suffix == ".c"]
    if not run("building the counters", ["gcc", *flags, "-o", str(temporary), *sources], log):
        fail_with_log("building the counters for QEMU failed", log)
    temporary.replace(result)
    record.write_text(json.dumps({"inputs": inputs, "sha256": sha256(result)}) + "\n")


def prepare() -> tuple[dict[str, str], dict[str, str]]:
    """MicroPython's version and origin, and the environment to build it in, once mpy-cross is built."""
    if any(c.isspace() for c in f"{REPO}{BUILD}"):
        fail(f"make cannot build in a folder with a space in its name: {REPO}, {BUILD}; rename it", 2)
    info = source()
    env = make_environment(info)
    build("mpy-cross", MPY_CROSS, info, env)
    return info, env


def sanitized(name: str) -> str:
    """The board to build for a name under SANITIZE=1: the unix port with sanitizers, other boards as they are."""
    if BOARDS[name].port != "ports/unix" or name.endswith("-asan"):
        return name
    if f"{name}-asan" not in BOARDS:
        with_asan = " ".join(other for other in BOARDS if other.endswith("-asan"))
        fail(f"{name} cannot be built with SANITIZE=1; these can: {with_asan}", 2)
    return f"{name}-asan"


def boards(names: list[str]) -> None:
    """Builds mpy-cross, the counters for QEMU and the named boards or groups."""
    names = [board for name in names for board in GROUPS.get(name, [name])]
    if os.environ.get("SANITIZE") == "1":
        names = [sanitized(name) for name in names]
    info, env = prepare()
    if any(BOARDS[name].port == "ports/qemu" for name in names):
        plugin()
    for name in names:
        build(name, BOARDS[name], info, env)
