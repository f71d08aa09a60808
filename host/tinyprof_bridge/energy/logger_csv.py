"""Reads the CSV files that power loggers export (PPK2, Otii, Joulescope and similar)."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from ..errors import BadInput
from ..records.power_trace import Array, Pin, Trace, edges
from ..records.runs import Run, load, supply_of

_UNITS = {
    "time": {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9},
    "current": {"A": 1.0, "mA": 1e-3, "uA": 1e-6, "µA": 1e-6, "nA": 1e-9},
    "voltage": {"V": 1.0, "mV": 1e-3, "uV": 1e-6, "µV": 1e-6},
}
# headings of digital inputs, one per column or all in one column as a string of bits: D0, D0-D7, gpi0, Main GPI1
_DIGITAL = re.compile(r"^D(\d+)(?:-D?(\d+))?$|gpi|_lsb$|digital", re.I)
_NAMES = {
    "time": re.compile(r"time|^t$|second", re.I),
    "current": re.compile(r"current|amp|^i$", re.I),
    "voltage": re.compile(r"volt|^v$|^u$", re.I),
}
# a unit at the end of a heading, in brackets or after an underscore: Current(uA), "Main current (A)", time_s
_UNIT = re.compile(r"[(\[]\s*([a-zA-Zµ]{1,2})\s*[)\]]\s*$|_([a-zA-Zµ]{1,2})$")


def read_csv(path: Path, volts: float | None = None) -> Trace:
    """The power trace in a logger's CSV file.

    Columns are found by their headings; without headings they must be time, current, voltage in s, A and V.

    path: the file. If it has no voltage column, a neighbouring file with "voltage" for "current" in its name is read.
    volts: supply voltage to use if the file has no voltage column.

    Raises BadInput if the file cannot be read, has no such columns or has no voltage and volts is not given."""
    found, pins = _read(path, "current")
    t = found["time"]
    beside = path.with_name(path.name.replace("current", "voltage"))  # Otii 3 has a file for each quantity
    if volts is not None and "voltage" not in found:
        found["voltage"] = np.full(len(t), volts)
    elif "voltage" not in found and beside != path and beside.exists():
        other = _read(beside, "voltage")[0]
        found["voltage"] = np.interp(t, other["time"], other["voltage"])
    elif "voltage" not in found:
        raise BadInput(f"{path}: no voltage column; give the supply voltage, for example --volts 3.3")
    return Trace(t, found["current"], found["voltage"], name=path.name, pins=pins)


def _read(path: Path, wanted: str) -> tuple[dict[str, Array], tuple[Pin, ...]]:
    """(column values by quantity in s, A and V, digital inputs that changed).

    wanted: the quantity that the file must have besides time."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            head = [line.strip() for _, line in zip(range(50), file, strict=False)]
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from None
    lines = [(i, line.lstrip("# ")) for i, line in enumerate(head) if line.lstrip("# ")]
    data = next((k for k, (i, line) in enumerate(lines) if _is_numbers(line) and not head[i].startswith("#")), None)
    if data is None:
        raise BadInput(f"{path}: no rows of numbers found; give a logger's CSV file with time and current columns")
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
    again = frame.duplicated([i for i, _ in columns.values()])  # nRF Connect sometimes writes a reading twice
    frame = frame[~again]
    found = {name: frame[i].to_numpy(dtype=float) * scale for name, (i, scale) in columns.items()}
    t = found["time"]
    if len(t) < 2 or not (np.diff(t) > 0).all():
        raise BadInput(f"{path}: the time column does not increase from row to row; export the capture again")
    return found, tuple(pin for i, name in digital.items() for pin in _pins(name, t, frame[i]))


def _pins(name: str, t: Array, column: "pd.Series[str]") -> list[Pin]:
    """The digital inputs of a column whose level changes. A cell is one level, or a string of bits, one per input."""
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
    """(column index, factor to s, A or V) by quantity."""
    if not any(re.search(r"[a-zA-Z]", h) for h in headings):
        return {name: (i, 1.0) for i, name in enumerate(("time", "current", "voltage")[:width])}
    found: dict[str, tuple[int, float]] = {}
    for i, heading in enumerate(headings[:width]):
        match = _UNIT.search(heading)
        unit = (match[1] or match[2]) if match else None
        bare = heading[: match.start()].strip() if match else heading
        if bare.lower() == "value":  # Otii 3 names the quantity in the file's name only
            bare = path.stem
        for name, pattern in _NAMES.items():
            if name in found or not pattern.search(bare):
                continue
            if unit is not None and unit not in _UNITS[name]:
                raise BadInput(f"{path}: unknown unit in heading '{heading}'; use {', '.join(_UNITS[name])}")
            found[name] = i, _UNITS[name][unit] if unit else 1.0
            break
    for name in ("time", wanted):
        if name not in found:
            raise BadInput(f"{path}: no {name} column; its columns are {', '.join(headings)}")
    return found


def load_run(path: Path) -> Run:
    """A saved run, with the power trace of a sensor at the host if there is one. Raises BadInput as load does."""
    run = load(path)
    if supply_of(path).exists():
        run.supply = read_csv(supply_of(path))
    return run
