"""Readings of a power sensor while a load runs: by a timer or the sensor's pin, into a ring made beforehand.

A Meter runs windows: a piece of work with readings around it, told as one window record and its power records. A
window begins with conversions of shunt and bus; then the shunt alone is converted, without a gap. The INA228 can do
without readings: its accumulators count while the bus is quiet."""

from array import array

from micropython import const

from .errors import SensorError
from .ina import ALERT, POLL
from .records import CHUNK

_MASK = const(0x3FFFFFFF)  # of the microseconds that 32-bit ports count
_HALF = const(0x20000000)
_SETTLE = const(4)  # readings before and after the work, so that its edges lie between two
_VOLTS = const(6)  # readings of the bus too while a window's work runs
_MOST_VOLTS = const(16)  # of a whole window
_FAST = const(95)  # a conversion's time, in per cent of the typical, of which none is missed at 1000 readings a second
_OFTEN = const(85)  # and at fewer
_GIVE_UP = const(50)  # failed readings in a row after which the timer stops asking
_BARKER = const(0b1110010)  # 7 bits that resemble no shift of themselves
MARKER_BITS = const(7)
MARKER_US = const(20000)


def between(a, b):
    """Microseconds from a to b, less than nine minutes apart."""
    return ((b - a + _HALF) & _MASK) - _HALF


class Board:
    """Time and timers of a real board."""

    def __init__(self):
        import time

        self._time = time
        self._timer = None

    def sleep(self, us):
        # only sleep_ms lets the core sleep
        self._time.sleep_ms(us // 1000)
        self._time.sleep_us(us % 1000)

    def now(self):
        return self._time.ticks_us() & _MASK

    def busy(self, us):
        begin = self.now()
        while between(begin, self.now()) < us:
            pass

    def timer(self, period, function):
        """Calls function every period us, from the interrupt itself where the port can; None stops it."""
        from machine import Timer

        if self._timer:
            self._timer.deinit()
            self._timer = None
        if function:
            how = {"freq": -(-1000000 // period), "mode": Timer.PERIODIC, "callback": function}
            for number in (-1, 0):  # some ports have numbered timers only
                for extra in ({"hard": True}, {}):
                    try:
                        self._timer = Timer(number, **how, **extra)
                        return
                    except (TypeError, ValueError):
                        pass
            raise SensorError("no timer of this board can call every %d us" % period)


def listen(pin, function):
    """Calls function when pin falls, from the interrupt itself where the port can; None: no more."""
    if not function:
        pin.irq(None)
        return
    try:
        pin.irq(function, pin.IRQ_FALLING, hard=True)
    except TypeError:
        pin.irq(function, pin.IRQ_FALLING)


class Ring:
    """The latest readings of the shunt, with their times, and the first of the bus. tick() takes one and allocates
    nothing. volts: how many of the bus there are; until: how many there shall be."""

    def __init__(self, chip, size, now):
        self._data = array("i", bytes(8 * size))
        self._bus = array("i", bytes(4 * _MOST_VOLTS))
        self._chip = chip
        self._tries = _GIVE_UP if chip.timing == ALERT else 1  # a pin that does not rise falls no more
        self._now = now
        self.clear()

    def clear(self):
        self._at = self.count = self.volts = self.errors = self.row = self._first = self._last = 0
        self.until = _MOST_VOLTS
        self._begun = False

    def tick(self, _=None):
        now = self._now()
        for _ in range(self._tries):
            if self.row >= _GIVE_UP:
                return
            try:
                self._take(now)
                self.row = 0
                return
            except OSError:
                self.errors += 1
                self.row += 1

    def _take(self, now):
        chip, data, at = self._chip, self._data, self._at
        if not self._begun:
            chip.watch(True)
            self._begun = True
            return
        if chip.both and self.count >= self.until:
            chip.watch(False)
            return
        if not chip.fresh():
            return
        data[at + 1] = chip.shunt()
        if chip.both:
            self._bus[self.volts] = chip.bus()
            self.volts += 1
        data[at] = self._last = now
        if not self.count:
            self._first = now
        self.count += 1
        at += 2
        self._at = at if at < len(data) else 0
        if chip.both and self.count >= self.until:
            chip.watch(False)

    @property
    def rate(self):
        """Readings a second that were reached; 0 where there are too few to say."""
        us = between(self._first, self._last)
        return ((self.count - 1) * 1000000 + us // 2) // us if us > 0 else 0

    @property
    def lost(self):
        """Readings that later ones have overwritten."""
        return max(self.count - len(self._data) // 2, 0)

    def chunks(self, begin):
        """The readings in order, CHUNK at a time: (number of the first, times after begin, shunt, bus of the first)."""
        data, size = self._data, len(self._data) // 2
        kept = min(self.count, size)
        first = self._at // 2 + size - kept
        for at in range(0, kept, CHUNK):
            rows = [2 * ((first + i) % size) for i in range(at, min(at + CHUNK, kept))]
            n = self.lost + at
            yield (
                n,
                [between(begin, data[i]) for i in rows],
                [data[i + 1] for i in rows],
                list(self._bus[n : min(n + len(rows), self.volts)]),
            )


class Meter:
    """chip: an Ina, or None where a sensor elsewhere watches and only windows are told; alert: the machine.Pin, an
    input, at its ALERT pin; pin: an output that is high inside windows, for the inputs of a sensor elsewhere.

    rate: readings a second; ring: how many are kept; quiet: no readings inside windows, the INA228's accumulators
    instead; reps, warmup, idle_ms: what a measurement takes at least; operator_ms: how long each operator runs
    alone, 0 for not."""

    def __init__(
        self,
        chip,
        rate=1000,
        ring=1536,
        quiet=False,
        alert=None,
        pin=None,
        reps=10,
        warmup=10,
        idle_ms=1000,
        operator_ms=250,
        board=None,
    ):
        if not 1 <= rate <= 1000 or ring < 16 or reps < 1 or min(warmup, idle_ms, operator_ms) < 0:
            raise SensorError("rate is 1 to 1000, ring at least 16, reps positive, other numbers not negative")
        if quiet and not hasattr(chip, "accumulate"):
            raise SensorError("only the INA228 counts by itself")
        if alert and (quiet or not chip):
            raise SensorError("alert is for readings of a sensor on the board")
        self.chip = chip
        self.board = board or Board()
        self.rate = rate
        self.reps = reps
        self.warmup = warmup
        self.idle_us = 1000 * idle_ms
        self.operator_us = 1000 * operator_ms
        self.quiet = quiet
        self._alert = alert
        self._pin = pin
        self._ring = None
        self._epoch = self._last = None
        if chip:
            if quiet:
                chip.sum_up()
            else:
                chip.configure(1000000 // rate, ALERT if alert else POLL)
                # a conversion that ended while the one before was being read would take its place
                us = chip.conversion_us
                self._period = min(us * _OFTEN // 100, us * _FAST // 100 - chip.READING_US)
                self._ring = Ring(chip, ring, self.board.now)
                self._tick = self._ring.tick  # a bound method made here is none made in an interrupt
                try:
                    from micropython import alloc_emergency_exception_buf

                    alloc_emergency_exception_buf(100)
                except ImportError:
                    pass
            self._wait(2)

    def _wait(self, readings):
        """So many readings, or conversions if these take longer."""
        self.board.sleep(readings * max(1000000 // self.rate, self.chip.both_us if self.chip else 0))

    def _readings(self, on):
        """Begins to read, or ends that."""
        if self._alert:
            listen(self._alert, self._tick if on else None)
        else:
            self.board.timer(self._period, self._tick if on else None)
        if on:
            self._tick()

    def _since(self, now):
        """Microseconds since the first time that was asked for, beyond what the board's counter holds."""
        if self._epoch is None:
            self._epoch, self._last = 0, now
        self._epoch += between(self._last, now)
        self._last = now
        return self._epoch

    def about(self, records):
        """Writes the sensor record."""
        if self.chip:
            fields = self.chip.about()
            mode = "accumulator" if self.quiet else "samples"
            poll_us = 0 if self.quiet or self._alert else self._period
            records.write("sensor", source="sensor", mode=mode, rate_hz=self.rate, poll_us=poll_us, **fields)

    def marker(self, records, name):
        """Idle and busy steps that a sensor elsewhere finds again in what it saw."""
        board = self.board
        board.sleep(MARKER_US)
        begin = self._since(board.now())
        for i in range(MARKER_BITS):
            (board.busy if _BARKER >> (MARKER_BITS - 1 - i) & 1 else board.sleep)(MARKER_US)
        end = self._since(board.now())
        board.sleep(MARKER_US)
        records.write("marker", name=name, begin=begin, end=end, bits=MARKER_BITS, pattern=_BARKER)

    def idle(self, records, rep):
        """A window of a board that sleeps."""
        if self.idle_us:
            self.window(records, "idle", rep, 0, self.board.sleep, self.idle_us)

    def window(self, records, test, rep, tokens, work, *args):
        """Runs work(*args), which returns units of the counter, inside readings; tells what was read."""
        board, ring = self.board, self._ring
        counted = None
        if ring:
            ring.clear()
            self._readings(True)
            self._wait(_SETTLE)
        elif self.quiet:
            self.chip.accumulate()
        pin = self._pin
        if ring:
            ring.until = min(ring.count + _VOLTS, _MOST_VOLTS)
        if pin:
            pin(1)
        begin = board.now()
        try:
            units = work(*args)
        finally:
            if pin:
                pin(0)
            end = board.now()
            if ring:
                self._wait(_SETTLE)
                self._readings(False)
        if self.quiet:
            counted = self.chip.accumulated()
        fields = {"test": test, "rep": rep, "tokens": tokens, "begin": self._since(begin), "end": self._since(end)}
        if units is not None:
            fields["units"] = units
        if ring:
            fields.update(readings=ring.count, rate_hz=ring.rate, lost=ring.lost, errors=ring.errors)
        if counted:
            fields.update(energy_nj=counted[0], charge_nc=counted[1], overflow=counted[2])
        elif ring and ring.row < _GIVE_UP:
            fields["overflow"] = self.chip.overflow()
        records.write("window", **fields)
        if ring:
            for at, t, i, v in ring.chunks(begin):
                records.write("power", source="sensor", test=test, rep=rep, at=at, t=t, i=i, v=v)


def open_meter(
    chip=None,
    id=0,
    scl=None,
    sda=None,
    freq=400000,
    address=0x40,
    shunt_uohm=100000,
    max_ma=500,
    alert=None,
    pin=None,
    **options,
):
    """A Meter by the names of things: chip ina219, ina226, ina228 or None; id, scl, sda: of machine.I2C; alert: the
    number of the input at the sensor's ALERT pin; pin: that of an output that is high inside windows."""
    if pin is not None:
        from machine import Pin

        options["pin"] = Pin(pin, Pin.OUT, value=0)
    if chip is None:
        return Meter(None, **options)
    from machine import I2C, Pin

    from .ina import CHIPS

    if chip not in CHIPS:
        raise SensorError("no driver for %r: there are %s" % (chip, ", ".join(sorted(CHIPS))))
    pins = {} if scl is None else {"scl": Pin(scl), "sda": Pin(sda)}
    if alert is not None:
        options["alert"] = Pin(alert, Pin.IN)
    return Meter(CHIPS[chip](I2C(id, freq=freq, **pins), address, shunt_uohm, max_ma), **options)
