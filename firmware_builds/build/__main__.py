#!/usr/bin/env python3
"""The command line: `python3 firmware_builds/build COMMAND [NAME ...]`. Imports all other modules."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036 (before the venv exists, any Python may run this)
    sys.exit("firmware_builds/build: Python 3.11 or later is needed; name one: make PYTHON=python3.11")
# Python runs this folder, but not as a package. Its modules import each other as those of the package `build`.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from build.apt import MORE_TOOLS, TOOLS, tools
from build.boards import BOARDS, GROUPS, boards
from build.families import FAMILIES, family
from build.modules import MODULES, modules
from build.shell import fail, has_command, lock
from build.source import RELEASES, VERSION, WANTED, source

SUMMARY = "Builds what tinyprof runs on without hardware, and firmware for real boards."
DETAILS = """\
    tools [xtensa|rp2040]   install the compilers and emulators that are missing
    source                  get MicroPython's source, verified
    boards [NAME ...]       build the named boards; all that need no more tools by default
    modules [ARCH ...]      build native modules for stock firmware; all that a compiler is there for by default
    family PORT BOARD       build firmware with tinyprof inside for a real board

Everything is written to build/, or to $TINYPROF_BUILD.
MICROPY_DIR       a MicroPython tree to use instead of the pinned release; it is only read
MICROPY_VERSION   one of the pinned releases; use a TINYPROF_BUILD of its own
TINYPROF_WITHOUT  groups of weight types that modules and images leave out: LEGACY K TQ OWN
SANITIZE=1        boards: build the unix port with sanitizers
"""


def main() -> None:
    """Runs the command that the arguments name."""
    parser = argparse.ArgumentParser(
        prog="firmware_builds/build",
        description=SUMMARY,
        epilog=DETAILS,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("command", choices=["tools", "source", "boards", "modules", "family"])
    known = {
        "tools": list(MORE_TOOLS),
        "source": [],
        "boards": [*BOARDS, *GROUPS],
        "modules": list(MODULES),
    }
    help_ = "\n".join(f"{command}: {' '.join(names)}" for command, names in known.items() if names)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{help_}\nfamily: {' '.join(FAMILIES)}")
    args = parser.parse_args()
    if args.command == "family":
        if len(args.names) != 2 or args.names[0] not in FAMILIES:
            fail(f"family takes a port and a board; ports: {' '.join(FAMILIES)}", 2)
    elif unknown := [name for name in args.names if name not in known[args.command]]:
        fail(f"{args.command} does not take {unknown[0]!r}; it takes: {' '.join(known[args.command]) or 'no names'}", 2)
    if not WANTED:
        fail(f"MICROPY_VERSION={VERSION} is not pinned; these are: {' '.join(r.version for r in RELEASES)}", 2)
    lock()
    if args.command == "family":
        family(*args.names)
    elif args.command == "tools":
        tools([tool for name in args.names for tool in MORE_TOOLS[name]] or TOOLS)
    elif args.command == "source":
        source()
    elif args.command == "modules":
        modules(args.names or [name for name, prefix in MODULES.items() if has_command(prefix + "gcc")])
    else:
        boards(args.names or ["default"])


if __name__ == "__main__":
    main()
