"""Drivers of INA219, INA226 and INA228 against models of the chips, on boards and in the unix port."""

import ast

import pytest
from on_board import ON_BOARDS, ROOT, board

MODEL = (ROOT / "tests/support/ina_model.py").read_text()
NAMES = ("ina219", "ina226", "ina228")

DRIVER = (
    MODEL
    + """
from tinyprof import ina
from tinyprof.errors import SensorError
def make(name, wave, mv=3300, uohm=100000, period=1000, noise=0, mohm=0, max_ma=400, timing=ina.POLL):
    clock, bus, chip = wired(name, Load(Wave(wave), mv, mohm), uohm, noise)
    driver = ina.CHIPS[name](bus, 0x40, uohm, max_ma)
    driver.configure(period, timing)
    driver.watch(True)
    return clock, bus, chip, driver
def physical(driver):
    return driver.shunt() * driver.shunt_pv // driver.shunt_uohm, driver.bus() * driver.BUS_PV // 1000000
def said(f, *args):
    try:
        return f(*args)
    except (SensorError, OSError) as e:
        return repr(e)
"""
)


@pytest.fixture(scope="module", params=ON_BOARDS)
def device(request):
    with board(request.param) as b:
        b.run(DRIVER)
        if request.param.startswith("unix"):  # a process each time
            plain = b.run
            b.run = lambda code, timeout=120: plain(DRIVER + code, timeout)
        yield b


def value(device, code):
    return ast.literal_eval(device.run(code).strip().splitlines()[-1])


@pytest.mark.parametrize("name", NAMES)
def test_current_and_voltage(name, device):
    """A steady current, at rates from the least to the greatest: within one step of the chip."""
    found = value(
        device,
        f"""
out = []
for period in (1000, 2000, 10000, 100000):
    for ua in (0, 150, 12345, 300000, -20000):
        clock, bus, chip, driver = make({name!r}, [(0, ua), (1000000, ua)], period=period)
        clock.sleep(2 * driver.both_us)
        out.append((period, driver.conversion_us, ua, physical(driver), driver.shunt_pv // driver.shunt_uohm))
print(out)
""",
    )
    for period, conversion, ua, (current, voltage), step in found:
        assert 0.5 * period < conversion <= 1.07 * period, (period, conversion)
        assert abs(current - ua) <= step + 1, (name, ua, current)
        assert abs(voltage - 3300000) <= 4000


@pytest.mark.parametrize("name", NAMES)
def test_a_reading_is_the_mean_over_its_conversion(name, device):
    """A load on for half of each conversion of the shunt."""
    current = value(
        device,
        f"""
clock, bus, chip, driver = make({name!r}, [(0, 100000), (5, 100000), (5, 0), (10, 0)], period=10000)
clock.sleep(30000)
print(physical(driver)[0])
""",
    )
    assert current == pytest.approx(50000, rel=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_saturation_reads_as_full_scale(name, device):
    positive, negative, full = value(
        device,
        f"""
out = []
for ua in (5000000, -5000000):
    clock, bus, chip, driver = make({name!r}, [(0, ua), (1000, ua)])
    clock.sleep(3000)
    out.append(driver.shunt())
print(out + [driver.full])
""",
    )
    assert positive == full and negative in (-full, -full - 1)


def test_conversion_ready_and_overflow(device):
    found = value(
        device,
        """
out = []
for name in ("ina219", "ina226", "ina228"):
    clock, bus, chip, driver = make(name, [(0, 400000), (1000, 400000)], period=10000, timing=ina.POLL)
    early = driver.fresh()
    clock.sleep(20000)
    out.append((name, early, driver.fresh(), driver.fresh(), driver.overflow()))
    # a calibration for a shunt that it has not
    driver._set(2 if name == "ina228" else 5, 16 if name == "ina228" else 0x7FFE if name == "ina226" else 0xFFFE)
    clock.sleep(20000)
    out.append((name, driver.overflow()))
print(out)
""",
    )
    for (name, early, ready, again, fine), (_, over) in zip(found[::2], found[1::2], strict=True):
        assert (early, ready, again, fine, over) == (False, True, False, False, True), name


def test_alert_pin_follows_conversions(device):
    found = value(
        device,
        """
out = []
for name in ("ina226", "ina228"):
    clock, bus, chip, driver = make(name, [(0, 400000), (1000, 400000)], period=10000, timing=ina.ALERT)
    driver.fresh()
    out.append(chip.alert)
    clock.sleep(20000)
    bus.readfrom_mem_into(0x40, 4, bytearray(2))
    out.append(chip.alert)
    driver.fresh()
    out.append(chip.alert)
out.append(said(make, "ina219", [(0, 0), (1000, 0)], 3300, 100000, 1000, 0, 0, 400, ina.ALERT))
print(out)
""",
    )
    assert found[:6] == [False, True, False] * 2 and "the INA219 has no ALERT pin" in found[6]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("clock,rates", [(920, (500, 100)), (960, (1000,)), (1080, (1000, 500, 100))])
def test_each_conversion_is_read_once(name, clock, rates, device):
    """All conversions of the shunt in a while, by a chip whose clock is as far off as the datasheets allow, or, where
    reading takes a good part of a conversion, as chips are."""
    found = value(
        device,
        f"""
from tinyprof import power
out = []
for rate in {rates}:
    for pin in (False, True)[:1 if {name!r} == "ina219" else 2]:
        clock, bus, chip, driver = make({name!r}, [(0, 1000), (1000, 1000)])
        chip.clock = {clock}
        converted = [0]
        converts = chip.converted
        def count(*args):
            converted[0] += 1
            converts(*args)
        meter = power.Meter(driver, rate=rate, ring=2048, alert=AlertPin(clock, chip) if pin else None, board=clock)
        chip.skip = False
        meter._readings(True)
        clock.sleep(20 * driver.both_us)
        chip.converted = count
        before = meter._ring.count
        began = clock.us
        clock.sleep(300000)
        read = meter._ring.count - before
        reached = read * 1000000 // (clock.us - began)
        meter._readings(False)
        out.append((rate, driver.conversion_us, read, converted[0], reached))
print(out)
""",
    )
    for rate, conversion, read, converted, reached in found:
        # the INA219 is asked and cleared in two transfers, between which a conversion may end
        assert abs(read - converted) <= (2 if name == "ina219" else 1), (rate, read, converted)
        assert reached == pytest.approx(1e6 / (conversion * clock / 1000), rel=0.04)
        assert rate * 0.85 <= reached <= 1.6 * rate


def test_accumulators_of_the_ina228(device):
    """Ten seconds without a word on the bus, in both ranges, and a current that flows back."""
    found = value(
        device,
        """
out = []
for ua, max_ma in ((100000, 400), (300000, 1600), (-50000, 400), (7, 400)):
    clock, bus, chip, driver = make("ina228", [(0, ua), (1000000, ua)], max_ma=max_ma)
    driver.sum_up()
    driver._set(1, 0xBFC1)  # as slow as can be, for the sake of the model
    clock.sleep(100000)
    driver.accumulate()
    before = bus.transfers
    clock.sleep(10000000)
    out.append((ua, bus.transfers - before, driver.accumulated()))
    driver.accumulate()
    out.append(driver.accumulated()[0] < 1000000)
print(out)
""",
    )
    for ua, talk, (energy, charge, over) in found[::2]:
        assert talk == 0 and not over
        if abs(ua) > 100:
            assert energy == pytest.approx(abs(ua) * 3.3 * 10 * 1e3, rel=2e-3)
        assert charge == pytest.approx(ua * 10 * 1e3, rel=2e-3, abs=3.2 * 1e4)
    assert all(found[1::2])


def test_an_overflown_accumulator_says_so(device):
    found = value(
        device,
        """
clock, bus, chip, driver = make("ina228", [(0, 400000), (1000000, 400000)])
driver.sum_up()
driver._set(1, 0xBFC1)
driver.accumulate()
chip.energy = (1 << 40) - 2
clock.sleep(2000000)
print((driver.accumulated()[2], driver.accumulated()[2]))
""",
    )
    assert found == (True, False)


def test_faults_of_the_bus(device):
    found = value(
        device,
        """
out = []
for name in ("ina219", "ina226", "ina228"):
    clock, bus, chip, driver = make(name, [(0, 1000), (1000, 1000)])
    bus.nack = 1
    out.append(said(driver.overflow))
    bus.nack = 1
    out.append(said(driver.shunt))
    bus.hang = True
    out.append(said(driver.overflow))
    bus.hang = False
    bus.chips[0x41] = INA226(chip.load, 100000) if name != "ina226" else INA228(chip.load, 100000)
    out.append(said(lambda: ina.CHIPS[name](bus, 0x41).configure(1000)))
    out.append(said(ina.CHIPS[name], bus, 0x40, 1000000, 500))
print(out)
""",
    )
    for nack, reading, hang, other, much in zip(*(found[i::5] for i in range(5)), strict=True):
        assert "no answer from the INA2" in nack and "5" in nack
        assert "OSError(5" in reading or "EIO" in reading
        assert "no answer" in hang and ("110" in hang or "ETIMEDOUT" in hang)
        assert "no INA2" in other and "0x41" in other
        assert "500 mA in 1000000 uohm are 500 mV" in much


def test_reading_allocates_nothing(device):
    """On a bus that allocates nothing itself."""
    found = value(
        device,
        """
import gc
from tinyprof import power
before = _ = 0  # globals that grow are no reading's
class Still:
    def readfrom_mem_into(self, address, register, buf):
        buf[0] = 0x7F
        buf[1] = 0xFF
    def writeto(self, address, data):
        pass
class Clocks:
    t = 0
    def now(self):
        self.t = self.t + 1000
        return self.t
out = []
for name in ("ina219", "ina226", "ina228"):
    clock, bus, chip, driver = make(name, [(0, 1000), (1000, 1000)])
    driver.i2c = Still()
    ring = power.Ring(driver, 16, Clocks().now)
    tick = ring.tick
    tick()
    gc.collect()
    before = gc.mem_alloc()
    for _ in range(40):
        tick(None)
    out.append((gc.mem_alloc() - before, ring.count, ring.lost))
print(out)
""",
    )
    assert found == [(0, 40, 24)] * 3
