"""What the shell completes."""

import os
import re
import subprocess
import sys

import pytest
from tinyprof_bridge.boards import emulators

COMMAND = os.path.join(os.path.dirname(sys.executable), "tinyprof-bridge")
SHELLS = ("bash", "zsh", "fish")


def run(*arguments, **env):
    environment = os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"} | env
    return subprocess.run([COMMAND, *arguments], env=environment, capture_output=True, text=True, timeout=60)


def completed(shell, *words):
    """The words that a shell offers for the last of those of a command line."""
    line = " ".join(("tinyprof-bridge", *words))
    env = {"_TINYPROF_BRIDGE_COMPLETE": f"complete_{shell}"}
    if shell == "bash":
        env |= {"COMP_WORDS": line, "COMP_CWORD": str(len(words))}
    else:
        env |= {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    result = run(**env)
    assert "Traceback" not in result.stderr, result.stderr
    if shell == "zsh":
        return re.findall(r'"([^":]+)"', re.sub(r'":"[^"]*"', '"', result.stdout))
    return [line.split("\t")[0] for line in result.stdout.splitlines()]


@pytest.mark.parametrize("shell", SHELLS)
def test_verbs(shell):
    assert {"collect", "compare", "convert"} == set(completed(shell, "co"))


@pytest.mark.parametrize("shell", SHELLS)
def test_boards(shell):
    stock = {name for name in emulators.NAMES if name.startswith("m4")}
    assert set(completed(shell, "collect", "--board", "m4")) == stock and "m4-stock" in stock
    assert set(completed(shell, "collect", "--board", "m3,m4")) == {f"m3,{name}" for name in stock}
    assert "rv32" in completed(shell, "emulate", "rv")


def test_values_of_options():
    assert set(completed("bash", "report", "x.jsonl", "-o", "j")) == {"json", "jsonl"}
    assert set(completed("bash", "collect", "--activations", "i")) == {"int8", "int16"}


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_for_a_shell(shell, tmp_path):
    shown = run("--show-completion", shell)
    assert shown.returncode == 0 and "_TINYPROF_BRIDGE_COMPLETE" in shown.stdout, shown.stderr
    done = run("--install-completion", shell, HOME=str(tmp_path), ZDOTDIR=str(tmp_path))
    assert done.returncode == 0 and f"{shell} completion installed in" in done.stdout, done.stderr
    assert any("_TINYPROF_BRIDGE_COMPLETE" in f.read_text() for f in tmp_path.rglob("*") if f.is_file())
