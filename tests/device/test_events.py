"""Counters of cores and chips: those that run here for real, and the others on models of their registers.

The models imitate what the manuals say, nothing more: no silicon has been seen."""

import re
import shutil
import subprocess
import sys

import pytest
from models import make_model
from on_board import ROOT, board
from tinyprof_bridge.analysis.explain import explain, notes
from tinyprof_bridge.boards import deploy, emulators
from tinyprof_bridge.boards.transport import UnixBoard
from tinyprof_bridge.errors import BadInput, RunFailed
from tinyprof_bridge.measure.collect import Request, collect
from tinyprof_bridge.progress import Progress
from tinyprof_bridge.records import runs
from tinyprof_bridge.report import run_report


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("events") / "small.gguf", type_="Q4_0", context=64)


def profile(name, model, tmp_path, **options):
    request = Request(name, model, **({"p": (12,), "n": (4,), "r": 2} | options))
    return collect(request, tmp_path / f"{name}.jsonl", Progress(quiet=True))


@pytest.fixture(scope="module")
def counted(model, tmp_path_factory):
    """A run on RISC-V with mhpmcounter3 of QEMU."""
    return profile("rv32", model, tmp_path_factory.mktemp("rv32"), events=())


def test_events_of_operators_are_those_of_the_boards_counter(counted):
    """mhpmcounter3 set to instructions retired, beside minstret: the same but for the few of another branch."""
    run, _ = counted
    assert run.complete and run.correctness == "match"
    for test in run.tests.values():
        event = test.events["instr"]
        assert (event.counter, event.source, len(event.v)) == ("mhpm", "emulated-icount", len(run.ops))
        calls = test.tokens if test.phase == "decode" else 1
        more = {(event.v[op.i] - test.costs[op.i] / test.runs) / calls for op in run.ops if op.op == "matmul"}
        assert all(0 < abs(m) < 40 for m in more), more
        # with the interpreter's work between tokens, which a test has not
        assert 0 < event.count / test.totals.mean() - 1 < 0.2


def test_a_report_shows_events_and_the_cold_start(counted):
    run, path = counted
    text = run_report.markdown(run, None)
    assert "Events per token (emulated-icount)" in text and "| instr | mhpm |" in text
    assert "after loading, then" in text
    assert [c.after for c in run.cold] == ["load"] and len(run.cold[0].warm) == 2
    whole = run_report.as_json(runs.load(path), None)
    assert '"event": "instr"' in whole.replace('":"', '": "') and '"after": "load"' in whole


def test_logits_and_figures_stay_as_they_are_without_events(counted, model, tmp_path):
    run, _ = counted
    plain, _ = profile("rv32", model, tmp_path)
    assert plain.check.logits_crc32 == run.check.logits_crc32
    assert not any(test.events for test in plain.tests.values())


def test_processor_time_on_unix(model, tmp_path):
    run, _ = profile("unix", model, tmp_path, events=("cpu-ns",))
    event = run.tests["tg4"].events["cpu-ns"]
    assert (event.source, len(event.v)) == ("host-clock", len(run.ops)) and event.count > 0
    assert run.counter.rate == pytest.approx(1e9, rel=0.05)


@pytest.mark.parametrize(
    "name,options,said",
    [
        ("m4", {"events": ()}, "this board has no event counters"),
        ("rv32", {"events": ("lsu",)}, "this board does not count lsu: it counts instr"),
        ("m7", {"cold": ("cache",)}, "no cache that can be emptied"),
        ("m4", {"cold": ("sleep",)}, "no light sleep"),
    ],
)
def test_what_a_board_does_not_have_is_said(name, options, said, model, tmp_path):
    with pytest.raises(BadInput, match=said):
        profile(name, model, tmp_path, **options)
    assert not list(tmp_path.glob("*"))


def test_bad_options(tmp_path):
    command = [sys.executable, "-m", "tinyprof_bridge", "collect", "--cold", "fridge"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and "--cold takes cache and sleep, not 'fridge'" in done.stderr


def test_info_shows_what_runs():
    with board("rv32") as b:
        said = b.run("from tinyprof import counters\ncounters.info()")
    assert "minstret: emulated-icount, in use" in said and "mhpm: 1 events, 32 bits, then it wraps" in said
    assert "per second by mtime of 10000000 Hz, in the emulator's time, wraps after 429" in said
    with board("m55") as b:
        said = b.run("from tinyprof import counters\ncounters.info()")
    assert "fpgaio: emulated-icount, in use" in said and "pmu: does not count" in said
    assert "per second by systick of 32000000 Hz, in the emulator's time, wraps after 2147" in said
    with board("unix") as b:
        said = b.run("from tinyprof import counters\ncounters.info()")
    assert "clock: host-clock, in use" in said and "per second by time.ticks_us, wraps after 429" in said


@pytest.mark.parametrize("name", ["m0", "m4", "m33", "m55", "rv32"])
def test_a_second_clock_of_the_machine_agrees(name):
    """A timer that has nothing to do with the counter, against what -icount gives an instruction."""
    with board(name) as b:
        said = b.run("from tinyprof import counters\nprint(*counters.find().rate())").split()
    shift = int(emulators.EMULATED[name].arguments[-1].partition("=")[2])
    assert int(said[0]) == pytest.approx(1e9 / (1 << shift), rel=0.001)
    assert said[1] == ("mtime" if name == "rv32" else "systick")


def test_the_time_stamp_counter_runs():
    code = (
        "from tinyprof import counters as c\n"
        "for x in c._candidates():\n print(x.name, c.runs(x), x.rate()[0] > 1000000, x.units(x.modulus))\n"
    )
    with board("unix") as b:
        said = b.run(code).splitlines()
    assert [line.split()[:3] for line in said] == [["clock", "True", "True"], ["tsc", "True", "True"]]


def test_stock_unix_has_a_clock(tmp_path):
    """A native module cannot call the system's; the processor's counts."""
    shutil.copytree(ROOT / "device/tinyprof", tmp_path / "tinyprof")
    (tmp_path / "_tinyprof.mpy").write_bytes(deploy.native_module("x64")["_tinyprof.mpy"])
    unix = UnixBoard(emulators.firmware("unix-stock"), tmp_path, 64 << 20)
    said = b"".join(unix.run("from tinyprof import counters\ncounters.info()", 60)).decode()
    assert "clock: does not count" in said and "tsc: host-clock, in use" in said and "posix: does not count" in said


# Models of registers: each has read and write by address, as events.Registers has, and what happens in the core.
MODELS = """
from tinyprof.events import Bank
from tinyprof.registers import BANKS

class Registers:
    def __init__(self):
        self.value = {}
    def read(self, address):
        return self.value.get(address, 0)
    def write(self, address, value):
        self.value[address] = value

class DWT(Registers):  # eight bits each, once TRCENA and their EVTENA are set; the M7's take no write while locked
    COUNTERS = ("cpi", "exception", "sleep", "lsu", "fold")
    def __init__(self):
        super().__init__()
        self.locked = True
    def write(self, address, value):
        if address == 0xE0001FB0:
            self.locked = value != 0xC5ACCE55
        elif address == 0xE000EDFC or not self.locked:
            self.value[address] = value
    def happen(self, name, n):
        i = self.COUNTERS.index(name)
        if self.read(0xE000EDFC) >> 24 & 1 and self.read(0xE0001000) >> 17 + i & 1:
            self.value[0xE0001008 + 4 * i] = self.read(0xE0001008 + 4 * i) + n & 255

class PMU(Registers):  # sixteen bits each; CHAIN in an odd one counts overflows of the even one below it
    def write(self, address, value):
        if address == 0xE0003C00:  # CNTENSET
            value |= self.read(0xE0003C00)
        if address == 0xE0003C20:  # CNTENCLR
            address, value = 0xE0003C00, self.read(0xE0003C00) & ~value
        self.value[address] = value
    def happen(self, number, n):
        if not (self.read(0xE000EDFC) >> 24 & 1 and self.read(0xE0003E04) & 1):
            return
        for i in range(8):
            if self.read(0xE0003400 + 4 * i) == number and self.read(0xE0003C00) >> i & 1:
                whole = self.read(0xE0003000 + 4 * i) + n
                self.value[0xE0003000 + 4 * i] = whole & 0xFFFF
                above = 4 * (i + 1)
                chained = self.read(0xE0003400 + above) == 0x1E and self.read(0xE0003C00) >> i + 1 & 1
                if not i & 1 and chained:
                    self.value[0xE0003000 + above] = self.read(0xE0003000 + above) + (whole >> 16) & 0xFFFF

class Saturating(Registers):  # stays at its most; any write clears
    def __init__(self, base, most, selector, enable=None):
        super().__init__()
        self.base, self.most, self.selector, self.enable = base, most, selector, enable
    def write(self, address, value):
        counter = address - self.base in ((0x0C, 0x10) if self.selector is None else (self.selector - 4,))
        self.value[address] = 0 if counter else value
    def happen(self, number, n):
        at = self.base + number
        if self.selector is not None:
            at = self.base + self.selector - 4
            if self.read(self.base + self.selector) != number or self.enable and not self.read(self.enable) & 1:
                return
        self.value[at] = min(self.read(at) + n, self.most)

class Selected(Registers):  # 32 bits that wrap: PMCTRL and PM0 with PGM, mpcer and mpccr, mhpmevent3 and mhpmcounter3
    def __init__(self, selector, counter, enable=None):
        super().__init__()
        self.selector, self.counter, self.enable = selector, counter, enable
    def happen(self, number, n):
        if self.read(self.selector) == number and (self.enable is None or self.read(self.enable) & 1):
            self.value[self.counter] = self.read(self.counter) + n & 0xFFFFFFFF

class Cache(Registers):  # counters at the event's own offset, once bits of a register are set
    def __init__(self, base, control, bits):
        super().__init__()
        self.base, self.control, self.bits = base, control, bits
    def happen(self, number, n):
        if self.read(self.control) & self.bits == self.bits:
            self.value[self.base + number] = self.read(self.base + number) + n & 0xFFFFFFFF

def bank(name, where, registers):
    row = [row for row in BANKS if row[0] == name and where in row[1].split()][0]
    return Bank(row, registers), registers
"""


def on_model(code):
    with board("unix") as b:
        return b.run(MODELS + code).split("\n")[0].split()


def test_dwt_counts_in_eight_bits():
    code = "b, r = bank('dwt', 'm7', DWT())\nb.start(0x14)\nr.happen('lsu', 250)\nr.happen('cpi', 9)\n"
    assert on_model(code + "print(b.take(), (r.happen('lsu', 100), b.take())[1], b.bits)") == ["250", "100", "8"]


def test_pmu_goes_on_behind_sixteen_bits():
    code = """
b, r = bank('pmu', 'm85', PMU())
out = []
for name, number in b.events:
    b.start(number)
    r.happen(number, 100)
    r.happen(0x11, 7)
    out.append(b.take())
    for n in (60000, 60000, 65536 * 3 + 5):
        r.happen(number, n)
    out.append(b.take())
    b.stop()
    r.happen(number, 50)
    out.append(b.take())
print(set(out[0::3]), set(out[1::3]), set(out[2::3]), len(out))
"""
    assert on_model(code) == ["{100}", "{316613}", "{0}", "48"]


def test_an_overflow_between_two_readings_is_seen():
    code = """
class Late(PMU):
    late = False
    def read(self, address):
        value = super().read(address)
        if self.late and address == 0xE0003004:
            self.late = False
            self.happen(8, 10)
        return value
b, r = bank('pmu', 'm55', Late())
b.start(8)
r.happen(8, 65530)
r.late = True
print(b.take(), b.take())
"""
    whole = [int(n) for n in on_model(code)]
    assert sum(whole) == 65540 and whole[0] in (65530, 65540)


@pytest.mark.parametrize(
    "chip,name,registers,number,most",
    [
        ("RP2040", "xip", "Saturating(0x14000000, 0xFFFFFFFF, None)", 0x0C, 0xFFFFFFFF),
        ("RP2350", "xip", "Saturating(0x400C8000, 0xFFFFFFFF, None)", 0x10, 0xFFFFFFFF),
        ("RP2040", "busctrl", "Saturating(0x40030000, 0xFFFFFF, 0x0C)", 17, 0xFFFFFF),
        ("RP2350", "busctrl", "Saturating(0x40068000, 0xFFFFFF, 0x10, 0x40068008)", 0x3D, 0xFFFFFF),
    ],
)
def test_a_counter_that_stays_at_its_most_is_told(chip, name, registers, number, most):
    code = f"""
b, r = bank({name!r}, {chip!r}, {registers})
r.write(b.base + 8, 0)
b.start({number})
out = []
for n in (5, {most - 1}, {most} + 9, 3):
    r.happen({number}, n)
    out.append(b.take())
    out.append(b.lost)
print(*out)
"""
    assert on_model(code) == ["5", "False", str(most - 1), "False", str(most), "True", "3", "True"]


@pytest.mark.parametrize(
    "where,name,registers",
    [
        ("xtensawin", "perfmon", "Selected(0x101100, 0x101080, 0x101000)"),
        ("ESP32C3", "mpccr", "Selected(0x7E0, 0x7E2)"),
        ("virt", "mhpm", "Selected(0x323, 0xB03)"),
        ("SAMD51", "cmcc", "Selected(0x41006028, 0x41006034, 0x4100602C)"),
        ("NRF52", "nvmc", "Cache(0x4001E000, 0x4001E540, 0x101)"),
        ("STM32H5", "icache", "Cache(0x40030400, 0x40030400, 0x10000)"),
    ],
)
def test_counters_of_32_bits_wrap(where, name, registers):
    code = f"""
b, r = bank({name!r}, {where!r}, {registers})
out = []
for name, number in b.events:
    b.start(number)
    for n in (7, 0xFFFFFFFF, 0xFFFFFFF0):
        r.happen(number, n)
        out.append(b.take())
    b.stop()
print(len(out) == 3 * len(b.events), set(out))
"""
    done, *counts = on_model(code)
    assert done == "True" and {int(n) for n in re.findall(r"\d+", " ".join(counts))} == {7, 0xFFFFFFFF, 0xFFFFFFF0}


@pytest.mark.parametrize(
    "machine,core,names",
    [
        ("Raspberry Pi Pico with RP2040", "m0+", "xip busctrl"),
        ("Raspberry Pi Pico2 with RP2350", "m33", "dwt xip busctrl"),
        ("Raspberry Pi Pico2 with RP2350-RISCV", "", "minstret xip busctrl"),
        ("OpenMV-AE3 with AE302F80F55D5AE", "m55", "pmu"),
        ("NUCLEO-H563ZI with STM32H563xx", "m33", "dwt icache"),
        ("NUCLEO-F767ZI with STM32F767", "m7", "dwt"),
        ("Generic ESP32S3 module with ESP32S3", "xtensawin", "perfmon"),
        ("ESP32C3 module with ESP32C3", "", "mpccr"),
        ("PCA10056 with NRF52840", "m4", "dwt nvmc"),
        ("Feather M4 Express with SAMD51J19A", "m4", "dwt cmcc"),
        ("virt with rv32imac", "", "mhpm"),
        ("linux", "unix", "posix"),
    ],
)
def test_which_bank_is_on_which_board(machine, core, names):
    code = f"""
from tinyprof.events import is_here
from tinyprof.registers import BANKS
print(*(row[0] for row in BANKS if is_here(row[1], {machine!r}, {core!r})))
"""
    with board("unix") as b:
        assert b.run(code).strip() == names


def test_caches_are_emptied_by_address():
    """Every line of each buffer once, in lines of CTR, and the instruction cache behind them."""
    code = """
from tinyprof.cold_start import by_address
from uctypes import addressof
class Memory(dict):
    def __init__(self):
        self.lines, self.all = [], 0
    def __getitem__(self, address):
        return 0x8303C003  # CTR of a Cortex-M7: lines of 8 words
    def __setitem__(self, address, value):
        if address == 0xE000EF70:
            self.lines.append(value)
        else:
            self.all += address == 0xE000EF50
m, data = Memory(), bytearray(1000)
by_address(m, (data,))
a = addressof(data)
print(all(l % 32 == 0 for l in m.lines), m.lines[0] <= a, m.lines[-1] + 32 >= a + 1000, len(m.lines) <= 33, m.all)
"""
    with board("unix") as b:
        assert b.run(code).split() == ["True", "True", "True", "True", "1"]


def test_a_turn_of_the_counter_within_a_token_is_noticed():
    """By a second clock: a counter of 24 bits at 48 MHz turns after 349 ms."""
    code = """
from tinyprof.counters import Counter
from tinyprof.measure import _Profile
p = _Profile(None, Counter("systick", 2, 0, "hw-cycles", "cycles", 1, 1, 1 << 24), None, None, None)
for spent, ms in ((340, 340), (340, 345), (5000, 5000), (400 - 349, 400)):
    try:
        p._whole(48000 * spent, 48000 * ms)
        print("whole")
    except Exception as e:
        print(e)
"""
    with board("unix") as b:
        said = b.run(code).splitlines()
    assert said[:3] == ["whole"] * 3 and "the counter systick wraps after 16777216 cycles" in said[3]


def test_operators_tell_of_a_turn_where_no_clock_does(model):
    """A counter of an emulator, of which no more than 18 bits are looked at: a batch takes more."""
    code = """
import tinyprof
from tinyprof import counters
find = counters.find
def narrow():
    counter = find()
    counter.modulus = 1 << 18
    return counter
counters.find = narrow
tinyprof.profile(tinyprof.load("/rom/model.gguf"), p=(12,), n=(), r=1)
"""
    with board("rv32", model) as b, pytest.raises(RunFailed, match="the counter minstret wraps after 262144 instr"):
        b.run(code)


CANDIDATES = """
import sys
class Memory:
    def __init__(self):
        self.value = {{}}
    def __getitem__(self, address):
        return self.value.get(address, 0)
    def __setitem__(self, address, value):
        self.value[address] = value
class Module:
    mem32 = Memory()
    freq = lambda: 125000000
    Timer = lambda n, prescaler, period: None
sys.modules["machine"] = sys.modules["pyb"] = Module
from tinyprof import counters
{}
print(*("%s:%x:%x" % (c.name, c.address, c.modulus) for c in counters._on_silicon({!r}, {})))
"""


@pytest.mark.parametrize(
    "machine,arch,before,found",
    [
        ("PYBV11 with STM32F405RG", 7, "", "dwt:e0001004:100000000 systick:e000e018:1000000 tim2:40000024:40000000"),
        # SysTick is the firmware's clock, and turns every millisecond
        (
            "NUCLEO-G0B1RE with STM32G0B1xE",
            4,
            "Module.mem32[0xE000E010] = 7\nModule.mem32[0xE000E014] = 63999",
            "tim2:40000024:40000000",
        ),
        ("micro:bit with nRF51822", 4, "", "systick:e000e018:1000000"),
        ("Seeeduino XIAO with SAMD21G18A", 4, "", "systick:e000e018:1000000 tc4:42003010:100000000"),
        ("Raspberry Pi Pico2 with RP2350-RISCV", 11, "", "mcycle:b00:100000000 timer:400b0028:100000000"),
    ],
)
def test_which_counters_are_tried(machine, arch, before, found):
    with board("unix") as b:
        assert b.run(CANDIDATES.format(before, machine, arch)).strip() == found


def test_the_docs_list_every_bank():
    namespace = {}
    exec((ROOT / "device/tinyprof/registers.py").read_text(), namespace)
    text = (ROOT / "docs/events.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` +\| (.*)$", text, re.MULTILINE))
    assert set(rows) == {row[0] for row in namespace["BANKS"]}
    for name, _, _, _, bits, ends, *rest in namespace["BANKS"]:
        assert f"| {bits}" in rows[name], name
        assert ("stays" in rows[name]) == bool(ends), name
        for event in rest[-2].split()[::2]:
            assert f"`{event.removesuffix('-contested')}`" in rows[name], event


def test_explain_takes_counted_stalls(counted):
    """Of a run to which a core's stalls were added: these are its memory part, and the notes say so."""
    run, path = counted
    run = runs.load(path)
    assert not any("stalled" in line for line in notes(explain(run)))
    test = run.tests["tg4"]
    event = test.events["instr"]
    run.counter = run.counter.model_copy(update={"source": "hw-cycles", "unit": "cycles"})
    stalls = [test.costs[op.i] // test.runs // 4 for op in run.ops]
    changes = {"event": "stall-data", "counter": "perfmon", "source": "hw-event", "v": stalls}
    test.events["stall-data"] = event.model_copy(update=changes)
    why = explain(run, "tg4")
    taken = {s.role: (s.parts["memory"], s.units) for s in why.found.shares}
    assert taken["argmax"][0] <= taken["argmax"][1] / 4
    assert sum(memory for memory, _ in taken.values()) > 0
    assert any("stall-data of perfmon" in line for line in notes(why))
    assert why.found.units == sum(sum(s.parts.values()) for s in why.found.shares)
