"""Damaged files for fuzz tests, and what a reader may do with them."""

import contextlib
import os
import struct
import tracemalloc

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from tinyprof_bridge.errors import BadInput

MORE = int(os.environ.get("TINYPROF_FUZZ", "0"))


def fuzz(examples):
    return settings(
        max_examples=examples * max(MORE, 1),
        derandomize=not MORE,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@contextlib.contextmanager
def refused_or_read(size):
    """What reads a damaged file of so many bytes may refuse it, in one line, and takes no memory without measure."""
    tracemalloc.start()
    try:
        yield
    except BadInput as error:
        assert "\n" not in str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 2 * size + (16 << 20)


class Fields:
    """(offset, struct format) of every size, count, type, offset and number in the header of a GGUF file."""

    def __init__(self, data):
        self.data = data
        self.at = 4
        self.found = []
        self.take("<I")
        tensors, keys = self.take("<Q"), self.take("<Q")
        for _ in range(keys):
            self.string()
            self.value(self.take("<I"))
        for _ in range(tensors):
            self.string()
            for _ in range(self.take("<I")):
                self.take("<Q")
            self.take("<I")
            self.take("<Q")

    def take(self, form):
        self.found.append((self.at, form))
        (value,) = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return value

    def string(self):
        size = self.take("<Q")
        self.at += size

    def value(self, type_):
        if type_ == 8:
            self.string()
        elif type_ == 9:
            item, count = self.take("<I"), self.take("<Q")
            for i in range(count):
                before = len(self.found)
                self.value(item)
                if 2 < i < count - 1:  # the first and the last of a long array are enough
                    del self.found[before:]
        else:
            self.take({4: "<I", 5: "<i", 6: "<f", 7: "<B"}[type_])


INTERESTING = [0, 1, 2, 3, 8, 9, 12, 13, 31, 32, 33, 127, 128, 255, 256, 288, 65535, 1 << 24, (1 << 24) + 1]


INTERESTING += [(1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]


NUMBERS = st.one_of(st.sampled_from(INTERESTING), st.integers(0, 100), st.integers(0, (1 << 64) - 1))


# a field by its place among all (taken modulo their number), and what to write there: a number, or one added
EDITS = st.tuples(st.integers(0, 10_000), st.one_of(NUMBERS, st.tuples(st.integers(-40, 40))))


CASES = st.tuples(st.lists(EDITS, max_size=4), st.one_of(st.none(), st.integers(0, 1 << 20)))


def patches(fields, data, edits):
    made = []
    for place, value in edits:
        at, form = fields[place % len(fields)]
        size = struct.calcsize(form)
        if isinstance(value, tuple):
            value = int.from_bytes(data[at : at + size], "little") + value[0]
        made.append((at, (value % (1 << 8 * size)).to_bytes(size, "little")))
    return made


TEXT = (b"9", b"-", b'"', b"[", b"]", b"{", b"}", b",", b"null", b"1e999", b"\xff", b"..", b"\0")


def mutated(rng, data):
    """A few changes near the begin, where sizes and names stand, or anywhere."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(min(len(data), rng.choice((64, 4096, len(data)))))
        match rng.randrange(6):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                data[at : at + 1] = rng.choice(TEXT)
            case 2:
                del data[at : at + rng.choice((1, 8, 100))]
            case 3:
                data[at:at] = data[: rng.choice((1, 8, 100))]
            case 4:
                size = rng.choice((1, 4, 8))
                data[at : at + size] = (rng.choice(INTERESTING) % (1 << 8 * size)).to_bytes(size, "little")
            case _:
                del data[rng.randrange(len(data)) if rng.randrange(4) == 0 else at :]
        if not data:
            return b""
    return bytes(data)
