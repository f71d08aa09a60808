"""How far the energy that is recovered is off the energy of the waveform, for docs/power.md:

    .venv/bin/python tests/power_errors.py

The device code runs in MicroPython's unix port against the models of the sensors, the host code here."""

import ast
import itertools
import sys
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1] / "host")]

from on_board import ROOT, board
from tinyprof_bridge import power, table

SUPPLY_MV, SOURCE_MOHM = 3300, 200
ASLEEP = 5000  # uA

# us and uA, straight lines between
WAVES = {
    "steady 60 mA": [(0, 60000), (100000, 60000)],
    "tokens: 18 ms of 60 mA, 7 ms of 20 mA": [(0, 60000), (18000, 60000), (18000, 20000), (25000, 20000)],
    "layers: 40 to 90 mA and back in 3.1 ms": [(0, 40000), (2000, 90000), (3100, 40000)],
    "spikes: 0.4 ms of 250 mA each 5.3 ms, on 15 mA": [(0, 15000), (4900, 15000), (4900, 250000), (5300, 250000)],
    "ten windows of 60 readings of 60 mA, 5 mA around": None,
    "wake-ups: 20 ms of 100 mA each 201.3 ms, on 1 mA": [(0, 1000), (181300, 1000), (181300, 100000), (201300, 100000)],
    "rare: 2 ms of 100 mA each 201.3 ms, on 1 mA": [(0, 1000), (199300, 1000), (199300, 100000), (201300, 100000)],
}
# what a Meter is told; those with a way of their own are tried at 1000 Hz
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
        reps=1 if points else power.LEAST_WINDOWS,
    )  # fmt: skip
    lines = unix.run((ROOT / "tests" / "ina_model.py").read_text() + code, 600).splitlines()
    (begins,) = (ast.literal_eval(x[3:]) for x in lines if x.startswith("AT "))
    windows = power.on_board(table.read((x.encode() for x in lines), "x")).windows
    ends = [at + m.window.end - m.window.begin for at, m in zip(begins, windows, strict=True)]
    right = [truth(points or WAVES["steady 60 mA"], *x) for x in zip(begins, ends, strict=True)]
    return np.median([m.joules / x for m, x in zip(windows, right, strict=True)]) - 1


def rows(waves=WAVES, sensors=SENSORS, rates=RATES):
    with board("unix") as unix:
        for wave, sensor in itertools.product(waves, sensors):
            errors = {r: error(unix, wave, sensor, r) for r in rates if r == 1000 or not SENSORS[sensor]}
            yield wave, sensor, errors


def markdown():
    yield "| waveform | sensor | " + " | ".join(f"{rate} Hz, {seconds} s" for rate, seconds in RATES.items()) + " |"
    yield "|---|---|" + "---:|" * len(RATES)
    for wave, sensor, errors in rows():
        cells = [f"{100 * errors[r]:+.2f} %" if r in errors else "" for r in RATES]
        yield f"| {wave} | {sensor} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    for line in markdown():
        print(line, flush=True)
