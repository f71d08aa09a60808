"""What `report` writes into files: a page, charts, tables, traces."""

import csv
import json
import re
import shutil
import subprocess
import sys

import pytest
from bridge import bridge
from markupsafe import escape
from on_board import ROOT
from tinyprof_bridge.analysis import compare as comparing
from tinyprof_bridge.measure.collect import Request, collect
from tinyprof_bridge.progress import Progress
from tinyprof_bridge.records import metrics, runs
from tinyprof_bridge.report import page, trace

DEMO = ROOT / "host/tinyprof_bridge/demo/demo-q4_0.gguf"
BRIDGE = [sys.executable, "-m", "tinyprof_bridge"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run of two tests with two repetitions each."""
    path = tmp_path_factory.mktemp("page") / "run.jsonl"
    collect(Request("m4", DEMO, p=(8,), n=(6,), d=(0, 8), r=2), path, Progress(quiet=True))
    return path


@pytest.fixture(scope="module")
def run(saved):
    return runs.load(saved)


def test_every_file_is_written(saved, tmp_path):
    options = [
        "--html",
        "a/r.html",
        "--charts",
        "charts",
        "--csv",
        "csv",
        "--trace",
        "t.json",
        "--speedscope",
        "s.json",
    ]
    done = bridge("report", saved, *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    written = done.stdout.split()
    assert sorted(written) == sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert {"a/r.html", "charts/icicle.png", "charts/speed.svg", "csv/tests.csv", "csv/operators-tg6-d8.csv"} <= set(
        written
    )
    assert (tmp_path / "charts/icicle.png").read_bytes().startswith(b"\x89PNG")
    with (tmp_path / "csv/tests.csv").open() as file:
        assert [row["test"] for row in csv.DictReader(file)] == ["pp8", "tg6", "pp8 @ d8", "tg6 @ d8"]


def test_a_file_that_cannot_be_written_is_named(saved, tmp_path):
    (tmp_path / "no").write_text("")
    done = bridge("report", saved, "--html", tmp_path / "no/r.html")
    assert done.returncode == 2 and "cannot write" in done.stderr and "Traceback" not in done.stderr


def test_the_page_stands_alone_and_says_its_source(run):
    html = page.html(run, None)
    # nothing is loaded: what names an address is a name of XML's
    assert not re.findall(r'(?:src|href)="(?!#)(?!data:)[^"]*"', html)
    assert not re.search(r"@import|url\((?!#)", html)
    assert "emulated-icount" in html and run.check.logits_crc32 in html and run.host.model_sha256 in html
    for _, row in metrics.tests(run).iterrows():
        assert f"{row['per_token']:,.0f}" in html
    assert html.count("<svg") == 6 and "#010203" not in html and "prefers-color-scheme: dark" in html


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """The same on another board, under a name that would be markup."""
    path = tmp_path_factory.mktemp("other") / "<b>other.jsonl"
    collect(Request("m3", DEMO, p=(8,), n=(6,), d=(0, 8), r=2), path, Progress(quiet=True))
    return path


def test_runs_side_by_side_on_a_page(saved, other, tmp_path):
    done = subprocess.run(
        [*BRIDGE, "compare", saved, other, "--html", tmp_path / "c.html", "--fail-on", "5%"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1 and "slower by more than 5%" in done.stderr and "c.html" in done.stdout
    html = (tmp_path / "c.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!#)[^"]*"', html) and "<b>other" not in html and "&lt;b&gt;other" in html
    result = comparing.compare([saved, other], "", False)
    for title, frame, columns in comparing.parts(result, every_test=True):
        assert f"<h2>{title}" in html
        for cell in frame[[c.field for c in columns]].to_numpy().ravel():
            assert f">{escape(cell)}</td>" in html
    assert html.count("<h2>") == 3 + 1 + len(result.operators)  # runs, chart and memory; tests; operators
    assert html.count("<svg") == 1 and "#010203" not in html
    for note in result.notes:
        assert escape(note) in html


def test_a_name_cannot_become_markup(run):
    model = run.model
    run.model = model.model_copy(update={"name": "<script>alert(1)</script>"})
    try:
        assert "<script>" not in page.html(run, None)
    finally:
        run.model = model


def test_chromium_shows_the_page(run, tmp_path):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("chromium is not installed")
    (tmp_path / "r.html").write_text(page.html(run, None))
    picture = tmp_path / "r.png"
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--log-level=0"]
    command += [f"--screenshot={picture}", "--window-size=1200,2400", (tmp_path / "r.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert picture.stat().st_size > 50_000 and "CONSOLE" not in done.stderr


def test_a_trace_nests_and_adds_up(run):
    events = json.loads(trace.chrome(run, None))["traceEvents"]
    spans = [e for e in events if e["ph"] == "X"]
    for process, test in enumerate(run.tests.values(), 1):
        mean = [e for e in spans if (e["pid"], e["tid"]) == (process, 1)]
        leaves = [e for e in mean if e["args"]]
        expected = sum(test.costs.values()) / test.runs / test.tokens
        assert sum(e["dur"] for e in leaves) == pytest.approx(expected)
        for outer in (e for e in mean if not e["args"]):
            inside = [e for e in leaves if outer["ts"] - 1e-6 <= e["ts"] < outer["ts"] + outer["dur"] - 1e-6]
            assert sum(e["dur"] for e in inside) == pytest.approx(outer["dur"])
        tokens = [e for e in spans if (e["pid"], e["tid"]) == (process, 2)]
        assert sum(e["dur"] for e in tokens) == pytest.approx(test.totals[0])


def test_a_speedscope_profile_is_what_its_schema_asks_for(run):
    whole = json.loads(trace.speedscope(run))
    frames = whole["shared"]["frames"]
    assert len(whole["profiles"]) == len(run.tests)
    for profile in whole["profiles"]:
        assert profile["type"] == "sampled" and profile["unit"] == "none"  # instructions are no time
        assert len(profile["samples"]) == len(profile["weights"]) == len(run.ops)
        assert profile["endValue"] == pytest.approx(sum(profile["weights"]))
        assert all(0 <= i < len(frames) for sample in profile["samples"] for i in sample)
