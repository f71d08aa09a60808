"""The demo model's figures on emulated boards: logits, and instructions of each operator and of a test in all.

They are the same in every run of the same firmware, so a change of a kernel, of the plan or of the interpreter's share
shows here. After a change that is meant, write the new figures with

    PYTHONPATH=host:tests/support python tests/device/test_demo_counts.py [BOARD ...]
"""

import json
import sys
from pathlib import Path

import pytest
from on_board import KERNELS, board
from tinyprof_bridge.errors import BadInput
from tinyprof_bridge.models.demo import DEMO_MODEL

GOLDEN = Path(__file__).with_name("demo_counts.json")
# A run as `collect -p 16 -n 32 -r 1` has it, without what is not held here.
RUN = """
import tinyprof
from tinyprof import measure
measure._Profile._overhead = measure._Profile._roof = measure._Profile._cold = lambda *_: None
tinyprof.profile(tinyprof.load({source!r}, context=48), p=(16,), n=(32,), r=1, warmup=0)
"""
# The interpreter's share of a test (its total without the operators) depends on where objects are in the heap: it
# differs by up to 2 % between repetitions, and a little with every change of the device package.
SHARE = 0.1


def measured(name):
    """What demo_counts.json has of a board. Raises BadInput where its firmware is not built."""
    with board(name, DEMO_MODEL) as b:
        records = [json.loads(line) for line in b.run(RUN.format(source=b.source)).splitlines()]
    of = {kind: [r for r in records if r["kind"] == kind] for kind in ("begin", "check", "op", "cost", "samples")}
    roles = [op["role"] for op in of["op"]]
    tests = {}
    for cost in of["cost"]:
        operators = tests.setdefault(cost["test"], {"total": 0, "operators": {}})["operators"]
        for role, units in zip(roles[cost["at"] :], cost["v"], strict=False):
            operators[role] = operators.get(role, 0) + units
    for samples in of["samples"]:
        tests[samples["test"]]["total"] += sum(samples["v"])
    return {
        "compiler": of["begin"][0]["native"]["compiler"],
        "logits": of["check"][0]["logits_crc32"],
        "tests": tests,
    }


def rest(test):
    """Instructions outside the operators."""
    return test["total"] - sum(test["operators"].values())


@pytest.mark.parametrize("name", KERNELS)
def test_counts_are_those_that_were_kept(name):
    try:
        found = measured(name)
    except BadInput as error:
        pytest.skip(str(error))
    golden = json.loads(GOLDEN.read_text())[name]
    assert found["logits"] == golden["logits"]
    if found["compiler"] != golden["compiler"]:
        pytest.skip(f"counts are kept for {golden['compiler']}, {name} was built with {found['compiler']}")
    for test, kept in golden["tests"].items():
        assert found["tests"][test]["operators"] == kept["operators"], test
        assert rest(found["tests"][test]) == pytest.approx(rest(kept), rel=SHARE), test


if __name__ == "__main__":
    golden = json.loads(GOLDEN.read_text())
    golden |= {name: measured(name) for name in sys.argv[1:] or KERNELS}
    lines = [f' "{name}": {json.dumps(kept)}' for name, kept in golden.items()]
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")
