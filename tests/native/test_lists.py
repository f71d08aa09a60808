"""Numbers and names that stand in the C core and in the device package: both must have the same."""

import re
import runpy
import sys
from types import ModuleType
from unittest import mock

import pytest
from on_board import ROOT

NATIVE = ROOT / "native_modules"


@pytest.fixture(scope="module")
def ops():
    """The globals of device/tinyprof/ops.py."""
    micropython = ModuleType("micropython")
    vars(micropython)["const"] = lambda value: value
    with mock.patch.dict(sys.modules, {"micropython": micropython, "_tinyprof": ModuleType("_tinyprof")}):
        return runpy.run_path(str(ROOT / "device/tinyprof/ops.py"))


def numbers(pattern, *paths):
    """{name: number} of all that pattern finds in files of native_modules."""
    text = "".join((NATIVE / path).read_text() for path in paths)
    found = {name: int(number) for name, number in re.findall(pattern, text, re.MULTILINE)}
    assert found
    return found


def test_operators_have_the_numbers_and_names_of_the_executor(ops):
    listed = numbers(r"^OPERATOR\((\w+), +(\d+)\)", "executor/operators.h")
    assert {name: ops[name] for name in listed} == listed
    assert list(ops["NAMES"][1:]) == [name.lower() for name in sorted(listed, key=lambda name: listed[name])]
    assert sorted(listed.values()) == list(range(1, len(ops["NAMES"])))


def test_weight_types_have_the_numbers_of_the_core(ops):
    listed = numbers(r"^WEIGHT_TYPE\((\w+), +(\d+),", "kernels/weight_types.h")
    listed |= numbers(r"^ +TP_(F32|F16) = (\d+),", "kernels/kernels.h")
    assert {name: number for number, name in ops["TYPES"].items()} == listed


def test_records_and_the_control_block_are_those_of_the_executor(ops):
    words = numbers(r"^#define TP_OP_(WORDS) (\d+)", "executor/executor.h")
    words |= numbers(r"^ +TP_CTL_(\w+) = (\d+)", "executor/executor.h")
    words |= numbers(r"^ +TP_FLAG_(\w+) = (\d+)", "executor/executor.h")
    words |= numbers(r"^ +TP_(PORTABLE|INT16) = (\d+)", "kernels/kernels.h")
    words |= numbers(r"^#define TP_(MARK_(?:TEST|DUMP|CLEAR|LEAVE)) (\d+)", "marks/marks.h")
    words |= numbers(r"^#define TP_(ABI) \((\d+)\)", "module.c")
    assert {name: ops[name] for name in words} == words
    regions = numbers(r"TP_REGION_(\w+) = (\d+)", "executor/executor.h")
    assert {name: ops[name] >> 30 for name in regions} == regions
