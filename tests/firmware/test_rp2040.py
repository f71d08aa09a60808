"""The RP2040 in its simulator: real rp2 firmware, its USB serial port, its own counters (`make rp2040` builds them)."""

import subprocess
import sys

import pytest
from bridge import bridge
from models import make_model
from on_board import board
from tinyprof_bridge.boards import emulators
from tinyprof_bridge.boards.emulators import Emulator
from tinyprof_bridge.boards.transport import SerialBoard
from tinyprof_bridge.errors import BadInput
from tinyprof_bridge.measure import collect as collect_
from tinyprof_bridge.models.demo import DEMO_MODEL
from tinyprof_bridge.records import metrics, runs

DEMO = DEMO_MODEL


@pytest.fixture(autouse=True)
def built():
    for name in ("rp2040", "rp2040-stock"):
        try:
            emulators.firmware(name)
        except BadInput as error:
            pytest.skip(str(error))


def collect(name, model, folder, *options):
    done = bridge("collect", "--board", name, "--model", model, *options, cwd=folder, timeout=240)
    assert done.returncode == 0, done.stderr
    (path,) = (folder / "results").glob("*.jsonl")
    return runs.load(path), done.stderr


def test_the_demo_is_profiled_with_the_golden_logits(tmp_path):
    run, _ = collect("rp2040", DEMO, tmp_path, "-p", "4", "-n", "4", "-r", "1")
    assert run.correctness == "match"
    assert "RP2040" in run.begin.machine and run.begin.native.kernels == "armv6m"
    counter = run.counter
    assert (counter.name, counter.source, counter.unit) == ("systick", "modelled", "cycles")
    assert run.memory.heap_total < 264 << 10
    per_token = metrics.tests(run).set_index("test").loc["tg4", "per_token"]
    # 868,352 products at 3.3 instructions, of which loads and taken branches take two cycles
    assert 3.5 < per_token / 868_352 < 8


def test_stock_firmware_is_deployed_to_over_usb(tmp_path):
    model = make_model(tmp_path / "m.gguf", type_="Q8_0", context=32)
    run, said = collect("rp2040-stock", model, tmp_path, "-p", "4", "-n", "4", "-r", "1", "--stream")
    assert run.correctness == "match"
    assert "native modules of armv6m" in said and "no ROMFS" in said and "into the filesystem" in said
    assert run.model.placement == "stream"


SWEEP = """
import machine, sys, time
class remote:
    @staticmethod
    def main(*_):
        t = time.ticks_us()
        for _ in range(2000):
            pass
        print(machine.freq(), time.ticks_diff(time.ticks_us(), t))
sys.modules["tinyprof.host_entry"] = remote
"""


def test_the_clock_that_a_sweep_sets_and_sets_back():
    """What --freq runs, in real firmware: the same cycles take longer at a slower clock."""
    place = collect_.Place(None, "/rom/m", {}, None, None)
    code = SWEEP
    for mhz in (48, 96, None):
        code += collect_._code(collect_.Request("rp2040", DEMO, mhz=mhz), place, "x", None)
    with board("rp2040") as b:
        (slow, us), (fast, fewer), (before, fewest) = (map(int, x.split()) for x in b.run(code).splitlines())
    assert (slow, fast, before) == (48_000_000, 96_000_000, 125_000_000)
    assert us * 48 == pytest.approx(fewer * 96, rel=0.01) == pytest.approx(fewest * 125, rel=0.01)


def test_cycles_are_those_of_the_manual_and_go_on_behind_24_bits():
    # Cortex-M0+: one cycle for SUBS, two for a branch that is taken
    code = (
        "from tinyprof import counters\nc=counters.find()\n"
        "for n in (1000,100000,7000000):\n print(c.spin(2*n)-c.spin(n)-3*n)\n"
    )
    with board("rp2040") as b:
        *short, long = map(int, b.run(code).split())
    assert short == [0, 0]
    assert abs(long) <= 2  # the simulator's SysTick is one cycle short each turn


def test_a_reset_chip_comes_back_with_its_files():
    with Emulator("rp2040-stock") as emulator:
        link = SerialBoard(emulator.device)
        link.execute("f=open('kept','w')\nf.write('yes')\nf.close()")
        link.close()
        subprocess.run(
            [sys.executable, "-m", "mpremote", "connect", emulator.device, "reset"], check=True, capture_output=True
        )
        link = SerialBoard(emulator.device)
        assert link.execute("print(open('kept').read())").strip() == b"yes"
        link.close()
