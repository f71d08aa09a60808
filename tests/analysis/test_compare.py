"""Runs side by side: what is found, what is not, and what is refused."""

import csv
import io
import itertools
import json
import math

import numpy as np
import pytest
from bridge import bridge
from models import make_model
from tinyprof_bridge.analysis import compare
from tinyprof_bridge.errors import BadInput
from tinyprof_bridge.measure.collect import Request, collect
from tinyprof_bridge.progress import Progress
from tinyprof_bridge.records import stats, wire

SEEDS = range(20)
BASE = 1_000_000  # units a token


def write_run(path, seed=0, factor=1.0, reps=10, noise=0.005, tokens=8, counter=None, model=None, check=None, **begin):
    """A run with one prefill and one decode test whose repetitions scatter by noise."""
    rng = np.random.default_rng(seed)
    records = [
        {"kind": "begin", "tinyprof": "0", "machine": "board", "platform": "x", "micropython": "1", "build": "b",
         "mpy": 0, "clock_hz": 0, "native": {"abi": 1, "kernels": "k", "compiler": "c", "flags": "f", "path": "float"},
         "repetitions": reps, "warmup": 1} | begin,
        {"kind": "counter", "name": "dwt", "source": "hw-cycles", "unit": "cycles", "resolution": [1, 1],
         "wrap": 1 << 32, "read_cost": 1} | (counter or {}),
        {"kind": "model", "name": "m", "sha256": "aa", "bytes": 9, "placement": "mapped", "types": "Q4_0:1",
         "architecture": "llama", "layers": 1, "dim": 8, "hidden": 8, "heads": 1, "kv_heads": 1, "kv": "f32",
         "vocab": 9, "context": 64, "batch": 8, "macs_per_token": 1} | (model or {}),
        {"kind": "op", "i": 0, "op": "matmul", "role": "output", "layer": -1, "type": "Q4_0", "rows": 9, "cols": 32,
         "p2": 36},
        {"kind": "check", "logits_crc32": "cc", "prompt": 8, "tokens": [1]} | (check or {}),
    ]  # fmt: skip
    for test, phase in ((f"pp{tokens}", "prefill"), (f"tg{tokens}", "decode")):
        records.append({"kind": "test", "test": test, "phase": phase, "tokens": tokens, "depth": 0, "cold": 0})
        for rep in range(reps):
            each = rng.normal(BASE * factor, BASE * noise, 1 if phase == "prefill" else tokens)
            if phase == "prefill":
                each *= tokens
            records.append({"kind": "samples", "test": test, "rep": rep, "at": 0, "v": [int(v) for v in each]})
        records.append({"kind": "cost", "test": test, "runs": reps, "at": 0, "v": [int(BASE * factor * reps * tokens)]})
    records.append({"kind": "end", "records": len(records) + 1, "ok": True})
    lines = [wire.encode({"tp": 1, "run": f"r{seed}", "seq": i} | r) for i, r in enumerate(records)]
    path.write_bytes(b"\n".join(lines))
    return path


def compared(*arguments, cwd):
    return bridge("compare", *arguments, cwd=cwd)


def test_mann_whitney_counts_all_orders():
    """Against all ways to divide the values, with ties and without."""
    rng = np.random.default_rng(1)
    for n, m, values in ((3, 4, 100), (5, 5, 100), (4, 4, 3), (5, 3, 2), (2, 6, 4)):
        for _ in range(10):
            both = [float(v) for v in rng.integers(0, values, n + m)]

            def away(chosen, both=both, n=n):
                rest = [both[i] for i in range(len(both)) if i not in chosen]
                wins = sum((both[i] > r) + (both[i] == r) / 2 for i in chosen for r in rest)
                return abs(wins - n * len(rest) / 2)

            every = [away(c) for c in itertools.combinations(range(n + m), n)]
            p = sum(a >= away(tuple(range(n))) for a in every) / len(every)
            assert stats.mann_whitney(both[:n], both[n:]) == pytest.approx(p)
    assert stats.mann_whitney([1.0] * 30, [1.0] * 30) == 1.0


def test_mann_whitney_of_many_is_close_to_exact(monkeypatch):
    rng = np.random.default_rng(2)
    a, b = rng.normal(0, 1, 18), rng.normal(0.6, 1, 20)
    exact = stats.mann_whitney(a, b)
    monkeypatch.setattr(stats, "_EXACT", 0)
    assert stats.mann_whitney(a, b) == pytest.approx(exact, rel=0.05)
    assert stats.least_p(4, 4) < stats.ALPHA < stats.least_p(3, 3)


def test_median_interval_holds_the_median():
    rng = np.random.default_rng(3)
    assert math.isnan(stats.median_interval(range(5))[1])
    assert stats.median_interval(range(6)) == (2.5, 0, 5)
    assert stats.median_interval(range(10)) == (4.5, 1, 8)
    _, low, high = stats.median_interval(range(1_000_000))
    assert low == pytest.approx(499_020, abs=2) and high == pytest.approx(500_980, abs=2)
    for n in (6, 10, 25):
        intervals = [stats.median_interval(rng.exponential(1, n)) for _ in range(2000)]
        assert np.mean([low <= math.log(2) <= high for _, low, high in intervals]) > 0.945


def test_geomean():
    assert stats.geomean([2, 0.5, 1]) == pytest.approx(1) and math.isnan(stats.geomean([]))


@pytest.mark.parametrize("runs", [1, 5])
def test_a_planted_change_is_found_and_none_is_not(runs, tmp_path):
    """3 % more in each of 20 seeds; of 20 times nothing and two tests, chance may look real a few times."""
    false = found = 0
    for seed in SEEDS:
        sides = {}
        for side, factor in (("old", 1), ("same", 1), ("new", 1.03)):
            seeds = [1000 * seed + 10 * i + len(side) + (side == "new") for i in range(runs)]
            sides[side] = [write_run(tmp_path / f"{side}{s}.jsonl", s, factor, build=side) for s in seeds]
        by = "" if runs == 1 else "build"
        changed = compare.compare([*sides["old"], *sides["new"]], by, False)
        for row in changed.tests:
            change = row.change(1)
            found += change.real
            assert change.real and change.p < stats.ALPHA and change.ratio == pytest.approx(1.03, abs=0.01)
        assert changed.geomean(1) == pytest.approx(1.03, abs=0.01)
        assert len(compare.regressions(changed, 0.01)) == 2 and compare.regressions(changed, 0.05) == []
        unchanged = compare.compare([*sides["old"], *sides["same"]], by, False)
        false += sum(row.change(1).real for row in unchanged.tests)
        assert compare.regressions(unchanged, 0.01) == []
    count = 2 * len(SEEDS)
    print(
        f"\n{runs} run(s) a side: 3 % found in {found} of {count} tests; where nothing changed, in {false} of {count}"
    )
    assert false <= 5


def test_fewer_is_found_too(tmp_path):
    a, b = write_run(tmp_path / "a.jsonl", 1), write_run(tmp_path / "b.jsonl", 2, 0.97)
    result = compare.compare([a, b], "", False)
    assert all(row.change(1).real and row.change(1).ratio < 0.98 for row in result.tests)
    assert compare.regressions(result, 0.01) == []


@pytest.fixture(scope="module")
def quantized(tmp_path_factory):
    """Two quantizations of one model on an emulated M4."""
    folder = tmp_path_factory.mktemp("quantized")
    for type_ in ("Q4_0", "Q8_0"):
        model = make_model(folder / f"{type_}.gguf", type_=type_, context=32)
        collect(Request("m4", model, p=(8,), n=(8,), r=2), folder / f"{type_}.jsonl", Progress(quiet=True))
    return folder


def test_two_quantizations(quantized):
    result = compared("Q4_0.jsonl", "Q8_0.jsonl", cwd=quantized)
    assert result.returncode == 2 and "ran different models: group by the model (--by types)" in result.stderr
    result = compared("Q4_0.jsonl", "Q8_0.jsonl", "--by", "types", "-o", "json", cwd=quantized)
    whole = json.loads(result.stdout)
    assert list(whole["groups"]) == ["Q4_0:15 F32:5", "Q8_0:15 F32:5"] and whole["source"] == "emulated-icount"
    figures = {(f["kind"], f["in_test"], f["name"]): f for f in whole["figures"] if f["ratio"] is not None}
    assert figures["test", "", "tg8"]["p"] is None and figures["test", "", "tg8"]["real"]
    assert figures["operator", "tg8", "rope_q"]["ratio"] == 1 and not figures["operator", "tg8", "rope_q"]["real"]
    assert figures["operator", "tg8", "ffn_up"]["ratio"] != 1
    assert figures["memory", "", "model_storage"]["ratio"] > 1.5
    shown = compared("Q4_0.jsonl", "Q8_0.jsonl", "--by", "types", cwd=quantized).stdout
    assert "p=" not in shown and "counts are exact" in shown and "geomean" in shown


def test_exact_counts_fail_on_the_first_percent(quantized):
    files = ["Q4_0.jsonl", "Q8_0.jsonl", "--by", "types"]
    worse = compared(*files, "--fail-on", "0.01%", cwd=quantized)
    better = compared(*files, "--fail-on", "90 %", cwd=quantized)
    assert worse.returncode == 1 and "slower by more than 0.01%: " in worse.stderr and "geomean" in worse.stdout
    assert better.returncode == 0 and better.stderr == ""
    assert compared("Q4_0.jsonl", "Q4_0.jsonl", "--fail-on", "0", cwd=quantized).returncode == 0


@pytest.mark.parametrize("form", ("table", "md", "csv", "json"))
def test_every_form_says_the_same(form, tmp_path):
    write_run(tmp_path / "a.jsonl", 1)
    write_run(tmp_path / "b.jsonl", 2, 1.03, machine="other|board")
    result = compared("a.jsonl", "b.jsonl", "-o", form, cwd=tmp_path)
    assert result.returncode == 0 and result.stderr == ""
    assert "hw-cycles" in result.stdout and "machine: board | other|board" in result.stdout
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(result.stdout)))
        assert {r["kind"] for r in rows} == {"test", "operator"} and rows[1]["real"] == "True"
    elif form != "json":
        assert "(p=0.000 n=10+10)" in result.stdout and "(not tested, n=1+1)" in result.stdout


def refused(tmp_path, reason, *options, allowed=True, **changes):
    a, b = write_run(tmp_path / "a.jsonl"), write_run(tmp_path / "b.jsonl", 1, **changes)
    result = compared("a.jsonl", "b.jsonl", *options, cwd=tmp_path)
    assert result.returncode == 2 and reason in result.stderr and result.stderr.count("\n") == 1, result.stderr
    result = compared("a.jsonl", "b.jsonl", *options, "--allow", cwd=tmp_path)
    assert result.returncode == (0 if allowed else 2)
    assert ("NOT COMPARABLE, shown because of --allow: " in result.stdout) == allowed
    return a, b


def test_what_cannot_be_compared(tmp_path):
    clock = {"source": "host-clock", "unit": "ns"}
    counters = "the counters differ: a.jsonl has cycles from hw-cycles, b.jsonl has ns from host-clock"
    refused(tmp_path, counters, counter=clock)
    refused(tmp_path, "a.jsonl and b.jsonl ran different models", model={"sha256": "bb"})
    refused(tmp_path, "ran different prompts: load the model with the same context", check={"prompt": 4})
    refused(tmp_path, "have different logits of the same model", check={"logits_crc32": "dd"})
    other = {"abi": 1, "kernels": "k", "compiler": "c", "flags": "f", "path": "fixed"}
    write_run(tmp_path / "b.jsonl", check={"logits_crc32": "dd"}, native=other)  # which may be: other arithmetic
    assert compared("a.jsonl", "b.jsonl", cwd=tmp_path).returncode == 0
    write_run(tmp_path / "b.jsonl", check={"logits_crc32": "dd"}, model={"activations": "int16"})
    result = compared("a.jsonl", "b.jsonl", cwd=tmp_path)
    assert result.returncode == 0 and "activations: int8 | int16" in result.stdout
    refused(tmp_path, "no test in common; collect them with the same -p, -n and -d", allowed=False, tokens=4)


def test_bad_input(tmp_path):
    a, b = write_run(tmp_path / "a.jsonl"), write_run(tmp_path / "b.jsonl", 1)

    def says(reason, *arguments):
        result = compared(*arguments, cwd=tmp_path)
        assert result.returncode == 2 and reason in result.stderr and result.stderr.count("\n") == 1, result.stderr

    says("give two or more", "a.jsonl")
    says("batch is the same in all of them", "a.jsonl", "b.jsonl", "--by", "batch")
    says("--by name is ambiguous: use counter.name or model.name", "a.jsonl", "b.jsonl", "--by", "name")
    says("--by colour: no run records that field", "a.jsonl", "b.jsonl", "--by", "colour")
    says("--fail-on takes a percentage such as 5%, not 'nan'", "a.jsonl", "b.jsonl", "--fail-on", "nan")
    says("-o takes table, md, csv or json", "a.jsonl", "b.jsonl", "-o", "jsonl")
    says("cannot read c.jsonl", "a.jsonl", "c.jsonl")
    b.write_bytes(b"\n".join(a.read_bytes().splitlines()[:-1]))
    says("b.jsonl is incomplete and cannot be compared", "a.jsonl", "b.jsonl", "--allow")
    write_run(b, tokens=4)
    write_run(tmp_path / "c.jsonl", tokens=4)
    says("cannot judge pp8: some runs lack it", "a.jsonl", "b.jsonl", "c.jsonl", "--fail-on", "5%")
    write_run(b, reps=1)
    says("cannot judge pp8 with 10 and 1 samples", "a.jsonl", "b.jsonl", "--fail-on", "5%")


def test_groups_by_recorded_fields(tmp_path):
    files = []
    for i, (machine, build) in enumerate(itertools.product("xyx", "bc")):
        files.append(write_run(tmp_path / f"{i}.jsonl", i, machine=machine, build=build))
    result = compare.compare(files, "machine, begin.build", False)
    assert [(g.name, len(g.runs)) for g in result.groups] == [("x, b", 2), ("x, c", 2), ("y, b", 1), ("y, c", 1)]
    assert [len(s) for s in result.tests[0].samples] == [20, 20, 10, 10]
    assert [len(s) for s in result.operators["tg8"][0].samples] == [2, 2, 1, 1]
    many = [write_run(tmp_path / f"m{i}.jsonl", i, machine="xy"[i % 2]) for i in range(8)]
    assert [len(s) for s in compare.compare(many, "machine", False).tests[0].samples] == [4, 4]  # a run, a sample


def test_wrong_logits_take_no_part(tmp_path):
    a = write_run(tmp_path / "a.jsonl")
    host = {"tp": 1, "run": "r0", "seq": -1, "kind": "host", "tinyprof": "0", "time": "", "board": "m4", "command": "",
            "model_file": "m", "model_sha256": "aa", "reference_logits": {"float": "ee"}}  # fmt: skip
    b = tmp_path / "b.jsonl"
    b.write_bytes(wire.encode(host) + b"\n" + a.read_bytes())
    with pytest.raises(BadInput, match="has wrong logits"):
        compare.compare([a, b], "", True)
