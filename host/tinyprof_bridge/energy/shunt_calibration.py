"""What a sensor reads of a current that is known, kept with its date and applied to later runs."""

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

GREATEST = 0.2  # that a shunt may be off: more is a wrong shunt or a wrong current


@dataclass(frozen=True)
class Calibration:
    """nominal_uohm: the shunt as it was said to be; uohm: as it must be for the sensor to read the known current."""

    date: str
    amperes: float
    read: float
    nominal_uohm: int
    uohm: int


def store() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "tinyprof" / "calibration.json"


def _all() -> dict[str, dict[str, object]]:
    try:
        found = json.loads(store().read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BadInput(f"cannot read {store()}: {error}") from None
    return found if isinstance(found, dict) else {}


def _key(sensor: Sensor) -> str:
    return f"{sensor.name}@0x{sensor.board.get('address', 0x40):02x}"


def applied(sensor: Sensor) -> tuple[Sensor, Calibration | None]:
    """The sensor with its shunt as calibrated. One of another nominal shunt does not count."""
    found = _all().get(_key(sensor))
    nominal = sensor.board.get("shunt_uohm", 100000)
    if "chip" not in sensor.board or not found or found.get("nominal_uohm") != nominal:
        return sensor, None
    try:
        known = Calibration(**found)  # type: ignore[arg-type]
    except TypeError as error:
        raise BadInput(f"{store()}: {error}") from None
    return replace(sensor, board=sensor.board | {"shunt_uohm": known.uohm}), known


def calibrate(link: Transport, sensor: Sensor, amperes: float, timeout: float) -> Calibration:
    """Reads a current that is known to be so many amperes, and keeps what that says of the shunt."""
    if "chip" not in sensor.board:
        raise BadInput(f"{sensor.name} is calibrated by its maker: this is for ina219, ina226 and ina228")
    if not 0 < amperes < 100:
        raise BadInput("--amperes takes the current of the known load, more than 0")
    arguments = sensor.board | {"quiet": False}
    code = (
        "from tinyprof.power import open_meter\nfrom tinyprof.records import Records\n"
        f"m,r=open_meter(**{arguments!r}),Records('calibrate')\nm.about(r)\nm.idle(r,0)\nm.idle(r,1)\nr.end()\n"
    )
    run = read_run(link.run(code, timeout), "calibration")
    energy = run_energy.on_board(run)
    if energy is None or energy.trace is None or energy.findings:
        raise RunFailed(f"the sensor cannot be calibrated: {'; '.join(energy.findings if energy else ['silent'])}")
    nominal = run.sensor.shunt_uohm if run.sensor else 0
    read = float(np.mean(energy.trace.a))
    if not abs(read / amperes - 1) <= GREATEST:
        raise RunFailed(f"the sensor reads {read:.4g} A of {amperes:.4g} A: a wrong shunt, or a wrong current")
    date = datetime.now(UTC).isoformat(timespec="seconds")
    found = Calibration(date, amperes, read, nominal, round(nominal * read / amperes))
    store().parent.mkdir(parents=True, exist_ok=True)
    store().write_text(json.dumps(_all() | {_key(sensor): asdict(found)}, indent=1) + "\n")
    return found
