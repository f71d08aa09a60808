"""Code that profiles a model under a sensor's model, on a virtual clock."""

from on_board import ROOT

MODEL = (ROOT / "tests/support/ina_model.py").read_text()


# A model whose tokens take time and current of the virtual clock: 20 mA asleep, 60 mA in decode, 80 in prefill.
PROFILE = """
import tinyprof
from tinyprof import ina, power
clock = Clock()
activity = Activity(clock, 20000)
bus = Bus(clock)
bus.chips[0x40] = chip = CHIPS[{chip!r}](Load(activity, 3300, {mohm}), 100000, {noise})
def work(on, level=60000):
    activity.set(level if on else 20000)
clock.work = work
m = tinyprof.load({source!r}, context=32)
step, prefill = m.step, m.prefill
def slow_step(token, acc=None):
    {fault}
    work(True)
    clock.sleep(25000)
    work(False)
    return step(token, acc)
def slow_prefill(tokens, *args):
    work(True, 80000)
    clock.sleep(5000 * len(tokens))
    work(False)
    return prefill(tokens, *args)
m.step, m.prefill = slow_step, slow_prefill
driver = ina.CHIPS[{chip!r}](bus, 0x40, 100000, {max_ma})
meter = power.Meter(driver, board=clock, **{options!r})
m2 = tinyprof.profile(m, p=(8,), n=(8,), r=1, power=meter)
"""
