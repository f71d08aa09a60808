"""Power from the sensor's registers to joules per token, with models of the sensors on real runs of the device code."""

import ast
import re

import pytest
from bridge import bridge
from ina_model import CHIPS
from models import make_model
from on_board import ON_BOARDS, board
from sensor_runs import MODEL, PROFILE
from tinyprof_bridge.energy import regression, run_energy
from tinyprof_bridge.measure import clock_sweep
from tinyprof_bridge.records import runs
from tinyprof_bridge.report import run_report


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("power") / "small.gguf", type_="Q4_0", context=32)


def profile(*args, **more):
    run = runs.read(iter(lines(*args, **more)), "x")
    assert run.complete and not run.torn
    return run


@pytest.fixture(scope="module")
def measured(model):
    """The lines of a run that is as it should be."""
    return lines("unix", model, "ina226", noise=4000)


def lines(name, model, chip, mohm=0, noise=0, fault="pass", max_ma=400, meter="", **options):
    with board(name, model) as b:
        code = MODEL + PROFILE.format(
            chip=chip,
            source=b.source,
            mohm=mohm,
            noise=noise,
            fault=fault,
            max_ma=max_ma,
            options={"warmup": 1, "reps": 10, "idle_ms": 200, "operator_ms": 0} | options,
        )
        code = code.replace("power.Meter(driver,", f"power.Meter(driver, {meter}")
        return b.run(code).encode().splitlines()


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("name", ON_BOARDS)
def test_windows_on_boards(name, chip, model):
    run = profile(name, model, chip, reps=3)
    assert run.sensor.name == chip.upper() and run.sensor.rate_hz == 1000 and run.sensor.mode == "samples"
    assert [m.name for m in run.markers] == ["begin", "end"]
    assert [w.test for w in run.windows] == ["idle", *["pp8"] * 3, *["tg8"] * 3, "idle"]
    for w in run.windows:
        assert w.end - w.begin == pytest.approx({"idle": 200e3, "pp8": 40e3, "tg8": 200e3}[w.test], rel=0.02)
        assert w.errors == w.lost == 0 and not w.overflow
        readings = run.readings[w.test, w.rep]
        times = [t for r in readings for t in r.t]
        us = run.sensor.conversion_us
        assert len(times) == w.readings and 800 < us <= 1060
        assert w.readings * us == pytest.approx(w.end - w.begin, abs=18000)
        assert times[0] < 0 < w.end - w.begin < times[-1] and times == sorted(times)
        # shunt and bus in the sleep before it and a little longer, then the shunt alone
        volts = [len(r.v) for r in readings]
        assert 8 <= sum(volts) <= 16 and volts == sorted(volts, reverse=True)
    begins = [w.begin for w in run.windows]
    assert begins == sorted(begins)


def figures(run):
    energy = run_energy.on_board(run)
    return energy, run_energy.figures(run, energy).set_index("test")


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("quiet", (False, True))
def test_joules_per_token(chip, quiet, model):
    if quiet and chip != "ina228":
        pytest.skip("it has no accumulator")
    run = profile("unix", model, chip, noise=4000, quiet=quiet)
    energy, frame = figures(run)
    assert energy.findings == []
    # a token of tg8: 25 ms of 60 mA at 3.3 V; of pp8: 5 ms of 80 mA
    assert frame.loc["tg8", "joules"] == pytest.approx(3.3 * 0.060 * 0.025, rel=0.01)
    assert frame.loc["pp8", "joules"] == pytest.approx(3.3 * 0.080 * 0.005, rel=0.02)
    assert energy.idle == pytest.approx(3.3 * 0.020, rel=0.01)
    assert frame.loc["tg8", "above_idle"] == pytest.approx(3.3 * 0.040 * 0.025, rel=0.02)
    assert frame.loc["tg8", "tokens_per_joule"] == pytest.approx(1 / (3.3 * 0.060 * 0.025), rel=0.01)
    assert frame.loc["tg8", "delay_product"] == pytest.approx(3.3 * 0.060 * 0.025**2, rel=0.02)
    if not quiet:
        assert frame.loc["tg8", "peak"] == pytest.approx(3.3 * 0.060, rel=0.02)


@pytest.mark.parametrize("meter", ("", "alert=AlertPin(clock, chip), "))
def test_each_conversion_by_a_chip_of_another_clock(meter, model):
    """Of 8 % slower conversions: the readings' own times count, not what the datasheet says."""
    other = "quiet=bool(setattr(chip, 'clock', 1080)), "
    run = profile("unix", model, "ina226", noise=4000, rate=700, meter=meter + other)
    assert run.sensor.timing == ("alert" if meter else "poll")
    energy, frame = figures(run)
    assert energy.findings == []
    reached = 1e6 / run.sensor.conversion_us / 1.08
    assert all(w.rate_hz == pytest.approx(reached, rel=0.1) for w in run.windows) and reached > 700
    assert frame.loc["tg8", "joules"] == pytest.approx(3.3 * 0.060 * 0.025, rel=0.01)
    assert frame.loc["pp8", "joules"] == pytest.approx(3.3 * 0.080 * 0.005, rel=0.01)


def test_a_pin_is_for_readings(model):
    with board("unix") as b:
        code = """
from tinyprof import power
def said(*args, **more):
    try:
        power.Meter(*args, **more)
    except power.SensorError as e:
        print(e)
said(None, alert=1)
class Pin:
    IRQ_FALLING = 2
    def irq(self, handler=None, trigger=0, hard=False):
        print(handler, trigger, hard)
power.listen(Pin(), len)
power.listen(Pin(), None)
"""
        lines = b.run(code).splitlines()
    refusal = "alert needs a sensor on the board and readings: leave out alert or quiet"
    assert lines == [refusal, "<function> 2 True", "None 0 False"]


LIES = {
    "chip.stuck = True": "the same reading all the time|idle power changed from",
    "bus.hang = True": "did not answer",
    "bus.nack = 3": "did not answer 3",
    "chip.load.drift = 100000": "the supply drifted",
}


@pytest.mark.parametrize("fault", LIES)
def test_a_sensor_that_lies_or_is_silent_is_caught(fault, model):
    run = profile("unix", model, "ina226", fault=f"if token == 1: {fault}")
    assert any(re.search(LIES[fault], x) for x in run_energy.on_board(run).findings), run_energy.on_board(run).findings


def never_moves(run):
    for rows in run.readings.values():
        for r in rows:
            r.i[:], r.v[:] = [100] * len(r.i), [2640] * len(r.v)


def reversed_shunt(run):
    for rows in run.readings.values():
        for r in rows:
            r.i[:] = [-i for i in r.i]


def idle_that_rises(run):
    for r in run.readings["idle", 1]:
        r.i[:] = [round(1.2 * i) for i in r.i]


def overflow(run):
    run.windows[3].overflow = True


def no_length(run):
    window = next(w for w in run.windows if w.test == "tg8")
    window.end = window.begin


def accumulated_without_length(run):
    for w in run.windows:
        w.energy_nj = 1000
    run.sensor = run.sensor.model_copy(update={"mode": "accumulator"})
    no_length(run)


def no_readings(run):
    run.readings["tg8", 4] = []


def few_windows(run):
    run.windows = [w for w in run.windows if w.rep < 3]


def a_clock_that_skews(run):
    run.counter = run.counter.model_copy(update={"source": "hw-timer", "unit": "us"})
    for w in run.windows:
        w.units = round((w.end - w.begin) * 1.02)


WRONG = {
    never_moves: "it is faulty, or not wired into the supply",
    reversed_shunt: "wired in reverse",
    idle_that_rises: "idle power changed from 66 to 79",
    overflow: "arithmetic overflowed",
    no_length: "whole window of tg8",
    accumulated_without_length: "whole window of tg8",
    no_readings: "whole window of tg8",
    few_windows: "too short: tg8 ran 3 times",
    a_clock_that_skews: "windows are -2.0 % off the counter",
}


@pytest.mark.parametrize("wrong", WRONG, ids=lambda f: f.__name__)
def test_what_is_wrong_is_caught(wrong, measured):
    run = runs.read(iter(measured), "x")
    assert run_energy.on_board(run).findings == []
    wrong(run)
    energy = run_energy.on_board(run)
    assert any(WRONG[wrong] in x for x in energy.findings), energy.findings
    assert "POWER NOT VALID" in run_report.markdown(run, energy)


def test_saturation_is_caught(model):
    run = profile("unix", model, "ina226", fault="if token == 1: chip.uohm = 2000000")
    assert any("saturated" in x for x in run_energy.on_board(run).findings)


def test_too_little_is_caught(model):
    energy = run_energy.on_board(profile("unix", model, "ina226", rate=50))
    assert any(re.search(r"too few readings: \d in a window of pp8", x) for x in energy.findings), energy.findings
    lost = run_energy.on_board(profile("unix", model, "ina226", ring=64))
    assert any("did not fit in the board's ring" in x for x in lost.findings)


def test_battery():
    # 36 J an hour of work are 10 mW; and 90 % of the time 1 mW
    assert run_energy.battery_hours(1.0, 10.0, 36, 0.001, 1.09) == pytest.approx(1.09 / 0.0109)


def on_a_chip(measured, mhz):
    """The run as of a board whose clock is known."""
    run = runs.read(iter(measured), "x")
    run.begin = run.begin.model_copy(update={"clock_hz": mhz * 1_000_000})
    run.counter = run.counter.model_copy(update={"source": "hw-cycles", "unit": "cycles"})
    for w in run.windows:
        w.units = (w.end - w.begin) * mhz
    return run


def test_sweep_of_runs(measured):
    frame = clock_sweep.figures([on_a_chip(measured, 96), on_a_chip(measured, 48)])
    assert list(frame["mhz"]) == [48, 96] * 2 and list(frame["test"]) == ["pp8"] * 2 + ["tg8"] * 2
    assert frame["joules"].iloc[3] == pytest.approx(3.3 * 0.060 * 0.025, rel=0.01)
    assert frame["seconds"].iloc[2] == pytest.approx(2 * frame["seconds"].iloc[3])
    assert (frame["delay_product"] == frame["joules"] * frame["seconds"]).all()
    assert list(clock_sweep.best(frame, None)["mhz"]) == [96, 96]


def test_rows_of_the_energy_model(measured):
    good, bad = on_a_chip(measured, 48), on_a_chip(measured, 48)
    bad.windows[3].overflow = True
    frame, left_out = regression.rows([good, bad])
    assert list(frame["test"]) == ["pp8", "tg8"] and len(left_out) == 1
    assert left_out[0].startswith("x is left out: the sensor's arithmetic overflowed")
    assert frame["joules"].iloc[1] == pytest.approx(8 * 3.3 * 0.060 * 0.025, rel=0.01)
    assert frame["cycles"].iloc[1] == pytest.approx(48e6 * frame["seconds"].iloc[1]) and frame["bytes"].iloc[1] > 0


TIMER = """
import sys
calls = []
class Timer:
    PERIODIC = 1
    def __init__(self, number, freq=0, mode=0, callback=None{hard}):
        {refuse}
        calls.append((number, freq, callback is not None{said}))
    def deinit(self):
        calls.append("stopped")
class machine:
    pass
machine.Timer = Timer
sys.modules["machine"] = machine
from tinyprof import power
b = power.Board()
t = b.now()
b.sleep(3000)
b.busy(2000)
calls.append(2000 <= power.between(t, b.now()) < 60000000)
try:
    b.timer(1000, print)
    b.timer(0, None)
except power.SensorError as e:
    calls.append(str(e))
print(calls)
"""


@pytest.mark.parametrize(
    "hard,refuse,said,calls",
    [
        (", hard=False", "pass", ", hard", [True, (-1, 1000, True, True), "stopped"]),
        ("", "pass", "", [True, (-1, 1000, True), "stopped"]),
        ("", "if number < 0: raise ValueError('no such timer')", "", [True, (0, 1000, True), "stopped"]),
        ("", "raise ValueError('no such timer')", "", [True, "no timer of this board can call every 1000 us"]),
    ],
)
def test_timers_of_ports(hard, refuse, said, calls):
    """Those that interrupt native code, those that do not, those that have numbers."""
    with board("unix") as b:
        text = b.run(TIMER.format(hard=hard, refuse=refuse, said=said)).splitlines()[-1]
    assert ast.literal_eval(text) == calls


def test_battery_of_a_run(measured, tmp_path):
    (tmp_path / "run.jsonl").write_bytes(b"\n".join(measured))

    def battery(*more):
        return bridge("power", "battery", tmp_path / "run.jsonl", *more)

    # tg8: 39.6 mJ in 0.2 s each minute, 66 mW in between
    result = battery("--test", "tg8", "--an-hour", "60", "--watt-hours", "3.7")
    mean = (0.0396 + 0.066 * 59.8) / 60
    assert result.returncode == 0 and float(result.stdout.split()[0]) == pytest.approx(3.7 / mean, rel=0.01)
    for more, why in (
        (("--test", "tg9", "--an-hour", "60", "--watt-hours", "3.7"), "there is pp8, tg8"),
        (("--test", "tg8", "--an-hour", "36000", "--watt-hours", "3.7"), "an hour has no room for"),
        (("--test", "tg8", "--an-hour", "0", "--watt-hours", "3.7"), "must be positive"),
    ):
        result = battery(*more)
        assert result.returncode == 2 and why in result.stderr, result.stderr
