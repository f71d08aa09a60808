"""Hardware events that a core or chip counts: which there are, and their counts in a test.

One event is counted at a time, each in a repetition of its own, so that none influences another."""

import sys
from array import array

import _tinyprof

from . import ops
from .errors import ModelError

_SPACES = (1, 3, 6)  # kinds of native_modules/counters/counters.h that read registers of each space


class Registers:
    """Access to registers. space: 0 memory, 1 registers by number, 2 clocks of the system."""

    def __init__(self, space):
        self.space = space
        self._stamp = array("I", (0,))
        self._ctl = ops.control()
        self._ctl[ops.COUNTER] = _SPACES[space]

    def read(self, address):
        """32 bits of the register at address."""
        self._ctl[ops.ADDRESS] = address
        _tinyprof.stamp(self._ctl, self._stamp, 0)
        return self._stamp[0]

    def write(self, address, value):
        """Writes 32 bits to the register at address."""
        if self.space:
            _tinyprof.register(address, value)
        else:
            from machine import mem32

            mem32[address] = value


class Bank:
    """The counters of one row of registers.BANKS.

    row: of BANKS; registers: a Registers, None for those of this board.

    events: [(name, number)]; bits: of a counter; saturates: it stops at its maximum, otherwise it wraps; lost: whether
    events exceeded the range of the counter since start()."""

    def __init__(self, row, registers=None):
        self.name, _, self.space, self.base, self.bits, self.saturates = row[:6]
        self._setup, self._undo, self._selector, self._counter, self._chain, events, self.manual = row[6:]
        events = events.split()
        self.events = [(events[i], int(events[i + 1], 0)) for i in range(0, len(events), 2)]
        self.registers = registers or Registers(self.space)
        self.chained = self._chain is not None
        self.lost = False

    def start(self, number):
        """Starts to count the event with this number."""
        write, read = self.registers.write, self.registers.read
        if self._selector is not None:
            write(self.base + self._selector, number)
        if self._chain:
            selector, event, _ = self._chain
            write(self.base + selector, event)
        for address, value, beside in self._setup:
            write(address, read(address) | value if beside else value)
        self.address = self.base + (number if self._counter is None else self._counter)
        self.lost = False
        if self.saturates:
            write(self.address, 0)
        self._last = self._read()

    def stop(self):
        """Stops counting and restores the registers."""
        for address, value in self._undo:
            self.registers.write(address, value)

    def take(self):
        """Events since the last call, or since start()."""
        now = self._read()
        if self.saturates:
            self.lost = self.lost or now == (1 << self.bits) - 1
            self.registers.write(self.address, 0)
            return now
        count = (now - self._last) % (1 << (2 * self.bits if self._chain else self.bits))
        self._last = now
        return count

    def _read(self):
        low = self.registers.read(self.address) & (1 << self.bits) - 1
        if not self._chain:
            return low
        high = self.base + self._chain[2]
        while True:  # until no overflow happened between the two readings
            above = self.registers.read(high) & (1 << self.bits) - 1
            again = self.registers.read(self.address) & (1 << self.bits) - 1
            if again >= low:
                return above << self.bits | again
            low = again

    def select(self, ctl):
        """Makes records that run with ctl, a control block of ops.control, count this event."""
        ctl[ops.COUNTER] = _SPACES[self.space]
        ctl[ops.ADDRESS] = self.address
        ctl[ops.MODULUS] = (1 << self.bits) & 0xFFFFFFFF

    def tried(self, turns=5000):
        """[(event, number, count in a known loop)]; all counts are 0 where the bank does not run.

        turns: of the loop, of two instructions each."""
        ctl = ops.control()
        found = []
        for name, number in self.events:
            self.start(number)
            _tinyprof.spin(ctl, turns)
            count = self.take()
            found.append((name, number, 0 if self.lost else count))
            self.stop()
        return found


def banks():
    """The Banks that this board should have by the table in registers.py."""
    from .registers import BANKS, CORES

    return [Bank(row) for row in BANKS if is_here(row[1], *here(CORES))]


def here(cores):
    """(name of the machine, name of the core). cores: registers.CORES."""
    implementation = sys.implementation
    machine = getattr(implementation, "_machine", "")
    if sys.platform in ("linux", "darwin", "win32"):
        return machine, "unix"
    arch = getattr(implementation, "_mpy", 0) >> 10 & 15
    if arch == 10:
        return machine, "xtensawin"
    variant = _tinyprof.build()[1]
    if 3 <= arch <= 8 or variant[:4] == "armv" or variant == "mve":
        from machine import mem32

        part = mem32[0xE000ED00] >> 4 & 0xFFF
        return machine, cores[cores.index(part) + 1] if part in cores else ""
    return machine, ""


def is_here(where, machine, core):
    """Whether where (words of registers.py) names this machine or core."""
    return any(word == core or word in machine for word in where.split())


class Events:
    """Counts events in tests.

    names: of events, empty for all that the board counts; counter: the counters.Counter in use.

    Raises ModelError where the board does not count them."""

    def __init__(self, names, counter):
        emulated = sys.platform == "qemu" or counter.source in ("modelled", "host-clock")
        self.source = counter.source if emulated else "hw-event"
        self.wanted = []
        there = []
        for bank in banks():
            # a counter that wraps after 256 events is of no use in a test
            tried = bank.tried() if bank.bits > 8 else ()
            if any(count for _, _, count in tried):
                there += [name for name, _, _ in tried]
                self.wanted += [(bank, name, number) for name, number, _ in tried if not names or name in names]
        for name in names:
            if name not in there:
                raise ModelError("this board does not count %s: it counts %s" % (name, ", ".join(there) or "no events"))
        if not there:
            raise ModelError("this board has no event counters")

    def count(self, profile, name, kind, length, depth, longest):
        """Repeats a test once for each event and writes event records.

        profile: a measure._Profile; name: of the test; kind: pp or tg; length: tokens; depth: position of the first;
        longest: units of the longest record in one call, which tells whether records may be counted one by one."""
        model, acc = profile.model, profile.acc
        for bank, event, number in self.wanted:
            each = bank.bits >= 24 or 2 * longest < 1 << bank.bits
            for i in range(len(acc)):
                acc[i] = 0
            bank.start(number)
            bank.select(model.ctl)
            total = self._repetition(profile, kind, length, depth, acc if each else None, bank)
            bank.stop()
            fields = {"test": name, "counter": bank.name, "event": event, "source": self.source, "tokens": length}
            fields["count"] = None if bank.lost else total
            if each and not bank.lost:
                profile.records.chunks("event", acc, **fields)
            else:
                profile.records.write("event", at=0, v=[], **fields)
        profile.counter.select(model.ctl)

    def _repetition(self, profile, kind, length, depth, acc, bank):
        model = profile.model
        model.pos = depth
        total, token = 0, 1
        if kind == "tg":
            for _ in range(length):
                token = model.step(token, acc)
                total += bank.take()
            return total
        step = model.arch.batch
        for at in range(0, length, step):
            end = min(at + step, length)
            model.prefill(profile.tokens[at:end], acc, end == length)
            total += bank.take()
        return total
