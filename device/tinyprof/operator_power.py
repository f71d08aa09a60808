"""Operators under a power sensor, each over and over in a window of its own: one is too short for the sensor."""

from array import array

import _tinyprof
from micropython import const

from . import ops
from .power import between

_COPIES = const(32)  # of a record, run by one call: the interpreter's share is small then


class Operator:
    """One record of a model's plan, many times. What it writes in arena and KV cache is lost."""

    def __init__(self, model):
        self._model = model
        self._weights = model.stream.buffer if model.stream else model.data
        self._plan = array("I", bytes(4 * ops.WORDS * _COPIES))

    def take(self, i):
        """The record that is run from now on."""
        record = self._model.arch.plan.words[i * ops.WORDS : (i + 1) * ops.WORDS]
        for at in range(0, len(self._plan), ops.WORDS):
            self._plan[at : at + ops.WORDS] = record

    def run(self):
        m = self._model
        _tinyprof.run(self._plan, 0, _COPIES, m.ctl, m.arena, m.kv, self._weights, None)

    def repeat(self, times):
        for _ in range(times):
            self.run()


def measure(model, meter, records, pos):
    """A window of each operator of decode at position pos: of those that are alike of the first."""
    plan, ctl, board = model.arch.plan, model.ctl, meter.board
    ctl[ops.POS] = pos
    ctl[ops.N] = 1
    ctl[ops.TOKENS] = 0
    operator = Operator(model)
    seen = set()
    for i in range(plan.count):
        kind = plan.describe(i)
        kind = kind[:2] + kind[3:]  # but for the layer
        streamed = model.stream and plan.words[i * ops.WORDS + 3] >> 30 == ops.WEIGHTS >> 30
        if kind in seen or streamed:  # streamed weights are not there now
            continue
        seen.add(kind)
        operator.take(i)
        operator.run()
        begin = board.now()
        operator.run()
        times = meter.operator_us // max(between(begin, board.now()), 1) + 1
        meter.window(records, "operator", i, times * _COPIES, operator.repeat, times)
    model.pos = 0
