"""Hostile models and runs: an answer in words or a good result, never a crash, a hang or a traceback.

The default run is short and the same every time; TINYPROF_FUZZ=100 takes a hundred times as many
cases, other ones in each run."""

import io
import json

import pytest
from device_code import FUZZ
from fuzzing import CASES, NUMBERS, Fields, fuzz, patches
from hypothesis import given
from hypothesis import strategies as st
from models import make_model
from on_board import board
from rich.console import Console
from tinyprof_bridge.boards import emulators
from tinyprof_bridge.energy import run_energy
from tinyprof_bridge.errors import BadInput
from tinyprof_bridge.measure.collect import Request, collect
from tinyprof_bridge.progress import Progress
from tinyprof_bridge.records import runs, wire
from tinyprof_bridge.report import run_report


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("fuzz") / "good.gguf", type_="Q4_0", context=32)


@pytest.mark.parametrize("name", ["unix", "unix-asan"])
def test_models(name, model):
    """Many damaged models in one process: each is refused with a ModelError, or runs."""
    data = model.read_bytes()
    fields = Fields(data).found
    try:
        emulators.firmware(name)
    except BadInput as error:
        pytest.skip(str(error))

    @fuzz(40)
    @given(st.lists(CASES, min_size=1, max_size=40))
    def check(batch):
        cases = [(min(size or len(data), len(data)), patches(fields, data, edits)) for edits, size in batch]
        with board(name, model) as b:
            lines = b.run(FUZZ.format(source=b.source, cases=cases), 30).splitlines()
        assert len(lines) == len(cases)
        assert [x for x in lines if x != "ok" and not x.startswith("ModelError ")] == []

    check()


@pytest.fixture(scope="module")
def records(model, tmp_path_factory):
    """A whole run, as a list of records."""
    out = tmp_path_factory.mktemp("fuzz-run") / "r.jsonl"
    _, path = collect(Request("unix", model, p=(4,), n=(4,), r=2), out, Progress(quiet=True))
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def show(path):
    """All that a saved run is read for. BadInput is an answer."""
    try:
        run = runs.load(path)
    except BadInput:
        return
    run_report.terminal(run, run_energy.energy(run), Console(file=io.StringIO(), width=100))
    run_report.markdown(run, run_energy.energy(run))
    run_report.csv(run)
    json.loads(run_report.as_json(run, run_energy.energy(run)))


ODD = st.one_of(
    st.none(), st.booleans(), NUMBERS, st.integers(-5, 5), st.floats(), st.text(max_size=8), st.just([]), st.just({}),
    st.lists(NUMBERS, max_size=4), st.sampled_from(["F32", "Q4_0", "pp4", "tg4", "matmul", "decode", "cycles", "ns"]),
)  # fmt: skip
# a record by its place, what to do with it, one of its fields by its place, the new value of that
CHANGES = st.tuples(st.integers(0, 1000), st.sampled_from(["set", "set", "drop", "twice"]), st.integers(0, 30), ODD)


def test_records(records, tmp_path_factory):
    """Records with right checksums and wrong contents: whatever comes through the schema can be shown."""
    path = tmp_path_factory.mktemp("fuzz-records") / "r.jsonl"

    @fuzz(150)
    @given(st.lists(CHANGES, min_size=1, max_size=8))
    def check(changes):
        changed = [dict(r) for r in records]
        for place, action, field, value in changes:
            record = changed[place % len(changed)]
            if action == "set":
                record[list(record)[field % len(record)]] = value
            elif action == "twice":
                changed.append(dict(record))
            elif len(changed) > 1:
                changed.remove(record)
        lines = [wire.encode({k: v for k, v in r.items() if k != "crc"}) for r in changed]
        path.write_bytes(b"\n".join(lines))
        show(path)

    check()


def test_torn_files(records, tmp_path_factory):
    """Bytes of a run exchanged, inserted and cut."""
    path = tmp_path_factory.mktemp("fuzz-torn") / "r.jsonl"
    whole = b"\n".join(wire.encode({k: v for k, v in r.items() if k != "crc"}) for r in records)

    @fuzz(60)
    @given(st.lists(st.tuples(st.integers(0, len(whole)), st.integers(0, 60), st.binary(max_size=60)), max_size=6))
    def check(edits):
        data = whole
        for at, cut, new in edits:
            data = data[:at] + new + data[at + cut :]
        path.write_bytes(data)
        show(path)

    check()
