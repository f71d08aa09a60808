"""MicroPython's source, verified, and the environment that it is built in. Imports apt and shell."""

import json
import os
import re
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

from .apt import apt_mirrors, os_release, read_lists, source_versions
from .shell import BUILD, fail, has_command, output, run, sha256

SOURCE = BUILD / "micropython"
SOURCE_INFO = BUILD / "micropython.json"
UPSTREAM = "https://github.com/micropython/micropython"
TYPE_GROUPS = ("LEGACY", "K", "TQ", "OWN")  # of weights, see docs/kernels.md


@dataclass(frozen=True)
class Release:
    """A pinned MicroPython release. The tarball is Debian's, without submodules."""

    version: str
    tarball: str
    sha256: str
    commit: str  # of the tag v<version>
    date: int  # of that commit, in seconds since 1970


# The tarball of 1.26.1 has the files of that commit, except one prebuilt binary of another port.
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

VERSION = os.environ.get("MICROPY_VERSION")
WANTED = [release for release in RELEASES if VERSION in (None, release.version)]

# The suites of each distribution that may have these source packages, and the components of its archive.
SUITES = {
    "debian": (["forky", "sid", "trixie"], "main"),
    "ubuntu": (["resolute", "questing", "plucky"], "main universe"),
}


def from_distribution() -> tuple[Release, Path] | None:
    """A pinned release and its tarball, from the distribution's source package; None if that cannot be downloaded."""
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
    """The tarball of one source package, which apt authenticates; None if the download fails."""
    folder = BUILD / "download"
    folder.mkdir(parents=True, exist_ok=True)
    tarball = folder / release.tarball
    fetch = ["env", "-C", str(folder), "apt-get", *options]
    fetch += ["source", "--download-only", f"micropython={version}"]
    if not run(f"downloading MicroPython {release.version}", fetch, log) or not tarball.exists():
        return None
    return tarball


def unpack(release: Release, tarball: Path) -> None:
    """Unpacks a tarball into SOURCE. Fails if its SHA-256 is not the pinned one."""
    digest = sha256(tarball)
    if digest != release.sha256:
        tarball.unlink()
        fail(f"{tarball.name}: SHA-256 is {digest}, not {release.sha256}; it is removed: try again", 2)
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
    """Clones a release from upstream into SOURCE; False if upstream cannot be reached."""
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
        fail(f"{UPSTREAM}: tag v{release.version} is commit {commit}, not {release.commit}; set MICROPY_DIR", 2)
    temporary.rename(SOURCE)
    return True


def remove(path: Path) -> None:
    """Removes a tree, or a link to one."""
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def tree_version(tree: Path) -> str:
    """The version of a MicroPython tree, by its own headers."""
    try:
        text = (tree / "py/mpconfig.h").read_text()
        (tree / "ports/qemu/Makefile").stat()
    except OSError:
        fail(f"MICROPY_DIR={tree} is not a MicroPython source tree; set it to a clone of version 1.25 or later", 2)
    parts = re.findall(r"^#define MICROPY_VERSION_(?:MAJOR|MINOR|MICRO) (\d+)", text, re.MULTILINE)
    return ".".join(parts)


def source() -> dict[str, str]:
    """The version and origin of MicroPython's source, which is at SOURCE afterwards."""
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
            fail(
                f"MicroPython {WANTED[0].version} cannot be downloaded, neither as a package nor from {UPSTREAM};"
                f" connect to the network, or set MICROPY_DIR to a copy; the log: {log}"
            )
    SOURCE_INFO.write_text(json.dumps(info, indent=1) + "\n")
    return info


def make_environment(info: dict[str, str]) -> dict[str, str]:
    """The environment of a build. It is small, so that a CFLAGS of the user, or the date, does not change the image.

    info: as source() returns it.
    """
    env = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "TMPDIR")}
    env |= {"LC_ALL": "C", "PYTHONDONTWRITEBYTECODE": "1"}
    env["PYTHONHASHSEED"] = "0"  # else the order of code in a native module differs from build to build
    without = os.environ.get("TINYPROF_WITHOUT", "").split()
    if unknown := set(without) - set(TYPE_GROUPS):
        fail(f"TINYPROF_WITHOUT has no group {min(unknown)!r}; it takes some of {' '.join(TYPE_GROUPS)}", 2)
    env["TINYPROF_WITHOUT"] = " ".join(without)
    for release in RELEASES:
        if release.version == info["version"] and info["origin"] != "MICROPY_DIR":
            # Without these, MicroPython takes its version from tinyprof's git repository.
            env["MICROPY_GIT_TAG"] = f"v{release.version}"
            env["MICROPY_GIT_HASH"] = release.commit[:10]
            env["SOURCE_DATE_EPOCH"] = str(release.date)
    return env
