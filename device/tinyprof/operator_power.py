"""Power of single operators: each is repeated in a window of its own, since one run is too short for a sensor."""

from array import array

import _tinyprof
from micropython import const

from . import ops
from .power import between

_COPIES = const(32)  # of a record in one call, so that the interpreter's share is small


class Operator:
    """Runs one record of a model's plan many times. The content of arena and KV cache is lost.

    model: a session.Model."""

    def __init__(self, model):
        self._model = model
        self._weights = model.stream.buffer if model.stream else model.data
        self._plan = array("I", bytes(4 * ops.WORDS * _COPIES))

    def take(self, i):
        """Chooses record i of the plan for the next runs."""
        record = self._model.arch.plan.words[i * ops.WORDS : (i + 1) * ops.WORDS]
        for at in range(0, len(self._plan), ops.WORDS):
            self._plan[at : at + ops.WORDS] = record

    def run(self):
        """Runs the record _COPIES times."""
        m = self._model
        _tinyprof.run(self._plan, 0, _COPIES, m.ctl, m.arena, m.kv, self._weights, None)

    def repeat(self, times):
        """Calls run() times times."""
        for _ in range(times):
            self.run()


def measure(model, meter, records, pos):
    """Writes a power window for each operator of decode; of equal operators in several layers only for the first.

    model: a session.Model; meter: a power.Meter; records: a records.Records; pos: position of the token."""
    plan, ctl, board = model.arch.plan, model.ctl, meter.board
    ctl[ops.POS] = pos
    ctl[ops.N] = 1
    ctl[ops.TOKENS] = 0
    operator = Operator(model)
    seen = set()
    for i in range(plan.count):
        kind = plan.describe(i)
        kind = kind[:2] + kind[3:]  # without the layer
        streamed = model.stream and plan.words[i * ops.WORDS + 3] >> 30 == ops.WEIGHTS >> 30
        if kind in seen or streamed:  # streamed weights are not in RAM now
            continue
        seen.add(kind)
        operator.take(i)
        operator.run()
        begin = board.now()
        operator.run()
        times = meter.operator_us // max(between(begin, board.now()), 1) + 1
        meter.window(records, "operator", i, times * _COPIES, operator.repeat, times)
    model.pos = 0
