"""The error table of docs/power.md: its bounds, and that it is of this code."""

import re

import power_errors
import pytest
from on_board import ROOT, board


def documented():
    """(waveform, sensor, {rate: error}) of the docs."""
    text = (ROOT / "docs" / "power.md").read_text()
    for wave in power_errors.WAVES:
        fast, slow = (
            re.findall(r"[-+]\d+\.\d\d", row) for row in re.findall(rf"^\| {re.escape(wave)} \|(.*)$", text, re.M)
        )
        rates = list(power_errors.RATES)[1:]
        for k, sensor in enumerate(power_errors.SENSORS):
            lower = slow[k * len(rates) : (k + 1) * len(rates)]
            cells = dict(zip([1000, *rates], [fast[k], *lower], strict=False))
            yield wave, sensor, {rate: float(cell) / 100 for rate, cell in cells.items()}


TABLE = list(documented())


def test_bounds():
    assert len(TABLE) == len(power_errors.WAVES) * len(power_errors.SENSORS)
    for wave, sensor, errors in TABLE:
        for rate, error in errors.items():
            assert abs(error) <= (0.05 if rate == 10 else 0.01), (wave, sensor, rate)


def test_what_reading_costs():
    text = (ROOT / "docs" / "power.md").read_text()
    assert "\n".join(power_errors.cost_table()) in text.replace("\n  |", "\n|").replace("  | of the", "| of the")


@pytest.mark.parametrize("row", [r for r in TABLE if r[0].startswith(("tokens", "rarer"))], ids=lambda r: r[1])
def test_the_table_is_of_this_code(row):
    wave, sensor, errors = row
    rate = 1000 if "," in sensor or wave.startswith("rarer") else 10
    with board("unix") as unix:
        assert power_errors.error(unix, wave, sensor, rate) == pytest.approx(errors[rate], abs=6e-5)
