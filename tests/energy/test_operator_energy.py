"""Joules of each operator: by readings, and by running one over and over, of a load whose currents are known."""

import json
import re

import numpy as np
import pytest
from captures import staircase
from ina_model import CHIPS  # noqa: F401  (the model is sent to boards)
from models import make_model
from on_board import ON_BOARDS, board
from sensor_runs import MODEL, PROFILE
from tinyprof_bridge.energy import operator_energy, run_energy
from tinyprof_bridge.records import runs
from tinyprof_bridge.report import run_report, trace

# us, uA
COST = {"matmul": (1500, 70000), "attention": (2100, 50000), "window": (900, 60000), "quantize": (300, 90000)}
REST = (200, 40000)

# each operator takes its time and current, in a token as alone
OPERATORS = f"""
from tinyprof import operator_power
COST, REST = {COST!r}, {REST!r}
take = operator_power.Operator.take
def spend(model, i, times):
    op = model.arch.plan.describe(i)
    us, ua = COST.get("window" if op[7] else op[0], REST)
    work(True, ua)
    clock.sleep(us * times)
    work(False)
def slow_take(self, i):
    self.i = i
    take(self, i)
def slow_run(self):
    spend(m, self.i, 32)
operator_power.Operator.take, operator_power.Operator.run = slow_take, slow_run
def slow_step(token, acc=None):
    for i in range(m.arch.plan.count):
        spend(m, i, 1)
    return step(token, acc)
m.step = slow_step
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("operators") / "small.gguf", type_="Q4_0", context=32)


def profile(name, model, meter="driver", chip="ina226", **options):
    """(run, steps of its load)."""
    with board(name, model) as b:
        code = MODEL + PROFILE.format(
            chip=chip, source=b.source, mohm=0, noise=4000, fault="pass", max_ma=400,
            options={"warmup": 0, "reps": 10, "idle_ms": 200, "operator_ms": 300, "rate": 700} | options,
        )  # fmt: skip
        code = code.replace("power.Meter(driver", f"power.Meter({meter}")
        code = code.replace("driver = ", OPERATORS + "driver = ") + "\nprint('STEPS', activity.steps)\n"
        lines = b.run(code).splitlines()
    (steps,) = (json.loads(x[6:].replace("(", "[").replace(")", "]")) for x in lines if x.startswith("STEPS"))
    return runs.read((x.encode() for x in lines), "x"), steps


def cost(op):
    return COST.get("window" if op.window else op.op, REST)


@pytest.fixture(scope="module", params=("ina226", "ina228"))
def watched(request, model):
    """A run under an INA226, and under an INA228 that adds up by itself."""
    quiet = request.param == "ina228"  # whose model converts often: shorter windows
    return profile("unix", model, chip=request.param, quiet=quiet, operator_ms=100 if quiet else 300)[0]


@pytest.mark.parametrize("name", ON_BOARDS)
def test_each_kind_has_a_window(name, model):
    run, _ = profile(name, model, "None", reps=1, operator_ms=20)
    alone = [w for w in run.windows if w.test == run_energy.OPERATOR]
    assert [w.test for w in run.windows] == ["idle", "pp8", "tg8", *["operator"] * len(alone), "idle"]
    assert {run.ops[w.rep].role for w in alone} == {op.role for op in run.ops}
    for w in alone:
        us = cost(run.ops[w.rep])[0] * w.tokens
        assert w.tokens % 32 == 0 and w.end - w.begin == pytest.approx(us, abs=50) and us >= 20000


def truth(run):
    """Joules a token of each role."""
    found = {}
    for op in run.ops:
        us, ua = cost(op)
        found[op.role] = found.get(op.role, 0) + us * ua * 3.3e-12
    return found


def test_operators_alone(watched):
    run = watched
    energy = run_energy.on_board(run)
    assert energy.findings == []
    frame = operator_energy.operators(run, energy)
    assert set(frame["how"]) == {"repeated"} and set(frame["role"]) == {op.role for op in run.ops}
    right = truth(run)
    quiet = run.sensor.mode == "accumulator"  # else a reading that begins in an operator of this load lengthens it
    for _, row in frame.iterrows():
        assert row["joules"] == pytest.approx(right[row["role"]], rel=0.01 if quiet else 0.02), row["role"]
    assert frame["share"].sum() == pytest.approx(1, abs=0.01 if quiet else 0.06)
    assert list(run_energy.figures(run, energy)["test"]) == ["pp8", "tg8"]


def test_attention_with_and_without_a_window(tmp_path):
    model = make_model(tmp_path / "m.gguf", type_="Q4_0", context=32, architecture="gemma2", window=4)
    run, _ = profile("unix", model, chip="ina228", quiet=True, operator_ms=100)
    found = operator_energy.operators(run, run_energy.on_board(run)).set_index("role")["joules"]
    assert found["attention"] == pytest.approx(truth(run)["attention"], rel=0.01)


def test_reports_and_traces_show_them(watched):
    run = watched
    energy = run_energy.on_board(run)
    text = run_report.markdown(run, energy)
    assert re.search(r"## Energy of operators in tg8 \(sensor\): (9\d|10[01])\.\d\d % of a token's energy", text), text
    assert re.search(r"\| ffn_up \| .* µJ \| .* % \| 23[012] mW \| repeated \|", text), text
    whole = json.loads(run_report.as_json(run, energy))
    assert {row["how"] for row in whole["power"]["operators"]} == {"repeated"}
    events = json.loads(trace.chrome(run, energy))["traceEvents"]
    assert any(re.fullmatch(r"ffn_up × [\d,]+", e["name"]) for e in events if e["ph"] == "X")
    under = [e for e in events if e["name"] == "ffn_up" and "found by" in e.get("args", {})]
    assert under and under[0]["args"]["watts"] == pytest.approx(3.3 * 0.07, rel=0.01)


def test_operators_by_a_fast_logger(model):
    """Of operators that last for five readings or more; the others by windows of their own."""
    run, steps = profile("unix", model, "None", idle_ms=1000)
    test = run.tests["tg8"]
    run.counter = run.counter.model_copy(update={"unit": "us"})  # what the load's clock would have counted
    test.costs = {op.i: cost(op)[0] * test.tokens * test.runs for op in run.ops}
    test.samples = runs.Samples()
    for rep in range(test.runs):
        test.samples.add(rep, 0, [sum(cost(op)[0] for op in run.ops)] * test.tokens)
    seconds = steps[-1][0] * 1e-6 + 3
    run.supply = staircase([(t * 1e-6, ua * 1e-6) for t, _, ua in steps], 10000, seconds, 1.25, 1 + 40e-6, 0.002)
    energy = run_energy.energy(run)
    assert energy.findings == [], energy.findings
    frame = operator_energy.operators(run, energy).set_index("role")
    right = truth(run)
    by_samples = frame.index[frame["how"] == "samples"]
    assert {"ffn_up", "output", "attention"} <= set(by_samples) and "ffn_swiglu" not in by_samples
    for role, row in frame.iterrows():
        assert row["joules"] == pytest.approx(right[role], rel=0.02), role
    assert np.isclose(frame["share"].sum(), 1, atol=0.01)


def test_a_run_without_them_has_no_table(watched):
    run = watched
    energy = run_energy.on_board(run)
    energy.windows = [m for m in energy.windows if m.window.test != run_energy.OPERATOR]
    assert operator_energy.operators(run, energy).empty
