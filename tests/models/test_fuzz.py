"""Hostile models and runs: an answer in words or a good result, never a crash, a hang or a traceback.

The default run is short and the same every time; TINYPROF_FUZZ=100 takes a hundred times as many
cases, other ones in each run."""

import contextlib
import io
import json
import os
import struct
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from models import make_model
from on_board import board
from rich.console import Console
from test_gguf_reader import FUZZ
from tinyprof_bridge.boards import emulators
from tinyprof_bridge.energy import run_energy
from tinyprof_bridge.errors import BadInput
from tinyprof_bridge.measure.collect import Request, collect
from tinyprof_bridge.progress import Progress
from tinyprof_bridge.records import runs, wire
from tinyprof_bridge.report import run_report

MORE = int(os.environ.get("TINYPROF_FUZZ", "0"))


def fuzz(examples):
    return settings(
        max_examples=examples * max(MORE, 1),
        derandomize=not MORE,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@contextlib.contextmanager
def refused_or_read(size):
    """What reads a damaged file of so many bytes may refuse it, in one line, and takes no memory without measure."""
    tracemalloc.start()
    try:
        yield
    except BadInput as error:
        assert "\n" not in str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 2 * size + (16 << 20)


class Fields:
    """(offset, struct format) of every size, count, type, offset and number in the header of a GGUF file."""

    def __init__(self, data):
        self.data = data
        self.at = 4
        self.found = []
        self.take("<I")
        tensors, keys = self.take("<Q"), self.take("<Q")
        for _ in range(keys):
            self.string()
            self.value(self.take("<I"))
        for _ in range(tensors):
            self.string()
            for _ in range(self.take("<I")):
                self.take("<Q")
            self.take("<I")
            self.take("<Q")

    def take(self, form):
        self.found.append((self.at, form))
        (value,) = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return value

    def string(self):
        size = self.take("<Q")
        self.at += size

    def value(self, type_):
        if type_ == 8:
            self.string()
        elif type_ == 9:
            item, count = self.take("<I"), self.take("<Q")
            for i in range(count):
                before = len(self.found)
                self.value(item)
                if 2 < i < count - 1:  # the first and the last of a long array are enough
                    del self.found[before:]
        else:
            self.take({4: "<I", 5: "<i", 6: "<f", 7: "<B"}[type_])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("fuzz") / "good.gguf", type_="Q4_0", context=32)


INTERESTING = [0, 1, 2, 3, 8, 9, 12, 13, 31, 32, 33, 127, 128, 255, 256, 288, 65535, 1 << 24, (1 << 24) + 1]
INTERESTING += [(1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
NUMBERS = st.one_of(st.sampled_from(INTERESTING), st.integers(0, 100), st.integers(0, (1 << 64) - 1))
# a field by its place among all (taken modulo their number), and what to write there: a number, or one added
EDITS = st.tuples(st.integers(0, 10_000), st.one_of(NUMBERS, st.tuples(st.integers(-40, 40))))
CASES = st.tuples(st.lists(EDITS, max_size=4), st.one_of(st.none(), st.integers(0, 1 << 20)))


def patches(fields, data, edits):
    made = []
    for place, value in edits:
        at, form = fields[place % len(fields)]
        size = struct.calcsize(form)
        if isinstance(value, tuple):
            value = int.from_bytes(data[at : at + size], "little") + value[0]
        made.append((at, (value % (1 << 8 * size)).to_bytes(size, "little")))
    return made


TEXT = (b"9", b"-", b'"', b"[", b"]", b"{", b"}", b",", b"null", b"1e999", b"\xff", b"..", b"\0")


def mutated(rng, data):
    """A few changes near the begin, where sizes and names stand, or anywhere."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(min(len(data), rng.choice((64, 4096, len(data)))))
        match rng.randrange(6):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                data[at : at + 1] = rng.choice(TEXT)
            case 2:
                del data[at : at + rng.choice((1, 8, 100))]
            case 3:
                data[at:at] = data[: rng.choice((1, 8, 100))]
            case 4:
                size = rng.choice((1, 4, 8))
                data[at : at + size] = (rng.choice(INTERESTING) % (1 << 8 * size)).to_bytes(size, "little")
            case _:
                del data[rng.randrange(len(data)) if rng.randrange(4) == 0 else at :]
        if not data:
            return b""
    return bytes(data)


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
