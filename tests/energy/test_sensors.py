"""Sensors at the host, calibration, sweeps. PPK2 and INA219 are read by their real packages: what stands for the
hardware is a serial port that speaks as a PPK2 does, and an I2C bus with the model of an INA219."""

import os
import pty
import sys
import threading
import time
import tty
from pathlib import Path

import ina_model
import numpy as np
import pytest
from bridge import bridge
from models import make_model
from tinyprof_bridge.energy import logger_csv, run_energy, sensors, shunt_calibration
from tinyprof_bridge.errors import BadInput, RunFailed
from tinyprof_bridge.measure import clock_sweep, collect
from tinyprof_bridge.progress import Progress
from tinyprof_bridge.records import power_trace, runs


def test_sensors_by_name():
    text = "ina226:id=1,scl=7,sda=6,shunt=0.05,max=0.8,rate=500,address=0x44,idle=2,reps=12,alert=9,pin=8"
    found = sensors.parse(text)
    assert found.board == {
        "chip": "ina226", "id": 1, "scl": 7, "sda": 6, "shunt_uohm": 50000, "max_ma": 800, "rate": 500,
        "address": 0x44, "idle_ms": 2000, "reps": 12, "alert": 9, "pin": 8,
    }  # fmt: skip
    assert not found.at_host and sensors.parse("ina228:quiet=1").board == {"chip": "ina228", "quiet": True}
    found = sensors.parse("ppk2:port=/dev/ttyACM1,volts=3.0,reps=20")
    assert found.at_host and found.host == {"port": "/dev/ttyACM1", "volts": 3.0} and found.board == {"reps": 20}
    assert sensors.parse("markers").board == {}


@pytest.mark.parametrize(
    "text,why",
    [
        ("ina260", "no sensor 'ina260'; choose from ina219"),
        ("ina226:leg=3", "ina226: unknown option 'leg'; it takes pin, reps"),
        ("ina226:rate=fast", "rate takes a number, not 'fast'"),
    ],
)
def test_sensors_that_are_none(text, why):
    with pytest.raises(BadInput, match=why):
        sensors.parse(text)


def test_boards_that_draw_no_current_are_refused():
    for options, why in (
        (("--power", "ina226"), "m4 is emulated and draws no current"),
        (("--freq", "48,96"), "m4 is emulated and has no clock to set"),
    ):
        result = bridge("collect", "--board", "m4", *options)
        assert result.returncode == 2 and why in result.stderr and result.stderr.count("\n") <= 2, result.stderr


ARGUMENTS = {0x0D: 2, 0x0C: 1, 0x11: 1}  # of REGULATOR_SET, DEVICE_RUNNING_SET, SET_POWER_MODE


class FakePpk2(threading.Thread):
    """The serial side of a PPK2: metadata when asked, then 100,000 readings a second, four bytes each: 14 bits of the
    ADC, 3 of the range. amperes: a function of seconds since measuring began."""

    METADATA = b"Calibrated: 0\nR0: 1000\nR1: 100\nR2: 10\nR3: 1\nR4: 0.05\nGS4: 0\nHW: 1\nIA: 56\nEND"

    def __init__(self, amperes):
        super().__init__(daemon=True)
        self.amperes = amperes
        self.master, slave = pty.openpty()
        tty.setraw(slave)
        self.port = os.ttyname(slave)
        self.commands = bytearray()
        self.on = True

    def run(self):
        os.set_blocking(self.master, False)
        began, sent, skip = None, 0, 0
        while self.on:
            try:
                for byte in os.read(self.master, 100):
                    self.commands.append(byte)
                    if skip:
                        skip -= 1
                        continue
                    skip = ARGUMENTS.get(byte, 0)
                    if byte == 0x19:  # GET_META_DATA
                        os.write(self.master, self.METADATA)
                    elif byte == 0x06:  # AVERAGE_START
                        began, sent = time.monotonic(), 0
                    elif byte == 0x07:
                        began = None
            except BlockingIOError:
                pass
            if began is not None:
                due = int((time.monotonic() - began) * 1e5)
                k = np.arange(sent, due)
                # range 4, 0.05 ohm: amperes = adc * 4 * 1.8 / 163840 / 0.05
                adc = np.round(self.amperes(k / 1e5) * 0.05 * 163840 / 1.8 / 4).astype("<u4")
                # the logic port: D0 and D3 high, D2 as the current
                bits = np.where(self.amperes(k / 1e5) > 0.1, 0b1101, 0b1001).astype("<u4")
                data = (adc | 4 << 14 | bits << 24).tobytes()
                while data and self.on:
                    try:
                        data = data[os.write(self.master, data) :]
                    except BlockingIOError:
                        time.sleep(0.001)
                sent = due
            time.sleep(0.002)


def test_ppk2_by_its_package():
    pytest.importorskip("ppk2_api")
    kit = FakePpk2(lambda t: np.where(t % 0.2 < 0.1, 0.05, 0.25))
    kit.start()
    try:
        with sensors.watching(sensors.parse(f"ppk2:port={kit.port},volts=3.0")) as source:
            time.sleep(1.5)
            trace = source.stop()
    finally:
        kit.on = False
    (pin,) = trace.pins
    assert pin.name == "D2" and 5 <= len(pin.t) <= 16
    assert np.diff(pin.t) == pytest.approx(0.1, abs=0.002)
    assert trace.rate == pytest.approx(10000) and trace.v == pytest.approx(3.0)
    assert 0.5 < trace.t[-1] <= 1.6
    whole = np.floor(trace.t[-1] / 0.2) * 0.2
    assert power_trace.joules(trace, trace.t[0], trace.t[0] + whole) == pytest.approx(3.0 * 0.15 * whole, rel=0.01)


def test_joulescope_by_its_package(monkeypatch):
    """The package's own buffer of the stream, filled as its driver fills it; the device cannot be here."""
    joulescope = pytest.importorskip("joulescope")
    stream = pytest.importorskip("joulescope.v1.stream_buffer")

    class Device:
        def open(self):
            pass

        def parameter_set(self, name, value):
            assert name == "sampling_frequency"
            self.hz = value

        def parameter_get(self, name, dtype):
            return self.hz

        def stream_process_register(self, source):
            self.source = source

        def start(self):
            buffer = stream.StreamBuffer(1, 1_000_000, None, self.hz)
            k = np.arange(200_000)
            on = k // 50_000 % 2 == 1  # at 1 MHz, for 50 ms
            signals = {
                (1, 0): np.where(on, 0.25, 0.05).astype("f4"),
                (2, 0): np.full(len(k), 3.0, "f4"),
                (3, 0): np.full(len(k), 0.5, "f4"),
                (4, 0): np.zeros(len(k), "u1"),
                (5, 0): on,
                (5, 1): np.zeros(len(k), bool),
            }
            for first in range(0, len(k), 8000):
                for (field, index), values in signals.items():
                    data = values[first : first + 8000]
                    data = np.packbits(data, bitorder="little") if field == 5 else data
                    about = {"field_id": field, "index": index, "sample_rate": 1_000_000, "decimate_factor": 1}
                    buffer.insert("", about | {"sample_id": first, "data": data})
                self.source.stream_notify(buffer)

        def stop(self):
            pass

        close = stop

    monkeypatch.setattr(joulescope, "scan_require_one", lambda config: Device())
    with sensors.watching(sensors.parse("joulescope")) as source:
        trace = source.stop()
    (pin,) = trace.pins
    assert pin.name == "gpi0" and pin.t == pytest.approx([0.05, 0.1, 0.15], abs=2e-5) and list(pin.up) == [1, 0, 1]
    assert trace.rate == pytest.approx(10000) and trace.v == pytest.approx(3.0)
    assert power_trace.joules(trace, 0.01, 0.11) == pytest.approx(3.0 * 0.15 * 0.1, rel=0.01)


class HostBus:
    """Shaped as busio.I2C, with the models behind it, in the time of the host."""

    def __init__(self, chip):
        self.clock = ina_model.Clock()
        self.bus = ina_model.Bus(self.clock)
        self.bus.chips[0x40] = chip
        self.pointer = 0
        self.began = time.monotonic()

    def try_lock(self):
        self.clock.us = int((time.monotonic() - self.began) * 1e6)
        return True

    def unlock(self):
        pass

    def writeto(self, address, buf, start=0, end=None):
        data = bytes(buf[start:end])
        if data:
            self.pointer = data[0]
        if len(data) > 1:
            self.bus.writeto_mem(address, data[0], data[1:])

    def readfrom_into(self, address, buf, start=0, end=None):
        data = bytearray(len(buf[start:end]))
        self.bus.readfrom_mem_into(address, self.pointer, data)
        buf[start : start + len(data)] = data

    def writeto_then_readfrom(self, address, out, buf, *, out_start=0, out_end=None, in_start=0, in_end=None):
        self.writeto(address, out, out_start, out_end)
        self.readfrom_into(address, buf, in_start, in_end)


def test_ina219_at_the_host_by_its_package():
    pytest.importorskip("adafruit_ina219")
    wave = ina_model.Wave([(0, 60000), (20000, 60000), (20000, 20000), (40000, 20000)])
    source = sensors.Ina219Usb(bus=HostBus(ina_model.INA219(ina_model.Load(wave), 100000)))
    source.start()
    time.sleep(1.0)
    trace = source.stop()
    assert len(trace.t) > 50 and trace.v == pytest.approx(3.3, abs=0.005)
    assert set(np.round(trace.a, 2)) <= {0.02, 0.03, 0.04, 0.05, 0.06}
    assert power_trace.joules(trace, trace.t[0], trace.t[-1]) == pytest.approx(3.3 * 0.04 * trace.t[-1], rel=0.1)


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "joulescope", None)
    with (
        pytest.raises(BadInput, match=r"joulescope is missing: pip install 'tinyprof\[joulescope\]'"),
        sensors.watching(sensors.parse("joulescope")),
    ):
        pass


class Watched:
    """A source whose trace a test gives."""

    trace = power_trace.Trace(np.arange(0, 1, 0.001), np.full(1000, 0.05), np.full(1000, 3.3), name="x")

    def start(self):
        pass

    def stop(self):
        return self.trace


def test_collect_keeps_the_trace_beside_the_run(tmp_path, monkeypatch):
    """With markers on the unix port, and a source that saw nothing of them: the run stands, its energy does not."""
    model = make_model(tmp_path / "m.gguf", type_="Q4_0", context=32)
    monkeypatch.setattr(collect.sensors, "_SOURCES", {"ppk2": Watched})
    monkeypatch.setattr(collect.emulators, "REFERENCES", collect.emulators.REFERENCES)
    monkeypatch.setattr(collect, "_watching", lambda request: sensors.watching(request.sensor))
    request = collect.Request(
        "unix", model, p=(4,), n=(4,), r=1, sensor=sensors.parse("ppk2:reps=2,warmup=0,idle=0.01,operator=0")
    )
    run, path = collect.collect(request, tmp_path / "r.jsonl", Progress(quiet=True))
    assert [w.test for w in run.windows] == ["idle", "pp4", "pp4", "tg4", "tg4", "idle"] and len(run.markers) == 2
    assert run.host.power == "ppk2" and run.host.power_calibration is None
    again = logger_csv.read_csv(tmp_path / "r.power.csv")
    assert again.a == pytest.approx(Watched.trace.a) and again.t == pytest.approx(Watched.trace.t)
    assert "the markers are not in" in run_energy.energy(run).findings[0]
    result = bridge("report", str(path))
    assert result.returncode == 0 and "POWER NOT VALID" in result.stdout


class Link:
    """Runs the device code against a model, with machine.I2C in front of it."""

    def __init__(self, uohm):
        self.uohm = uohm

    def run(self, code, timeout):
        from on_board import board

        model = (Path(__file__).parents[1] / "support/ina_model.py").read_text()
        before = f"""
import sys
clock, bus, chip = wired("ina226", Load(Wave([(0, 100000), (1000000, 100000)])), {self.uohm}, 2000)
class machine:
    class I2C:
        def __new__(cls, *args, **kw):
            return bus
    Pin = int
sys.modules["machine"] = machine
import tinyprof.power
tinyprof.power.Board = lambda: clock
"""
        with board("unix") as unix:
            return unix.run(model + before + code).encode().splitlines()


def test_calibration_is_kept_and_applied(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    sensor = sensors.parse("ina226:id=0,scl=5,sda=4,shunt=0.1")
    assert shunt_calibration.applied(sensor) == (sensor, None)
    found = shunt_calibration.calibrate(Link(103000), sensor, 0.1, 60)  # the shunt is 3 % off
    assert found.read == pytest.approx(0.103, rel=1e-3) and found.uohm == pytest.approx(103000, rel=1e-3)
    corrected, known = shunt_calibration.applied(sensor)
    assert corrected.board["shunt_uohm"] == found.uohm and known == found and known.date
    assert shunt_calibration.calibrate(Link(103000), corrected, 0.1, 60).read == pytest.approx(0.1, rel=1e-3)
    other = sensors.parse("ina226:shunt=0.05")
    assert shunt_calibration.applied(other) == (other, None)


def test_calibration_against_nonsense_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    sensor = sensors.parse("ina226:id=0,scl=5,sda=4,shunt=0.1")
    with pytest.raises(RunFailed, match="check `shunt` and the current of the load"):
        shunt_calibration.calibrate(Link(100000), sensor, 0.2, 60)
    with pytest.raises(BadInput, match="joulescope needs no calibration"):
        shunt_calibration.calibrate(Link(100000), sensors.parse("joulescope"), 0.1, 60)


def test_the_clock_is_set_and_set_back():
    request = collect.Request("/dev/ttyACM0", Path("m.gguf"), mhz=48)
    code = collect._code(request, collect.Place(None, "/rom/m", {}, None, None), "x", None)
    compile(code, "code", "exec")
    assert "machine.freq(48000000)" in code and code.rstrip().endswith(
        "machine.freq(_f[0] if isinstance(_f,tuple) else _f)"
    )


def test_sweep_finds_the_best_clock():
    """A chip of 20 mW and 0.4 mW a MHz: latency falls with the clock, energy has its own course."""
    frame = clock_sweep.pd.DataFrame(
        [
            {"test": "tg8", "mhz": mhz, "seconds": 2.4 / mhz, "joules": (0.02 + 4e-4 * mhz + 6e-6 * mhz**2) * 2.4 / mhz}
            for mhz in (24, 48, 96, 133)
        ]
    )
    frame["delay_product"] = frame["joules"] * frame["seconds"]
    assert clock_sweep.best(frame, None)["mhz"].tolist() == [133]
    assert clock_sweep.best(frame, 0.2)["mhz"].tolist() == [48]
    assert clock_sweep.best(frame, 0.03)["mhz"].tolist() == [96]
    assert clock_sweep.best(frame, 0.001).empty
    assert clock_sweep.figures([runs.Run("x")]).empty


def test_a_host_has_no_clock_to_sweep(tmp_path):
    model = make_model(tmp_path / "m.gguf", type_="Q4_0", context=32)
    run = collect.collect(
        collect.Request("unix", model, p=(4,), n=(4,), r=1), tmp_path / "r.jsonl", Progress(quiet=True)
    )[0]
    assert clock_sweep.figures([run]).empty
    result = bridge("power", "sweep", str(tmp_path / "r.jsonl"))
    assert result.returncode == 2 and "no run has a known clock" in result.stderr
