"""Texas Instruments' INA219, INA226 and INA228: current through a shunt and bus voltage over I2C.

Sources: datasheets SBOS448G, SBOS547B and SLYS021A. Readings are the chip's raw counts and the host scales them, so
that reading allocates nothing and may run in a timer's interrupt."""

from micropython import const

from .errors import SensorError

_CONFIG = const(0x00)
_CALIBRATION = const(0x05)  # INA219, INA226
# Calibrations that make the current register count like the shunt's: nothing is rounded and nothing overflows.
_AS_SHUNT_219 = const(4096)
_AS_SHUNT_226 = const(2048)
_AS_SHUNT_228 = const(4096)
_POWER = const(0x03)
_MASK = const(0x06)  # INA226
_RESET = const(0x8000)
_SHUNT = const(5)  # continuous conversions of the shunt
_BOTH = const(7)  # and of shunt and bus

# INA228
_ADC = const(0x01)
_SHUNT_CAL = const(0x02)
_ENERGY = const(0x09)
_CHARGE = const(0x0A)
_DIAG = const(0x0B)
_RSTACC = const(0x4000)
_ADCRANGE = const(0x10)

# How the end of a conversion is noticed: by polling a flag, or by the ALERT pin.
POLL = "poll"
ALERT = "alert"
# numbers of averages of INA226 and INA228, in the order of their codes
_AVERAGES = (1, 4, 16, 64, 128, 256, 512, 1024)
# ADC setting of an INA228 that accumulates: 150 us for the shunt, 50 us for the bus
_SUM = const(0xB080)
_SUM_US = const(200)


def plan(period, times, averages):
    """(code of averages, code of a conversion's time) for conversions that take 65 to 107 % of period.

    period: in us; times: of a single conversion in us, by code; averages: their numbers, by code. The fewest averages
    are chosen; if nothing is in the range, the longest that is not above it. 107: the INA219 takes 1060 us for 1 ms."""
    best = (0, 0)
    longest = 0
    for a, n in enumerate(averages):
        for s, t in enumerate(times):
            if longest < n * t <= period * 107 // 100:
                best, longest = (a, s), n * t
        if longest * 100 >= period * 65:
            break
    return best


class Ina:
    """What the three chips have in common.

    i2c: a machine.I2C; address: of the chip; shunt_uohm: the shunt in microohms; max_ma: the largest current to expect.

    After configure(): conversion_us: time of a conversion of the shunt with all averages; both_us: the same for shunt
    and bus; both: whether the bus is converted too; full: the largest count of the shunt; shunt_pv: its LSB in
    picovolts; timing: POLL or ALERT.

    Raises SensorError for a shunt and a current beyond the chip's range, or if another chip or none answers."""

    NAME = ""
    MAX_MV = 0  # on the shunt
    SHUNT_PV = 0  # LSBs in picovolts
    BUS_PV = 0
    FULL = 0
    BUS = 0  # the code of the time for a conversion of the bus: a shorter one is coarse
    ID = ()  # pairs of a register and the value that it must have
    FLAGS = 0  # the register whose bit READY says, once, that a conversion has ended
    READY = 0
    READING_US = 250  # time to notice that a conversion has ended and to read it, at 400 kHz
    WHEN_READY = 0  # bits of FLAGS that make the ALERT pin fall then; 0 without such a pin

    def __init__(self, i2c, address=0x40, shunt_uohm=100000, max_ma=500):
        if shunt_uohm < 1 or max_ma < 1:
            raise SensorError("shunt and largest current must be positive")
        if shunt_uohm * max_ma > self.MAX_MV * 1000000:
            raise SensorError(
                "%d mA in %d uohm are %d mV: the %s takes %d"
                % (max_ma, shunt_uohm, shunt_uohm * max_ma // 1000000, self.NAME, self.MAX_MV)
            )
        self.i2c = i2c
        self.address = address
        self.shunt_uohm = shunt_uohm
        self.max_ma = max_ma
        self.full = self.FULL
        self.shunt_pv = self.SHUNT_PV
        self.conversion_us = self.both_us = 0
        self.both = False
        self.timing = ""
        self._two = bytearray(2)
        for register, value in self.ID:
            found = self._get(register)
            if found != value:
                raise SensorError(
                    "no %s at 0x%02x: register 0x%02x reads 0x%04x" % (self.NAME, address, register, found)
                )

    def _get(self, register):
        """A register of 16 bits, unsigned. Raises SensorError if nothing answers."""
        try:
            self.i2c.readfrom_mem_into(self.address, register, self._two)
        except OSError as e:
            raise SensorError("no answer from the %s at 0x%02x: %s" % (self.NAME, self.address, e))
        return self._two[0] << 8 | self._two[1]

    def _set(self, register, value):
        try:
            self.i2c.writeto_mem(self.address, register, bytes((value >> 8, value & 0xFF)))
        except OSError as e:
            raise SensorError("no answer from the %s at 0x%02x: %s" % (self.NAME, self.address, e))

    def _word(self, register):
        """A register of 16 bits, signed. Raises OSError if nothing answers."""
        two = self._two
        self.i2c.readfrom_mem_into(self.address, register, two)
        value = two[0] << 8 | two[1]
        return value - 65536 if value & 0x8000 else value

    def _tell(self, timing):
        """Sets how the end of a conversion is noticed: POLL or ALERT."""
        self.timing = timing
        if timing == ALERT:
            if not self.WHEN_READY:
                raise SensorError("the %s has no ALERT pin for conversions: leave out alert" % self.NAME)
            self._set(self.FLAGS, self.WHEN_READY)

    def _modes(self, register, shunt, both):
        # register and value in one piece: with the register as an argument some ports allocate
        self._watch = tuple(bytes((register, value >> 8, value & 0xFF)) for value in (shunt, both))

    # The methods below may run in an interrupt: they allocate nothing, and raise OSError if nothing answers.

    def watch(self, both):
        """Converts only the shunt from now on, or with both also the bus, and discards earlier conversions."""
        self.i2c.writeto(self.address, self._watch[both])
        self.both = both
        self.fresh()

    def fresh(self):
        """Whether there is a new conversion to read. Lets the ALERT pin rise."""
        return self._word(self.FLAGS) & self.READY != 0

    def shunt(self):
        """The voltage of the shunt in counts of shunt_pv."""
        return self._word(1)

    def bus(self):
        """The voltage of the bus in counts of BUS_PV."""
        return self._word(2)

    def about(self):
        """A dict of the fields of a sensor record that the chip decides."""
        return {
            "name": self.NAME,
            "shunt_uohm": self.shunt_uohm,
            "shunt_pv": self.shunt_pv,
            "bus_pv": self.BUS_PV,
            "full_scale": self.full,
            "conversion_us": self.conversion_us,
            "timing": self.timing,
        }


class INA219(Ina):
    """The INA219, 12 bits. It has no identity register; its configuration after a reset is checked instead."""

    NAME = "INA219"
    MAX_MV = 320
    SHUNT_PV = 10000000
    BUS_PV = 4000000000
    # times in us and their codes: 9 to 12 bits, then 12 bits averaged over 2 to 128 conversions
    _TIMES = (84, 148, 276, 532, 1060, 2130, 4260, 8510, 17020, 34050, 68100)
    _CODES = b"\x00\x01\x02\x03\x09\x0a\x0b\x0c\x0d\x0e\x0f"

    BUS = 3
    READING_US = 370

    def configure(self, period, timing=POLL):
        """Prepares conversions of the shunt about every period us.

        timing: POLL or ALERT. Raises SensorError if nothing answers, or there is no ALERT pin."""
        self._set(_CONFIG, _RESET)
        found = self._get(_CONFIG)
        if found != 0x399F:
            raise SensorError("no INA219 at 0x%02x: after a reset it reads 0x%04x" % (self.address, found))
        _, s = plan(period, self._TIMES, (1,))
        gain = 0  # 40, 80, 160 or 320 mV
        while self.shunt_uohm * self.max_ma > (40 << gain) * 1000000:
            gain += 1
        self.full = 4000 << gain
        self._set(_CALIBRATION, _AS_SHUNT_219)
        self._tell(timing)
        wide = 1  # 32 V
        config = wide << 13 | gain << 11 | self._CODES[self.BUS] << 7 | self._CODES[s] << 3
        self._modes(_CONFIG, config | _SHUNT, config | _BOTH)
        self.conversion_us = self._TIMES[s]
        self.both_us = self._TIMES[s] + self._TIMES[self.BUS]

    def bus(self):
        """The voltage of the bus in counts of BUS_PV."""
        return (self._word(2) & 0xFFFF) >> 3

    def fresh(self):
        """Whether there is a new conversion to read."""
        if self._word(2) & 2:
            self._word(_POWER)  # which clears the flag
            return True
        return False

    def overflow(self):
        """Whether current or power exceeded the chip's registers since the last configuration."""
        return bool(self._get(2) & 1)


class INA226(Ina):
    """The INA226, 16 bits."""

    NAME = "INA226"
    MAX_MV = 81
    SHUNT_PV = 2500000
    BUS_PV = 1250000000
    FULL = 32767
    ID = ((0xFE, 0x5449), (0xFF, 0x2260))
    FLAGS = _MASK
    READY = 0x0008
    WHEN_READY = 0x0400
    _TIMES = (140, 204, 332, 588, 1100, 2116, 4156, 8244)

    BUS = 1

    def configure(self, period, timing=POLL):
        """Prepares conversions of the shunt about every period us.

        timing: POLL or ALERT. Raises SensorError if nothing answers, or there is no ALERT pin."""
        self._set(_CONFIG, _RESET)
        a, s = plan(period, self._TIMES, _AVERAGES)
        self._set(_CALIBRATION, _AS_SHUNT_226)
        self._tell(timing)
        config = 0x4000 | a << 9 | self.BUS << 6 | s << 3
        self._modes(_CONFIG, config | _SHUNT, config | _BOTH)
        self.conversion_us = _AVERAGES[a] * self._TIMES[s]
        self.both_us = _AVERAGES[a] * (self._TIMES[s] + self._TIMES[self.BUS])

    def overflow(self):
        """Whether current or power exceeded the chip's registers."""
        return bool(self._get(_MASK) & 0x04)


class INA228(Ina):
    """The INA228, 20 bits, with accumulators of 40 bits for energy and charge that need no readings."""

    NAME = "INA228"
    MAX_MV = 163
    SHUNT_PV = 312500
    BUS_PV = 195312500
    FULL = (1 << 19) - 1
    ID = ((0x3E, 0x5449), (0x3F, 0x2281))
    FLAGS = _DIAG
    READY = 0x0002
    WHEN_READY = 0xC000  # latched
    _TIMES = (50, 84, 150, 280, 540, 1052, 2074, 4120)

    def __init__(self, i2c, address=0x40, shunt_uohm=100000, max_ma=500):
        super().__init__(i2c, address, shunt_uohm, max_ma)
        self._three = bytearray(3)
        self._fine = 0

    BUS = 3
    READING_US = 270

    def _range(self):
        """Chooses the range of 40.96 mV, whose steps are a quarter, where it is enough."""
        self._set(_CONFIG, _RESET)
        self._fine = _ADCRANGE if self.shunt_uohm * self.max_ma <= 40960000 else 0
        self.shunt_pv = self.SHUNT_PV // 4 if self._fine else self.SHUNT_PV
        self._set(_CONFIG, self._fine)
        self._set(_SHUNT_CAL, _AS_SHUNT_228)

    def configure(self, period, timing=POLL):
        """Prepares conversions of the shunt about every period us.

        timing: POLL or ALERT. Raises SensorError if nothing answers, or there is no ALERT pin."""
        self._range()
        a, s = plan(period, self._TIMES, _AVERAGES)
        self._tell(timing)
        config = self.BUS << 9 | s << 6 | a
        self._modes(_ADC, 0xA000 | config, 0xB000 | config)
        self.conversion_us = _AVERAGES[a] * self._TIMES[s]
        self.both_us = _AVERAGES[a] * (self._TIMES[s] + self._TIMES[self.BUS])

    def _twenty(self, register):
        three = self._three
        self.i2c.readfrom_mem_into(self.address, register, three)
        value = three[0] << 12 | three[1] << 4 | three[2] >> 4
        return value - 0x100000 if value & 0x80000 else value

    def shunt(self):
        """The voltage of the shunt in counts of shunt_pv."""
        return self._twenty(4)

    def bus(self):
        """The voltage of the bus in counts of BUS_PV."""
        return self._twenty(5)

    def sum_up(self):
        """Starts alternate conversions of shunt and bus for the accumulators."""
        self._range()
        self._set(_ADC, _SUM)
        self.conversion_us = self.both_us = _SUM_US

    def _forty(self, register):
        five = bytearray(5)
        try:
            self.i2c.readfrom_mem_into(self.address, register, five)
        except OSError as e:
            raise SensorError("no answer from the INA228 at 0x%02x: %s" % (self.address, e))
        value = 0
        for byte in five:
            value = value << 8 | byte
        return value

    def accumulate(self):
        """Sets the accumulators of energy and charge to zero."""
        self._set(_CONFIG, self._fine | _RSTACC)

    def accumulated(self):
        """(energy in nJ, charge in nC, whether they overflowed) since accumulate()."""
        flags = self._get(_DIAG)  # reading the accumulators clears theirs
        energy = self._forty(_ENERGY)
        charge = self._forty(_CHARGE)
        if charge >> 39:
            charge -= 1 << 40
        # The LSB of current is that of the shunt over its resistance; that of energy is 16 * 3.2 times as large.
        energy = energy * self.shunt_pv * 256 // (5 * self.shunt_uohm) * 1000
        return energy, charge * self.shunt_pv * 1000 // self.shunt_uohm, bool(flags & 0x0E00)

    def overflow(self):
        """Whether a product exceeded the chip's registers."""
        return bool(self._get(_DIAG) & 0x0200)


CHIPS = {"ina219": INA219, "ina226": INA226, "ina228": INA228}
