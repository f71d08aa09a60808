"""A run of very many records: right, and read in little time and memory.

TINYPROF_RECORDS=1000000 takes as many, and prints what each command took."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from on_board import ROOT
from tinyprof_bridge.measure.collect import Request, collect
from tinyprof_bridge.progress import Progress
from tinyprof_bridge.records import metrics, runs, wire

RECORDS = int(os.environ.get("TINYPROF_RECORDS", "20000"))
BRIDGE = [sys.executable, "-m", "tinyprof_bridge"]
DEMO = ROOT / "host/tinyprof_bridge/demo/demo-q4_0.gguf"


def longer(short, out, records):
    """Writes the run in short with its repetitions again and again, up to about so many records; returns how
    many repetitions there are now. Each repetition is a little slower than the one before."""
    lines = [json.loads(line) for line in short.read_bytes().splitlines()]
    of_tests = [r for r in lines if r["kind"] == "samples" and r["rep"] == 0]
    repetitions = records // len(of_tests)
    seq = 0
    with out.open("wb") as file:

        def write(record):
            nonlocal seq
            record = {key: value for key, value in record.items() if key != "crc"}
            if record["seq"] >= 0:
                record["seq"], seq = seq, seq + 1
            if record["kind"] == "end":
                record["records"] = seq
            file.write(wire.encode(record) + b"\n")

        for record in lines:
            if record["kind"] == "cost":
                record["v"] = [v * repetitions // record["runs"] for v in record["v"]]
                record["runs"] = repetitions
            if record["kind"] != "samples":
                write(record)
            if record["kind"] == "test":
                mine = [r for r in of_tests if r["test"] == record["test"]]
                for rep in range(repetitions):
                    for r in mine:
                        write(r | {"rep": rep, "v": [v + rep for v in r["v"]]})
    return repetitions


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """(a short run, the long one made of it, the repetitions in that)."""
    folder = tmp_path_factory.mktemp("long")
    collect(Request("m4", DEMO, p=(16,), n=(32,), r=2), folder / "short.jsonl", Progress(quiet=True))
    repetitions = longer(folder / "short.jsonl", folder / "long.jsonl", RECORDS)
    return folder / "short.jsonl", folder / "long.jsonl", repetitions


def test_figures_of_a_long_run_are_those_of_its_samples(saved):
    short, run, repetitions = runs.load(saved[0]), runs.load(saved[1]), saved[2]
    assert run.complete and run.missing == run.torn == 0
    first = np.array([units for _, units in next(short.tests["tg32"].samples.repetitions())])
    every = (first[None, :] + np.arange(repetitions)[:, None]).ravel()
    row = metrics.tests(run).set_index("test").loc["tg32"]
    assert row["reps"] == repetitions and row["per_token"] == pytest.approx(every.mean())
    assert row["p50"] == np.percentile(every, 50) and row["p99"] == np.percentile(every, 99)
    was = metrics.operators(short, "tg32").set_index("role")
    now = metrics.operators(run, "tg32").set_index("role")
    assert now["units"].to_numpy() == pytest.approx(was["units"].to_numpy(), rel=1e-4)
    assert next(run.tests["tg32"].samples.repetitions()) == list(enumerate(first))


def test_what_it_takes(saved, tmp_path):
    """Of time nothing is asserted, of memory that records are not kept."""
    _, long, repetitions = saved
    other = tmp_path / "other.jsonl"
    other.write_bytes(long.read_bytes())
    print(f"\n{3 * repetitions:,} records, {long.stat().st_size >> 20} MiB")
    assert "tg32" in measured("report", long)
    assert "r.html" in measured("report", long, "--html", tmp_path / "r.html")
    assert (tmp_path / "r.html").stat().st_size < 2 << 20
    assert "tg32" in measured("compare", long, other)


# started by a small process: what it inherits at its start counts as its memory
MEASURE = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss >> 10, file=sys.stderr)
sys.exit(code)
"""


def measured(*arguments):
    """What a command prints; tells what it took."""
    began = time.monotonic()
    command = [sys.executable, "-c", MEASURE, *BRIDGE, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    cpu, mebibytes = map(float, done.stderr.split())
    took = f"{time.monotonic() - began:6.1f} s, {cpu:6.1f} s of CPU, {mebibytes:5.0f} MiB"
    print(f"{arguments[0]:8} {arguments[2] if len(arguments) > 3 else '':8} {took}")
    assert mebibytes < 1024
    return done.stdout
