"""A profile end to end: what is measured, on which boards, and that the three ways in agree."""

import json
import subprocess
import sys

import numpy as np
import pytest
from models import make_model
from on_board import ALL, KERNELS, QEMU, ROOT, board
from tinyprof_bridge.measure.collect import Request, collect
from tinyprof_bridge.models.demo import DEMO_MODEL
from tinyprof_bridge.progress import Progress
from tinyprof_bridge.records import metrics, runs, schema, wire
from tinyprof_bridge.report import run_report


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("collect") / "small.gguf", type_="Q4_0", context=64)


def profile(name, model, tmp_path, **options):
    options = {"p": (4,), "n": (4,), "d": (0, 8), "r": 2} | options
    run, path = collect(Request(name, model, **options), tmp_path / f"{name}.jsonl", Progress(quiet=True))
    assert path.exists() and not path.with_suffix(".partial.jsonl").exists()
    return run, path


@pytest.mark.parametrize("name", ALL)
def test_all_boards(name, model, tmp_path):
    run, path = profile(name, model, tmp_path)
    assert run.complete and run.torn == 0 and run.missing == 0
    assert run.source == ("host-clock" if name.startswith("unix") else "emulated-icount")
    assert run.unit == ("ns" if name.startswith("unix") else "instr")
    assert run.correctness == ("not checked" if name.startswith("unix") else "match")
    assert list(run.tests) == ["pp4", "tg4", "pp4 @ d8", "tg4 @ d8"]
    assert run.memory.allocated_in_region == 0
    assert run.model.sha256 == run.host.model_sha256
    assert run.model.placement == ("ram" if name.startswith("unix") else "mapped")
    assert run.host.firmware_sha256 and run.begin.native.kernels == KERNELS.get(name, run.begin.native.kernels)
    frame = metrics.tests(run)
    assert (frame["interpreter"] > 0).all() and (frame["per_token"] > 0).all()
    assert frame["tok_s"].notna().all() == name.startswith("unix")  # never tok/s from counted instructions
    for line in path.read_bytes().splitlines():
        assert len(line) < 1000 and isinstance(wire.decode(line), schema.Record)
    # what the report says can be read back
    assert (runs.load(path).complete and "emulated" in run_report.markdown(run, None)) or name.startswith("unix")


@pytest.mark.parametrize("name", QEMU)
def test_emulated_figures_are_the_same_in_every_run(name, model, tmp_path):
    def figures(path):
        skip = (b'"kind":"host"',)
        lines = [json.loads(x) for x in path.read_bytes().splitlines() if not any(s in x for s in skip)]
        return [{k: v for k, v in x.items() if k not in ("run", "crc")} for x in lines]

    first = figures(profile(name, model, tmp_path / "1")[1])
    second = figures(profile(name, model, tmp_path / "2")[1])
    assert first == second


def test_work_is_counted_from_shapes(model, tmp_path):
    run, _ = profile("m4", model, tmp_path, d=(0,))
    # dim 64, 2 layers, kv 32, hidden 96, vocab 288
    per_token = 2 * (64 * 64 * 2 + 2 * 64 * 32 + 3 * 64 * 96)
    assert run.model.macs_per_token == per_token + 64 * 288
    decode = metrics.operators(run, "tg4")
    attention = 2 * 2 * 64 * (1 + 2 + 3 + 4) / 4
    assert decode["macs"].sum() == per_token + 64 * 288 + attention
    prefill = metrics.operators(run, "pp4")
    assert prefill["macs"].sum() == per_token + 64 * 288 / 4 + attention
    row = decode.set_index("role").loc["ffn_up"]
    assert row["bytes"] == 2 * (96 * 64 * 18 / 32 + 64 // 32 * 18 * 4 + 96 * 4) and row["calls"] == 2
    assert decode["share"].sum() == pytest.approx(1)


def test_operators_and_interpreter_add_up(model, tmp_path):
    run, _ = profile("m4", model, tmp_path, d=(0,))
    test = run.tests["tg4"]
    frame = metrics.tests(run).set_index("test")
    whole, parts = sum(test.totals), sum(test.costs.values())
    assert frame.loc["tg4", "interpreter"] == pytest.approx((whole - parts) / whole)
    assert frame.loc["tg4", "p50"] == np.percentile(test.latencies, 50)
    # a deeper cache costs more
    assert (
        metrics.operators(profile("m4", model, tmp_path)[0], "tg4 @ d8").set_index("role").loc["attention", "units"]
        > metrics.operators(run, "tg4").set_index("role").loc["attention", "units"]
    )


@pytest.mark.parametrize("name", QEMU)
def test_overhead_of_the_profiler_is_below_one_percent(name, tmp_path):
    run, _ = profile(name, DEMO_MODEL, tmp_path, p=(), n=(4,), d=(0,))
    per_token, share = metrics.profiler_overhead(run)
    assert 0 < share < 0.01 and per_token > 0


def same_but_for_the_run(lines):
    """What three ways of starting must agree on."""
    kept = []
    for text in lines:
        if text.startswith('{"tp"'):
            record = json.loads(text)
            if record["kind"] not in ("host", "end"):
                kept.append({k: v for k, v in record.items() if k not in ("run", "crc", "meta")})
    return kept


REPL = "import tinyprof\nm = tinyprof.load('/rom/model.gguf')\nprint(tinyprof.profile(m, p=(16,), n=(16,), r=3))"


def test_three_ways_in_one_measurement(model, tmp_path):
    """The example by mpremote run, collect, and by hand: the same records, the same logits."""
    _, path = profile("m4", model, tmp_path, p=(16,), n=(16,), d=(0,), r=3)
    with board("m4", model) as b:
        by_hand = b.run(REPL).splitlines()
        b.transport.close()
        example = subprocess.run(
            [sys.executable, "-m", "mpremote", "connect", b.transport.device, "run",
             str(ROOT / "device/examples/profile_llm.py")],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    assert example.returncode == 0, example.stderr
    ways = [path.read_text().splitlines(), by_hand, example.stdout.splitlines()]
    for lines in ways:
        stream = runs.read((x.encode() for x in lines), "x").stream
        assert stream.complete and not stream.torn
    collected, by_hand, example = map(same_but_for_the_run, ways)
    for ours in (by_hand, example):
        assert [(r["kind"], r["seq"], sorted(r)) for r in ours] == [(r["kind"], r["seq"], sorted(r)) for r in collected]
        for a, c in zip(ours, collected, strict=True):
            if a["kind"] in ("op", "check"):
                assert a == c
            elif a["kind"] == "cost":  # where the heap lies may cost an instruction or two
                assert np.allclose(a["v"], c["v"], rtol=1e-3)
    assert "tg16" in ways[1][-12] or any("instr/token" in x for x in ways[1][-16:])


def test_generate_at_the_repl():
    with board("m4", DEMO_MODEL) as b:
        text = b.run(
            "import tinyprof\nm = tinyprof.load('/rom/model.gguf')\nprint(m)\nm.generate('Once upon a time', 20)"
        )
    assert text.startswith("<tinyprof-demo: 4 layers") and "\nOnce upon a time" in text


def test_counter_at_the_repl():
    with board("m4") as b:
        assert b.run("from tinyprof import counters\ncounters.info()").startswith(
            "fpgaio: emulated-icount, in use\n  a step is 1 instr;"
        )


def test_prefill_alone(model, tmp_path):
    run, _ = profile("unix", model, tmp_path, p=(4, 12), n=(), d=(0,))
    assert run.complete and list(run.tests) == ["pp4", "pp12"]


@pytest.mark.parametrize("name", ["m4", "m7"])
def test_prefill_shares_what_weights_cost(name, tmp_path):
    run, _ = profile(name, DEMO_MODEL, tmp_path, p=(16,), n=(16,), d=(0,), r=1, batch=16)
    prefill, decode = metrics.tests(run)["per_token"]
    assert run.correctness == "match" and prefill <= 0.6 * decode


def test_prefill_longer_than_the_counters_turn(model):
    """One batch fits in the counter's turn, the whole prompt does not: nothing is lost."""
    code = """
import tinyprof
from tinyprof import counters, measure
m = tinyprof.load({!r}, context=64, batch=4)
find = counters.find
def short():
    c = find()
    c.modulus = 1 << 22
    return c
counters.find = short
measure.profile(m, p=(32,), n=(), r=1)
"""
    with board("m3", model) as b:
        lines = b.run(code.format(b.source)).splitlines()
    run = runs.read((x.encode() for x in lines), "x")
    test = run.tests["pp32"]
    assert sum(test.totals) > 1 << 22  # more than one turn
    assert 0 < 1 - sum(test.costs.values()) / sum(test.totals) < 0.05


SAMPLE = """
import tinyprof
m = tinyprof.load({!r}, context=64)
for seed in (1, 2, 3):
    out = []
    m.generate("the", 8, temperature=1.0, seed=seed, write=out.append)
    print(out)
m.generate("the", 4, temperature=0.0001, write=len)
for bad in (300000, -1):
    try:
        m.prefill([bad])
    except (ValueError, OverflowError) as e:
        print("refused", e)
"""


def test_sampling_and_tokens_outside_the_vocabulary(model):
    with board("unix", model) as b:
        lines = b.run(SAMPLE.format(b.source)).splitlines()
    assert len({lines[0], lines[1], lines[2]}) == 3
    assert sum(line.startswith("refused") for line in lines) >= 1


def test_two_runs_into_one_file(model, tmp_path):
    import fcntl

    from tinyprof_bridge.errors import BadInput

    with (tmp_path / "unix.partial.jsonl").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(BadInput, match="another run is writing"):
            profile("unix", model, tmp_path)


class Interrupted(Progress):
    """Ctrl-C at the step whose text begins so."""

    def __init__(self, text):
        super().__init__(quiet=True)
        self.text = text

    def step(self, text):
        super().step(text)
        if text.startswith(self.text):
            raise KeyboardInterrupt


def test_interrupt_before_the_run_leaves_nothing(model, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        collect(Request("m4", model), tmp_path / "r.jsonl", Interrupted("computing reference logits"))
    assert list(tmp_path.iterdir()) == []


def test_without_a_reference_the_logits_are_not_checked_and_that_is_said(model, tmp_path, capfd, monkeypatch):
    from tinyprof_bridge.boards import emulators
    from tinyprof_bridge.errors import BadInput

    there = emulators.firmware

    def not_there(board):
        if board == "unix":
            raise BadInput("no firmware for board 'unix'")
        return there(board)

    monkeypatch.setattr(emulators, "firmware", not_there)
    run, _ = collect(Request("m4", model, p=(4,), n=(4,), r=1), tmp_path / "r.jsonl", Progress())
    assert run.correctness == "not checked"
    said = capfd.readouterr().err
    assert "no reference, so logits of the float path are not checked: no firmware for board 'unix'" in said
    steps = ["loading", "running the check prompt", "warming up pp4", "measuring pp4", "warming up tg4"]
    places = [said.index(step) for step in [*steps, "measuring tg4", "measuring the profiler itself"]]
    assert places == sorted(places)


@pytest.mark.parametrize(
    "error,raised", [("ModelError", "BadInput"), ("ValueError", "RunFailed"), ("TypeError", "RunFailed")]
)
def test_only_what_the_user_gave_is_bad_input(error, raised):
    from pathlib import Path

    from tinyprof_bridge import errors
    from tinyprof_bridge.measure import collect as module

    end = schema.End(tp=1, run="x", seq=0, kind="end", records=1, ok=False, error=error, reason="why")
    with pytest.raises(getattr(errors, raised), match="why"):
        module._judge(runs.Run("x", end=end), None, Path("x"))


def test_profile_refuses_equal_lengths_at_the_repl(model):
    with board("unix", model) as b:
        code = f"import tinyprof\ntry:\n tinyprof.profile(tinyprof.load({b.source!r}), p=(4, 4))\n"
        assert "must not repeat a number" in b.run(code + "except ValueError as e:\n print(e)\n").splitlines()[-1]


def test_captured_output_is_a_file_for_report(model, tmp_path):
    """What `mpremote run … > file` and `mpremote repl --capture file` keep."""
    with board("unix", model) as b:
        lines = b.run(f"import tinyprof\nprint(tinyprof.profile(tinyprof.load({b.source!r}), p=(4,), n=(4,), r=2))")
    capture = tmp_path / "capture.txt"
    capture.write_bytes(b">>> tinyprof.profile(m)\r\n" + lines.replace("\n", "\r\n").encode() + b"\r\n>>> ")
    run = runs.load(capture)
    assert run.complete and list(run.tests) == ["pp4", "tg4"]
