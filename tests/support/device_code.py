"""Code for boards that several tests run."""

LOAD = """
import tinyprof
try:
    print("loaded", tinyprof.load({source!r}, context=16))
except ValueError as e:
    print(type(e).__name__, e)
"""


# Many files in one run: each is good.gguf with patches, a list of (offset, bytes), cut to size.
FUZZ = """
import tinyprof, gc
with open({source!r}, "rb") as f:
    good = f.read()
for size, patches in {cases!r}:
    data = bytearray(good[:size])
    for at, new in patches:
        data[at:at + len(new)] = new
    try:
        m = tinyprof.load(data[:size], context=8, batch=2)
        m.prefill([1, 2, 3])
        print("ok")
    except ValueError as e:
        print(type(e).__name__, e)
    m = data = None
    gc.collect()
"""
