"""Calibration of a sensor's shunt against a known current, kept with its date and applied to later runs."""

import json
import os
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from ..boards.transport import Transport
from ..errors import BadInput, RunFailed
from ..records.runs import read as read_run
from . import run_energy
from .sensors import Sensor

GREATEST = 0.2  # relative error of a shunt; more means that the given shunt or current is wrong


@dataclass(frozen=True)
class Calibration:
    """A stored calibration.

    date: ISO 8601, UTC.
    amperes: the known current.
    read: the current that the sensor measured, in amperes.
    nominal_uohm: the shunt as given by the user, in µΩ.
    uohm: the shunt with which the sensor reads the known current."""

    date: str
    amperes: float
    read: float
    nominal_uohm: int
    uohm: int


def store() -> Path:
    """The file that holds all calibrations."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "tinyprof" / "calibration.json"


def _all() -> dict[str, dict[str, object]]:
    try:
        found = json.loads(store().read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BadInput(f"cannot read {store()}: {error}; delete it and calibrate again") from None
    return found if isinstance(found, dict) else {}


def _key(sensor: Sensor) -> str:
    return f"{sensor.name}@0x{sensor.board.get('address', 0x40):02x}"


def applied(sensor: Sensor) -> tuple[Sensor, Calibration | None]:
    """(the sensor with its shunt as calibrated, the calibration), or (sensor, None) without one.

    A calibration made with another nominal shunt is ignored. Raises BadInput if the stored one is damaged."""
    found = _all().get(_key(sensor))
    nominal = sensor.board.get("shunt_uohm", 100000)
    if "chip" not in sensor.board or not found or found.get("nominal_uohm") != nominal:
        return sensor, None
    try:
        known = Calibration(**found)  # type: ignore[arg-type]
    except TypeError as error:
        raise BadInput(f"{store()}: {error}; delete it and calibrate again") from None
    return replace(sensor, board=sensor.board | {"shunt_uohm": known.uohm}), known


def calibrate(link: Transport, sensor: Sensor, amperes: float, timeout: float) -> Calibration:
    """Measures a known current, stores the calibration of the shunt and returns it.

    link: the board that reads the sensor.
    amperes: the known current.
    timeout: seconds.

    Raises BadInput for another kind of sensor or current, RunFailed if the reading is not plausible."""
    if "chip" not in sensor.board:
        raise BadInput(f"{sensor.name} needs no calibration, its maker did that; give ina219, ina226 or ina228")
    if not 0 < amperes < 100:
        raise BadInput("--amperes must be the current through the known load, above 0 and below 100 A")
    arguments = sensor.board | {"quiet": False}
    code = (
        "from tinyprof.power import open_meter\nfrom tinyprof.records import Records\n"
        f"m,r=open_meter(**{arguments!r}),Records('calibrate')\nm.about(r)\nm.idle(r,0)\nm.idle(r,1)\nr.end()\n"
    )
    run = read_run(link.run(code, timeout), "calibration")
    energy = run_energy.on_board(run)
    if energy is None or energy.trace is None or energy.findings:
        why = "; ".join(energy.findings) if energy else "it gave no readings"
        raise RunFailed(f"{sensor.name} cannot be calibrated: {why}")
    nominal = run.sensor.shunt_uohm if run.sensor else 0
    read = float(np.mean(energy.trace.a))
    if not abs(read / amperes - 1) <= GREATEST:
        raise RunFailed(
            f"{sensor.name} reads {read:.4g} A instead of {amperes:.4g} A: check `shunt` and the current of the load"
        )
    date = datetime.now(UTC).isoformat(timespec="seconds")
    found = Calibration(date, amperes, read, nominal, round(nominal * read / amperes))
    store().parent.mkdir(parents=True, exist_ok=True)
    store().write_text(json.dumps(_all() | {_key(sensor): asdict(found)}, indent=1) + "\n")
    return found
