"""Boards: those that are attached, and those that are known."""

import pandas as pd

from ..boards import catalog, emulators, usb_devices


def devices() -> pd.DataFrame:
    """The boards on USB, a row each.

    device: its port, empty for none; usb: vendor and product; serial_number, product; names: known boards with that USB
    id; families: of MicroPython; todo: what to do where it has no port.

    `attrs["problem"]` says why some may be missing."""
    found, problem = usb_devices.attached()
    frame = pd.DataFrame([vars(board) for board in found], columns=[*usb_devices.Attached.__dataclass_fields__])
    frame.attrs["problem"] = problem
    return frame


def boards() -> pd.DataFrame:
    """The known boards, a row each; those with `here` need no hardware: `collect` takes their names.

    Clocks in MHz, sizes in KiB, NaN where not known; evidence: how it is known that tinyprof works there.

    >>> tp.boards().query("here")["board"].tolist()[:4]
    ['m0', 'm3', 'm4', 'm7']
    """
    frame = pd.DataFrame([vars(board) for board in catalog.boards()])
    numbers = list(catalog.NUMBERS)
    frame[numbers] = frame[numbers].apply(pd.to_numeric, errors="coerce")
    return frame.assign(here=frame["board"].isin(emulators.NAMES))
