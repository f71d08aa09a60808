"""Builds a plan: records for the executor, and the places of their buffers in one arena.

A buffer is in use from the first record that names it to the last. Buffers that are never in use together share
memory. The largest is placed first, each at the lowest offset that is free while it is in use."""

from array import array

from . import ops


class Plan:
    """A plan under construction. roles: the name of each role number in a record's tag.

    words: records of ops.WORDS words of 32 bits, an array('I') (executor.h); count: of records; arena_bytes: size of
    the arena, after finish()."""

    def __init__(self, roles):
        self.roles = roles
        self.words = array("I")
        self.count = 0
        self.arena_bytes = 0
        self._buffers = []  # until finish(): [bytes, first record, last record, offset]
        self._uses = []  # (word, buffer)

    def buffer(self, size, always=False):
        """A new Buffer of size bytes in the arena. always: it keeps its content between runs."""
        life = [size + 15 & ~15, 0 if always else 1 << 24, 1 << 24 if always else -1, 0]
        self._buffers.append(life)
        return Buffer(len(self._buffers) - 1)

    def add(self, op, role, layer, dst, a=0, b=0, rows=1, cols=0, p=(), type=0, flags=0, p4=0):
        """Appends a record.

        op: number of the operator; role: one of roles; layer: from 1, 0 outside the layers; dst, a, b: operands, each a
        Buffer or a word of region | byte offset; rows, cols: of the weights; p, p4: parameters, at most four and one;
        type: number of the weights' type; flags: of ops."""
        words = [op | type << 8 | flags << 16, dst, a, b, rows, cols]
        words.extend(p)
        words.extend([0] * (10 - len(words)))
        words.append(layer << 8 | self.roles.index(role))
        words.append(p4)
        for i, word in enumerate(words):
            if isinstance(word, Buffer):
                life = self._buffers[word.index]
                life[1] = min(life[1], self.count)
                life[2] = max(life[2], self.count)
                self._uses.append((len(self.words) + i, word.index))
                words[i] = word.at
        self.words.extend(array("I", words))
        self.count += 1

    def finish(self):
        """Places the buffers in the arena and writes their offsets into the records."""
        placed = []
        # MicroPython's sort is not stable: equals are ordered by first use, so that the host makes the same plan
        for life in sorted(self._buffers, key=lambda b: (-b[0], b[1], b[2])):
            others = sorted((o for o in placed if o[1] <= life[2] and life[1] <= o[2]), key=lambda b: b[3])
            offset = 0
            for other in others:
                if other[3] - offset >= life[0]:
                    break
                offset = max(offset, other[3] + other[0])
            life[3] = offset
            placed.append(life)
            self.arena_bytes = max(self.arena_bytes, offset + life[0])
        self.offsets = array("I", [life[3] for life in self._buffers])
        for at, index in self._uses:
            self.words[at] += self.offsets[index]
        self._uses = self._buffers = None

    def offset(self, buffer):
        """The byte offset of a Buffer in the arena, after finish()."""
        return self.offsets[buffer.index]

    def describe(self, i):
        """(operator, role, layer or -1, tensor type, rows, cols, p2, window) of record i."""
        w = self.words
        at = i * ops.WORDS
        layer = w[at + 10] >> 8
        return (
            ops.NAMES[w[at] & 0xFF],
            self.roles[w[at + 10] & 0xFF],
            layer - 1,
            ops.TYPES[w[at] >> 8 & 0xFF],
            w[at + 4],
            w[at + 5],
            w[at + 8],
            w[at + 9] if w[at] & 0xFF == ops.ATTENTION else 0,
        )


class Buffer:
    """A place in a buffer of a plan. index: number of the buffer; at: bytes from its start."""

    def __init__(self, index, at=0):
        self.index = index
        self.at = at

    def __add__(self, size):
        return Buffer(self.index, self.at + size)
