"""Boards built with another release of MicroPython give the same logits (`make versions` builds them)."""

import json
import os
import subprocess
import sys

import pytest
from on_board import ROOT

OLDER = "1.25.0"
BUILD = ROOT / "build" / OLDER


def run(name, build, folder):
    environment = {**os.environ, "TINYPROF_BUILD": str(build)}
    command = [sys.executable, "-m", "tinyprof_bridge", "collect", "--board", name, "-p", "4", "-n", "4", "-r", "1"]
    done = subprocess.run([*command, "-o", "json"], capture_output=True, text=True, cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", ["m3", "m4", "m4-stock", "rv32"])
def test_the_same_logits(name, tmp_path):
    if not (BUILD / "firmware" / name).is_dir():
        pytest.skip(f"{name} is not built with MicroPython {OLDER}: run `make versions`")
    old, new = run(name, BUILD, tmp_path), run(name, ROOT / "build", tmp_path)
    assert old["begin"]["micropython"] == OLDER != new["begin"]["micropython"]
    assert old["check"]["logits_crc32"] == new["check"]["logits_crc32"]
