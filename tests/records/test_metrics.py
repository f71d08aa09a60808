"""Work of a record, from its shapes."""

import pytest
from tinyprof_bridge import device_package
from tinyprof_bridge.records import metrics, runs
from tinyprof_bridge.records.schema import Model, Op


@pytest.mark.parametrize("op", device_package.data("ops").NAMES[1:])
def test_every_operator_of_the_device_moves_bytes(op):
    run = runs.Run("", model=Model.model_construct(batch=8))
    record = Op.model_construct(i=0, op=op, role=op, layer=0, type="F32", rows=4, cols=32, p2=16, window=0)
    _, moved, calls = metrics.work(run, record, runs.Test("tg3", "decode", tokens=3, depth=0, cold=0))
    assert moved > 0 and calls == 3
