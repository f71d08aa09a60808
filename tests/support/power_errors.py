"""Error of the measured energy against the energy of the waveform, for docs/power.md:

    .venv/bin/python tests/support/power_errors.py

The device code runs in MicroPython's unix port against the models of the sensors, the host code here."""

import ast
import itertools
import sys
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[2] / "host")]

from on_board import ROOT, board
from tinyprof_bridge.energy import run_energy
from tinyprof_bridge.records import runs

SUPPLY_MV, SOURCE_MOHM = 3300, 200
ASLEEP = 5000  # uA


def noise():
    random = np.random.default_rng(1)
    at = np.cumsum(random.integers(1000, 4000, 150))
    level = random.integers(10000, 90000, 150)
    steps = [(int(t), int(level[k + d])) for k, t in enumerate(at[:-1]) for d in (0, 1)]
    return [(0, int(level[0])), *steps, (int(at[-1]), int(level[-1]))]


# us and uA, straight lines between
WAVES = {
    "steady 60 mA": [(0, 60000), (100000, 60000)],
    "tokens: 18 ms of 60 mA, 7 ms of 20 mA": [(0, 60000), (18000, 60000), (18000, 20000), (25000, 20000)],
    "layers: 40 to 90 mA and back in 3.1 ms": [(0, 40000), (2000, 90000), (3100, 40000)],
    "spikes: 0.4 ms of 250 mA every 5.3 ms, on 15 mA": [(0, 15000), (4900, 15000), (4900, 250000), (5300, 250000)],
    "ten windows of 60 readings of 60 mA, 5 mA around": None,
    "wake-ups: 20 ms of 100 mA every 201.3 ms, on 1 mA": [
        (0, 1000),
        (181300, 1000),
        (181300, 100000),
        (201300, 100000),
    ],
    "rare: 2 ms of 100 mA every 201.3 ms, on 1 mA": [(0, 1000), (199300, 1000), (199300, 100000), (201300, 100000)],
    "rarer: 1 ms of 100 mA every 307.1 ms, on 1 mA": [(0, 1000), (306100, 1000), (306100, 100000), (307100, 100000)],
    "square: 80 and 10 mA, alternating every 0.501 ms": [(0, 80000), (501, 80000), (501, 10000), (1002, 10000)],
    "ramp: 5 to 95 mA in 0.7 s": [(0, 5000), (700000, 95000)],
    "noise: 10 to 90 mA, changing every 1 to 4 ms": noise(),
}
# options of a Meter; sensors with an option are tested at 1000 Hz only
SENSORS = {
    "INA219": "",
    "INA226": "",
    "INA228": "",
    "INA226, ALERT": "alert=AlertPin(clock, chip)",
    "INA228, ALERT": "alert=AlertPin(clock, chip)",
    "INA228, accumulator": "quiet=True",
}
RATES = {1000: 4, 500: 4, 100: 10, 10: 20}  # seconds of a window at each
SHORT = 60  # readings of each window with work in it, of which there are ten

CODE = """
from tinyprof import ina, power
from tinyprof.records import Records
clock, bus, chip = wired({name!r}, None, 100000, 4000)
activity = Activity(clock, {asleep})
chip.load = Load(Wave({points!r}) if {points!r} else activity, {mv}, {mohm})
driver = ina.CHIPS[{name!r}](bus, 0x40, 100000, 400)
meter = power.Meter(driver, rate={rate}, ring={ring}, board=clock, {options})
clock.sleep(12345)
at = []
def work(us):
    at.append(clock.us)
    activity.set(60000)
    clock.sleep(us)
    activity.set({asleep})
r = Records("x")
meter.about(r)
for rep in range({reps}):
    meter.window(r, "t", rep, 1, work, {us})
r.end()
print("AT", at)
"""


def truth(points, begin, end):
    """Joules of a waveform, behind the resistance of its source."""
    period = points[-1][0]
    t = np.arange(period) + 0.5
    # of two points at one time the second begins the next line
    keys = [(p[0] + 1e-6 * (i > 0 and points[i - 1][0] == p[0]), p[1]) for i, p in enumerate(points)]
    amperes = np.interp(t, [k for k, _ in keys], [a for _, a in keys]) * 1e-6
    watts = amperes * (SUPPLY_MV * 1e-3 - amperes * SOURCE_MOHM * 1e-3)
    whole = np.concatenate(([0.0], np.cumsum(watts))) * 1e-6

    def until(us):
        turns, rest = divmod(us, period)
        return turns * whole[-1] + whole[rest]

    return until(end) - until(begin)


def error(unix, wave, sensor, rate):
    """Relative error of the energy of one window, or in the median of ten short ones."""
    points, options, seconds = WAVES[wave], SENSORS[sensor], RATES[rate] if WAVES[wave] else SHORT / rate
    code = CODE.format(
        name=sensor[:6].lower(), points=points, mv=SUPPLY_MV, mohm=SOURCE_MOHM, asleep=ASLEEP, rate=rate,
        ring=int(rate * seconds) * 3 // 2 + 64, options=options, us=int(seconds * 1000000),
        reps=1 if points else run_energy.LEAST_WINDOWS,
    )  # fmt: skip
    lines = unix.run((ROOT / "tests/support/ina_model.py").read_text() + code, 600).splitlines()
    (begins,) = (ast.literal_eval(x[3:]) for x in lines if x.startswith("AT "))
    windows = run_energy.on_board(runs.read((x.encode() for x in lines), "x")).windows
    ends = [at + m.window.end - m.window.begin for at, m in zip(begins, windows, strict=True)]
    right = [truth(points or WAVES["steady 60 mA"], *x) for x in zip(begins, ends, strict=True)]
    return np.median([m.joules / x for m, x in zip(windows, right, strict=True)]) - 1


COST = """
from tinyprof import ina, power
for name, rate, pin in {cases!r}:
    clock, bus, chip = wired(name, Load(Wave([(0, 60000), (1000, 60000)])))
    driver = ina.CHIPS[name](bus, 0x40, 100000, 400)
    meter = power.Meter(driver, rate=rate, alert=AlertPin(clock, chip) if pin else None, board=clock)
    meter._readings(True)
    clock.sleep(40 * driver.both_us)
    began, bits = clock.us, bus.bits
    clock.sleep(1000000)
    print("COST", (bus.bits - bits) * 1000000 // (clock.us - began))
"""


def costs():
    """{(sensor, rate): parts of the time that the bus is busy at 400 kHz}, by the models."""
    sensors = [s for s in SENSORS if "accumulator" not in s]
    tried = list(itertools.product(sensors, (r for r in RATES if r > 10)))
    cases = [(s[:6].lower(), r, "," in s) for s, r in tried]
    with board("unix") as unix:
        lines = unix.run((ROOT / "tests/support/ina_model.py").read_text() + COST.format(cases=cases)).splitlines()
    shares = [int(x[5:]) / 400_000 for x in lines if x.startswith("COST")]
    return dict(zip(tried, shares, strict=True))


def cost_table():
    found = costs()
    sensors = list(dict.fromkeys(s for s, _ in found))
    yield "| of the core | " + " | ".join(sensors) + " |"
    yield "|---|" + "---:|" * len(sensors)
    for rate in dict.fromkeys(r for _, r in found):
        yield f"| {rate} Hz | " + " | ".join(f"{100 * found[s, rate]:.1f} %" for s in sensors) + " |"


def rows():
    """(waveform, {(sensor, rate): error})"""
    with board("unix") as unix:
        for wave in WAVES:
            tried = [(s, r) for s, r in itertools.product(SENSORS, RATES) if r == 1000 or not SENSORS[s]]
            yield wave, {(s, r): error(unix, wave, s, r) for s, r in tried}


def tables(found):
    """One at 1000 Hz, one at the lower rates."""
    lower = [r for r in RATES if r != 1000]
    plain = [s for s in SENSORS if not SENSORS[s]]
    rates = " / ".join(map(str, lower))
    yield "| 1000 Hz | " + " | ".join(SENSORS) + " |"
    yield "|---|" + "---:|" * len(SENSORS)
    for wave, errors in found:
        yield f"| {wave} | " + " | ".join(f"{100 * errors[s, 1000]:+.2f} %" for s in SENSORS) + " |"
    yield ""
    yield f"| {rates} Hz | " + " | ".join(f"{s}, %" for s in plain) + " |"
    yield "|---|" + "---:|" * len(plain)
    for wave, errors in found:
        cells = (" / ".join(f"{100 * errors[s, r]:+.2f}" for r in lower) for s in plain)
        yield f"| {wave} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    print("\n".join([*tables(list(rows())), "", *cost_table()]))
