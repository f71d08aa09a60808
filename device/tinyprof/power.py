"""Readings of a power sensor while a load runs. A timer or the sensor's pin starts each; a ring buffer keeps them.

A Meter runs windows: work with readings around it, which make a window record and power records. A window starts with
conversions of shunt and bus. Then only the shunt is converted, without gaps. The INA228 needs no readings: its
accumulators count while the I2C bus is quiet."""

from array import array

from micropython import const

from .errors import SensorError
from .ina import ALERT, POLL
from .records import CHUNK

_MASK = const(0x3FFFFFFF)  # of time.ticks_us on 32-bit ports
_HALF = const(0x20000000)
_SETTLE = const(4)  # readings before and after the work, so that its start and end are between two
_VOLTS = const(6)  # readings of the bus while the work of a window runs
_MOST_VOLTS = const(16)  # readings of the bus in a whole window
# The timer's period in per cent of a conversion's typical time, so that none is missed:
_FAST = const(95)  # at 1000 readings per second
_OFTEN = const(85)  # at fewer
_GIVE_UP = const(50)  # failed readings in a row after which the timer stops asking
_BARKER = const(0b1110010)  # Barker code of 7 bits: it correlates little with shifts of itself
MARKER_BITS = const(7)
MARKER_US = const(20000)


def between(a, b):
    """Microseconds from time a to time b, both of Board.now(), less than nine minutes apart."""
    return ((b - a + _HALF) & _MASK) - _HALF


class Board:
    """Time and timers of a real board."""

    def __init__(self):
        import time

        self._time = time
        self._timer = None

    def sleep(self, us):
        """Sleeps for us microseconds."""
        # only sleep_ms lets the core sleep
        self._time.sleep_ms(us // 1000)
        self._time.sleep_us(us % 1000)

    def now(self):
        """The time in microseconds, which wraps; see between."""
        return self._time.ticks_us() & _MASK

    def busy(self, us):
        """Keeps the core busy for us microseconds."""
        begin = self.now()
        while between(begin, self.now()) < us:
            pass

    def timer(self, period, function):
        """Calls function every period us, in the interrupt itself where the port can. None stops the timer.

        Raises SensorError if no timer of the board can."""
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
    """Calls function when pin (a machine.Pin) falls, in the interrupt itself where the port can. None stops it."""
    if not function:
        pin.irq(None)
        return
    try:
        pin.irq(function, pin.IRQ_FALLING, hard=True)
    except TypeError:
        pin.irq(function, pin.IRQ_FALLING)


class Ring:
    """A ring buffer of the latest readings of the shunt with their times, and the first readings of the bus.

    chip: an ina.Ina; size: readings that are kept; now: a function that returns Board.now().

    count: readings of the shunt so far; volts: readings of the bus so far; until: the number of them to take; errors:
    failed readings; row: failed readings in succession."""

    def __init__(self, chip, size, now):
        self._data = array("i", bytes(8 * size))
        self._bus = array("i", bytes(4 * _MOST_VOLTS))
        self._chip = chip
        # after a failed reading the ALERT pin stays low and does not fall again
        self._tries = _GIVE_UP if chip.timing == ALERT else 1
        self._now = now
        self.clear()

    def clear(self):
        """Forgets all readings."""
        self._at = self.count = self.volts = self.errors = self.row = self._first = self._last = 0
        self.until = _MOST_VOLTS
        self._begun = False

    def tick(self, _=None):
        """Takes a reading if there is a new conversion. Allocates nothing, for use in an interrupt."""
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
        """Readings per second; 0 if there are too few."""
        us = between(self._first, self._last)
        return ((self.count - 1) * 1000000 + us // 2) // us if us > 0 else 0

    @property
    def lost(self):
        """The number of readings that later ones have overwritten."""
        return max(self.count - len(self._data) // 2, 0)

    def chunks(self, begin):
        """Yields the readings in order, CHUNK at a time, as (number of the first, times, counts of the shunt, counts of
        the bus). begin: the time that times start from, in us; the bus has counts for the first readings only."""
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
    """Runs work in windows with readings of a power sensor, and writes records of them.

    chip: an ina.Ina, None for a sensor elsewhere, where records have the windows only; rate: readings per second, 1 to
    1000; ring: readings that are kept, at least 16; quiet: use the accumulators of an INA228, without readings in
    windows; alert: a machine.Pin, an input, at the sensor's ALERT pin, None to poll; pin: a machine.Pin, an output
    that is high inside windows, for an input of a sensor elsewhere, or None; reps: windows of each test; warmup: runs
    before them; idle_ms: length of the windows of the sleeping board; operator_ms: how long each operator runs alone,
    0 to leave this out; board: a Board, None for this one.

    Raises SensorError for a wrong option, or a sensor that does not answer."""

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
            raise SensorError("quiet needs the accumulators of an INA228")
        if alert and (quiet or not chip):
            raise SensorError("alert needs a sensor on the board and readings: leave out alert or quiet")
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
                # a conversion that ended during the reading of the one before would replace it
                us = chip.conversion_us
                self._period = min(us * _OFTEN // 100, us * _FAST // 100 - chip.READING_US)
                self._ring = Ring(chip, ring, self.board.now)
                self._tick = self._ring.tick  # bound here, since binding in an interrupt would allocate
                try:
                    from micropython import alloc_emergency_exception_buf

                    alloc_emergency_exception_buf(100)
                except ImportError:
                    pass
            self._wait(2)

    def _wait(self, readings):
        """Waits for a number of readings, or of conversions if these take longer."""
        self.board.sleep(readings * max(1000000 // self.rate, self.chip.both_us if self.chip else 0))

    def _readings(self, on):
        """Starts or stops readings."""
        if self._alert:
            listen(self._alert, self._tick if on else None)
        else:
            self.board.timer(self._period, self._tick if on else None)
        if on:
            self._tick()

    def _since(self, now):
        """Microseconds from the first call to the time now, of any length though Board.now() wraps."""
        if self._epoch is None:
            self._epoch, self._last = 0, now
        self._epoch += between(self._last, now)
        self._last = now
        return self._epoch

    def about(self, records):
        """Writes the sensor record. records: a records.Records."""
        if self.chip:
            fields = self.chip.about()
            mode = "accumulator" if self.quiet else "samples"
            poll_us = 0 if self.quiet or self._alert else self._period
            records.write("sensor", source="sensor", mode=mode, rate_hz=self.rate, poll_us=poll_us, **fields)

    def marker(self, records, name):
        """Writes a marker record, after idle and busy steps that the host finds in the data of a sensor elsewhere.

        records: a records.Records; name: of the marker."""
        board = self.board
        board.sleep(MARKER_US)
        begin = self._since(board.now())
        for i in range(MARKER_BITS):
            (board.busy if _BARKER >> (MARKER_BITS - 1 - i) & 1 else board.sleep)(MARKER_US)
        end = self._since(board.now())
        board.sleep(MARKER_US)
        records.write("marker", name=name, begin=begin, end=end, bits=MARKER_BITS, pattern=_BARKER)

    def idle(self, records, rep):
        """Runs a window in which the board sleeps. rep: number of the repetition."""
        if self.idle_us:
            self.window(records, "idle", rep, 0, self.board.sleep, self.idle_us)

    def window(self, records, test, rep, tokens, work, *args):
        """Runs work(*args) with readings around it and writes window and power records.

        records: a records.Records; test, rep, tokens: fields of the records; work: returns units of the counter, or
        None."""
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
    """A Meter, opened by names and numbers.

    chip: 'ina219', 'ina226', 'ina228', or None for a sensor elsewhere; id, scl, sda, freq: of machine.I2C; address: of
    the chip; shunt_uohm: the shunt in microohms; max_ma: the largest current to expect; alert: number of the pin at
    the sensor's ALERT pin; pin: number of an output that is high inside windows; options: see Meter.

    Raises SensorError for an unknown chip, a wrong option, or a sensor that does not answer."""
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
