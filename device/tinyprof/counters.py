"""Finds a counter that this board really has, and proves it by counting a known loop."""

import sys
from array import array

import _tinyprof
from micropython import const

from . import ops

# kinds, as in native_modules/counters/counters.h
_UP = const(1)
_DOWN = const(2)
_INSTRET = const(3)
_CCOUNT = const(5)
_CLOCK = const(6)
_ICOUNT = const(7)
_RP2040 = const(8)

_SYST_CSR = const(0xE000E010)
_TIMERAWL = const(0x40054028)  # RP2040
_XIP_CTR_ACC = const(0x14000010)  # RP2040: accesses to flash

_TURNS = const(10000)  # of a loop of two instructions


class Counter:
    """One counter: units = ticks * num / den; wraps at modulus ticks.

    source is one of hw-cycles, hw-timer, modelled, emulated-icount, host-clock."""

    def __init__(self, name, kind, address, source, unit, num=1, den=1, modulus=1 << 32):
        self.name = name
        self.kind = kind
        self.address = address
        self.modulus = modulus
        self.source = source
        self.unit = unit
        self.num = num
        self.den = den

    def select(self, ctl):
        """Makes a control block use this counter."""
        ctl[ops.COUNTER] = self.kind
        ctl[ops.ADDRESS] = self.address
        ctl[ops.MODULUS] = self.modulus & 0xFFFFFFFF

    def units(self, ticks):
        return (ticks * self.num + self.den // 2) // self.den

    def between(self, before, after):
        return self.units((after - before) % self.modulus)

    def spin(self, turns):
        """Ticks of a known loop, two instructions a turn; least of three."""
        ctl = ops.control()
        self.select(ctl)
        return min(_tinyprof.spin(ctl, turns) for _ in range(3))

    def cost(self):
        """Units between two reads with nothing between them."""
        return self.units(self.spin(0))


def find():
    """The best counter of this board that runs. Raises RuntimeError if none does."""
    for counter in _candidates():
        for _ in range(3):  # a busy host may stretch the shorter loop
            ticks = counter.spin(2 * _TURNS) - counter.spin(_TURNS)
            if counter.source == "emulated-icount":
                # under -icount the longer loop takes exactly so many instructions more
                if counter.units(ticks) == 2 * _TURNS:
                    return counter
            elif ticks > 0:
                return counter
    raise RuntimeError("no counter runs on this board")


def _candidates():
    machine = getattr(sys.implementation, "_machine", "")
    if sys.platform == "qemu":
        if "virt" in machine:
            yield Counter("minstret", _INSTRET, 0, "emulated-icount", "instr")
            yield Counter("minstret", _INSTRET, 0, "host-clock", "ticks")
        elif "an505" in machine or "an547" in machine:
            # FPGAIO's 20 MHz counter; with -icount shift=10 an instruction takes 1024 ns, 20.48 ticks
            address = 0x50302018 if "an505" in machine else 0x59302018
            yield Counter("fpgaio", _UP, address, "emulated-icount", "instr", 25, 512)
            yield Counter("fpgaio", _UP, address, "host-clock", "ns", 50)
        else:
            # FPGAIO's 25 MHz counter; with -icount shift=6 an instruction takes 64 ns
            kind = _ICOUNT | _icount_phase(0x40028018) << 8
            yield Counter("fpgaio", kind, 0x40028018, "emulated-icount", "instr", 1, 1, 5 << 29)
            yield Counter("fpgaio", _UP, 0x40028018, "host-clock", "ns", 40)
    elif sys.platform in ("linux", "darwin", "win32"):
        yield Counter("clock", _CLOCK, 0, "host-clock", "ns")
    else:
        yield from _on_silicon(machine)


def _icount_phase(address):
    """How far a counter at 1.6 ticks an instruction is off floor(8 i / 5), modulo 8.

    Modulo 8 that takes the values 0, 1, 3, 4, 6 only; those seen are these, turned by the phase."""
    ctl = ops.control()
    ctl[ops.COUNTER] = _UP
    ctl[ops.ADDRESS] = address
    stamp = array("I", (0,))
    seen = 0
    # Readings a constant number of instructions apart see all five values, unless that number is
    # a multiple of five: then it is not with two instructions more.
    for turns in b"\x01\x01\x01\x01\x01\x01\x01\x02\x02\x02\x02\x02\x02\x02":
        _tinyprof.spin(ctl, turns)
        _tinyprof.stamp(ctl, stamp, 0)
        seen |= 1 << (stamp[0] & 7)
    return max(_PHASES.find(bytes((seen,))), 0)


# the five values as bits of a byte, turned by 0, 1, ... 7
_PHASES = b"\x5b\xb6\x6d\xda\xb5\x6b\xd6\xad"


def _on_silicon(machine):
    if sys.platform in ("esp32", "esp8266"):
        yield Counter("ccount", _CCOUNT, 0, "hw-cycles", "cycles")
    if "RP2040" in machine:
        yield from _rp2040()
        return
    arch = getattr(sys.implementation, "_mpy", 0) >> 10 & 15
    if 5 <= arch <= 8:  # armv7m to armv7emdp: Cortex-M3 and greater have a DWT
        import machine as m

        m.mem32[0xE000EDFC] |= 1 << 24  # DEMCR.TRCENA
        m.mem32[0xE0001FB0] = 0xC5ACCE55  # DWT_LAR: Cortex-M7 keeps it locked
        m.mem32[0xE0001000] |= 1  # DWT_CTRL.CYCCNTENA
        yield Counter("dwt", _UP, 0xE0001004, "hw-cycles", "cycles")
    elif "RISCV" in machine or arch == 11:
        yield Counter("mcycle", 4, 0, "hw-cycles", "cycles")


def _rp2040():
    """SysTick, which counts cycles, continued by the microsecond timer where that is a whole number of them."""
    from machine import freq, mem32

    # a chip counts the accesses to its flash, a simulator of it does not; nor are its cycles the chip's
    mem32[_XIP_CTR_ACC] = 0
    source = "modelled" if mem32[_XIP_CTR_ACC] & 0xFFFFFFFF == 0xFFFFFFFF else "hw-cycles"
    mem32[_SYST_CSR + 4] = 0xFFFFFF  # reload
    mem32[_SYST_CSR] = 5  # runs with the core's clock
    mhz, rest = divmod(freq(), 1000000)
    if not rest:
        # half a turn between the two leaves room for what lies between the readings
        phase = (-mem32[_SYST_CSR + 8] - mem32[_TIMERAWL] * mhz + (1 << 23)) & 0xFFFFFF
        yield Counter("systick", _RP2040 | mhz << 8, phase, source, "cycles")
    yield Counter("systick", _DOWN, _SYST_CSR + 8, source, "cycles", 1, 1, 1 << 24)
    yield Counter("timer", _UP, _TIMERAWL, "hw-timer", "us")


def info():
    """Prints the counter in use and what one read of it costs."""
    c = find()
    print(
        "%s: %s, in %s, wraps after %d ticks, a read costs %d %s"
        % (c.name, c.source, c.unit, c.modulus, c.cost(), c.unit)
    )
