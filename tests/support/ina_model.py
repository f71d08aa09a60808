"""The three INA chips behind a bus shaped as machine.I2C, for MicroPython and CPython alike.

They stand for hardware that cannot be here, register by register as in the datasheets SBOS448G (INA219),
SBOS547B (INA226) and SLYS021A (INA228): conversion after conversion they integrate the waveform of a load exactly,
add noise, round, saturate, average, multiply and accumulate. Time is the bus' own and moves with each transfer, as at
400 kHz. Only whole numbers: the cores that run this have floats of 32 bits."""


class Clock:
    """Microseconds that pass only when told. every: (period, function) called in between, as by a timer."""

    def __init__(self):
        self.us = 0
        self.every = None
        self.pin = None
        self._due = 0

    def now(self):
        return self.us & 0x3FFFFFFF

    def timer(self, period, function):
        """As machine.Timer in mode PERIODIC; None stops it."""
        self.every = function and (period, function)
        self._due = self.us + period

    def busy(self, us):
        """A load that works; work: a function of True and False that it is told."""
        self.work(True)
        self.sleep(us)
        self.work(False)

    def work(self, _):
        pass

    def sleep(self, us):
        end = self.us + us
        while self.every and self._due <= end:
            self.us = max(self.us, self._due)
            self._due += self.every[0]
            self.every[1](None)
        while self.pin and self.pin.fall(end):
            pass
        self.us = max(self.us, end)


class AlertPin:
    """The input at a chip's ALERT pin, shaped as machine.Pin: calls handler where the pin falls."""

    IRQ_FALLING = 2

    def __init__(self, clock, chip):
        self.clock, self.chip = clock, chip
        self.handler = None
        clock.pin = self

    def irq(self, handler=None, trigger=0):
        self.handler = handler
        self.seen = self.chip.falls

    def fall(self, end):
        """Calls the handler for the first fall up to end, or one that it has not seen; whether there was one."""
        if not self.handler:
            return False
        if self.seen == self.chip.falls:
            due = self.chip.due()
            if self.chip.alert or due > end:
                return False
            self.clock.us = max(self.clock.us, due)
            self.chip.advance(self.clock.us)
        if self.seen != self.chip.falls:
            self.seen = self.chip.falls
            self.handler(self)
        return True


class Wave:
    """A current over time: straight lines between points (us, uA), over and over, each time by its own period."""

    def __init__(self, points, noise=0):
        self.points = points
        self.period = points[-1][0]
        self.turn = self._within(self.period)

    def _within(self, t):
        whole = 0  # twice the area
        for i in range(1, len(self.points)):
            t0, a = self.points[i - 1]
            t1, b = self.points[i]
            if t <= t0:
                break
            end = min(t, t1)
            if t1 > t0:
                at = a + (b - a) * (end - t0) // (t1 - t0)
                whole += (a + at) * (end - t0)
        return whole // 2

    def charge(self, t):
        """uA us from 0 to t."""
        turns, rest = divmod(t, self.period)
        return turns * self.turn + self._within(rest)


class Activity:
    """A current as the load makes it: levels one after the other, the last one until the next is set."""

    def __init__(self, clock, level):
        self.clock = clock
        self.steps = [(0, 0, level)]  # time, charge until then, level from then on

    def set(self, level):
        now = self.clock.us
        self.steps.append((now, self.charge(now), level))

    def charge(self, t):
        for at, charge, level in reversed(self.steps):
            if at <= t:
                return charge + (t - at) * level
        return 0


class Load:
    """A waveform fed by a source of mv millivolts behind mohm milliohms; drift in uV a second."""

    def __init__(self, wave, mv=3300, mohm=0, drift=0):
        self.wave = wave
        self.uv = mv * 1000
        self.mohm = mohm
        self.drift = drift

    def current(self, t0, t1):
        return (self.wave.charge(t1) - self.wave.charge(t0)) // (t1 - t0)

    def voltage(self, t0, t1):
        return self.uv - self.current(t0, t1) * self.mohm // 1000 + self.drift * (t0 + t1) // 2000000


class Bus:
    """nack: so many transfers fail with EIO; hang: all of them fail with ETIMEDOUT, after a while."""

    def __init__(self, clock, hz=400000):
        self.clock = clock
        self.hz = hz
        self.chips = {}
        self.nack = 0
        self.hang = False
        self.transfers = self.bits = 0

    def _begin(self, address, bits):
        self.transfers += 1
        self.bits += bits
        self.clock.us += bits * 1000000 // self.hz
        if self.hang:
            self.clock.us += 50000
            raise OSError(110)
        if self.nack:
            self.nack -= 1
            raise OSError(5)
        if address not in self.chips:
            raise OSError(5)
        chip = self.chips[address]
        chip.advance(self.clock.us)
        return chip

    def readfrom_mem_into(self, address, register, buf):
        # address, register, address again and the bytes, nine bits each; start, restart and stop
        chip = self._begin(address, (3 + len(buf)) * 9 + 3)
        value = chip.get(register)
        size = chip.size(register)
        for i in range(len(buf)):  # behind the last byte the bus is high
            buf[i] = value >> 8 * (size - 1 - i) & 0xFF if i < size else 0xFF

    def writeto_mem(self, address, register, data):
        chip = self._begin(address, (2 + len(data)) * 9 + 2)
        value = 0
        for byte in data:
            value = value << 8 | byte
        chip.set(register, value)

    def writeto(self, address, data):
        self.writeto_mem(address, data[0], data[1:])


class Chip:
    """uohm: the shunt as it is; noise: its standard deviation on the shunt in nV; stuck: conversions go on, and
    nothing changes; clock: thousandths of what a conversion typically takes."""

    AVERAGES = (1, 4, 16, 64, 128, 256, 512, 1024)
    alert = False  # whether the ALERT pin is low

    def __init__(self, load, uohm, noise=0):
        self.load = load
        self.uohm = uohm
        self.noise = noise
        self.stuck = False
        self.held = 0, 0
        self.clock = 1000
        self.falls = 0  # of the ALERT pin
        self.seed = 1
        self.now = 0
        self.reset()

    def size(self, register):
        return 2

    def gauss(self, deviation):
        """Twelve uniform numbers less their mean have a deviation of 1."""
        whole = 0
        for _ in range(12):
            self.seed = (self.seed * 69069 + 12345) & 0xFFFFFFFF
            whole += self.seed >> 16
        return deviation * (whole - 12 * 32768) >> 16

    def restart(self):
        """What a write to the configuration does: a new conversion begins."""
        self.began = self.now

    def taken(self):
        """The times by this chip's clock."""
        shunt, bus, averages = self.times()
        return shunt * self.clock // 1000, bus * self.clock // 1000, averages

    def due(self):
        """When the conversion that goes on will have finished."""
        shunt, bus, averages = self.taken()
        return self.began + (shunt + bus) * averages

    def advance(self, now):
        """Finishes the conversions that are due."""
        self.now = now
        shunt, bus, averages = self.taken()
        cycle = (shunt + bus) * averages
        if self.skip and now - self.began >= 3 * cycle:  # nothing adds up: only the last one counts
            self.began += (now - self.began) // cycle * cycle - cycle
        while now - self.began >= cycle:
            self.convert(self.began, shunt, bus, averages)
            self.began += cycle

    def convert(self, t, shunt, bus, averages):
        nv = uv = 0
        for _ in range(averages):
            nv += self.load.current(t, t + shunt) * self.uohm // 1000
            if self.noise:
                nv += self.gauss(self.noise)
            t += shunt
            if bus:
                uv += self.load.voltage(t, t + bus)
                t += bus
        if not self.stuck:
            self.held = nv // averages, uv // averages
        high = not self.alert
        self.converted(*self.held, (shunt + bus) * averages)
        self.falls += high and self.alert


def clamp(value, low, high):
    return min(max(value, low), high)


def signed(value, bits):
    return value - (1 << bits) if value >> bits - 1 else value


class Older(Chip):
    """INA219 and INA226: only the last conversion counts, and all of their configuration is in register 0."""

    skip = True

    def bus_too(self):
        """Whether MODE has the bus converted; without it the last one stands."""
        return self.config & 7 == 7

    def configure(self, value):
        if value & 0x8000:
            self.reset()
        else:
            self.config = value
            self.ready = False
            self.restart()


class INA219(Older):
    TIMES = (84, 148, 276, 532, 84, 148, 276, 532, 532, 1060, 2130, 4260, 8510, 17020, 34050, 68100)

    def reset(self):
        self.config, self.cal = 0x399F, 0
        self.shunt = self.bus = self.current = self.power = 0
        self.ready = self.over = False
        self.restart()

    def times(self):
        return self.TIMES[self.config >> 3 & 15], self.bus_too() and self.TIMES[self.config >> 7 & 15], 1

    def bits(self, code):
        return 3 if code & 8 else code & 3

    def converted(self, nv, uv, us):
        full = 4000 << (self.config >> 11 & 3)
        bits = self.bits(self.config >> 3 & 15)  # fewer bits: coarser steps
        step = 1 << (3 - bits)
        self.shunt = clamp((nv + 5000 * step) // (10000 * step) * step, -full, full)
        bits = self.bits(self.config >> 7 & 15)
        step = 1 << (3 - bits)
        if self.bus_too():
            self.bus = clamp((uv + 2000 * step) // (4000 * step) * step, 0, 8000 if self.config >> 13 & 1 else 4000)
        current = self.shunt * self.cal // 4096
        power = abs(current) * self.bus // 5000
        self.over = abs(current) > 32767 or power > 65535
        self.current, self.power = clamp(current, -32768, 32767), min(power, 65535)
        self.ready = True

    def get(self, register):
        if register == 3:
            self.ready = False
        status = self.bus << 3 | self.ready << 1 | self.over
        values = (self.config, self.shunt, status, self.power, self.current, self.cal)
        return values[register] & 0xFFFF if register < len(values) else 0

    def set(self, register, value):
        if register == 0:
            self.configure(value)
        elif register == 5:
            self.cal = value & 0xFFFE


class INA226(Older):
    TIMES = (140, 204, 332, 588, 1100, 2116, 4156, 8244)

    def reset(self):
        self.config, self.cal, self.mask, self.limit = 0x4127, 0, 0, 0
        self.shunt = self.bus = self.current = self.power = 0
        self.ready = self.over = False
        self.restart()

    def times(self):
        c = self.config
        return self.TIMES[c >> 3 & 7], self.bus_too() and self.TIMES[c >> 6 & 7], self.AVERAGES[c >> 9 & 7]

    def converted(self, nv, uv, us):
        self.shunt = clamp((nv + 1250) // 2500, -32768, 32767)
        if self.bus_too():
            self.bus = clamp((uv + 625) // 1250, 0, 32767)
        current = self.shunt * self.cal // 2048
        power = abs(current) * self.bus // 20000
        self.over = abs(current) > 32767 or power > 65535
        self.current, self.power = clamp(current, -32768, 32767), min(power, 65535)
        self.ready = True

    @property
    def alert(self):
        return bool(self.mask & 0x0400 and self.ready)

    def get(self, register):
        if register >= 0xFE:
            return (0x5449, 0x2260)[register - 0xFE]
        mask = self.mask & 0xFC03 | self.ready << 3 | self.over << 2
        if register == 6:
            self.ready = False
        values = (self.config, self.shunt, self.bus, self.power, self.current, self.cal, mask, self.limit)
        return values[register] & 0xFFFF if register < len(values) else 0

    def set(self, register, value):
        if register == 0:
            self.configure(value)
        elif register == 5:
            self.cal = value & 0x7FFF
        elif register == 6:
            self.mask = value
        elif register == 7:
            self.limit = value


class INA228(Chip):
    """fast: the time base is off by so many parts in a million (the datasheet allows 5000 at 25 degrees)."""

    skip = False
    fast = 0
    TIMES = (50, 84, 150, 280, 540, 1052, 2074, 4120)

    def reset(self):
        self.config, self.adc, self.cal, self.diag = 0, 0xFB68, 0x1000, 0x0001
        self.shunt = self.bus = self.current = self.power = 0
        self.energy = self.charge = self.energy_rest = self.charge_rest = 0
        self.restart()

    def times(self):
        c = self.adc
        temperature = self.TIMES[c >> 3 & 7] if c >> 12 == 0xF else 0
        return self.TIMES[c >> 6 & 7], self.bus_too() and self.TIMES[c >> 9 & 7] + temperature, self.AVERAGES[c & 7]

    def bus_too(self):
        return self.adc >> 12 != 0xA

    def converted(self, nv, uv, us):
        step = 78125 if self.config & 0x10 else 312500  # pV
        self.shunt = clamp((nv * 1000 + step // 2) // step, -(1 << 19), (1 << 19) - 1)
        if self.bus_too():
            self.bus = clamp((uv * 1000000 + 97656250) // 195312500, 0, (1 << 19) - 1)
        # SHUNT_CAL = 13107.2e6 * current LSB * shunt, four times that in the fine range: it stands for a resistance
        current = self.shunt * 4096 // max(self.cal, 1)
        # power LSB = 3.2 * current LSB: counts = current * bus * 195.3125 uV / 3.2
        power = abs(current) * self.bus * 1953125 // 32000000000
        if not -(1 << 19) <= current < 1 << 19 or power >= 1 << 24:
            self.diag |= 0x0200  # MATHOF
        self.current, self.power = clamp(current, -(1 << 19), (1 << 19) - 1), min(power, (1 << 24) - 1)
        us = us * (1000000 + self.fast) // 1000000
        # ENERGY counts 16 LSBs of power times a second, CHARGE LSBs of current times a second
        self.energy_rest += self.power * us
        more, self.energy_rest = divmod(self.energy_rest, 16000000)
        self.energy += more
        self.charge_rest += self.current * us
        more, self.charge_rest = divmod(self.charge_rest, 1000000)
        self.charge += more
        if self.energy >> 40:
            self.energy &= (1 << 40) - 1
            self.diag |= 0x0800
        if not -(1 << 39) <= self.charge < 1 << 39:
            self.charge = signed(self.charge & (1 << 40) - 1, 40)
            self.diag |= 0x0400
        self.diag |= 0x0002

    def size(self, register):
        return {4: 3, 5: 3, 7: 3, 8: 3, 9: 5, 10: 5}.get(register, 2)

    @property
    def alert(self):
        return bool(self.diag & 0x4000 and self.diag & 0x0002)

    def get(self, register):
        if register in (0x3E, 0x3F):
            return (0x5449, 0x2281)[register - 0x3E]
        if register == 9:
            self.diag &= ~0x0800
        elif register == 10:
            self.diag &= ~0x0400
        elif register == 11:
            value, self.diag = self.diag, self.diag & ~0x0002
            return value
        values = {0: self.config, 1: self.adc, 2: self.cal, 4: (self.shunt & 0xFFFFF) << 4, 5: self.bus << 4}
        values.update({6: 25 * 128, 7: (self.current & 0xFFFFF) << 4, 8: self.power})
        values.update({9: self.energy, 10: self.charge & (1 << 40) - 1})
        return values.get(register, 0)

    def set(self, register, value):
        if register == 0 and value & 0x8000:
            self.reset()
        elif register == 0:
            if value & 0x4000:
                self.energy = self.charge = self.energy_rest = self.charge_rest = 0
                self.diag &= ~0x0E00
            self.config = value & 0x3FF0
        elif register == 1:
            self.adc = value
            self.restart()
        elif register == 2:
            self.cal = value & 0x7FFF
        elif register == 11:
            self.diag = value & 0xF000 | self.diag & 0x0FFF


CHIPS = {"ina219": INA219, "ina226": INA226, "ina228": INA228}


def wired(name, load, uohm=100000, noise=0):
    """(clock, bus, chip): a chip at 0x40 on a bus."""
    clock = Clock()
    bus = Bus(clock)
    bus.chips[0x40] = chip = CHIPS[name](load, uohm, noise)
    return clock, bus, chip
