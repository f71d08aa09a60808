"""Decode speed of the unix port against llama.cpp: same file, same machine, one thread, in turns.

    pip install llama-cpp-python
    python host/compare_llamacpp.py model-q8_0.gguf model-q4_0.gguf

For each file: tok/s of both, medians over the rounds, and their ratio."""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from llama_cpp import Llama
from tinyprof_bridge.collect import Request, collect
from tinyprof_bridge.progress import Progress
from tinyprof_bridge.table import tests


def ours(model: Path, tokens: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        request = Request("unix", model, p=(), n=(tokens,), r=1)
        run, _ = collect(request, Path(folder) / "run.jsonl", Progress(quiet=True))
        return float(tests(run)["tok_s"].iloc[0])


def theirs(llama: Llama, tokens: int) -> float:
    llama.reset()
    llama.eval([1])
    began = time.perf_counter()
    for i in range(tokens):
        llama.eval([100 + i])
    return tokens / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    for model in args.models:
        llama = Llama(str(model), n_ctx=256, n_threads=1, n_threads_batch=1, verbose=False)
        rounds = [(ours(model, args.tokens), theirs(llama, args.tokens)) for _ in range(args.rounds)]
        mine, other = (statistics.median(column) for column in zip(*rounds, strict=True))
        ratios = sorted(a / b for a, b in rounds)
        print(
            f"{model.name}: tinyprof {mine:.0f} tok/s, llama.cpp {other:.0f} tok/s,"
            f" ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )


if __name__ == "__main__":
    main()
