"""Lines and records: nothing invented, nothing intact lost, and schema and board agree."""

import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tinyprof_bridge.errors import BadInput
from tinyprof_bridge.records import runs, schema, wire
from tinyprof_bridge.records.runs import load, read

END = {"tp": 1, "run": "ab", "seq": 1, "kind": "end", "records": 2, "ok": True}
OVERHEAD = {"tp": 1, "run": "ab", "seq": 0, "kind": "overhead", "tokens": 4, "on": [5, 6], "off": [4, 4]}


def line(fields, **changes):
    return wire.encode(fields | changes)


def test_round_trip():
    record = wire.decode(line(OVERHEAD))
    assert isinstance(record, schema.Overhead) and record.on == [5, 6]


def test_checksum_is_zlibs_over_what_stands_before_it():
    text = line(END)
    body, _, crc = text.rpartition(b',"crc":"')
    assert zlib.crc32(body) == int(crc[:8], 16) and json.loads(text)["ok"] is True


@pytest.mark.parametrize("text", [b"", b"hello", b">>> ", b"\xff\xfe", b"Traceback (most recent call last):", b"{}"])
def test_other_lines_are_no_records(text):
    assert wire.decode(text) is None


@given(st.integers(0, 200), st.integers(0, 255))
def test_a_changed_byte_is_noticed(at, new):
    good = line(OVERHEAD)
    bad = bytearray(good)
    bad[at % len(good)] = new
    if bytes(bad) == good or bytes(bad).strip(b"\r\n \x00") == good:
        return
    try:
        assert wire.decode(bytes(bad)) is None
    except wire.Torn:
        pass


@given(st.integers(1, 200))
def test_a_cut_line_is_noticed(size):
    good = line(OVERHEAD)
    if size >= len(good):
        return
    for part in (good[:size], good[size:]):
        try:
            assert wire.decode(part) is None
        except wire.Torn:
            pass


@given(st.binary(max_size=300))
def test_garbage_never_becomes_a_record(data):
    try:
        assert wire.decode(data) is None
    except wire.Torn:
        pass


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "nothing"},
        {"on": "text"},
        {"tokens": 0},
        {"seq": -1 << 24},
        {"seq": 1 << 60},
        {"run": None},
        {"on": [-1]},
    ],
)
def test_what_does_not_follow_the_schema_is_torn(changes):
    with pytest.raises(wire.Torn, match="schema"):
        wire.decode(line(OVERHEAD, **changes))


def test_fields_of_a_later_version_are_ignored_and_a_later_schema_is_refused():
    assert wire.decode(line(OVERHEAD, colour="blue")) is not None
    with pytest.raises(wire.Torn, match="newer than this tinyprof-bridge: update it"):
        wire.decode(line(OVERHEAD, tp=2))


def test_stream_tells_complete_from_incomplete():
    whole = runs.read([line(OVERHEAD), b"a print in between", line(END)], "x").stream
    assert whole.complete and whole.log == ["a print in between"]
    assert not runs.read([line(OVERHEAD)], "x").stream.complete  # no end
    gap = runs.read([line(OVERHEAD), line(END, seq=2, records=3)], "x").stream
    assert not gap.complete and gap.gaps == [range(1, 2)]
    torn = runs.read([line(OVERHEAD), line(OVERHEAD, seq=1)[:-9], line(END, seq=2, records=3)], "x").stream
    assert not torn.complete and torn.torn == 1
    assert not runs.read([line(OVERHEAD), line(END, ok=False)], "x").stream.complete


def test_gaps_are_named():
    numbers = [*range(3), 4, *range(8, 10), *range(20, 60, 2)]
    run = read([line(OVERHEAD, seq=-1), *(line(OVERHEAD, seq=n) for n in reversed(numbers)), b'{"tp":1'], "x")
    assert run.missing == 60 - 1 - len(numbers)
    assert run.losses == "33 records missing (3, 5-7, 10-19, 21, 23, 25, 27, 29, 31, 33, …), 1 damaged"
    assert read([line(OVERHEAD, seq=(1 << 24) - 1)], "x").losses == "16777215 records missing (0-16777214), 0 damaged"


def test_stream_takes_each_record_once_and_of_one_run():
    stream = wire.Stream("ab")
    taken = [stream.feed(x) for x in (line(OVERHEAD), line(OVERHEAD), line(OVERHEAD, run="cd"), line(END))]
    assert [t is not None for t in taken] == [True, False, False, True] and stream.complete


def test_a_record_behind_a_prompt_is_found():
    assert wire.Stream().feed(b">>> " + line(OVERHEAD) + b"\r\n") is not None


@pytest.mark.parametrize("content", [b"", b"hello\n", b"\x00" * 100, line(OVERHEAD)[:-3]])
def test_a_file_that_is_no_run(content, tmp_path):
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(BadInput, match="is not a run of tinyprof"):
        load(tmp_path / "x.jsonl")


def test_a_run_of_fragments_can_still_be_shown():
    run = read([line(OVERHEAD), line(END)], "x")
    assert run.complete and run.overhead is not None and run.tests == {}


def test_every_field_is_documented():
    from pathlib import Path
    from typing import get_args

    text = (Path(__file__).parents[2] / "docs" / "records.md").read_text()
    for type_ in get_args(get_args(schema.AnyRecord)[0]):
        kind = type_.model_fields["kind"].annotation.__args__[0]
        _, _, section = text.partition(f"## `{kind}`")
        section = section.partition("\n## ")[0]
        assert section, kind
        for name in set(type_.model_fields) - {"tp", "run", "seq", "kind"}:
            assert f"`{name}`" in section, f"{kind}.{name}"
