"""The board's time by the edges of a pin, in synthetic captures with drift, missing and foreign edges."""

import numpy as np
import pytest
from captures import PATTERN, STEP, marker, staircase
from on_board import board
from tinyprof_bridge.energy import logger_csv, run_energy, sensors, sync_pin
from tinyprof_bridge.energy.sync_markers import NotFound
from tinyprof_bridge.records import power_trace, runs
from tinyprof_bridge.records.schema import Window


def window(test, rep, begin, end, tokens=8):
    return Window(tp=1, run="x", seq=0, kind="window", test=test, rep=rep, tokens=tokens, begin=begin, end=end)


def windows(alike=False):
    """Two idle ones of a second around ten of two tests each; alike: all of one length."""
    found, at = [], 1_000_000
    lengths = [100_000] * 22 if alike else [1_000_000, *[40_137] * 10, *[200_931] * 10, 1_000_000]
    for k, us in enumerate(lengths):
        test = "idle" if k in (0, 21) else "pp8" if k <= 10 else "tg8"
        found.append(window(test, k, at, at + us))
        at += us + 9_000 + 137 * k  # records are written in between
    return found


def capture(board_windows, rate, offset=0.7312345, skew=0.0, missing=0.0, foreign=0, seed=1, name="D3"):
    """What an input saw of the windows, read rate times a second."""
    random = np.random.default_rng(seed)
    pulses = [(w.begin * 1e-6, w.end * 1e-6) for w in board_windows if random.random() >= missing]
    pulses += [(t, t + random.uniform(0.0005, 0.3)) for t in random.uniform(0, 9, foreign)]
    t = np.arange(round(10 * rate)) / rate
    high = np.zeros(len(t), dtype=bool)
    for begin, end in pulses:
        high |= (t >= offset + (1 + skew) * begin) & (t < offset + (1 + skew) * end)
    clock = power_trace.edges("D0", t, np.arange(len(t)) // 20 % 2 == 1)
    return power_trace.Trace(
        t, np.full(len(t), 0.05), np.full(len(t), 3.3), pins=(clock, power_trace.edges(name, t, high))
    )


@pytest.mark.parametrize("rate", (1000, 10000, 100000))
@pytest.mark.parametrize("skew", (0, 80e-6, -2e-3, 0.015))
@pytest.mark.parametrize("missing,foreign", [(0, 0), (0.3, 0), (0.2, 5)])
def test_within_one_sample(rate, skew, missing, foreign):
    own = windows()
    for seed in range(3):
        found = sync_pin.align(capture(own, rate, 0.7312345, skew, missing, foreign, seed), own)
        off = [abs(found.at(t) - (0.7312345 + (1 + skew) * t)) for t in (1.0, 3.0, own[-1].end * 1e-6)]
        assert max(off) < 1 / rate and max(off) < found.error, (seed, off, found)
        assert found.error < 2 / rate and found.by.endswith("of 44 edges of D3")


def test_windows_that_are_alike():
    own = windows(alike=True)
    found = sync_pin.align(capture(own, 10000, 0.5, 1e-4), own)
    assert abs(found.at(2.0) - (0.5 + 2.0002)) < 1e-4 and found.by == "44 of 44 edges of D3"


def test_pins_without_the_board():
    own = windows()
    for seen in (
        capture(own, 1000, missing=1.1),
        capture(own, 1000, missing=1.1, foreign=20),
        capture(own, 1000, missing=0.8),
    ):
        with pytest.raises(NotFound, match="no digital input of the trace"):
            sync_pin.align(seen, own)


HEADS = {
    "D0-D7": ("Timestamp(ms),Current(uA),D0-D7", lambda h: f"0{h}100000", "D0-D7[1]"),
    "columns": ("Timestamp(ms),Current(uA),D0,D1", lambda h: f"0,{h}", "D1"),
    "gpi": ("Timestamp(ms),Current(uA),gpi0,gpi1", lambda h: f"1,{h}.0", "gpi1"),
    "words": ("Timestamp(ms),Current(uA),Main GPI1", lambda h: ("low", "high")[h].replace("low", "0"), "Main GPI1"),
}


@pytest.mark.parametrize("form", HEADS)
def test_files_of_loggers(form, tmp_path):
    head, row, name = HEADS[form]
    own = windows()
    seen = capture(own, 1000, 0.25)
    high = power_trace.levels(seen.pins[1], seen.t)
    rows = [f"{k}.0,50000,{row(int(h))}" for k, h in enumerate(high)]
    (tmp_path / "x.csv").write_text("\n".join([head, *rows]) + "\n")
    trace = logger_csv.read_csv(tmp_path / "x.csv", 3.3)
    assert [p.name for p in trace.pins] == [name]
    assert abs(sync_pin.align(trace, own).at(2.0) - 2.25) < 1e-3


def test_a_trace_is_kept_with_its_pins(tmp_path):
    own = windows()
    seen = capture(own, 1000, 0.25)
    (tmp_path / "x.csv").write_bytes(sensors.write_csv(seen))
    again = logger_csv.read_csv(tmp_path / "x.csv")
    assert [p.name for p in again.pins] == ["D0", "D3"]
    for one, other in zip(seen.pins, again.pins, strict=True):
        assert one.t == pytest.approx(other.t) and (one.up == other.up).all()


@pytest.mark.parametrize("wired", (True, False))
def test_energy_by_edges_or_else_by_markers(wired):
    """A load that shows no markers is told by the edges of a pin."""
    own = windows()
    run = runs.Run("x", windows=own, markers=[marker("begin", 500_000), marker("end", 8_000_000)])
    steps = [(0.0, 0.02)]
    for w in own:
        if w.test != "idle":
            steps += [(w.begin * 1e-6, 0.07), (w.end * 1e-6, 0.02)]
    for begin in () if wired else (0.5, 8.0):
        steps += [(begin + i * STEP, 0.06 if PATTERN >> (6 - i) & 1 else 0.02) for i in range(7)]
        steps.append((begin + 7 * STEP, 0.02))
    trace = staircase(sorted(steps), 10000, 10, 0.25, noise=0.001)
    pins = capture(own, 10000, 0.25, missing=0.1).pins if wired else ()
    run.supply = power_trace.Trace(trace.t, trace.a, trace.v, name="logger", pins=pins)
    energy = run_energy.energy(run)
    assert energy.findings == [], energy.findings
    by = r"edges of D3" if wired else "markers"
    assert by in energy.aligned_by and 0 < energy.alignment < 1e-3
    assert f"{energy.aligned_by} within" in dict(run_energy.energy_facts(energy))["power"]
    frame = run_energy.figures(run, energy).set_index("test")
    assert frame.loc["tg8", "joules"] == pytest.approx(3.3 * 0.07 * 0.200931 / 8, rel=0.005)


def test_the_board_sets_the_pin_in_its_windows():
    code = """
import sys
levels = []
class Pin:
    OUT = 1
    def __init__(self, number, mode, value):
        levels.append((number, mode, value))
    def __call__(self, value):
        levels.append(value)
class machine:
    pass
machine.Pin = Pin
sys.modules["machine"] = machine
from tinyprof import power
class Records:
    def write(self, *_, **__):
        levels.append("told")
meter = power.open_meter(pin=7)
meter.window(Records(), "t", 0, 1, levels.append, "work")
def broken():
    raise ValueError
try:
    meter.window(Records(), "t", 1, 1, broken)
except ValueError:
    pass
print(levels)
"""
    with board("unix") as unix:
        assert unix.run(code).strip() == "[(7, 1, 0), 1, 'work', 0, 'told', 1, 0]"
