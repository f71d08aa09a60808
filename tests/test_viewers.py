"""Traces open in the viewers' own code: speedscope, and the trace engine of Chrome's DevTools."""

import json
import shutil
import subprocess

import pytest
from on_board import ROOT
from tinyprof_bridge import boards, table, trace
from tinyprof_bridge.collect import Request, collect
from tinyprof_bridge.progress import Progress

DEMO = ROOT / "host/tinyprof_bridge/demo/demo-q4_0.gguf"


@pytest.fixture(scope="module")
def viewers():
    """A folder with the viewers, which npm fetches once."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node and npm are not installed")
    folder = boards.build_folder() / "viewers"
    shutil.copytree(ROOT / "tests/viewers", folder, dirs_exist_ok=True)
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
    return table.load(path)


def shown(viewers, viewer, text, tmp_path):
    (tmp_path / "in.json").write_text(text)
    command = ["node", f"{viewer}.mjs", tmp_path / "in.json"]
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
        frame = table.operators(run, "pp8").set_index("role")
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
