"""What `doctor` finds on this machine and on boards."""

import subprocess
import sys

from tinyprof_bridge.boards.emulators import Emulator


def doctor(*arguments):
    command = [sys.executable, "-m", "tinyprof_bridge", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_this_machine():
    done = doctor()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "armv7emsp" in done.stdout and "qemu-system-arm" in done.stdout and "m4" in done.stdout


def test_a_stock_board_without_package():
    with Emulator("m4-stock") as emulator:
        done = doctor("--board", emulator.device)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok  native module" in done.stdout and "armv7emsp, " in done.stdout
    assert "--  package" in done.stdout and "deploy" in done.stdout


def test_no_board():
    done = doctor("--board", "/dev/nothing")
    assert done.returncode == 1 and "NO  /dev/nothing" in done.stdout and "Traceback" not in done.stderr
