"""Why a run is slow: parts that add up, measured ceilings, findings with planted faults, predictions.

Predictions of all boards: TINYPROF_PREDICTIONS=1 python -m pytest -s tests/analysis/test_explain.py -k hold"""

import json
import os
from types import SimpleNamespace

import pytest
from bridge import bridge
from models import make_model
from on_board import FIXED, board
from tinyprof_bridge.analysis import attribution, ceilings, explain, verify, whatif
from tinyprof_bridge.errors import BadInput
from tinyprof_bridge.measure.collect import Request, collect
from tinyprof_bridge.models.demo import DEMO_MODEL
from tinyprof_bridge.progress import Progress
from tinyprof_bridge.quantize import weight_types
from tinyprof_bridge.records import runs, wire
from tinyprof_bridge.records.samples import Samples

BOARDS = ("m3", "m4", "m7", "rv32")
PREDICTED = ("m0", *BOARDS, "m33", "m55") if os.environ.get("TINYPROF_PREDICTIONS") else BOARDS


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """One run of the demo model on each board, made when first asked for; 16: with activations of so many bits."""
    folder, made = tmp_path_factory.mktemp("explain"), {}

    def get(name):
        if name not in made:
            board, _, bits = name.partition(" ")
            request = Request(board, DEMO_MODEL, p=(12,), n=(8,), d=(0, 64), r=2, activations=int(bits or 8))
            made[name] = collect(request, folder / f"{name}.jsonl", Progress(quiet=True))[1]
        return made[name]

    return get


@pytest.mark.parametrize("name", ["m0", *BOARDS, "m4 16", "unix"])
def test_parts_add_up_exactly(name, saved):
    run = runs.load(saved(name))
    roof = ceilings.ceilings(run)
    assert not roof.skipped and roof.call > 0 and {"hot", "ram"} <= set(roof.reads)
    for test in run.tests.values():
        found = attribution.attribute(run, test.name, roof)
        assert sum(found.part(part) for part in attribution.PARTS) == found.units == sum(test.totals)
        for share in found.shares:
            assert sum(share.parts.values()) == share.units
            assert share.role == attribution.BETWEEN or all(units >= 0 for units in share.parts.values())
        if name != "unix":  # the same to the instruction each time: what is hot there is all
            assert found.part("compute") > 0.98 * found.units and found.part("memory") == 0
            assert found.part("unknown") < 0.01 * found.units


@pytest.mark.parametrize("name", ["m0", *BOARDS, "m4 16"])
def test_no_operator_is_above_its_roof(name, saved):
    run = runs.load(saved(name))
    roof = ceilings.ceilings(run)
    for test in run.tests:
        frame = attribution.roofline(attribution.attribute(run, test, roof), run, roof).set_index("role")
        assert {"ffn_up", "output", "attention"} <= set(frame.index)
        assert frame["of_roof"].drop("attention").between(0.5, 1.02).all(), frame
        # the fixed path's attention skips values without weight, of which deep layers have more than the first
        assert 0.9 < frame.loc["attention", "of_roof"] < (1.04 if name in FIXED else 1.02)


def test_every_form(saved, tmp_path):
    for form, wanted in (("table", "of ceiling"), ("md", "| whole |"), ("json", '"attribution"')):
        done = bridge("explain", saved("m4"), "-o", form)
        assert done.returncode == 0 and wanted in done.stdout and "emulated-icount" in done.stdout, done.stderr
    whole = json.loads(done.stdout)
    parts = whole["attribution"][-1]
    assert parts["role"] == "whole" and sum(parts[p] for p in attribution.PARTS) == pytest.approx(parts["units"])


def test_bad_input_is_one_line(saved, tmp_path):
    for options in ([saved("m4"), "--test", "tg9"], [saved("m4"), "-o", "pdf"], [tmp_path / "none.jsonl"]):
        done = bridge("explain", *options)
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr


def test_a_run_without_ceilings_says_so(saved):
    run = runs.load(saved("m4"))
    run.roof = []
    why = explain.explain(run)
    assert why.found.part("compute") == 0 and why.found.part("unknown") > 0.9 * why.found.units
    assert any("no measured ceilings" in note for note in explain.notes(why))


# What is done to a model on the board before it is profiled: each a reason for being slow.
FAULTS = {
    "copied weights": """
copy = bytearray(len(m.data))
run = type(m)._run
def slow(self, acc):
    copy[:] = self.data
    run(self, acc)
type(m)._run = slow
""",
    "portable kernel": """
for i in range(m.arch.plan.count):
    at = i * ops.WORDS
    if m.arch.plan.words[at] & 0xFF in (ops.MATMUL, ops.QUANTIZE):
        m.arch.plan.words[at] |= ops.PORTABLE << 16
""",
    "heap": """
import gc
ballast = []
try:
    for size in (100000, 5000):
        while gc.mem_free() > SPARE + size:
            ballast.append(bytearray(size))
except MemoryError:
    pass
""",
    "storage": """
class Slow:
    def __init__(self, file):
        self.file = file
        self.seek = file.seek
    def readinto(self, buffer):
        _tinyprof.spin(ctl, len(buffer) * 2)
        return self.file.readinto(buffer)
m.stream.file = Slow(m.stream.file)
""",
    "interpreter": """
run = type(m)._run
def slow(self, acc):
    for i in range(2000):
        pass
    run(self, acc)
type(m)._run = slow
""",
    "KV cache": "",
}


def planted(fault, name="m4", load="context=128", spare=40000, **lengths):
    """The explanation of a run with that fault."""
    lengths = {"p": (), "n": (4,), "d": (0,), "r": 2} | lengths
    code = "import tinyprof, _tinyprof\nfrom tinyprof import ops\nctl = ops.control()\n"
    code += f"SPARE = {spare}\n"
    code += f"m = tinyprof.load('/rom/model.gguf', {load})\n{FAULTS[fault]}\n"
    code += f"tinyprof.profile(m, run='planted', **{lengths})"
    run = runs.Run(fault)
    with board(name, DEMO_MODEL) as b:
        for line in b.run(code).encode().splitlines():
            run.feed(line)
    assert run.end is not None and run.end.ok, run.end
    return explain.explain(run)


@pytest.mark.parametrize(
    ("fault", "options"),
    [
        ("copied weights", {}),
        ("portable kernel", {}),
        ("heap", {}),
        ("storage", {"load": "context=128, stream=True"}),
        ("interpreter", {}),
        ("KV cache", {"load": "context=256", "d": (0, 240)}),
    ],
)
@pytest.mark.parametrize("name", ["m4", "rv32"])
def test_the_top_finding_names_a_planted_fault(name, fault, options):
    why = planted(fault, name, **options)
    assert why.findings[0].name == fault, why.findings
    assert why.findings[0].gain is None if fault == "heap" else why.findings[0].gain > 0


@pytest.mark.parametrize("spare", [15500, 21000])
def test_ceilings_without_room_are_left_out_and_said(spare):
    """A heap that holds the run and little more: the run stands, what could not be measured is told."""
    why = planted("heap", spare=spare)
    assert why.run.complete and why.roof.skipped and why.findings[0].name == "heap"
    assert any("for lack of RAM" in note for note in explain.notes(why))
    with pytest.raises(BadInput, match=r"not measured|no measured ceilings"):
        whatif.predict(why.run, whatif.parse("type=Q8_0"))


def changed(path, tmp_path, change):
    """A run whose records went through change."""
    lines = []
    for line in path.read_bytes().splitlines():
        record = json.loads(line)
        del record["crc"]
        change(record)
        lines.append(wire.encode(record))
    out = tmp_path / "changed.jsonl"
    out.write_bytes(b"\n".join(lines) + b"\n")
    run = runs.load(out)
    assert run.complete
    return run


def test_weights_in_slow_memory_are_found(saved, tmp_path):
    """What an emulator has not: flash in which a byte costs one unit more."""
    run = runs.load(saved("m4"))
    bytes_of = {o.i: o.rows * weight_types.row_bytes(o.type, o.cols) for o in run.ops if o.op == "matmul"}

    def slower(record):
        if record["kind"] == "roof" and record["what"] == "read" and record["place"] == "mapped":
            record["units"] += record["bytes"]
        elif record["kind"] == "cost" and record["test"] == "tg8":
            more = [
                bytes_of.get(i, 0) * 8 * record["runs"] for i in range(record["at"], record["at"] + len(record["v"]))
            ]
            record["v"] = [v + m for v, m in zip(record["v"], more, strict=True)]
        elif record["kind"] == "samples" and record["test"] == "tg8":
            record["v"] = [v + sum(bytes_of.values()) for v in record["v"]]

    why = explain.explain(changed(saved("m4"), tmp_path, slower))
    top = why.findings[0]
    assert top.name == "slow memory" and top.gain == pytest.approx(sum(bytes_of.values()), rel=0.02)
    assert why.found.part("unknown") < 0.05 * why.found.units
    frame = attribution.roofline(why.found, why.run, why.roof).set_index("role")
    assert frame.loc["ffn_up", "bound"] == "compute" and frame.loc["ffn_up", "of_roof"] < 0.8


@pytest.mark.parametrize(
    ("name", "factors", "finding"),
    [("m4", (1.0, 1.05, 1.1, 1.2), "drift"), ("m4", (1.0, 1.2, 1.0, 1.1), "variance"), ("m4", (1.0,) * 4, None)],
)
def test_repetitions_that_differ(name, factors, finding, saved, tmp_path):
    run = runs.load(saved(name))
    test = run.tests["tg8"]
    units = test.samples.units[:8].copy()
    test.samples = Samples()
    for rep, factor in enumerate(factors):
        test.samples.add(rep, 0, [int(u * factor) for u in units])
    test.runs, test.costs = 4, {i: 2 * cost for i, cost in test.costs.items()}
    names = [f.name for f in explain.explain(run).findings]
    assert names[0] == finding if finding else not {"drift", "variance"} & set(names)


def test_counted_instructions_are_evidence(saved):
    run = runs.load(saved("m4"))
    deepest = run.tests["tg8 @ d64"]
    i = next(op.i for op in run.ops if op.role == "attention")
    counts = [SimpleNamespace(i=i, instr=100, cycles=150, classes={"load": 40, "float": 60})]
    assert all("counted" not in finding.evidence for finding in explain.explain(run).findings)
    deepest.counts = counts  # as virtual counters leave them
    finding = next(f for f in explain.explain(run).findings if f.name == "KV cache")
    assert finding.evidence.endswith("; counted: 60 % float, 40 % load; 1.50 modelled cycles per instruction")


def test_a_coarse_counter(saved):
    run = runs.load(saved("m4"))
    run.counter = run.counter.model_copy(update={"resolution": (5000, 1)})
    assert explain.explain(run).findings[0].name == "counter"


def test_a_type_without_a_fast_kernel(tmp_path):
    model = make_model(tmp_path / "q5.gguf", type_="Q5_0", dim=128, hidden=256, context=64)
    run = collect(Request("m4", model, p=(), n=(4,), r=2), tmp_path / "r.jsonl", Progress(quiet=True))[0]
    top = explain.explain(run).findings[0]
    assert top.name == "no fast kernel" and top.step.endswith("type=Q8_0")
    then = whatif.predict(run, whatif.parse("type=Q8_0")).tests[0]
    assert then.now - then.expected == pytest.approx(top.gain, rel=0.1)


def test_floats_on_a_core_without_fpu(tmp_path):
    model = make_model(tmp_path / "f32.gguf", type_="F32", dim=128, hidden=256, context=64)
    run = collect(Request("m3", model, p=(), n=(4,), r=2), tmp_path / "r.jsonl", Progress(quiet=True))[0]
    assert explain.explain(run).findings[0].name == "soft float"


def test_a_large_vocabulary(tmp_path):
    model = make_model(tmp_path / "v.gguf", type_="Q4_0", vocab=4096, context=64)
    run = collect(Request("m4", model, p=(), n=(4,), r=2), tmp_path / "r.jsonl", Progress(quiet=True))[0]
    assert explain.explain(run).findings[0].name == "head"


@pytest.mark.parametrize("change", ["type=Q8_0", "type=TP3", "context=128"])
@pytest.mark.parametrize("name", PREDICTED)
def test_predictions_hold(name, change, saved):
    """Predicted against measured: errors below 10 %, in fact far below."""
    run = runs.load(saved(name))
    predicted = whatif.predict(run, whatif.parse(change))
    measured = verify.measure(run, predicted.change, DEMO_MODEL, Progress(quiet=True))
    frame = verify.table(predicted, measured)
    print(f"\n{name}, {change}\n{frame[['name', 'now', 'low', 'expected', 'high', 'measured', 'error']].to_string()}")
    assert frame["measured"].notna().all() and (frame["error"].abs() < 0.05).all()
    assert frame["inside"].all()


def test_streaming_is_predicted_from_below(saved):
    run = runs.load(saved("m4"))
    predicted = whatif.predict(run, whatif.parse("placement=stream"))
    measured = verify.measure(run, predicted.change, DEMO_MODEL, Progress(quiet=True))
    frame = verify.table(predicted, measured).set_index("name")
    tests = frame.loc[list(run.tests)]
    assert (tests["low"] < tests["measured"]).all() and tests["high"].isna().all()
    back = whatif.predict(measured, whatif.parse("placement=mapped"))
    for estimate in back.tests:  # as it was before
        assert estimate.expected == pytest.approx(frame.loc[estimate.name, "now"], rel=0.1)


def test_a_clock_needs_cycles(saved, tmp_path):
    assert "unknown" in whatif.predict(runs.load(saved("m4")), whatif.parse("clock=80MHz")).notes[0]

    def cycles(record):
        if record["kind"] == "counter":
            record |= {"source": "hw-cycles", "unit": "cycles"}
        elif record["kind"] == "begin":
            record["clock_hz"] = 160_000_000

    run = changed(saved("m4"), tmp_path, cycles)
    for estimate in whatif.predict(run, whatif.parse("clock=80MHz")).tests:
        assert estimate.unit == "s" and estimate.low <= estimate.expected <= estimate.high
        assert estimate.expected == pytest.approx(2 * estimate.now, rel=0.01)


@pytest.mark.parametrize(
    "options",
    [
        ["--what-if", "colour=red"],
        ["--what-if", "type=Q9"],
        ["--what-if", "context=4"],
        ["--what-if", "context=many"],
        ["--what-if", "clock=0"],
        ["--what-if", "placement=mapped"],
        ["--what-if", "clock=80MHz", "--verify"],
        ["--what-if", "type=Q8_0", "--verify", "--model", __file__],
        ["--verify"],
    ],
)
def test_what_cannot_be_predicted_is_one_line(options, saved):
    done = bridge("explain", saved("m4"), *options)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr, done.stderr
