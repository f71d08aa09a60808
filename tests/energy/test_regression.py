"""The energy model on synthetic truth."""

import re

import numpy as np
import pandas as pd
import pytest
from on_board import ROOT
from tinyprof_bridge.cli import power
from tinyprof_bridge.energy import regression
from tinyprof_bridge.errors import BadInput

MACHINE = "Raspberry Pi Pico with RP2040"
TRUE = {"seconds": 0.066, "macs": 45e-12, "bytes": 210e-12}


def synthetic(n=60, noise=0.02, seed=3, together=False):
    """Tests of many sizes at several clocks: 66 mW, 45 pJ a MAC, 210 pJ a byte."""
    random = np.random.default_rng(seed)
    macs = 10 ** random.uniform(5, 8, n)
    moved = macs * (0.6 if together else random.uniform(0.1, 2, n))
    seconds = macs * (2e-8 if together else random.uniform(0.5e-8, 4e-8, n))
    joules = TRUE["seconds"] * seconds + TRUE["macs"] * macs + TRUE["bytes"] * moved
    joules *= 1 + random.normal(0, noise, n)
    return pd.DataFrame({"machine": MACHINE, "joules": joules, "seconds": seconds, "macs": macs, "bytes": moved})


def test_the_truth_is_found_and_lies_in_the_intervals():
    found = regression.fit(synthetic())
    for c in found.coefficients:
        assert c.low < TRUE[c.name] < c.high and c.value == pytest.approx(TRUE[c.name], rel=0.25), c
    assert found.r2 > 0.99 and found.held_out < 0.02 and not found.warning


def test_intervals_hold_the_truth_as_often_as_they_say():
    inside = [
        c.low < TRUE[c.name] < c.high for seed in range(100) for c in regression.fit(synthetic(seed=seed)).coefficients
    ]
    assert 0.91 < np.mean(inside) < 0.99


def test_columns_that_cannot_be_told_apart_are_named():
    found = regression.fit(synthetic(together=True, noise=0.02))
    assert "nearly collinear" in found.warning and "nearly collinear" in regression.markdown(found)


def test_too_few():
    with pytest.raises(BadInput, match="4 tests with valid energy are too few"):
        regression.fit(synthetic(4))


def test_energy_on_cycles_bytes_and_time():
    """Tests at several clocks: 12 mW asleep or not, 90 pJ a cycle, 210 pJ a byte."""
    random = np.random.default_rng(5)
    clock = random.choice([48e6, 96e6, 133e6, 250e6], 60)
    cycles, moved = 10 ** random.uniform(6, 9, 60), 10 ** random.uniform(5, 8, 60)
    seconds = cycles / clock
    joules = (0.012 * seconds + 90e-12 * cycles + 210e-12 * moved) * (1 + random.normal(0, 0.02, 60))
    frame = pd.DataFrame({"machine": MACHINE, "joules": joules, "seconds": seconds, "cycles": cycles, "bytes": moved})
    found = regression.fit(frame, ("seconds", "cycles", "bytes"))
    for c, true in zip(found.coefficients, (0.012, 90e-12, 210e-12), strict=True):
        assert c.low < true < c.high, c
    assert found.held_out < 0.02 and found.r2 > 0.99
    with pytest.raises(BadInput, match="no column 'joy'"):
        regression.fit(frame, ("joy",))


def test_a_fit_is_written_and_read(tmp_path, monkeypatch):
    rows = synthetic()
    monkeypatch.setattr(regression, "rows", lambda runs: (rows, []))
    power.fit([], on="seconds,macs,bytes", o="md", out=tmp_path / "fit.json")
    found = regression.read_fit(tmp_path / "fit.json")
    assert found == regression.fit(rows) and found.machines == [MACHINE]
    parts = [c.value * size for c, size in zip(found.coefficients, (2.0, 3e9, 4e9), strict=True)]
    assert found.joules({"seconds": 2.0, "cycles": 1.0, "macs": 3e9, "bytes": 4e9}) == pytest.approx(sum(parts))
    with pytest.raises(BadInput, match="is also an input"):
        power.fit([tmp_path / "fit.json"], on="macs", o="md", out=tmp_path / "fit.json")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda text: text.replace('"held_out"', '"held"'), "held_out"),
        (lambda text: text[: len(text) // 2], "is not an energy fit"),
        (lambda text: text.replace('"seconds"', '"joy"'), "columns must be some of"),
        (lambda text: text.replace('"seconds"', '"macs"'), "each once"),
        (lambda text: re.sub(r'"value": [^,]*', '"value": 1e999', text, count=1), "contains NaN or infinity"),
        (lambda text: "[]", "is not an energy fit"),
    ],
)
def test_what_is_no_fit_is_one_line(change, problem, tmp_path):
    path = tmp_path / "fit.json"
    path.write_text(change(regression.as_json(regression.fit(synthetic()))))
    with pytest.raises(BadInput, match=problem) as error:
        regression.read_fit(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    with pytest.raises(BadInput, match="cannot read"):
        regression.read_fit(tmp_path / "none.json")


def test_the_docs_show_the_fit():
    text = (ROOT / "docs" / "power.md").read_text()
    assert regression.markdown(regression.fit(synthetic())) in text


if __name__ == "__main__":
    print(regression.markdown(regression.fit(synthetic())))
