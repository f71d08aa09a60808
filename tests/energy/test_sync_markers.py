"""Sensors elsewhere: files of loggers, and markers in the load that give their clock away."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from captures import BITS, PATTERN, STEP, marker, staircase
from ina_model import CHIPS  # noqa: F401  (the model is sent to boards)
from models import make_model
from on_board import ON_BOARDS, board
from sensor_runs import MODEL, PROFILE
from tinyprof_bridge.energy import logger_csv, run_energy, sync_markers
from tinyprof_bridge.errors import BadInput
from tinyprof_bridge.records import power_trace, runs
from tinyprof_bridge.report import files, run_report


def marked(begins, length):
    steps = [(0.0, 0.02)]
    for begin in begins:
        steps += [(begin + i * STEP, 0.06 if PATTERN >> (BITS - 1 - i) & 1 else 0.02) for i in range(BITS)]
        steps.append((begin + BITS * STEP, 0.02))
    for i in range(20):  # work that is no marker
        steps += [(begins[0] + 1 + 0.08 * i, 0.07), (begins[0] + 1.05 + 0.08 * i, 0.02)]
    return sorted(steps)


@pytest.mark.parametrize("rate", (200, 1000, 10000, 100000))
@pytest.mark.parametrize("offset,skew", [(0.7312345, 0), (1.23456, 80e-6), (0.5, -2e-3)])
@pytest.mark.parametrize("noise", (0.0, 0.004))
def test_within_one_sample(rate, offset, skew, noise):
    trace = staircase(marked([0.5, 4.0], 5), rate, 8, offset, 1 + skew, noise)
    found = sync_markers.align(trace, [marker("begin", 500000), marker("end", 4000000)])
    off = [abs(found.at(t) - (offset + (1 + skew) * t)) for t in (0.5, 2.0, 4.0)]
    assert max(off) < 1 / rate or max(off) < found.error  # fine rasters: noise decides
    assert max(off) < 1.5 * found.error and found.error < max(1.5 / rate, 1e-4)
    assert found.scale == pytest.approx(1 + skew, abs=3 * found.error / 3.5)


def test_one_marker_is_enough():
    trace = staircase(marked([0.5], 5), 1000, 8, 0.25)
    assert abs(sync_markers.align(trace, [marker("begin", 500000)]).at(0.5) - 0.75) < 0.001


@pytest.mark.parametrize("rate,why", [(1000, "the markers are not in"), (20, "too few for marker steps")])
def test_no_marker(rate, why):
    trace = staircase([(0, 0.02), (2, 0.06), (2.5, 0.02)], rate, 8, noise=0.001)
    with pytest.raises(sync_markers.NotFound, match=why):
        sync_markers.align(trace, [marker("begin", 500000), marker("end", 4000000)])


HEADS = {
    "PPK2": ("Timestamp(ms),Current(uA)\n", "{0},{1}\n", 1e3, 1e6),
    "PPK2 with pins": ("Timestamp(ms),Current(uA),D0-D7\n", "{0},{1},01010101\n", 1e3, 1e6),
    "Otii": ('"Timestamp (s)","Main current (A)","Main voltage (V)"\n', "{0},{1},3.3\n", 1, 1),
    "Joulescope": ("# comment, of two words\n#time (s),current (A),voltage (V)\n", "{0},{1},3.3\n", 1, 1),
    "by underscores": ("time_us\tcurrent_mA\tvoltage_mV\n", "{0}\t{1}\t3300\n", 1e6, 1e3),
    "decimal commas": ("Time (s);Current (mA);Voltage (V)\n", "{0};{1};3,3\n", 1, 1e3),
    "without headings": ("", "{0},{1},3.3\n", 1, 1),
}


@pytest.mark.parametrize("form", HEADS)
def test_loggers(form, tmp_path):
    head, row, second, ampere = HEADS[form]
    rows = [row.format(f"{k * 1e-3 * second:.6f}", f"{(0.02 + 1e-5 * k) * ampere:.6f}") for k in range(100)]
    if form == "decimal commas":
        rows = [r.replace(".", ",") for r in rows]
    (tmp_path / "x.csv").write_text(head + "".join(rows))
    trace = logger_csv.read_csv(tmp_path / "x.csv", 3.3 if "PPK2" in form else None)
    assert len(trace.t) == 100 and trace.rate == pytest.approx(1000)
    assert trace.a == pytest.approx(0.02 + 1e-5 * np.arange(100)) and trace.v == pytest.approx(3.3)
    assert power_trace.joules(trace, 0.01, 0.09) == pytest.approx(3.3 * 0.08 * 0.0205)


def test_otii_3_has_a_file_for_each_quantity(tmp_path):
    current, voltage = tmp_path / "Main current - Ace.csv", tmp_path / "Main voltage - Ace.csv"
    current.write_text('"Timestamp","Value"\n' + "".join(f"{k / 1000:.6f},{0.02 + 1e-5 * k:.9g}\n" for k in range(100)))
    with pytest.raises(BadInput, match="--volts"):
        logger_csv.read_csv(current)
    voltage.write_text('"Timestamp","Value"\n' + "".join(f"{k / 100:.6f},{3.3 - 0.01 * k:.9g}\n" for k in range(10)))
    trace = logger_csv.read_csv(current)
    assert trace.v[0] == pytest.approx(3.3) and trace.v[50] == pytest.approx(3.25)
    assert trace.a[50] == pytest.approx(0.0205) and logger_csv.read_csv(current, 3.0).v == pytest.approx(3.0)
    with pytest.raises(BadInput, match="no current column"):
        logger_csv.read_csv(voltage)


def test_a_reading_that_is_written_twice(tmp_path):
    """As nRF Connect does after each 10,000; a time with two values is another thing."""
    rows = [f"{10 * k},{50000 + k}.5\n" for k in range(100)]
    (tmp_path / "x.csv").write_text("Timestamp(ms),Current(uA)\n" + "".join(rows[:50] + rows[49:]))
    trace = logger_csv.read_csv(tmp_path / "x.csv", 3.3)
    assert len(trace.t) == 100 and trace.rate == pytest.approx(100)
    (tmp_path / "x.csv").write_text("Timestamp(ms),Current(uA)\n0,1\n10,2\n10,3\n")
    with pytest.raises(BadInput, match="does not increase"):
        logger_csv.read_csv(tmp_path / "x.csv", 3.3)


CAPTURES = os.environ.get("TINYPROF_CAPTURES")


@pytest.mark.skipif(not CAPTURES, reason="TINYPROF_CAPTURES names no folder of loggers' files")
def test_recorded_captures():
    """Each file of a folder is read whole: no gap, finite amperes and volts, a mean that is not nothing."""
    files = sorted(p for p in Path(CAPTURES).rglob("*.csv") if "voltage" not in p.name)
    assert files
    for file in files:
        trace = logger_csv.read_csv(file, None if "Main current" in file.name else 3.3)
        steps = np.diff(trace.t)
        assert np.isfinite(trace.watts).all() and abs(trace.a.mean()) > 1e-9, file
        assert steps.max() < 2.5 * np.median(steps), file
        print(f"{file.name}: {len(trace.t):,} readings, {trace.rate:,.0f} Hz, {trace.a.mean() * 1e3:.4g} mA")


@pytest.mark.parametrize("amperes", (0.0, 1e-6, 0.05, 0.1))
def test_a_flat_record_has_no_marker(amperes):
    """Whatever rounding leaves of it."""
    for count in range(700, 1300, 37):
        flat = power_trace.Trace(np.arange(count) / 1000, np.full(count, amperes), np.full(count, 3.3), name="x")
        with pytest.raises(sync_markers.NotFound, match="the markers are not in"):
            sync_markers.align(flat, [marker("begin", 100000), marker("end", 100000 + 250 * count)])


@pytest.mark.parametrize(
    "text,why",
    [
        ("", "no rows of numbers"),
        ("hello\nworld\n", "no rows of numbers"),
        ("Timestamp(ms),Current(uA)\n0,1\n1,2\n", "--volts"),
        ("time,voltage\n0,1\n1,2\n", "no current column"),
        ("Timestamp(h),Current(A)\n0,1\n1,2\n", "unknown unit in heading 'Timestamp(h)'"),
        ("time,current,voltage\n1,1,3\n0,1,3\n", "does not increase"),
        ("time,current,voltage\n1,1,3\nx,1,3\n", "x"),
    ],
)
def test_files_that_are_none(text, why, tmp_path):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(BadInput, match=re.escape(why)):
        logger_csv.read_csv(tmp_path / "x.csv")
    with pytest.raises(BadInput, match="cannot read"):
        logger_csv.read_csv(tmp_path / "y.csv")


@pytest.fixture(scope="module", params=ON_BOARDS)
def watched(request, tmp_path_factory):
    """A run without a sensor of its own, saved, and what a PPK2 saw of it."""
    folder = tmp_path_factory.mktemp("align")
    model = make_model(folder / "m.gguf", type_="Q4_0", context=32)
    with board(request.param, model) as b:
        code = PROFILE.replace("power.Meter(driver", "power.Meter(None") + "\nprint('STEPS', activity.steps)\n"
        code = code.format(
            chip="ina219", source=b.source, mohm=0, noise=0, fault="pass", max_ma=400,
            options={"warmup": 1, "reps": 10, "idle_ms": 200, "operator_ms": 0},
        )  # fmt: skip
        lines = b.run(MODEL + code)
    (steps,) = (json.loads(x[6:].replace("(", "[").replace(")", "]")) for x in lines.splitlines() if x[:5] == "STEPS")
    trace = staircase([(t * 1e-6, ua * 1e-6) for t, _, ua in steps], 10000, 8, 1.2345, 1 + 40e-6, 0.002)
    file = folder / "ppk2.csv"
    file.write_text(
        "Timestamp(ms),Current(uA)\n"
        + "".join(f"{t * 1e3:.3f},{a * 1e6:.3f}\n" for t, a in zip(trace.t, trace.a, strict=True))
    )
    (folder / "run.jsonl").write_text("\n".join(x for x in lines.splitlines() if x.startswith('{"tp"')))
    return folder / "run.jsonl", file


def test_energy_of_a_logger(watched):
    run = runs.load(watched[0])
    assert run_energy.energy(run) is None
    run.supply = logger_csv.read_csv(watched[1], 3.3)
    energy = run_energy.energy(run)
    assert energy.findings == [] and 0 < energy.alignment < 1e-3
    frame = run_energy.figures(run, energy).set_index("test")
    assert frame.loc["tg8", "joules"] == pytest.approx(3.3 * 0.060 * 0.025, rel=0.01)
    assert frame.loc["pp8", "joules"] == pytest.approx(3.3 * 0.080 * 0.005, rel=0.01)
    assert energy.idle == pytest.approx(3.3 * 0.020, rel=0.01)


@pytest.mark.parametrize(
    "skew,rate,why", [(1.015, 10000, "clock is 1.5 % off the board's"), (1, 100, "alignment may be")]
)
def test_a_logger_that_cannot_be_aligned_well_is_told(skew, rate, why, watched):
    run = runs.load(watched[0])
    seen = logger_csv.read_csv(watched[1], 3.3)
    step = 10000 // rate
    whole = len(seen.t) // step * step
    t, a, v = (x[:whole].reshape(-1, step).mean(axis=1) for x in (seen.t, seen.a, seen.v))
    run.supply = power_trace.Trace(skew * t, a, v, name="logger")
    assert any(why in x for x in run_energy.energy(run).findings), run_energy.energy(run).findings


def test_report_and_trace_show_it(watched, tmp_path):
    run = runs.load(watched[0])
    run.supply = logger_csv.read_csv(watched[1], 3.3)
    text = run_report.markdown(run, run_energy.energy(run))
    assert "ppk2.csv at 10,000 Hz; idle 66" in text and "aligned by markers within" in text
    assert re.search(r"\| tg8 \| 4.9\d mJ \|", text), text
    assert json.loads(run_report.as_json(run, run_energy.energy(run)))["power"]["valid"]
    written = files.write(
        run, run_energy.energy(run), files.Wanted(tmp_path / "p.html", tmp_path, tmp_path, tmp_path / "t.json", None)
    )
    assert {tmp_path / "energy.csv", tmp_path / "power.png"} <= set(written)
    html = (tmp_path / "p.html").read_text()
    assert "Power over time" in html
    assert re.search(r"<h2>Energy \(sensor, ppk2.csv at 10,000 Hz\) </h2>", html)  # and no other source
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    counters = [e for e in events if e["ph"] == "C" and e["name"] == "power (W)"]
    windows = [e for e in events if e["ph"] == "X" and e["name"].startswith("tg8 #")]
    assert len(windows) == 10 and len(counters) > 1000
    process = windows[0]["pid"]
    under = [e for e in events if e["pid"] == process and e.get("tid") == 2 and e["ph"] == "X"]
    last = max(e["ts"] + e["dur"] for e in under)
    assert {"ffn_up", "attention"} <= {e["name"] for e in under}
    assert last == pytest.approx(windows[0]["ts"] + windows[0]["dur"], rel=1e-6)  # all eight tokens
    inside = [c["args"]["W"] for c in counters if windows[0]["ts"] < c["ts"] < windows[0]["ts"] + windows[0]["dur"]]
    assert np.mean(inside) == pytest.approx(3.3 * 0.06, rel=0.02)


def test_another_file_is_told_from_this_run(watched):
    run = runs.load(watched[0])
    run.supply = staircase([(0, 0.02), (2, 0.06), (2.5, 0.02)], 1000, 8, noise=0.001)
    assert "the markers are not in logger" in run_energy.energy(run).findings[0]
    assert "POWER NOT VALID" in run_report.markdown(run, run_energy.energy(run))
