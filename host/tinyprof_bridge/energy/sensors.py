"""Power sensors by name: those on the board, which the device's driver reads, and those that the host reads.

A sensor is given as NAME or NAME:key=value,… for example ina226:id=0,scl=5,sda=4,shunt=0.1 or
ppk2:port=/dev/ttyACM1,volts=3.3."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import BadInput, RunFailed
from ..records.power_trace import Array, Pin, Trace, edges, levels

ON_BOARD = ("ina219", "ina226", "ina228")
AT_HOST = ("ppk2", "joulescope", "ina219-usb")
NAMES = (*ON_BOARD, *AT_HOST, "markers")

_PPK2_HZ = 100_000
_JOULESCOPE_HZ = 100_000  # it can do 2,000,000, but those fill the host's memory
_KEEP_HZ = 10_000  # readings of faster sensors are averaged to this rate


def _whole(text: str) -> int:
    return int(text, 0)


def _milli(text: str) -> int:
    return round(float(text) * 1e3)


def _micro(text: str) -> int:
    return round(float(text) * 1e6)


# key -> (argument of the device's open_meter, how the value is parsed)
_WINDOWS = {
    "pin": ("pin", _whole),
    "reps": ("reps", _whole),
    "warmup": ("warmup", _whole),
    "idle": ("idle_ms", _milli),
    "operator": ("operator_ms", _milli),
}
_CHIP = {
    "id": ("id", _whole),
    "scl": ("scl", _whole),
    "sda": ("sda", _whole),
    "freq": ("freq", _whole),
    "address": ("address", _whole),
    "shunt": ("shunt_uohm", _micro),
    "max": ("max_ma", _milli),
    "rate": ("rate", _whole),
    "ring": ("ring", _whole),
    "alert": ("alert", _whole),
    "quiet": ("quiet", lambda text: text not in ("", "0", "no")),
}
_HOST: dict[str, dict[str, Any]] = {
    "ppk2": {"port": str, "volts": float, "mode": str},
    "joulescope": {},
    "ina219-usb": {"shunt": float, "address": _whole},
    "markers": {},
}


@dataclass(frozen=True)
class Sensor:
    """A sensor and its options.

    name: one of NAMES.
    board: arguments of the device's power.open_meter.
    host: arguments of the sensor's class here; empty for sensors on the board."""

    name: str
    board: dict[str, object] = field(default_factory=dict)
    host: dict[str, Any] = field(default_factory=dict)

    @property
    def at_host(self) -> bool:
        """Whether the host reads this sensor."""
        return self.name in AT_HOST


def parse(text: str) -> Sensor:
    """The sensor that a text names, as NAME or NAME:key=value,… Raises BadInput for an unknown name or key."""
    name, _, rest = text.partition(":")
    if name not in NAMES:
        raise BadInput(f"no sensor '{name}'; choose from {', '.join(NAMES)}")
    here = _HOST.get(name, {})
    there = {**_WINDOWS, **(_CHIP if name in ON_BOARD else {})}
    sensor = Sensor(name)
    if name in ON_BOARD:
        sensor.board["chip"] = name
    for part in filter(None, rest.split(",")):
        key, _, value = part.partition("=")
        if key not in (*there, *here):
            raise BadInput(f"{name}: unknown option '{key}'; it takes {', '.join([*there, *here])}")
        try:
            if key in there:
                argument, read = there[key]
                sensor.board[argument] = read(value)
            else:
                sensor.host[key] = here[key](value)
        except ValueError:
            raise BadInput(f"{name}: {key} takes a number, not '{value}'") from None
    return sensor


class Source(Protocol):
    """A sensor that the host reads, in the background from start to stop."""

    def start(self) -> None:
        """Begins to record."""

    def stop(self) -> Trace:
        """Stops and returns the readings."""


@contextlib.contextmanager
def watching(sensor: Sensor) -> Iterator[Source]:
    """A context in which a sensor at the host records. Raises BadInput if its package or the sensor is missing."""
    source = _SOURCES[sensor.name](**sensor.host)
    try:
        source.start()
    except BadInput:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        raise BadInput(f"{sensor.name}: {error}") from None
    try:
        yield source
    finally:
        with contextlib.suppress(Exception):
            source.stop()


def _package(name: str, extra: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise BadInput(f"{error.name} is missing: pip install 'tinyprof[{extra}]'") from None


class _Polled:
    """Base of sensors that must be asked: calls poll() in a thread until stopped."""

    def __init__(self) -> None:
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._error: Exception | None = None

    def poll(self) -> None:
        """Takes the readings that are ready."""
        raise NotImplementedError

    def _run(self) -> None:
        try:
            while not self._end.is_set():
                self.poll()
        except Exception as error:  # raised again by _join
            self._error = error

    def _join(self) -> None:
        if self._thread.is_alive():
            self._end.set()
            self._thread.join(5)
        if self._error:
            raise RunFailed(f"the power sensor stopped during the run: {self._error}; check its cable and run again")


class Ppk2(_Polled):
    """Nordic's Power Profiler Kit II, through the package ppk2-api. Takes 100,000 readings/s and keeps means of ten.

    port: serial port; empty to use the only PPK2 attached.
    volts: supply voltage.
    mode: "source" supplies the board, "ampere" measures the current from another supply of that voltage."""

    def __init__(self, port: str = "", volts: float = 3.3, mode: str = "source") -> None:
        super().__init__()
        if mode not in ("source", "ampere") or not 0.8 <= volts <= 5:
            raise BadInput("ppk2: mode must be source or ampere, and volts 0.8 to 5")
        self._api = _package("ppk2_api.ppk2_api", "ppk2").PPK2_API
        self._port, self._volts, self._mode = port, volts, mode
        self._parts: list[np.ndarray[Any, np.dtype[np.float64]]] = []
        self._bits: list[np.ndarray[Any, np.dtype[np.uint8]]] = []  # of the logic port
        self._rest = b""

    def start(self) -> None:
        """Begins to record. Raises BadInput unless the port is given or exactly one PPK2 is attached."""
        ports = (
            [p[0] if isinstance(p, tuple) else p for p in self._api.list_devices()] if not self._port else [self._port]
        )
        if len(ports) != 1:
            raise BadInput(f"{len(ports)} PPK2 are attached: choose one with ppk2:port=/dev/…")
        self._kit = self._api(ports[0], timeout=1, write_timeout=1, exclusive=True)
        self._kit.get_modifiers()
        if self._mode == "source":
            self._kit.use_source_meter()
        else:
            self._kit.use_ampere_meter()
        self._kit.set_source_voltage(round(self._volts * 1000))
        self._kit.toggle_DUT_power("ON")
        self._kit.start_measuring()
        self._thread.start()

    def poll(self) -> None:
        """Takes the readings that are ready."""
        data = self._rest + self._kit.get_data()
        whole = len(data) & ~3  # the package loses its position if a read ends within the first reading
        self._rest = data[whole:]
        if whole:
            amperes, bits = self._kit.get_samples(data[:whole])
            self._parts.append(np.asarray(amperes, dtype=float))
            self._bits.append(np.asarray(bits, dtype=np.uint8))
        time.sleep(0.002)

    def stop(self) -> Trace:
        """Stops and returns the readings, and the logic port's inputs D0 to D7 that changed."""
        self._join()
        self._kit.stop_measuring()
        amperes = np.concatenate([np.empty(0), *self._parts]) * 1e-6
        bits = np.concatenate([np.empty(0, dtype=np.uint8), *self._bits])
        pins = _pins({f"D{k}": (bits >> k & 1) == 1 for k in range(8)}, _PPK2_HZ)
        return _means(amperes, np.full(len(amperes), self._volts), _PPK2_HZ, "PPK2", pins)


class Joulescope:
    """A Joulescope, through its own package, from the samples that it streams.

    GPI 0 and 1 come as the lowest bits of current and voltage."""

    _FIELDS = ("current", "voltage", "current_lsb", "voltage_lsb")

    def __init__(self) -> None:
        self._package = _package("joulescope", "joulescope")
        self._next: int | None = None
        self._parts: list[Any] = []
        self.driver_active = True

    def start(self) -> None:
        """Begins to record."""
        self._device = self._package.scan_require_one(config="auto")
        self._device.open()
        self._device.parameter_set("sampling_frequency", _JOULESCOPE_HZ)
        self._hz = int(self._device.parameter_get("sampling_frequency", dtype="actual"))
        self._device.stream_process_register(self)
        self._device.start()

    def stream_notify(self, stream_buffer: Any) -> bool:
        """Takes new samples; the driver calls it from its thread. Returns False to continue streaming."""
        first, end = stream_buffer.sample_id_range
        first = first if self._next is None else max(self._next, first)
        if end > first:
            signals = stream_buffer.samples_get(first, end, fields=list(self._FIELDS))["signals"]
            self._parts.append([signals[name]["value"].copy() for name in self._FIELDS])
            self._next = end
        return False

    def close(self) -> None:
        """Does nothing; the driver calls it at the end."""

    def stop(self) -> Trace:
        """Stops and returns the readings, and the inputs gpi0 and gpi1 if they changed."""
        self._device.stop()
        self._device.close()
        amperes, volts, *inputs = (np.concatenate([np.empty(0), *(p[i] for p in self._parts)]) for i in range(4))
        pins = _pins({f"gpi{k}": bits == 1 for k, bits in enumerate(inputs)}, self._hz)
        return _means(amperes, volts, self._hz, "Joulescope", pins)


class Ina219Usb(_Polled):
    """An INA219 on the host's I2C pins or on an FT232H or MCP2221, through Adafruit's driver and Blinka.

    shunt: ohms.
    address: I2C address.
    bus: a busio.I2C; None for the host's default bus."""

    def __init__(self, shunt: float = 0.1, address: int = 0x40, bus: Any = None) -> None:
        super().__init__()
        self._driver = _package("adafruit_ina219", "ina219-usb")
        self._bus, self._shunt, self._address = bus, shunt, address
        self._rows: list[tuple[float, float, float]] = []

    def start(self) -> None:
        """Begins to record."""
        bus = self._bus or _package("board", "ina219-usb").I2C()
        self._chip = self._driver.INA219(bus, self._address)
        self._chip.bus_adc_resolution = self._driver.ADCResolution.ADCRES_9BIT_1S
        self._chip.shunt_adc_resolution = self._driver.ADCResolution.ADCRES_12BIT_1S
        time.sleep(0.01)  # the first conversion
        self._thread.start()

    def poll(self) -> None:
        """Takes one reading."""
        before = time.monotonic()
        volts, shunt = self._chip.bus_voltage, self._chip.shunt_voltage
        self._rows.append(((before + time.monotonic()) / 2, shunt / self._shunt, volts))

    def stop(self) -> Trace:
        """Stops and returns the readings."""
        self._join()
        table = np.array(self._rows, dtype=float).reshape(-1, 3)
        return Trace(
            table[:, 0] - (table[0, 0] if len(table) else 0), table[:, 1], table[:, 2], name="INA219 at the host"
        )


_SOURCES: dict[str, Any] = {"ppk2": Ppk2, "joulescope": Joulescope, "ina219-usb": Ina219Usb}


def _pins(high: dict[str, NDArray[np.bool_]], hz: int) -> tuple[Pin, ...]:
    """The digital inputs that changed. high: level of each input at every reading, hz readings per second."""
    found = (edges(name, (np.arange(len(bits)) + 0.5) / hz, bits) for name, bits in high.items())
    return tuple(pin for pin in found if len(pin.t))


def _means(amperes: Array, volts: Array, hz: int, name: str, pins: tuple[Pin, ...] = ()) -> Trace:
    """The trace, averaged to _KEEP_HZ. Readings lost in transfer (NaN) are left out."""
    step = max(hz // _KEEP_HZ, 1)
    whole = len(amperes) // step * step
    t = (np.arange(whole // step) + 0.5) * step / hz
    a, v = (np.asarray(x[:whole], dtype=float).reshape(-1, step).mean(axis=1) for x in (amperes, volts))
    good = ~np.isnan(a * v)
    return Trace(t[good], a[good], v[good], name=name, pins=pins)


def write_csv(trace: Trace) -> bytes:
    """The trace as a CSV file that logger_csv.read_csv reads."""
    head = ",".join(["time (s)", "current (A)", "voltage (V)", *(pin.name for pin in trace.pins)])
    high = np.column_stack([np.empty((len(trace.t), 0), int), *(levels(pin, trace.t) for pin in trace.pins)])
    rows = (
        f"{t:.6f},{a:.9g},{v:.6g}{''.join(f',{h}' for h in row)}\n"
        for t, a, v, row in zip(trace.t, trace.a, trace.v, high, strict=True)
    )
    return (head + "\n" + "".join(rows)).encode()
