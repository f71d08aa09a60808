"""The tools that builds need, and the archives that apt takes packages from. Imports shell."""

import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from .shell import BUILD, fail, fail_with_log, has_command, output, run

ARM = "arm-none-eabi-"
RISCV = "riscv64-unknown-elf-"


def has_header(compiler: str, header: str) -> bool:
    """Whether a compiler finds a header of its C library."""
    code = f'echo "#include <{header}>" | {compiler} -E - '
    return output(["sh", "-c", code]) is not None


def has_picolibc() -> bool:
    """Whether the RISC-V compiler finds picolibc."""
    path = output([RISCV + "gcc", "--print-file-name=picolibc.specs"]) or ""
    return path.startswith("/")


# A test that a tool is there, and the packages that have it, by preference.
Tool = tuple[Callable[[], bool], list[str]]

TOOLS: list[Tool] = [
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
XTENSA_TOOLS: list[Tool] = [
    (lambda: has_command("xtensa-lx106-elf-gcc"), ["gcc-xtensa-lx106"]),
    (lambda: has_command("qemu-system-xtensa"), ["qemu-system-misc"]),
]

# Only for the RP2040 in its simulator.
RP2_TOOLS: list[Tool] = [
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


def missing_tools(wanted: list[Tool]) -> list[list[str]]:
    """For each missing tool, the packages that have it."""
    return [packages for present, packages in wanted if not present()]


def available(packages: list[str]) -> str:
    """The first of these packages that apt can install, or the last if it can install none."""
    for package in packages:
        found = output(["apt-cache", "policy", package]) or ""
        if re.search(r"Candidate: (?!\(none\))", found):
            return package
    return packages[-1]


def tools(wanted: list[Tool]) -> None:
    """Installs the missing tools; fails with their names where it cannot."""
    missing = missing_tools(wanted)
    if not missing:
        return
    if not has_command("apt-get"):
        names = " ".join(packages[-1] for packages in missing)
        fail(f"tools are missing, and there is no apt-get to install them; please install: {names}", 2)
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
    run("reading package lists", [*apt, "update"], log)  # it may fail: older lists are often good enough
    names_list = [available(packages) for packages in missing]
    install = [*apt, "install", "-y", "--no-install-recommends", *names_list]
    if not run("installing " + " ".join(names_list), install, log):
        fail_with_log("apt-get install failed", log)
    if missing := missing_tools(wanted):
        names = " ".join(packages[-1] for packages in missing)
        fail(f"apt-get installed its packages, but tools are still missing; please install: {names}", 2)


def os_release() -> dict[str, str]:
    """The fields of /etc/os-release."""
    try:
        text = Path("/etc/os-release").read_text()
    except OSError:
        return {}
    return {k: v.strip("\"'") for k, v in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)}


def apt_mirrors(codename: str) -> list[tuple[str, str]]:
    """The archives that this machine takes its release from, each as (address, Signed-By or "")."""
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
    """The mirrors of a release in the stanzas of a .sources file."""
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)
    for stanza in re.split(r"\n\s*\n", text):
        pairs = re.findall(r"^([\w-]+):[ \t]*(.*(?:\n[ \t].*)*)", stanza, re.MULTILINE)
        fields = {key.lower(): value.strip() for key, value in pairs}
        if codename in fields.get("suites", "").split() and fields.get("enabled", "yes") != "no":
            for uri in fields.get("uris", "").split():
                yield uri, fields.get("signed-by", "")


def one_line_mirrors(text: str, codename: str) -> Iterable[tuple[str, str]]:
    """The mirrors of a release in the lines of a .list file."""
    line = r"^\s*deb(?:-src)?\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s"
    for options, uri, suite in re.findall(line, text, re.MULTILINE):
        if suite == codename and not uri.startswith("cdrom:"):
            key = re.search(r"signed-by=(\S+)", options)
            yield uri, key[1] if key else ""


def apt_options(folder: Path) -> list[str]:
    """The options that make apt use a source list and folders of ours, and leave the system's alone."""
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
    """apt's options for a suite whose package lists have been read; empty if the mirror does not have it.

    mirror: address and Signed-By, as apt_mirrors gives them. types: `deb`, `deb-src` or both.
    """
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
    """The versions of a source package in the lists."""
    text = output(["apt-cache", *options, "showsrc", package]) or ""
    return re.findall(r"^Version: (\S+)", text, re.MULTILINE)
