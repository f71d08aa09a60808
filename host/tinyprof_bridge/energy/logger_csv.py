"""A supply as a sensor saw it, and files of it that loggers write."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from ..errors import BadInput
from ..records.power_trace import Array, Pin, Trace, edges

_UNITS = {
    "time": {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9},
    "current": {"A": 1.0, "mA": 1e-3, "uA": 1e-6, "µA": 1e-6, "nA": 1e-9},
    "voltage": {"V": 1.0, "mV": 1e-3, "uV": 1e-6, "µV": 1e-6},
}
# digital inputs, one a column or all in one as a row of bits: D0, D0-D7, gpi0, Main GPI1, current_lsb
_DIGITAL = re.compile(r"^D(\d+)(?:-D?(\d+))?$|gpi|_lsb$|digital", re.I)
_NAMES = {
    "time": re.compile(r"time|^t$|second", re.I),
    "current": re.compile(r"current|amp|^i$", re.I),
    "voltage": re.compile(r"volt|^v$|^u$", re.I),
}
# a unit in brackets at the end of a heading, or behind an underscore: Current(uA), "Main current (A)", time_s
_UNIT = re.compile(r"[(\[]\s*([a-zA-Zµ]{1,2})\s*[)\]]\s*$|_([a-zA-Zµ]{1,2})$")


def read_csv(path: Path, volts: float | None = None) -> Trace:
    """A logger's export: columns of time, current and voltage by their headings, or in this order without any.

    volts: the supply where the file has no voltage. Raises BadInput for what is no such file."""
    found, pins = _read(path, "current")
    t = found["time"]
    beside = path.with_name(path.name.replace("current", "voltage"))  # Otii 3 has a file for each quantity
    if volts is not None and "voltage" not in found:
        found["voltage"] = np.full(len(t), volts)
    elif "voltage" not in found and beside != path and beside.exists():
        other = _read(beside, "voltage")[0]
        found["voltage"] = np.interp(t, other["time"], other["voltage"])
    elif "voltage" not in found:
        raise BadInput(f"{path} has no voltage: say what the supply was (--volts 3.3)")
    return Trace(t, found["current"], found["voltage"], name=path.name, pins=pins)


def _read(path: Path, wanted: str) -> tuple[dict[str, Array], tuple[Pin, ...]]:
    """Quantities of a file in seconds, amperes and volts, time and the one that is wanted at least; and its pins."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            head = [line.strip() for _, line in zip(range(50), file, strict=False)]
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from None
    lines = [(i, line.lstrip("# ")) for i, line in enumerate(head) if line.lstrip("# ")]
    data = next((k for k, (i, line) in enumerate(lines) if _is_numbers(line) and not head[i].startswith("#")), None)
    if data is None:
        raise BadInput(f"{path} is no table of numbers: a logger's CSV with time and current is wanted")
    first = lines[data][1]
    separator = next(s for s in (";", "\t", ",") if s in first)
    decimal = "," if separator != "," and "," in first and "." not in first else "."
    headings = _cells(lines[data - 1][1], separator) if data else []
    width = len(_cells(first, separator))
    columns = _columns(headings, width, path, wanted)
    digital = {i: h for i, h in enumerate(headings[:width]) if _DIGITAL.search(h)}
    try:
        frame = pd.read_csv(
            path, sep=separator, header=None, skiprows=lines[data][0], decimal=decimal, comment="#",
            usecols=sorted({*(i for i, _ in columns.values()), *digital}), encoding_errors="replace",
            dtype={i: "category" if i in digital else float for i in range(width)},
        )  # fmt: skip
    except (ValueError, pd.errors.ParserError) as error:
        raise BadInput(f"{path}: {str(error).splitlines()[0]}") from None
    frame = frame.dropna(subset=[i for i, _ in columns.values()])
    again = frame.duplicated([i for i, _ in columns.values()])  # nRF Connect writes a reading twice now and then
    frame = frame[~again]
    found = {name: frame[i].to_numpy(dtype=float) * scale for name, (i, scale) in columns.items()}
    t = found["time"]
    if len(t) < 2 or not (np.diff(t) > 0).all():
        raise BadInput(f"{path}: time does not run forward in it")
    return found, tuple(pin for i, name in digital.items() for pin in _pins(name, t, frame[i]))


def _pins(name: str, t: Array, column: "pd.Series[str]") -> list[Pin]:
    """The inputs in a column that changed. A level is a number, or several digits, one an input."""
    texts, codes = [str(c) for c in column.cat.categories], column.cat.codes.to_numpy()
    several = _DIGITAL.search(name)
    if several and several[2]:
        width = int(several[2]) - int(several[1]) + 1
        high = {f"{name}[{k}]": [text.zfill(width)[k] == "1" for text in texts] for k in range(width)}
    else:
        high = {name: [text.strip().lower() not in ("0", "0.0", "false", "") for text in texts]}
    found = (edges(n, t, np.array([*values, False])[codes]) for n, values in high.items())
    return [pin for pin in found if len(pin.t)]


def _cells(line: str, separator: str) -> list[str]:
    return [cell.strip().strip('"').strip() for cell in line.split(separator)]


def _is_numbers(line: str) -> bool:
    for separator in (";", "\t", ","):
        if separator in line:
            return all(re.fullmatch(r"[-+\d.,eE]+", cell) for cell in _cells(line, separator)[:2])
    return False


def _columns(headings: list[str], width: int, path: Path, wanted: str) -> dict[str, tuple[int, float]]:
    """Where each quantity stands, and what its unit is in seconds, amperes or volts."""
    if not any(re.search(r"[a-zA-Z]", h) for h in headings):
        return {name: (i, 1.0) for i, name in enumerate(("time", "current", "voltage")[:width])}
    found: dict[str, tuple[int, float]] = {}
    for i, heading in enumerate(headings[:width]):
        match = _UNIT.search(heading)
        unit = (match[1] or match[2]) if match else None
        bare = heading[: match.start()].strip() if match else heading
        if bare.lower() == "value":  # Otii 3: of what, the file's name says
            bare = path.stem
        for name, pattern in _NAMES.items():
            if name in found or not pattern.search(bare):
                continue
            if unit is not None and unit not in _UNITS[name]:
                raise BadInput(f"{path}: '{heading}' is in a unit that is not known")
            found[name] = i, _UNITS[name][unit] if unit else 1.0
            break
    for name in ("time", wanted):
        if name not in found:
            raise BadInput(f"{path}: no column is headed {name}: there are {', '.join(headings)}")
    return found
