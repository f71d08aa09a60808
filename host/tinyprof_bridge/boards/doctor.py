"""Checks of this machine and of a board: what is missing for a measurement, and how to get it."""

import importlib.metadata
import os
import shutil
import sys
from dataclasses import dataclass

from .. import __version__, device_package
from ..errors import BadInput, RunFailed
from . import deploy, emulators
from .transport import SerialBoard
from .usb_devices import Attached, attached


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    what: that was checked.
    good: False if nothing works without it; None if only some users need it.
    found: the state that was found.
    todo: the remedy; empty if there is nothing to do."""

    what: str
    good: bool | None
    found: str
    todo: str = ""


def machine() -> list[Finding]:
    """Returns the checks of this machine: packages, native modules, emulators, firmware, ports."""
    python = ".".join(map(str, sys.version_info[:3]))
    findings = [Finding("Python", True, python), Finding("mpremote", True, importlib.metadata.version("mpremote"))]
    modules = sorted(p.stem for p in (device_package.PACKAGE / "modules").glob("*.mpy"))
    findings.append(
        Finding("native modules", bool(modules), ", ".join(modules) or "none", "" if modules else "make modules")
    )
    missing = [p for p in ("matplotlib", "jinja2") if not _installed(p)]
    todo = "pip install 'tinyprof[report]' for pages and charts" if missing else ""
    findings.append(
        Finding("report", None if missing else True, "without " + ", ".join(missing) if missing else "all", todo)
    )
    for program, setup in sorted({(spec.program, spec.setup) for spec in emulators.EMULATED.values()}):
        path = shutil.which(program)
        todo = "" if path else f"{setup} (only emulated boards need it)"
        findings.append(Finding(program, True if path else None, path or "not installed", todo))
    built = sorted(p.parent.name for p in (emulators.build_folder() / "firmware").glob("*/build.json"))
    todo = "" if built else "make firmware (only emulated boards need it)"
    findings.append(Finding("firmware", True if built else None, ", ".join(built) or "none built", todo))
    on_usb, problem = attached()
    findings += [_attached(board) for board in on_usb]
    return findings + ([Finding("USB", None, problem)] if problem else [])


def _installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _attached(board: Attached) -> Finding:
    name = ", ".join(board.families) or board.product or "unknown"
    if not board.device:
        return Finding("no port", None, f"{board.product or name} ({board.usb})", board.todo)
    if os.access(board.device, os.R_OK | os.W_OK):
        return Finding(board.device, True, f"{name} ({board.usb})")
    todo = "you have no permission to open it: sudo usermod -aG dialout $USER, then log in again"
    return Finding(board.device, False, f"{name} ({board.usb})", todo)


def board(device: str) -> list[Finding]:
    """Returns the checks of one board: whether it answers, which native module it loads, its free memory, its package.

    device: a port, or "auto"."""
    try:
        link = SerialBoard(emulators.serial_port(device))
    except (BadInput, RunFailed) as error:
        return [Finding(device, False, str(error), "close other programs on the port, press reset, try another cable")]
    try:
        about = deploy.survey(link)
        findings = [Finding("MicroPython", True, f"{about.micropython} on {about.machine}")]
        try:
            module = deploy.module_for(about)
            text = "built in" if about.built_in else f"{about.arch}, {len(module[deploy.MODULE]):,} bytes"
            findings.append(Finding("native module", True, text))
        except BadInput as error:
            findings.append(Finding("native module", False, str(error), "docs/native_modules.md"))
        rom = f"{about.rom:,} bytes of ROMFS" if about.rom else "no ROMFS"
        findings.append(Finding("room", True, f"heap {about.heap:,}, {rom}, files {about.files:,}"))
        findings.append(_package(link))
        return findings
    except RunFailed as error:
        return [Finding(device, False, str(error), "press reset; check that MicroPython is installed on the board")]
    finally:
        link.close()


def _package(link: SerialBoard) -> Finding:
    """Returns the check of the device package: present, and of this version."""
    said = deploy.package_version(link)
    if said.startswith("-"):
        return Finding("package", None, said[2:], "tinyprof-bridge deploy (collect does it, too)")
    same = said == __version__
    return Finding("package", same, said, "" if same else f"this is {__version__}: tinyprof-bridge deploy")


def show(findings: list[Finding]) -> None:
    """Prints checks, each with "ok", "--" (only some users need it) or "NO", and its remedy on a second line."""
    width = max(len(f.what) for f in findings)
    for f in findings:
        mark = {True: "ok", None: "--", False: "NO"}[f.good]
        print(f"{mark}  {f.what:{width}}  {f.found}" + (f"\n    {'':{width}}  -> {f.todo}" if f.todo else ""))
