"""Shows at the REPL which counters and events work on this board."""

import _tinyprof

from . import ops
from .events import banks

_SHORT = 256  # cycles: a counter of 8 bits cannot wrap in fewer


def show(candidates):
    """Prints the counters up to the first that runs, which is the one in use, and the events of the chip.

    candidates: pairs of a counters.Counter and whether it runs."""
    for counter, runs in candidates:
        if runs:
            _counter(counter)
            break
        print("%s: does not count" % counter.name)
    else:
        print("no counter runs on this board")
    for bank in banks():
        tried = bank.tried()
        if not any(count for _, _, count in tried):
            print("%s: does not count (%s)" % (bank.name, bank.manual))
            continue
        end = "stays at its maximum" if bank.saturates else "wraps"
        bits = 2 * bank.bits if bank.chained else bank.bits
        print("%s: %d events, %d bits, then it %s (%s)" % (bank.name, len(tried), bits, end, bank.manual))
        if bank.bits == 8:
            _short(bank)
            continue
        for name, _, count in tried:
            print("  %-18s %d with a loop of 10000 instructions between two readings" % (name, count))


def _counter(c):
    rate = c.rate()
    turn = c.units(c.modulus)
    print("%s: %s, in use" % (c.name, c.source))
    print("  a step is %g %s; a read costs %d" % (c.num / c.den, c.unit, c.cost()))
    if rate:
        rate, clock, hz = rate
        by = "%s of %d Hz, in the emulator's time" % (clock, hz) if c.second else clock
        print("  %d %s per second by %s, wraps after %d ms" % (rate, c.unit, by, turn * 1000 // max(rate, 1)))
    else:
        print("  wraps after %d %s; no second clock" % (turn, c.unit))


def _short(bank):
    """Prints the events of two loops of fewer cycles than a counter of 8 bits holds: one with branches, one with
    loads."""
    ctl = ops.control()
    data = bytes(128)
    for what, loop, amount in (("32 turns of a loop", _tinyprof.spin, 32), ("128 bytes read", _tinyprof.sweep, data)):
        ctl[ops.COUNTER] = 1
        ctl[ops.ADDRESS] = bank.base + 4  # CYCCNT
        ctl[ops.MODULUS] = 0
        cycles = loop(ctl, amount)
        if cycles >= _SHORT:
            print("  %s: %d cycles, too many for 8 bits" % (what, cycles))
            continue
        counts = []
        ctl[ops.MODULUS] = _SHORT
        for name, number in bank.events:
            bank.start(number)
            ctl[ops.ADDRESS] = bank.base + number
            counts.append("%s %d" % (name, loop(ctl, amount)))
        print("  %s: %d cycles, %s" % (what, cycles, ", ".join(counts)))
