"""Finds a counter of time or instructions that works on this board. A known loop proves that it runs."""

import sys
from array import array

import _tinyprof
from micropython import const

from . import ops

# kinds, as in native_modules/counters/counters.h
_UP = const(1)
_DOWN = const(2)
_REGISTER = const(3)
_CCOUNT = const(5)
_CLOCK = const(6)
_ICOUNT = const(7)
_RP2040 = const(8)
_TSC = const(9 | 5 << 8)  # without its five low bits, so that it wraps after a minute, not after a second

_SYST_CSR = const(0xE000E010)
_TIMERAWL = const(0x40054028)  # RP2040
_XIP_CTR_ACC = const(0x14000010)  # RP2040: accesses to flash

_TURNS = const(10000)  # of a loop with two instructions per turn


class Counter:
    """A counter of this board: units = ticks * num / den.

    name: for records; kind, address: as in native_modules/counters/counters.h; source: hw-cycles, hw-timer, modelled,
    emulated-icount or host-clock; unit: its name; modulus: ticks after which it wraps; second: (counter of the same
    machine, its Hz by the machine's manual) to measure the rate with, None for time.ticks_us."""

    def __init__(self, name, kind, address, source, unit, num=1, den=1, modulus=1 << 32, second=None):
        self.name = name
        self.kind = kind
        self.address = address
        self.modulus = modulus
        self.source = source
        self.unit = unit
        self.num = num
        self.den = den
        self.second = second

    def select(self, ctl):
        """Makes a control block use this counter."""
        ctl[ops.COUNTER] = self.kind
        ctl[ops.ADDRESS] = self.address
        ctl[ops.MODULUS] = self.modulus & 0xFFFFFFFF

    def units(self, ticks):
        """Units, rounded, of a number of ticks."""
        return (ticks * self.num + self.den // 2) // self.den

    def between(self, before, after):
        """Units between two readings, less than one wrap apart."""
        return self.units((after - before) % self.modulus)

    def spin(self, turns):
        """Ticks of a loop of turns turns with two instructions each: the least of three tries."""
        ctl = ops.control()
        self.select(ctl)
        return min(_tinyprof.spin(ctl, turns) for _ in range(3))

    def rate(self):
        """(units per second, name of the second clock, its Hz); None without a second clock.

        Measured over 20 ms of time.ticks_us, or on an emulator over a loop that both clocks count."""
        if self.second:
            clock, hz = self.second
            mine, other = (c.spin(20 * _TURNS) - c.spin(10 * _TURNS) for c in (self, clock))
            rate, grain = self.units(mine) * hz // max(other, 1), 1
            while rate >= 100000 * grain:  # to five digits: a tick of the clock may be millionths of the loop
                grain *= 10
            return (rate + grain // 2) // grain * grain, clock.name, hz
        try:
            from time import ticks_diff, ticks_us
        except ImportError:
            return None
        if self.source == "emulated-icount":  # every run has a loop of the same length, so nothing can be waited for
            return None
        ctl = ops.control()
        self.select(ctl)
        stamps = array("I", (0, 0))
        _tinyprof.stamp(ctl, stamps, 0)
        begin = ticks_us()
        while ticks_diff(ticks_us(), begin) < 20000:
            pass
        _tinyprof.stamp(ctl, stamps, 1)
        spent = ticks_diff(ticks_us(), begin)
        return self.between(stamps[0], stamps[1]) * 1000000 // spent, "time.ticks_us", 1000000

    def cost(self):
        """Units between two readings with nothing between them."""
        return self.units(self.spin(0))


def find():
    """The best Counter of this board that runs. Raises RuntimeError if none does."""
    for counter in _candidates():
        if runs(counter):
            return counter
    raise RuntimeError("no counter runs on this board")


def runs(counter):
    """Whether a Counter counts a known loop."""
    for _ in range(3):  # a busy host may stretch the shorter loop
        ticks = counter.spin(2 * _TURNS) - counter.spin(_TURNS)
        if counter.source == "emulated-icount":
            # under -icount the longer loop takes exactly that many instructions more
            if counter.units(ticks) == 2 * _TURNS:
                return True
        elif ticks > 0:
            return True
    return False


def _candidates():
    machine = getattr(sys.implementation, "_machine", "")
    if sys.platform == "qemu":
        if "virt" in machine:
            mtime = Counter("mtime", _UP, 0x0200BFF8, "hw-timer", "ticks")  # CLINT
            yield Counter("minstret", _REGISTER, 0xB02, "emulated-icount", "instr", second=(mtime, 10000000))
            yield Counter("minstret", _REGISTER, 0xB02, "host-clock", "ticks")
        elif "an505" in machine or "an547" in machine:
            # FPGAIO's 20 MHz counter; with -icount shift=10 an instruction takes 1024 ns, 20.48 ticks
            address, hz = (0x50302018, 20000000) if "an505" in machine else (0x59302018, 32000000)
            yield Counter("fpgaio", _UP, address, "emulated-icount", "instr", 25, 512, second=_second(hz))
            yield Counter("fpgaio", _UP, address, "host-clock", "ns", 50)
        else:
            # FPGAIO's 25 MHz counter; with -icount shift=6 an instruction takes 64 ns
            kind = _ICOUNT | _icount_phase(0x40028018) << 8
            yield Counter("fpgaio", kind, 0x40028018, "emulated-icount", "instr", 1, 1, 5 << 29, _second(25000000))
            yield Counter("fpgaio", _UP, 0x40028018, "host-clock", "ns", 40)
    elif sys.platform in ("linux", "darwin", "win32"):
        yield Counter("clock", _CLOCK, 0, "host-clock", "ns")
        yield Counter("tsc", _TSC, 0, "host-clock", "ticks")  # a native module has no clock of the system
    else:
        yield from _on_silicon(machine, getattr(sys.implementation, "_mpy", 0) >> 10 & 15)


def _icount_phase(address):
    """The offset, modulo 8, of a counter with 1.6 ticks per instruction from floor(8 i / 5).

    Modulo 8, floor(8 i / 5) is 0, 1, 3, 4 or 6. The values that are seen are these five plus the phase."""
    ctl = ops.control()
    ctl[ops.COUNTER] = _UP
    ctl[ops.ADDRESS] = address
    stamp = array("I", (0,))
    seen = 0
    # Readings at a constant distance in instructions see all five values, unless the distance is a multiple of
    # five. Then it is not with two instructions more.
    for turns in b"\x01\x01\x01\x01\x01\x01\x01\x02\x02\x02\x02\x02\x02\x02":
        _tinyprof.spin(ctl, turns)
        _tinyprof.stamp(ctl, stamp, 0)
        seen |= 1 << (stamp[0] & 7)
    return max(_PHASES.find(bytes((seen,))), 0)


# the five values as bits of a byte, rotated by 0, 1, ... 7
_PHASES = b"\x5b\xb6\x6d\xda\xb5\x6b\xd6\xad"


def _on_silicon(machine, arch):
    if sys.platform in ("esp32", "esp8266") and arch != 11:
        yield Counter("ccount", _CCOUNT, 0, "hw-cycles", "cycles")
    if "RP2040" in machine:
        yield from _rp2040()
        return
    if 5 <= arch <= 8:  # armv7m to armv7emdp: Cortex-M3 and greater have a DWT
        from machine import mem32

        mem32[0xE000EDFC] |= 1 << 24  # DEMCR.TRCENA
        mem32[0xE0001FB0] = 0xC5ACCE55  # DWT_LAR: Cortex-M7 keeps it locked
        mem32[0xE0001000] |= 1  # DWT_CTRL.CYCCNTENA
        yield Counter("dwt", _UP, 0xE0001004, "hw-cycles", "cycles")
    if 3 <= arch <= 8 or _tinyprof.build()[1] == "armv6m":
        yield from _systick()
    if "RP2350" in machine:
        if "RISCV" in machine:
            yield _mcycle()
        yield Counter("timer", _UP, 0x400B0028, "hw-timer", "us")  # TIMER0, TIMERAWL
    elif "SAMD21" in machine:  # MicroPython's own clock: TC4, 32 bits, 2 MHz, synchronized continuously
        yield Counter("tc4", _UP, 0x42003010, "hw-timer", "us", 1, 2)
    elif "STM32" in machine:
        from pyb import Timer

        Timer(2, prescaler=0, period=0x3FFFFFFF)
        yield Counter("tim2", _UP, 0x40000024, "hw-timer", "ticks", 1, 1, 1 << 30)
    elif sys.platform == "esp32" and "P4" not in machine:  # RISC-V, but mcycle is not there: ESP32-C3 TRM 1.4
        yield Counter("mpccr", _REGISTER, 0x7E2, "hw-cycles", "cycles")
    elif arch == 11:
        yield _mcycle()


def _mcycle():
    if hasattr(_tinyprof, "register"):
        _tinyprof.register(0x320, 0)  # mcountinhibit: on an RP2350 it is set after reset
    return Counter("mcycle", _REGISTER, 0xB00, "hw-cycles", "cycles")


def _systick():
    """SysTick, 24 bits of cycles, where the firmware does not use it."""
    from machine import mem32

    if not mem32[_SYST_CSR] & 1:
        mem32[_SYST_CSR + 4] = 0xFFFFFF  # reload
        mem32[_SYST_CSR] = 5  # runs with the core's clock
    if mem32[_SYST_CSR + 4] & 0xFFFFFF == 0xFFFFFF:
        yield Counter("systick", _DOWN, _SYST_CSR + 8, "hw-cycles", "cycles", 1, 1, 1 << 24)


def _second(hz):
    """(SysTick, hz) as the second clock of a machine whose core runs at hz; None where the firmware uses SysTick."""
    for clock in _systick():
        return clock, hz


def _rp2040():
    """SysTick, which counts cycles, extended by the microsecond timer where a microsecond is whole cycles."""
    from machine import freq, mem32

    # A chip counts accesses to its flash. A simulator does not, and its cycles are modelled.
    mem32[_XIP_CTR_ACC] = 0
    source = "modelled" if mem32[_XIP_CTR_ACC] & 0xFFFFFFFF == 0xFFFFFFFF else "hw-cycles"
    mem32[_SYST_CSR + 4] = 0xFFFFFF  # reload
    mem32[_SYST_CSR] = 5  # runs with the core's clock
    mhz, rest = divmod(freq(), 1000000)
    if not rest:
        # half a wrap between the two allows for the time between the readings
        phase = (-mem32[_SYST_CSR + 8] - mem32[_TIMERAWL] * mhz + (1 << 23)) & 0xFFFFFF
        yield Counter("systick", _RP2040 | mhz << 8, phase, source, "cycles")
    yield Counter("systick", _DOWN, _SYST_CSR + 8, source, "cycles", 1, 1, 1 << 24)
    yield Counter("timer", _UP, _TIMERAWL, "hw-timer", "us")


def info():
    """Prints the counters that this board may have, the one in use, and the events that the chip counts."""
    from .selftest import show

    show((counter, runs(counter)) for counter in _candidates())
