#!/usr/bin/env python3
"""Builds what tinyprof runs on without hardware: emulated boards and the unix port.

    build tools [xtensa|rp2040]   install the compilers and emulators that are missing
    build source           get MicroPython's source, verified
    build boards [NAME..]  build the named boards, all of them by default
    build modules [ARCH..] build the native modules for stock firmware
    build family PORT BOARD  build firmware with tinyprof inside, from the tree $MICROPY_DIR

Everything is written below build/, or below $TINYPROF_BUILD. $MICROPY_DIR names a
MicroPython tree to use instead of the pinned release; that tree is only read.
$MICROPY_VERSION chooses among the pinned releases, below a $TINYPROF_BUILD of its own.
$TINYPROF_WITHOUT names groups of types that modules and images do without: LEGACY K TQ OWN.
"""

from __future__ import annotations

import argparse
import fcntl
import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

REPO = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("TINYPROF_BUILD") or REPO / "build").resolve()
SOURCE = BUILD / "micropython"
SOURCE_INFO = BUILD / "micropython.json"
UPSTREAM = "https://github.com/micropython/micropython"
RP2 = REPO / "firmware_builds/rp2"
PLUGIN = REPO / "firmware_builds/plugin"
RP2_ENVIRONMENT = {"CMAKE_ARGS": "-DPICO_NO_PICOTOOL=1"}  # which would be fetched, for a UF2 file only


@dataclass(frozen=True)
class Release:
    """A pinned MicroPython release. The tarball is the distribution's, without submodules."""

    version: str
    tarball: str
    sha256: str
    commit: str  # what the tag v<version> points to
    date: int  # of that commit, as seconds since 1970


# The tarball of 1.26.1 holds the same files as that commit, but for one prebuilt binary of
# another port.
RELEASES = [
    Release(
        "1.26.1",
        "micropython_1.26.1+ds.orig.tar.xz",
        "f5ad2ec89d3e921f753d448955af98b6005655f84ba26087dde6ba0e8d062f34",
        "647c8b96cae7e202c7a020395b7cfe65e5b8ce04",
        1757564472,
    ),
    Release(
        "1.25.0",
        "micropython_1.25.0+ds.orig.tar.xz",
        "7b25be99a502f070b2de81dafc08da7051d992325d6e67daa9045a918fffdbea",
        "f498a16c7db6d4b2de200b3e0856528dfe0613c3",
        1744727310,
    ),
]

# What the rp2 port takes from other projects: folder below lib, Debian package, whether that is a source
# package, versions that fit. Later releases of the SDK's package are made for another C library.
RP2_SUITE = "trixie"
RP2_LIBRARIES = [
    ("pico-sdk", "pico-sdk-source", False, "2.1.1-"),
    ("tinyusb", "tinyusb-source", False, "0.18.0+"),
    ("mbedtls", "mbedtls", True, "3.6."),
]
# The simulator of the RP2040: an npm package without dependencies.
RP2040JS = "rp2040js@1.4.1"
RP2040JS_SHA256 = "83328017cf7e503477e8d218cb742d3e843782d795edd175a0b81346c194e56f"

VERSION = os.environ.get("MICROPY_VERSION")
WANTED = [release for release in RELEASES if VERSION in (None, release.version)]

# Where each distribution may carry those source packages.
SUITES = {
    "debian": (["forky", "sid", "trixie"], "main"),
    "ubuntu": (["resolute", "questing", "plucky"], "main universe"),
}


@dataclass(frozen=True)
class Board:
    """How one board is built."""

    machine: str  # QEMU's machine, "rp2040js", or "host"
    cross: str  # prefix of the compiler
    port: str
    image: str
    make_args: tuple[str, ...]
    ours: bool = True  # with the native module built in; else MicroPython alone, as people have it


def qemu_board(name: str, machine: str, cross: str) -> Board:
    """A board of MicroPython's qemu port, defined in firmware_builds/qemu/boards."""
    board_dir = REPO / "firmware_builds/qemu/boards" / name
    args = (f"BOARD={name}", f"BOARD_DIR={board_dir}")
    return Board(machine, cross, "ports/qemu", "firmware.elf", args)


def pico(name: str, ours: bool) -> Board:
    """A board of MicroPython's rp2 port, run by a simulator of the chip."""
    folder = REPO / "firmware_builds/rp2/boards" / name if ours else SOURCE / "ports/rp2/boards" / name
    args = (f"BOARD={name}", f"BOARD_DIR={folder}", f"FROZEN_MANIFEST={RP2 / 'manifest.py'}")
    return Board("rp2040js", ARM, "ports/rp2", "firmware.bin", args, ours)


def unix_board(*extra: str) -> Board:
    """The unix port with the options in firmware_builds/unix."""
    args = (f"VARIANT_DIR={REPO / 'firmware_builds/unix'}", "VARIANT=tinyprof", *extra)
    return Board("host", "", "ports/unix", "micropython", args)


ARM = "arm-none-eabi-"
RISCV = "riscv64-unknown-elf-"
BOARDS = {
    "m0": qemu_board("TP_M0", "mps2-an385", ARM),
    "m3": qemu_board("TP_M3", "mps2-an385", ARM),
    "m4": qemu_board("TP_M4", "mps2-an386", ARM),
    "m7": qemu_board("TP_M7", "mps2-an500", ARM),
    "m33": qemu_board("TP_M33", "mps2-an505", ARM),
    "m55": qemu_board("TP_M55", "mps3-an547", ARM),
    "rv32": qemu_board("TP_RV32", "virt", RISCV),
    "unix": unix_board(),
    "unix-fixed": unix_board("TP_PATH=fixed"),
    "unix-avx2": unix_board("TP_MARCH=x86-64-v3"),  # for valgrind, which knows no AVX-512
    "unix-asan": unix_board("SANITIZE=1"),
    "unix-fixed-asan": unix_board("SANITIZE=1", "TP_PATH=fixed"),
}
# The same machines with stock firmware, which take the native modules.
STOCK = ("m0", "m3", "m4", "m7", "rv32", "unix")
BOARDS |= {f"{name}-stock": replace(BOARDS[name], ours=False) for name in STOCK}
DEFAULT_BOARDS = [name for name in BOARDS if not name.endswith(("-asan", "-avx2", "-stock"))]
# They need more tools than the others: `make rp2040`.
BOARDS |= {"rp2040": pico("TP_PICO", True), "rp2040-stock": pico("RPI_PICO", False)}
MPY_CROSS = Board("host", "", "mpy-cross", "mpy-cross", (), ours=False)
MPY_CROSS_PROGRAM = BUILD / "firmware/mpy-cross/mpy-cross"
# Native modules: architecture of .mpy files, prefix of its compiler. xtensawin's is Espressif's.
MODULES = {
    "x64": "",
    "armv6m": ARM,
    "armv7m": ARM,
    "armv7emsp": ARM,
    "armv7emdp": ARM,
    "rv32imc": RISCV,
    "xtensa": "xtensa-lx106-elf-",
    "xtensawin": "xtensa-esp32-elf-",
}
MODULE_FOLDER = REPO / "host/tinyprof_bridge/modules"
TYPE_GROUPS = ("LEGACY", "K", "TQ", "OWN")  # of weights, see docs/kernels.md


# Ports that take a user C module by CMake; the others do by Make.
CMAKE_PORTS = ("rp2", "esp32")
FAMILIES = (*CMAKE_PORTS, "stm32", "nrf", "samd", "mimxrt", "renesas-ra", "alif")


def fail(message: str, code: int = 1) -> NoReturn:
    """Ends the program with a message."""
    print(f"build: {message}", file=sys.stderr)
    sys.exit(code)


def run(what: str, command: list[str], log: Path, env: dict[str, str] | None = None) -> bool:
    """Runs a command into a log file; says what it does once that takes over 2 seconds."""
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with log.open("ab") as out:
        try:
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=env)
        except OSError as error:
            out.write(f"{error}\n".encode())
            return False
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        print(f"{what} ...", end="", flush=True)
        process.wait()
        print(f" {time.monotonic() - start:.0f} s", flush=True)
    return process.returncode == 0


def output(command: list[str], env: dict[str, str] | None = None) -> str | None:
    """What a command prints, or None if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None


def fail_with_log(message: str, log: Path) -> NoReturn:
    """Ends the program with the end of a log."""
    for line in log.read_text(errors="replace").splitlines()[-15:]:
        print(line, file=sys.stderr)
    fail(f"{message}; the whole log: {log}")


def sha256(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Tools


def has_command(*names: str) -> bool:
    """Whether all these programs are installed."""
    return all(shutil.which(name) for name in names)


def has_header(compiler: str, header: str) -> bool:
    """Whether a compiler finds a header of its C library."""
    code = f'echo "#include <{header}>" | {compiler} -E - '
    return output(["sh", "-c", code]) is not None


def has_picolibc() -> bool:
    """Whether the RISC-V compiler finds picolibc."""
    path = output([RISCV + "gcc", "--print-file-name=picolibc.specs"]) or ""
    return path.startswith("/")


# (what must hold, packages that give it: the first that the distribution has)
TOOLS: list[tuple[Callable[[], bool], list[str]]] = [
    (lambda: has_command("make"), ["make"]),
    (lambda: has_command("git"), ["git"]),
    (lambda: output([sys.executable, "-c", "import ensurepip"]) is not None, ["python3-venv"]),
    (lambda: has_command("gcc"), ["gcc"]),
    (lambda: has_header("gcc", "stdio.h"), ["libc6-dev"]),
    (lambda: has_command(ARM + "gcc"), ["gcc-arm-none-eabi"]),
    (lambda: has_header(ARM + "gcc", "stdint.h"), ["libnewlib-arm-none-eabi"]),
    (lambda: has_command(RISCV + "gcc"), ["gcc-riscv64-unknown-elf"]),
    (has_picolibc, ["picolibc-riscv64-unknown-elf"]),
    (lambda: has_command("qemu-system-arm"), ["qemu-system-arm"]),
    (lambda: has_command("qemu-system-riscv32"), ["qemu-system-riscv", "qemu-system-misc"]),
]


# Only for tests on an ESP8266's core.
XTENSA_TOOLS: list[tuple[Callable[[], bool], list[str]]] = [
    (lambda: has_command("xtensa-lx106-elf-gcc"), ["gcc-xtensa-lx106"]),
    (lambda: has_command("qemu-system-xtensa"), ["qemu-system-misc"]),
]


UF2_FAMILIES = {"2040": "0xe48bff56", "2350": "0xe48bff59"}

# Only for the RP2040 in its simulator.
RP2_TOOLS: list[tuple[Callable[[], bool], list[str]]] = [
    (lambda: has_command("cmake"), ["cmake"]),
    (lambda: has_command("dpkg-deb"), ["dpkg"]),
    (
        lambda: (output([ARM + "g++", "--print-file-name=libstdc++.a"]) or "").startswith("/"),
        ["libstdc++-arm-none-eabi-newlib"],
    ),
    (lambda: has_command("node"), ["nodejs"]),
    (lambda: has_command("npm"), ["npm"]),
]


MORE_TOOLS = {"xtensa": XTENSA_TOOLS, "rp2040": RP2_TOOLS}


def missing_tools(wanted: list[tuple[Callable[[], bool], list[str]]]) -> list[list[str]]:
    """The packages, with their alternatives, of the tools that are not there."""
    return [packages for present, packages in wanted if not present()]


def available(packages: list[str]) -> str:
    """The first of these packages that can be installed."""
    for package in packages:
        found = output(["apt-cache", "policy", package]) or ""
        if re.search(r"Candidate: (?!\(none\))", found):
            return package
    return packages[-1]


def tools(wanted: list[tuple[Callable[[], bool], list[str]]]) -> None:
    """Installs the missing tools, or says which they are."""
    missing = missing_tools(wanted)
    if not missing:
        return
    if not has_command("apt-get"):
        fail("please install these tools: " + " ".join(packages[-1] for packages in missing), 2)
    if os.geteuid() == 0:
        sudo = ["env"]
    elif output(["sudo", "-n", "true"]) is not None:
        sudo = ["sudo", "-n", "env"]
    else:
        names = " ".join(available(packages) for packages in missing)
        fail(f"tools are missing; please run: sudo apt-get install {names}", 2)
    apt = [*sudo, "DEBIAN_FRONTEND=noninteractive", "apt-get"]
    log = BUILD / "log/tools.txt"
    log.unlink(missing_ok=True)
    run("reading package lists", [*apt, "update"], log)  # a stale list may still do
    names_list = [available(packages) for packages in missing]
    install = [*apt, "install", "-y", "--no-install-recommends", *names_list]
    if not run("installing " + " ".join(names_list), install, log):
        fail_with_log("apt-get install failed", log)
    if missing := missing_tools(wanted):
        fail("still missing: " + " ".join(packages[-1] for packages in missing), 2)


# MicroPython's source


def os_release() -> dict[str, str]:
    """The fields of /etc/os-release."""
    try:
        text = Path("/etc/os-release").read_text()
    except OSError:
        return {}
    return {k: v.strip("\"'") for k, v in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)}


def apt_mirrors(codename: str) -> list[tuple[str, str]]:
    """The archives this machine takes its release from: (address, Signed-By or "")."""
    folder = Path("/etc/apt")
    files = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]
    mirrors: list[tuple[str, str]] = []
    for path in files:
        try:
            text = path.read_text()
        except OSError:
            continue
        if path.suffix == ".sources":
            mirrors += deb822_mirrors(text, codename)
        elif path.suffix == ".list":
            mirrors += one_line_mirrors(text, codename)
    return list(dict.fromkeys(mirrors))


def deb822_mirrors(text: str, codename: str) -> Iterable[tuple[str, str]]:
    """Mirrors of a release in the stanzas of a .sources file."""
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)
    for stanza in re.split(r"\n\s*\n", text):
        pairs = re.findall(r"^([\w-]+):[ \t]*(.*(?:\n[ \t].*)*)", stanza, re.MULTILINE)
        fields = {key.lower(): value.strip() for key, value in pairs}
        if codename in fields.get("suites", "").split() and fields.get("enabled", "yes") != "no":
            for uri in fields.get("uris", "").split():
                yield uri, fields.get("signed-by", "")


def one_line_mirrors(text: str, codename: str) -> Iterable[tuple[str, str]]:
    """Mirrors of a release in the lines of a .list file."""
    line = r"^\s*deb(?:-src)?\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s"
    for options, uri, suite in re.findall(line, text, re.MULTILINE):
        if suite == codename and not uri.startswith("cdrom:"):
            key = re.search(r"signed-by=(\S+)", options)
            yield uri, key[1] if key else ""


def apt_options(folder: Path) -> list[str]:
    """Makes apt use its own source list and folders, and leave the system's alone."""
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    settings = {
        "Dir::Etc::sourcelist": folder / "mirror.sources",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::Lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "Acquire::Languages": "none",
        "Acquire::http::Timeout": "20",
        "Acquire::https::Timeout": "20",
        "APT::Sandbox::User": "root",
    }
    return [f"-o{key}={value}" for key, value in settings.items()]


def read_lists(mirror: tuple[str, str], suite: str, components: str, types: str, log: Path) -> list[str]:
    """Reads the package lists of a suite; returns apt's options for it, none where there is no such suite."""
    folder = BUILD / "apt" / suite
    options = apt_options(folder)
    uri, signed_by = mirror
    fields = f"Types: {types}\nURIs: {uri}\nSuites: {suite}\nComponents: {components}\n"
    if signed_by:
        fields += f"Signed-By: {signed_by}\n"
    (folder / "mirror.sources").write_text(fields)
    done = run(f"reading the package lists of {suite}", ["apt-get", *options, "update"], log)
    return options if done else []


def source_versions(options: list[str], package: str) -> list[str]:
    """Versions of a source package in the lists."""
    text = output(["apt-cache", *options, "showsrc", package]) or ""
    return re.findall(r"^Version: (\S+)", text, re.MULTILINE)


def from_distribution() -> tuple[Release, Path] | None:
    """Downloads the source package of a pinned release; None if there is none to be had."""
    system = os_release()
    suites, components = SUITES.get(system.get("ID", ""), ([], ""))
    if not has_command("apt-get", "apt-cache") or not suites:
        return None
    log = BUILD / "log/source.txt"
    log.unlink(missing_ok=True)
    seen: dict[str, tuple[list[str], str]] = {}  # release -> apt's options, version
    for mirror in apt_mirrors(system.get("VERSION_CODENAME", "")):
        for suite in suites:
            options = read_lists(mirror, suite, components, "deb-src", log)
            if not options:
                continue
            for version in source_versions(options, "micropython"):
                seen.setdefault(version.split("+")[0], (options, version))
            if WANTED[0].version in seen:
                break
    for release in WANTED:
        if release.version in seen:
            options, version = seen[release.version]
            if tarball := download(release, options, version, log):
                return release, tarball
    return None


def download(release: Release, options: list[str], version: str, log: Path) -> Path | None:
    """Downloads and verifies one source package."""
    folder = BUILD / "download"
    folder.mkdir(parents=True, exist_ok=True)
    tarball = folder / release.tarball
    fetch = ["env", "-C", str(folder), "apt-get", *options]
    fetch += ["source", "--download-only", f"micropython={version}"]
    if not run(f"downloading MicroPython {release.version}", fetch, log) or not tarball.exists():
        return None
    return tarball


def unpack(release: Release, tarball: Path) -> None:
    """Unpacks a tarball into SOURCE, if its contents are what they should be."""
    digest = sha256(tarball)
    if digest != release.sha256:
        tarball.unlink()
        fail(f"{tarball.name}: SHA-256 is {digest}, not {release.sha256}", 2)
    temporary = BUILD / "unpack.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    with tarfile.open(tarball) as archive:
        if hasattr(tarfile, "data_filter"):
            archive.extractall(temporary, filter="data")
        else:
            archive.extractall(temporary)
    (top,) = temporary.iterdir()
    top.rename(SOURCE)
    temporary.rmdir()


def clone(release: Release) -> bool:
    """Clones a release from upstream into SOURCE; False if that cannot be reached."""
    log = BUILD / "log/source.txt"
    temporary = BUILD / "clone.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    command = ["git", "-c", "advice.detachedHead=false", "clone", "--depth", "1"]
    command += ["--branch", f"v{release.version}", UPSTREAM, str(temporary)]
    env = os.environ | {"GIT_TERMINAL_PROMPT": "0"}
    if not run(f"cloning MicroPython {release.version}", command, log, env):
        return False
    commit = (output(["git", "-C", str(temporary), "rev-parse", "HEAD"]) or "").strip()
    if commit != release.commit:
        shutil.rmtree(temporary)
        fail(f"tag v{release.version} is commit {commit}, not {release.commit}", 2)
    temporary.rename(SOURCE)
    return True


def remove(path: Path) -> None:
    """Removes a tree, or a link to one."""
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def tree_version(tree: Path) -> str:
    """The version that a MicroPython tree says it is."""
    try:
        text = (tree / "py/mpconfig.h").read_text()
        (tree / "ports/qemu/Makefile").stat()
    except OSError:
        fail(f"{tree} is no MicroPython tree of version 1.25 or later", 2)
    parts = re.findall(r"^#define MICROPY_VERSION_(?:MAJOR|MINOR|MICRO) (\d+)", text, re.MULTILINE)
    return ".".join(parts)


def source() -> dict[str, str]:
    """Makes SOURCE MicroPython's source and says where it is from."""
    BUILD.mkdir(parents=True, exist_ok=True)
    own_tree = os.environ.get("MICROPY_DIR")
    try:
        info = dict(json.loads(SOURCE_INFO.read_text()))
    except (OSError, ValueError):
        info = {}
    if own_tree:
        tree = Path(own_tree).resolve()
        info = {"version": tree_version(tree), "origin": "MICROPY_DIR", "tree": str(tree)}
        remove(SOURCE)
        SOURCE.symlink_to(tree)
    elif info and info["origin"] != "MICROPY_DIR" and (SOURCE / "py").is_dir():
        return info
    else:
        remove(SOURCE)
        if found := from_distribution():
            release, tarball = found
            unpack(release, tarball)
            info = {"version": release.version, "origin": release.tarball}
        elif clone(WANTED[0]):
            info = {"version": WANTED[0].version, "origin": "git " + WANTED[0].commit}
        else:
            log = BUILD / "log/source.txt"
            fail(f"no source of MicroPython {WANTED[0].version}: set MICROPY_DIR; log: {log}")
    SOURCE_INFO.write_text(json.dumps(info, indent=1) + "\n")
    return info


# What the rp2 port needs besides


def rp2_libraries() -> None:
    """Puts what the rp2 port takes from other projects below SOURCE/lib, unless it is there."""
    missing = [library for library in RP2_LIBRARIES if not any((SOURCE / "lib" / library[0]).glob("*"))]
    if not missing:
        return
    if SOURCE.is_symlink():
        fail("the tree $MICROPY_DIR lacks the rp2 port's submodules: run `make -C ports/rp2 submodules` there", 2)
    log = BUILD / "log/rp2.txt"
    log.unlink(missing_ok=True)
    release = os_release()
    options: list[str] = []
    if release.get("ID") == "debian" and has_command("apt-get"):
        for mirror in apt_mirrors(release.get("VERSION_CODENAME", "")):
            options = options or read_lists(mirror, RP2_SUITE, "main", "deb deb-src", log)
    if not options:
        fail(f"no packages of Debian {RP2_SUITE}: set MICROPY_DIR to a clone with the rp2 port's submodules")
    for folder, package, is_source, wanted in missing:
        rp2_library(SOURCE / "lib" / folder, package, is_source, wanted, options, log)
    # the port asks whether this is there, and takes nothing from it
    marker = SOURCE / "lib/micropython-lib/README.md"
    marker.parent.mkdir(exist_ok=True)
    marker.touch()


def rp2_library(target: Path, package: str, is_source: bool, wanted: str, options: list[str], log: Path) -> None:
    """Downloads one package, which apt authenticates, and unpacks it."""
    if is_source:
        versions = source_versions(options, package)
    else:
        text = output(["apt-cache", *options, "madison", package]) or ""
        versions = [line.split("|")[1].strip() for line in text.splitlines() if line.count("|") == 2]
    version = next((v for v in versions if v.startswith(wanted)), None)
    if version is None:
        fail(f"Debian {RP2_SUITE} has no {package} {wanted}*, but {' '.join(versions) or 'none'}")
    temporary = BUILD / "unpack.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    command = ["source", "--download-only"] if is_source else ["download"]
    fetch = ["env", "-C", str(temporary), "apt-get", *options, *command, f"{package}={version}"]
    if not run(f"downloading {package} {version}", fetch, log):
        fail_with_log(f"downloading {package} failed", log)
    shutil.rmtree(target, ignore_errors=True)
    if is_source:
        (archive,) = temporary.glob("*.orig.tar.*")
        target.mkdir()
        unpacked = run("unpacking", ["tar", "-xf", str(archive), "-C", str(target), "--strip-components=1"], log)
    else:
        (archive,) = temporary.glob("*.deb")
        unpacked = run("unpacking", ["dpkg-deb", "-x", str(archive), str(temporary / "x")], log)
    if not unpacked:
        fail_with_log(f"unpacking {archive.name} failed", log)
    if not is_source:
        (temporary / "x/usr/src" / target.name).rename(target)
        (target / "README.md").touch()  # the port asks for one
        (target / "lib/tinyusb").unlink(missing_ok=True)  # a link to what this file puts beside
    shutil.rmtree(temporary)


def simulator(folder: Path) -> None:
    """Puts what runs an RP2040 image beside it: the simulator, our stand-in for the boot ROM, the script."""
    shutil.copy(RP2 / "simulate.mjs", folder)
    log = BUILD / "log/rp2.txt"
    elf = BUILD / "obj/bootrom.elf"
    compile_rom = [ARM + "gcc", "-mcpu=cortex-m0plus", "-O2", "-std=c99", "-Wall", "-Wextra", "-Werror"]
    compile_rom += ["-ffreestanding", "-fno-tree-loop-distribute-patterns", "-nostdlib", "-T", str(RP2 / "bootrom.ld")]
    compile_rom += [str(RP2 / "bootrom.c"), "-lgcc", "-o", str(elf)]
    copy = [ARM + "objcopy", "-O", "binary", str(elf), str(folder / "bootrom.bin")]
    if not run("building the boot ROM", compile_rom, log) or not run("building the boot ROM", copy, log):
        fail_with_log("building the boot ROM failed", log)
    download = BUILD / "download"
    download.mkdir(exist_ok=True)
    archive = download / (RP2040JS.replace("@", "-") + ".tgz")
    if not archive.exists():
        pack = ["npm", "pack", "--silent", f"--pack-destination={download}", RP2040JS]
        if not run(f"downloading {RP2040JS}", pack, log) or not archive.exists():
            fail_with_log(f"downloading {RP2040JS} failed", log)
    if (digest := sha256(archive)) != RP2040JS_SHA256:
        archive.unlink()
        fail(f"{archive.name}: SHA-256 is {digest}, not {RP2040JS_SHA256}", 2)
    target = folder / "rp2040js"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    if not run("unpacking", ["tar", "-xf", str(archive), "-C", str(target), "--strip-components=1"], log):
        fail_with_log(f"unpacking {archive.name} failed", log)


# Boards


def build_files(*folders: str) -> list[Path]:
    """The files of this repository in these folders that go into an image."""
    kinds = {".c", ".h", ".S", ".s", ".inc", ".mk", ".ld", ".cmake"}
    return sorted(p for folder in folders for p in (REPO / folder).rglob("*") if p.suffix in kinds)


def digest_of(parts: Iterable[str], files: Iterable[Path]) -> str:
    """One hash over strings and files."""
    total = hashlib.sha256(repr(list(parts)).encode())
    for path in files:
        total.update(f"{path.relative_to(REPO)}\0{sha256(path)}\0".encode())
    return total.hexdigest()


def make_environment(info: dict[str, str]) -> dict[str, str]:
    """A small environment: a stray CFLAGS, or a date, must not change the image."""
    env = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "TMPDIR")}
    env |= {"LC_ALL": "C", "PYTHONDONTWRITEBYTECODE": "1"}
    without = os.environ.get("TINYPROF_WITHOUT", "").split()
    if unknown := set(without) - set(TYPE_GROUPS):
        fail(f"TINYPROF_WITHOUT takes {' '.join(TYPE_GROUPS)}, not {min(unknown)}", 2)
    env["TINYPROF_WITHOUT"] = " ".join(without)
    for release in RELEASES:
        if release.version == info["version"] and info["origin"] != "MICROPY_DIR":
            # Without these MicroPython would take its version from our git repository.
            env["MICROPY_GIT_TAG"] = f"v{release.version}"
            env["MICROPY_GIT_HASH"] = release.commit[:10]
            env["SOURCE_DATE_EPOCH"] = str(release.date)
    return env


def compiler_version(board: Board) -> str:
    """The first line that the board's compiler says about itself."""
    text = output([board.cross + "gcc", "--version"])
    if not text:
        fail(f"{board.cross}gcc is missing; run: make tools", 2)
    return text.splitlines()[0]


def compiler_flags(command: list[str], env: dict[str, str], objects: Path) -> list[str]:
    """The flags that decide the code, as make knows them after reading all its files."""
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
    """Builds one image, unless the one that is there has the same inputs."""
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
        # stock firmware finds the board's own files here, but no module
        command += [f"USER_C_MODULES={REPO}" if board.ours else f"VPATH={REPO}"]
    if name != "mpy-cross":
        files = build_files("native_modules", f"firmware_builds/{Path(board.port).name}")
    compiler = compiler_version(board)
    what = [part for part in command if not part.startswith(("-j", "USER_C_MODULES=", "VPATH="))]
    how = [*what, compiler, json.dumps(info), json.dumps(env.get("MICROPY_GIT_HASH"))]
    how += env["TINYPROF_WITHOUT"].split()
    inputs = digest_of(how, files)
    if info["origin"] != "MICROPY_DIR" and is_current(image, record, inputs):
        return

    # make does not see a change of flags, so that starts afresh.
    flags_stamp = objects / "tinyprof.flags"
    recipe = digest_of(how, [p for p in files if p.suffix in (".mk", ".ld", ".cmake")])
    if not flags_stamp.exists() or flags_stamp.read_text() != recipe:
        shutil.rmtree(objects, ignore_errors=True)
        objects.mkdir(parents=True)
        flags_stamp.write_text(recipe)
    for linked in {board.image, "firmware.elf"}:  # link again: a file may have gone
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
    """Whether an image is there and was built from these inputs."""
    try:
        facts = json.loads(record.read_text())
        return (facts["inputs"], facts["sha256"]) == (inputs, sha256(image))
    except (OSError, ValueError, KeyError):
        return False


@functools.cache
def lock() -> object:
    """Keeps a second build out until this one ends."""
    BUILD.mkdir(parents=True, exist_ok=True)
    file = (BUILD / "lock").open("w")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def plugin() -> None:
    """Builds the counters for QEMU, unless those that are there have the same inputs."""
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


def boards(names: list[str]) -> None:
    """Builds mpy-cross, the counters for QEMU and the named boards."""
    if any(c.isspace() for c in f"{REPO}{BUILD}"):
        fail(f"make cannot build in a folder with a space in its name: {REPO}", 2)
    if os.environ.get("SANITIZE") == "1":
        names = [f"{name}-asan" if name.startswith("unix") else name for name in names]
    info = source()
    env = make_environment(info)
    build("mpy-cross", MPY_CROSS, info, env)
    if any(BOARDS[name].machine not in ("host", "rp2040js") for name in names):
        plugin()
    for name in names:
        build(name, BOARDS[name], info, env)


def modules(names: list[str]) -> None:
    """Builds mpy-cross and the native modules of the named architectures."""
    info = source()
    env = make_environment(info)
    build("mpy-cross", MPY_CROSS, info, env)
    MODULE_FOLDER.mkdir(exist_ok=True)
    for name in names:
        build_module(name, info, env)
        mip_package(name)


def mip_package(arch: str) -> None:
    """What `mpremote mip install` takes, from this folder or from wherever it is put on the web."""
    folder = BUILD / "mip" / arch
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "tinyprof").mkdir(parents=True)
    shutil.copy(MODULE_FOLDER / f"{arch}.mpy", folder / "_tinyprof.mpy")
    for path in sorted((REPO / "device/tinyprof").glob("*.py")):
        compiled = folder / "tinyprof" / f"{path.stem}.mpy"
        mpy_cross = [str(MPY_CROSS_PROGRAM), "-s", f"tinyprof/{path.name}", "-o", str(compiled)]
        if output([*mpy_cross, str(path)]) is None:
            fail(f"mpy-cross failed on {path}")
    paths = sorted(str(p.relative_to(folder)) for p in folder.rglob("*.mpy"))
    package = {"urls": [[path, path] for path in paths], "version": "0.1.0"}
    (folder / "package.json").write_text(json.dumps(package, indent=1) + "\n")


def build_module(arch: str, info: dict[str, str], env: dict[str, str]) -> None:
    """Builds one native module, unless the one that is there has the same inputs."""
    if not has_command(MODULES[arch] + "gcc"):
        fail(f"{MODULES[arch]}gcc is missing: it comes with the SDK of the chip's maker", 2)
    objects, folder = BUILD / "obj" / f"module-{arch}", REPO / "native_modules"
    result, record = MODULE_FOLDER / f"{arch}.mpy", BUILD / "obj" / f"module-{arch}.json"
    # the file holds this path: relative, so that it is the same in every checkout
    command = ["make", "-C", str(folder), f"MPY_DIR={SOURCE}", f"ARCH={arch}"]
    command += [f"BUILD={os.path.relpath(objects, folder)}"]
    command += [f"MPY_CROSS={MPY_CROSS_PROGRAM}", f"PYTHON={sys.executable}"]
    compiler = output([MODULES[arch] + "gcc", "--version"]) or ""
    how = [*command[:-1], compiler, json.dumps(info), *env["TINYPROF_WITHOUT"].split()]
    inputs = digest_of(how, [*build_files("native_modules"), folder / "Makefile"])
    if info["origin"] != "MICROPY_DIR" and is_current(result, record, inputs):
        return
    shutil.rmtree(objects, ignore_errors=True)
    objects.mkdir(parents=True)
    log = BUILD / "log" / f"module-{arch}.txt"
    log.unlink(missing_ok=True)
    if not run(f"building the native module for {arch}", command, log, env):
        fail_with_log(f"building the native module for {arch} failed", log)
    (folder / "_tinyprof.mpy").replace(result)
    record.write_text(json.dumps({"inputs": inputs, "sha256": sha256(result)}) + "\n")


def family(port: str, board: str) -> None:
    """Builds firmware with the native module built in and the package frozen. Needs $MICROPY_DIR, a tree with
    the port's submodules, and the SDK that MicroPython's documentation of the port asks for; rp2 does without."""
    pinned = not os.environ.get("MICROPY_DIR")
    if pinned and port != "rp2":
        fail("set MICROPY_DIR to a clone of MicroPython, with `make submodules` done for the port", 2)
    info = source()
    env = make_environment(info) | {k: v for k, v in os.environ.items() if k.startswith(("IDF_", "PICO_", "ESP"))}
    if pinned:
        rp2_libraries()
        env |= RP2_ENVIRONMENT
    build("mpy-cross", MPY_CROSS, info, env)
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
    if pinned:  # picotool would have made it
        uf2 = [sys.executable, str(SOURCE / "tools/uf2conv.py"), "-b", "0x10000000", "-c"]
        uf2 += ["-f", UF2_FAMILIES["2350" if "pico2" in board.lower() else "2040"]]
        uf2 += ["-o", str(folder / "firmware.uf2"), str(folder / "firmware.bin")]
        if not run("converting", uf2, log):
            fail_with_log("converting to UF2 failed", log)
    print(folder)


def main() -> None:
    """The command line."""
    if sys.version_info < (3, 11):  # noqa: UP036 (before the venv, any Python may run this)
        fail("Python 3.11 or later is needed", 2)
    summary, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(description=summary, epilog=details, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("command", choices=["tools", "source", "boards", "modules", "family"])
    names = f"boards: {' '.join(BOARDS)}\nmodules: {' '.join(MODULES)}\nfamily: {' '.join(FAMILIES)}"
    parser.add_argument("names", nargs="*", metavar="NAME", help=names)
    args = parser.parse_args()
    if args.command == "family":
        if len(args.names) != 2 or args.names[0] not in FAMILIES:
            fail(f"family takes a port and a board; ports: {' '.join(FAMILIES)}", 2)
        lock()
        family(*args.names)
        return
    known = {"modules": list(MODULES), "tools": list(MORE_TOOLS)}.get(args.command, list(BOARDS))
    if unknown := [name for name in args.names if name not in known]:
        fail(f"there is no {unknown[0]!r} among the {args.command}: {' '.join(known)}", 2)
    if not WANTED:
        fail(f"no MicroPython {VERSION!r} is pinned; there are: {' '.join(r.version for r in RELEASES)}", 2)
    lock()
    if args.command == "tools":
        tools([tool for name in args.names for tool in MORE_TOOLS[name]] or TOOLS)
    elif args.command == "source":
        source()
    elif args.command == "modules":
        modules(args.names or [name for name, prefix in MODULES.items() if has_command(prefix + "gcc")])
    else:
        boards(args.names or DEFAULT_BOARDS)


if __name__ == "__main__":
    main()
