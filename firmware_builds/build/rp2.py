"""What the rp2 port needs besides MicroPython: libraries, and a simulator of the RP2040. Imports source, apt, shell."""

import shutil
from pathlib import Path

from .apt import ARM, apt_mirrors, os_release, read_lists, source_versions
from .shell import BUILD, REPO, fail, fail_with_log, has_command, output, run, sha256
from .source import SOURCE

RP2 = REPO / "firmware_builds/rp2"
RP2_ENVIRONMENT = {"CMAKE_ARGS": "-DPICO_NO_PICOTOOL=1"}  # picotool would be downloaded, for a UF2 file only
# What the rp2 port takes from other projects: folder in lib, Debian package, whether that is a source package, start of
# the version. Later packages of the SDK are made for another C library.
RP2_SUITE = "trixie"
RP2_LIBRARIES = [
    ("pico-sdk", "pico-sdk-source", False, "2.1.1-"),
    ("tinyusb", "tinyusb-source", False, "0.18.0+"),
    ("mbedtls", "mbedtls", True, "3.6."),
]
# The simulator of the RP2040: an npm package without dependencies.
RP2040JS = "rp2040js@1.4.1"
RP2040JS_SHA256 = "83328017cf7e503477e8d218cb742d3e843782d795edd175a0b81346c194e56f"


def rp2_libraries() -> None:
    """Puts what the rp2 port takes from other projects into SOURCE/lib, unless it is there."""
    missing = [library for library in RP2_LIBRARIES if not any((SOURCE / "lib" / library[0]).glob("*"))]
    if not missing:
        return
    if SOURCE.is_symlink():
        fail(f"MICROPY_DIR={SOURCE.resolve()} lacks submodules: run `make -C ports/rp2 submodules` there", 2)
    log = BUILD / "log/rp2.txt"
    log.unlink(missing_ok=True)
    release = os_release()
    options: list[str] = []
    if release.get("ID") == "debian" and has_command("apt-get"):
        for mirror in apt_mirrors(release.get("VERSION_CODENAME", "")):
            options = options or read_lists(mirror, RP2_SUITE, "main", "deb deb-src", log)
    if not options:
        fail(
            f"the rp2 port needs packages of Debian {RP2_SUITE}, and no mirror of Debian can be read; connect to the"
            " network, or set MICROPY_DIR to a clone with the rp2 port's submodules"
        )
    for folder, package, is_source, wanted in missing:
        rp2_library(SOURCE / "lib" / folder, package, is_source, wanted, options, log)
    # the port tests that this file exists, and uses nothing of its folder
    marker = SOURCE / "lib/micropython-lib/README.md"
    marker.parent.mkdir(exist_ok=True)
    marker.touch()


def rp2_library(target: Path, package: str, is_source: bool, wanted: str, options: list[str], log: Path) -> None:
    """Downloads one package, which apt authenticates, and unpacks it into target.

    wanted: what its version starts with. options: apt's, as read_lists returns them.
    """
    if is_source:
        versions = source_versions(options, package)
    else:
        text = output(["apt-cache", *options, "madison", package]) or ""
        versions = [line.split("|")[1].strip() for line in text.splitlines() if line.count("|") == 2]
    version = next((v for v in versions if v.startswith(wanted)), None)
    if version is None:
        have = " ".join(versions) or "none"
        fail(f"Debian {RP2_SUITE} has no {package} {wanted}*, only {have}; set MICROPY_DIR to a clone with submodules")
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
        (target / "README.md").touch()  # the port tests that it exists
        (target / "lib/tinyusb").unlink(missing_ok=True)  # a link to a folder that the package lacks
    shutil.rmtree(temporary)


def simulator(folder: Path) -> None:
    """Puts into an image's folder what runs it: rp2040js, our replacement of the boot ROM, and the script."""
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
        fail(f"{archive.name}: SHA-256 is {digest}, not {RP2040JS_SHA256}; it is removed: try again", 2)
    target = folder / "rp2040js"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    if not run("unpacking", ["tar", "-xf", str(archive), "-C", str(target), "--strip-components=1"], log):
        fail_with_log(f"unpacking {archive.name} failed", log)
