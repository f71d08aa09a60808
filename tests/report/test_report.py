"""What a saved run shows, in every form, and the statistics behind it."""

import csv
import io
import json

import numpy as np
import pytest
from bridge import bridge
from models import make_model
from rich.console import Console
from tinyprof_bridge.measure.collect import Request, collect
from tinyprof_bridge.progress import Progress
from tinyprof_bridge.records import metrics, runs
from tinyprof_bridge.report import run_report


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    model = make_model(folder / "m.gguf", type_="Q4_0", context=32)
    return {
        name: collect(Request(name, model, p=(4,), n=(8,), r=3), folder / f"{name}.jsonl", Progress(quiet=True))[1]
        for name in ("m4", "unix")
    }


def show(file, form, cwd):
    result = bridge("report", file, "-o", form, cwd=cwd)
    assert result.returncode == 0 and result.stderr == "", result.stderr
    return result.stdout


@pytest.mark.parametrize("board", ["m4", "unix"])
def test_every_form_says_where_figures_come_from(board, saved, tmp_path):
    source = "host-clock" if board == "unix" else "emulated-icount"
    for form in ("table", "md", "csv", "json", "jsonl"):
        assert source in show(saved[board], form, tmp_path), form


def test_counted_instructions_are_never_shown_as_speed(saved, tmp_path):
    for form in ("table", "md"):
        assert "tok/s" not in show(saved["m4"], form, tmp_path)
        assert "tok/s" in show(saved["unix"], form, tmp_path)


def test_csv_and_json_hold_the_same(saved, tmp_path):
    rows = list(csv.DictReader(io.StringIO(show(saved["m4"], "csv", tmp_path))))
    whole = json.loads(show(saved["m4"], "json", tmp_path))
    assert [r["test"] for r in rows] == [t["test"] for t in whole["tests"]] == ["pp4", "tg8"]
    for row, test in zip(rows, whole["tests"], strict=True):
        assert float(row["per_token"]) == pytest.approx(test["per_token"])
    assert whole["complete"] and whole["logits"] == "match" and whole["operators"]["tg8"][0]["share"] > 0.05
    assert whole["check"]["tokens"] and whole["end"]["ok"] and len(whole["overhead"]["on"]) == 3


def test_jsonl_is_the_run_itself(saved, tmp_path):
    assert show(saved["m4"], "jsonl", tmp_path) == saved["m4"].read_text()


def test_statistics():
    run = runs.Run("x")
    test = run.tests["tg2"] = runs.Test("tg2", "decode", 2, 0, 50)
    for rep, at, units in ((1, 1, [20]), (0, 0, [10, 30]), (1, 0, [20]), (2, 0, [1])):  # as they come
        test.samples.add(rep, at, units)
    assert list(test.samples.repetitions()) == [[(0, 10), (1, 30)], [(0, 20), (1, 20)], [(0, 1)]]
    row = metrics.tests(run).iloc[0]
    assert row["reps"] == 2  # the third lacks a token
    assert row["per_token"] == 20 and row["stddev"] == 0 and row["cold"] == 25
    assert row["p50"] == np.percentile([10, 30, 20, 20, 1], 50)


def test_markdown_is_safe_from_what_a_board_says(saved):
    run = runs.load(saved["m4"])
    run.ops[0] = run.ops[0].model_copy(update={"role": "a|b\nc"})
    assert "a\\|b?c" in run_report.markdown(run, None)


def test_what_a_board_says_does_not_steer_a_terminal(saved):
    run = runs.load(saved["m4"])
    run.ops[0] = run.ops[0].model_copy(update={"role": "[red]x[/]\x1b[2J"})
    run.begin = run.begin.model_copy(update={"machine": "\x1b]0;title\x07"})
    written = io.StringIO()
    run_report.terminal(run, None, Console(file=written, width=150))
    assert "[red]x[/]?[2J" in written.getvalue() and "\x1b" not in written.getvalue()
