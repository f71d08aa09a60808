"""A model file that is read piece by piece while the model runs, for models larger than RAM.

Records of the plan are put into groups whose weights are close together in the file. A buffer takes the weights of a
group, then its records run. Of the embedding only the rows of the current tokens are read."""

import gc
from array import array

import _tinyprof
from micropython import const

from . import ops
from .errors import ModelError

_B = const(3)  # the word of a record that is the place of its weights
_HEADER = const(16384)  # bytes of the file that are first tried as its header


class Stream:
    """Runs a plan whose weights are in a file.

    file: open for reading, and seekable; allocate: a function of (size, name) that returns a bytearray.

    header: a memoryview of the beginning of the file; size: bytes of the file; buffer: a memoryview for weights;
    bytes_per_token, reads: bytes and reads for a decoded token.

    Raises ModelError if the file cannot be read, or RAM is short."""

    def __init__(self, file, allocate):
        self.file = file
        self.size = file.seek(0, 2)
        self._allocate = allocate
        self.header = self._head(_HEADER)
        self.buffer = None

    def _head(self, size):
        size = min(size, self.size)
        data = self._allocate(size, "the header of the model file")
        self.file.seek(0)
        if self.file.readinto(data) != size:
            raise ModelError("cannot read the header of the model file")
        return memoryview(data)

    def longer_header(self):
        """Whether there was more of the file: doubles header."""
        size = len(self.header)
        self.header = None
        gc.collect()
        if size == self.size:
            return False
        self.header = self._head(2 * size)
        return True

    def room(self, size):
        """Makes the buffer of size bytes, into which each piece of weights must fit."""
        gc.collect()
        self.buffer = memoryview(self._allocate(size, "the largest tensor of a layer"))

    def scan(self, offset, type_, rows, cols):
        """What _tinyprof.scan returns for a tensor in the file. offset: in bytes; type_: number of the type."""
        row = _tinyprof.row_bytes(type_, cols)
        together = ops.together(type_)
        step = max(len(self.buffer) // row // together * together, 1)
        top = 0
        self.file.seek(offset)
        for first in range(0, rows, step):
            n = min(step, rows - first)
            self._read(self.buffer[: n * row])
            found = _tinyprof.scan(self.buffer, 0, type_, n, cols)
            if found == 0:
                return 0
            top = max(top, found)
        return top

    def read(self, offset, size):
        """size bytes of the file from offset."""
        self.file.seek(offset)
        return self.file.read(size)

    def sha256(self):
        """The SHA-256 of the file, 32 bytes."""
        import hashlib

        digest = hashlib.sha256()
        self.file.seek(0)
        for at in range(0, self.size, len(self.buffer)):
            piece = self.buffer[: min(len(self.buffer), self.size - at)]
            self._read(piece)
            digest.update(piece)
        return digest.digest()

    def read_first(self, piece):
        """Fills piece, a memoryview, with the beginning of the file."""
        self.file.seek(0)
        self._read(piece)

    def _read(self, piece):
        if self.file.readinto(piece) != len(piece):
            raise ModelError("the model file cannot be read any more: was the card or drive removed?")

    def prepare(self, plan, body, batch):
        """Puts the records of a finished plan into groups and changes their offsets to those in the buffer.

        plan: a plan.Plan; body: number of its records before the output head; batch: tokens of a run at most.

        Raises ModelError if the buffer is too small for the embedding rows of a batch."""
        words = plan.words
        self._plan = words
        self._groups = []  # [first record, records, offset in the file, piece of the buffer or None]
        self._lap = array("I", (0,))
        self.bytes_per_token = self.reads = 0
        first = start = end = 0
        for i in range(plan.count + 1):
            at = i * ops.WORDS
            own = i < plan.count and words[at + _B] >> 30 == ops.WEIGHTS >> 30
            op = words[at] & 0xFF if own else 0
            embed = op == ops.EMBED
            begin = size = 0
            if own and not embed:
                begin = words[at + _B] & 0x3FFFFFFF
                rows = words[at + 4] if op == ops.MATMUL else 1
                size = rows * _tinyprof.row_bytes(words[at] >> 8 & 0xFF, words[at + 5])
            low, high = (min(start, begin), max(end, begin + size)) if end else (begin, begin + size)
            # the head is left out in prefill, and the embedding is read by rows
            if i == plan.count or i == body or embed or (size and high - low > len(self.buffer)):
                self._close(first, i, start, end)
                first, start, end = i, begin, begin + size
            elif size:
                start, end = low, high
            if embed:
                self._embed(at, batch)
                first = i + 1
        for group in self._groups:
            if group[3]:
                self.reads += 1
                self.bytes_per_token += len(group[3])
                for i in range(group[0], group[0] + group[1]):
                    at = i * ops.WORDS
                    if words[at + _B] >> 30 == ops.WEIGHTS >> 30:
                        words[at + _B] -= group[2]

    def _close(self, first, i, start, end):
        if i > first:
            self._groups.append([first, i - first, start, self.buffer[: end - start] if end else None])

    def _embed(self, at, batch):
        words = self._plan
        type_ = words[at] >> 8 & 0xFF
        self._rows = ops.together(type_)
        size = self._rows * _tinyprof.row_bytes(type_, words[at + 5])
        if batch * size > len(self.buffer):
            raise ModelError("a batch of %d does not fit the buffer for streaming: use a smaller one" % batch)
        self._vocab = words[at + 4]
        self._table = words[at + _B] & 0x3FFFFFFF
        self._pieces = [self.buffer[i * size : (i + 1) * size] for i in range(batch)]
        self._tokens = array("I", bytes(4 * batch))
        words[at + _B] = ops.WEIGHTS
        self._groups.append([at // ops.WORDS, 1, 0, None])
        self._embeds = len(self._groups) - 1
        self.reads += 1
        self.bytes_per_token += size

    def run(self, count, ctl, arena, kv, acc):
        """Runs the first count records; count is the end of a group.

        ctl: a control block; arena, kv: writable buffers; acc: an array('Q') or None, whose last entry takes the time
        of reading."""
        for i in range(len(self._groups)):
            group = self._groups[i]
            first = group[0]
            if first >= count:
                return
            if i == self._embeds:
                self._embedding(ctl, arena, kv, acc)
                continue
            if group[3] is not None:
                self._begin(ctl, acc)
                self.file.seek(group[2])
                self._read(group[3])
                self._end(ctl, acc)
            _tinyprof.run(self._plan, first, group[1], ctl, arena, kv, self.buffer, acc)

    def _embedding(self, ctl, arena, kv, acc):
        n, tokens, rows = ctl[ops.N], self._tokens, self._rows
        self._begin(ctl, acc)
        for i in range(n):
            token = tokens[i] = ctl[ops.TOKENS + i]
            if token >= self._vocab:
                raise ValueError("unknown operator or token")
            piece = self._pieces[i]
            self.file.seek(self._table + token // rows * len(piece))
            self._read(piece)
            ctl[ops.TOKENS + i] = i * rows + token % rows
        self._end(ctl, acc)
        first = self._groups[self._embeds][0]
        _tinyprof.run(self._plan, first, 1, ctl, arena, kv, self.buffer, acc)
        for i in range(n):
            ctl[ops.TOKENS + i] = tokens[i]

    def _begin(self, ctl, acc):
        if acc is not None:
            _tinyprof.stamp(ctl, self._lap, 0)

    def _end(self, ctl, acc):
        if acc is not None:
            _tinyprof.lap(ctl, self._lap, acc, len(acc) - 1)
