"""Folders, running programs, messages, and the lock. Imports nothing of this package."""

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

REPO = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("TINYPROF_BUILD") or REPO / "build").resolve()


def fail(message: str, code: int = 1) -> NoReturn:
    """Ends the program with a message; code 2 is for what the user can correct."""
    print(f"firmware_builds/build: {message}", file=sys.stderr)
    sys.exit(code)


def fail_with_log(message: str, log: Path) -> NoReturn:
    """Ends the program with the last lines of a log."""
    for line in log.read_text(errors="replace").splitlines()[-15:]:
        print(line, file=sys.stderr)
    fail(f"{message}; the whole log: {log}")


def run(what: str, command: list[str], log: Path, env: dict[str, str] | None = None) -> bool:
    """Runs a command and returns whether it succeeded.

    what: printed with the time taken, if the command takes more than 2 seconds.
    log: its output is appended there.
    """
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


def has_command(*names: str) -> bool:
    """Whether all these programs are installed."""
    return all(shutil.which(name) for name in names)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def lock() -> object:
    """Waits until no other build uses the build folder, and keeps others out until this program ends."""
    BUILD.mkdir(parents=True, exist_ok=True)
    file = (BUILD / "lock").open("w")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file
