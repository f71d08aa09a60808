"""The C core alone, without MicroPython: built strictly, run with sanitizers."""

import os
import platform
import subprocess

import pytest
from on_board import ROOT

KERNELS = ROOT / "native_modules/kernels"
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-Wdouble-promotion", "-ffp-contract=off", "-D_ISOC11_SOURCE"]
SANITIZE = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
AVX2 = ["-mavx2", "-mf16c"] if platform.machine() == "x86_64" else []
COUNT = 3000 * max(int(os.environ.get("TINYPROF_FUZZ", "0")), 1)


@pytest.mark.parametrize("path", ["FLOAT", "FIXED"])
def test_any_bytes_as_weights_and_activations(path, tmp_path):
    program = tmp_path / "fuzz"
    sources = [ROOT / "tests/support/c_programs/fuzz_kernels.c", *KERNELS.rglob("*.c")]
    build = ["gcc", *STRICT, *SANITIZE, *AVX2, "-DSTANDALONE", f"-DTP_PATH_{path}", f"-I{KERNELS}"]
    subprocess.run([*build, *map(str, sources), "-o", str(program)], check=True)
    done = subprocess.run([str(program), str(COUNT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == f"{COUNT} inputs\n"


def test_types_can_be_left_out(tmp_path):
    def size(*options):
        out = tmp_path / "core.o"
        build = ["gcc", *STRICT, "-Os", "-DTP_PATH_FIXED", *options, "-c", str(KERNELS / "types.c"), "-o", str(out)]
        subprocess.run(build, check=True)
        text = subprocess.run(["size", str(out)], capture_output=True, text=True, check=True).stdout
        return int(text.splitlines()[1].split()[0])

    groups = [f"-DTP_WITHOUT_{group}" for group in ("LEGACY", "K", "TQ", "OWN")]
    assert size() > size(*groups[:1]) > size(*groups[:2]) > size(*groups)


def test_soft_floats_are_the_hosts(tmp_path):
    program = tmp_path / "floats"
    include = f"-I{ROOT / 'native_modules'}"
    source = str(ROOT / "tests/support/c_programs/soft_floats.c")
    subprocess.run(["gcc", *STRICT, *SANITIZE, include, source, "-o", str(program)], check=True)
    assert subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout == "0\n"
