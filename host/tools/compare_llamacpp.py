"""Compares the decode speed of the unix port with llama.cpp: same file, same machine, one thread.

    pip install -e . llama-cpp-python
    python host/tools/compare_llamacpp.py [model.gguf …]
    python host/tools/compare_llamacpp.py --callgrind [model.gguf …]

Without files it uses a random llama of 15 million parameters, in Q8_0 and in Q4_0. For each file it runs both programs
alternately, and prints the medians of their tok/s over the rounds and the ratio. With --callgrind it counts the
instructions of one token with valgrind, which does not support AVX-512, so both must be built without it:

    python3 firmware_builds/build boards unix-avx2
    CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON" \\
        pip install --no-cache-dir llama-cpp-python
"""

import argparse
import contextlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from llama_cpp import Llama
from tinyprof_bridge.boards import emulators
from tinyprof_bridge.measure.collect import Request, collect
from tinyprof_bridge.progress import Progress
from tinyprof_bridge.records.metrics import tests

REPO = Path(__file__).resolve().parents[2]
SHAPE = {"dim": 288, "layers": 6, "heads": 6, "kv_heads": 6, "hidden": 768, "vocab": 32000, "context": 256}
CONTEXT = 256
COUNTED = (4, 20)  # tokens of two runs; the difference of their counts excludes loading


def ours(model: Path, tokens: int) -> float:
    """Returns tinyprof's tok/s over `tokens` decoded tokens."""
    with tempfile.TemporaryDirectory() as folder:
        request = Request("unix", model, p=(), n=(tokens,), r=1)
        run, _ = collect(request, Path(folder) / "run.jsonl", Progress(quiet=True))
        return float(tests(run)["tok_s"].iloc[0])


def theirs(llama: Llama, tokens: int) -> float:
    """Returns llama.cpp's tok/s over `tokens` decoded tokens."""
    llama.reset()
    llama.eval([1])
    began = time.perf_counter()
    for i in range(tokens):
        llama.eval([100 + i])
    return tokens / (time.perf_counter() - began)


OURS = """
import sys
sys.path.insert(0, {device!r})
import tinyprof
m = tinyprof.load({model!r}, context={context})
for i in range({tokens}):
    m.step(100 + i)
"""
THEIRS = """
from llama_cpp import Llama
llama = Llama({model!r}, n_ctx={context}, n_threads=1, n_threads_batch=1, verbose=False)
for i in range({tokens}):
    llama.eval([100 + i])
"""


def instructions(command: list[str], code: str, model: Path) -> float:
    """Returns the instructions of one decoded token, counted by callgrind.

    command: interpreter with its options.
    code: template of the program that it runs."""
    counts = []
    for tokens in COUNTED:
        filled = code.format(device=str(REPO / "device"), model=str(model), context=CONTEXT, tokens=tokens)
        valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *command, "-c", filled]
        done = subprocess.run(valgrind, capture_output=True, text=True)
        found = re.search(r"Collected : (\d+)", done.stderr)
        if done.returncode or found is None:
            raise SystemExit(f"{command[0]}: failed under valgrind: {(done.stdout + done.stderr).strip()[-2000:]}")
        counts.append(int(found[1]))
    return (counts[1] - counts[0]) / (COUNTED[1] - COUNTED[0])


@contextlib.contextmanager
def made() -> Iterator[list[Path]]:
    """Yields random models in Q8_0 and Q4_0, which are deleted afterwards."""
    sys.path.insert(0, str(REPO / "tests" / "support"))
    from models import make_model

    with tempfile.TemporaryDirectory() as folder:
        yield [make_model(Path(folder) / f"random-{t.lower()}.gguf", type_=t, **SHAPE) for t in ("Q8_0", "Q4_0")]


def main() -> None:
    """Prints one line for each model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--callgrind", action="store_true", help="count instructions instead of measuring time")
    args = parser.parse_args()
    with contextlib.nullcontext(args.models) if args.models else made() as models:
        for model in models:
            if args.callgrind:
                port = emulators.build_folder() / "firmware/unix-avx2/micropython"
                mine = instructions([str(port), "-X", "heapsize=64m"], OURS, model)
                other = instructions([sys.executable], THEIRS, model)
                print(
                    f"{model.name}: tinyprof {mine:,.0f} instructions per token, llama.cpp {other:,.0f},"
                    f" ratio {other / mine:.2f}",
                    flush=True,
                )
                continue
            llama = Llama(str(model), n_ctx=CONTEXT, n_threads=1, n_threads_batch=1, verbose=False)
            rounds = [(ours(model, args.tokens), theirs(llama, args.tokens)) for _ in range(args.rounds)]
            mine, other = (statistics.median(column) for column in zip(*rounds, strict=True))
            ratios = sorted(a / b for a, b in rounds)
            print(
                f"{model.name}: tinyprof {mine:.0f} tok/s, llama.cpp {other:.0f} tok/s,"
                f" ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
