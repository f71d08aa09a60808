"""Measures the ceilings of this board: the cost of a product, an operator and a byte when the data is in the cache.

Runs after the tests, in the model's own arena and KV cache, whose content is lost. The records have the kind roof."""

import gc
from array import array

import _tinyprof
from micropython import const

from . import llama, ops
from .records import CHUNK
from .weight_types import layout

_ROWS = const(16)  # of a product; half of them are measured too, to separate the cost of a row from that of a call
_HOT = const(8192)  # bytes of weights that fit any cache: fewer rows where rows are long
_FAR = const(65536)  # bytes that are swept: more than a small cache holds
_COPY = const(4096)  # bytes that are copied; half of them too, to separate the cost of a byte from that of a call
_ROOMY = const(262144)  # free bytes of heap from which on garbage need not be collected before each product
_NEAR = const(16)  # a position of the KV cache up to which all of it is in the cache
# operators that _in_order runs only once, since they work in place
_ONCE = (ops.MATMUL, ops.ROPE, ops.ADD, ops.SWIGLU, ops.GEGLU, ops.SCALE, ops.SOFTCAP, ops.BIAS)


def measure(model, counter, records, lengths=()):
    """Writes roof records. What does not fit into RAM has a record that says so.

    model: a session.Model; counter: a counters.Counter; records: a records.Records; lengths: numbers of tokens of the
    prefills that were measured."""
    roof = _Roof(model, counter, records, lengths)
    for part in (roof.calls, roof.hot, roof.reading, roof.products):
        gc.collect()
        try:
            part()
        except MemoryError as e:
            gc.collect()  # the record needs room as well
            records.write("roof", what="skipped", reason="%s: %s" % (part.__name__, e))
    llama.fill_freqs(model.arch, model.arena)
    model.pos = 0


class _Roof:
    def __init__(self, model, counter, records, lengths):
        self.model = model
        self.counter = counter
        self.records = records
        plan = model.arch.plan
        matmuls = [plan.describe(i) for i in range(plan.count) if plan.words[i * ops.WORDS] & 0xFF == ops.MATMUL]
        self.cols = sorted({m[5] for m in matmuls})
        self.types = {m[3] for m in matmuls}
        # an emulator counts the same each time and has no caches
        self.repetitions = 1 if counter.source in ("emulated-icount", "modelled") else 3
        self.again = 1 if self.repetitions == 1 else 1 + self.repetitions
        self.inputs = bytes(array("f", ((i * 37 & 63) / 32 - 1 for i in range(64))))  # of a product, repeated
        batch = model.arch.batch
        self.batches = sorted({1, batch} | {n % batch or batch for n in lengths})  # and the sizes of last batches

    def _write(self, what, **fields):
        self.records.write("roof", what=what, **fields)

    def calls(self):
        """Writes the cost of an operator without work: entering it, leaving it, one reading of the counter."""
        plan = array("I", (ops.ADD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0))
        self._write("call", units=self._run(plan, 1, ops.control(), bytearray(16), bytearray(16))[0])

    def _run(self, plan, count, ctl, arena, weights):
        """Units of each record with warm caches: the least of the repetitions."""
        self.counter.select(ctl)
        if self.repetitions > 1:
            _tinyprof.run(plan, 0, count, ctl, arena, arena, weights, None)
        least = [1 << 62] * count
        for _ in range(self.repetitions):
            acc = array("Q", bytes(8 * count))
            _tinyprof.run(plan, 0, count, ctl, arena, arena, weights, acc)
            least = [min(a, b) for a, b in zip(least, acc)]
        return [self.counter.units(v) for v in least]

    def hot(self):
        """Writes the cost of the operators of the first layer and outside the layers, except products.

        They run on the model's own numbers, since those decide the cost where floats are computed by a library. At a
        second position only attention is measured."""
        arch = self.model.arch
        words = arch.plan.words
        middle = arch.body  # the end of the first layer
        while words[(middle - 1) * ops.WORDS + 10] >> 8 > 1:
            middle -= 1
        for n in reversed(self.batches):  # the batch first: it fills the KV cache for the single token
            near = min(_NEAR, arch.context - n)
            if n == 1 and arch.keys.window:  # the first layer stands for attention to all positions
                near = max(min(near, arch.keys.window - 1), 1)
            for pos in list(range(0, near, n if n == self.batches[-1] else near)) + [near]:
                acc = self._in_order(n, pos, middle, pos not in (0, near))
                if pos in (0, near):
                    for first, last in ((0, middle), (arch.body, 0 if pos else arch.plan.count)):
                        for at in range(first, last, CHUNK):
                            units = [self.counter.units(v) for v in acc[at : min(at + CHUNK, last)]]
                            self._write("hot", n=n, pos=pos, at=at, v=units)

    def _in_order(self, n, pos, middle, fill):
        """Ticks of each operator directly after itself. Operators in place run once: a second run has other numbers.

        n: tokens; pos: position of the first; middle: number of the first record of the second layer; fill: only fill
        the KV cache."""
        model, arch = self.model, self.model.arch
        words, ctl = arch.plan.words, model.ctl
        weights = model.stream.buffer if model.stream else model.data
        acc = array("Q", bytes(8 * arch.plan.count))
        ctl[ops.POS] = pos
        ctl[ops.N] = n
        for i in range(n):
            ctl[ops.TOKENS + i] = ((pos + i) * 7919 + 13) % arch.vocab
        for i in range(arch.plan.count):
            at = i * ops.WORDS
            op = words[at] & 0xFF
            if model.stream and words[at + 3] >> 30 == ops.WEIGHTS >> 30:
                continue  # the weights are not in the buffer now
            if middle <= i and (pos or i < arch.body):
                continue
            once = fill or op in _ONCE
            least = 0
            for again in range(1 if once or (pos and op != ops.ATTENTION) else self.again):
                acc[i] = 0
                _tinyprof.run(words, i, 1, ctl, model.arena, model.kv, weights, acc)
                least = min(least, acc[i]) if again > 1 else acc[i]
            acc[i] = 0 if op == ops.MATMUL or (pos and op != ops.ATTENTION) else least
        return acc

    def _sweep(self, place, data):
        data = memoryview(data)[: min(len(data), _FAR) & ~63]
        ctl = self.model.ctl
        nothing = _tinyprof.sweep(ctl, data[:0])
        ticks = min(_tinyprof.sweep(ctl, data) for _ in range(self.again))
        if len(data):
            self._write("read", place=place, bytes=len(data), units=self.counter.units(max(ticks - nothing, 0)))

    def reading(self):
        """Writes the cost of reading from cache, RAM, mapped weights or the filesystem, and of copying into RAM."""
        model, counter = self.model, self.counter
        counter.select(model.ctl)
        self._sweep("hot", memoryview(model.arena)[:_COPY])
        self._sweep("ram", model.kv if len(model.kv) > len(model.arena) else model.arena)
        if model.stream:
            piece, read = model.stream.buffer, model.stream.read_first
            half = len(piece) // 2
            few, many = self._stamped(read, piece[:half]), self._stamped(read, piece)
            self._write("read", place="storage", bytes=len(piece) - half, units=max(many - few, 0))
            return
        if model.placement == "mapped":
            self._sweep("mapped", model.data)
        size = min(_COPY, len(model.data)) & ~1
        room = bytearray(size)
        few = self._stamped(self._copy, memoryview(room)[: size // 2], model.data[: size // 2])
        many = self._stamped(self._copy, memoryview(room), model.data[:size])
        self._write("read", place="copy", bytes=size // 2, units=max(many - few, 0))

    def _copy(self, to, source):
        to[:] = source

    def _stamped(self, do, *arguments):
        """Units of calling do: the least of three, since a call may search the heap."""
        ctl, stamps = self.model.ctl, array("I", bytes(8))
        least = 1 << 62
        for _ in range(3):
            _tinyprof.stamp(ctl, stamps, 0)
            do(*arguments)
            _tinyprof.stamp(ctl, stamps, 1)
            least = min(least, self.counter.between(stamps[0], stamps[1]))
        return least

    def products(self):
        """Writes the cost of products of each type that this build has, with the model's lengths of rows. The model's
        own types are first."""
        noise = memoryview(_noise())
        # otherwise weights would be placed in the middle of free memory
        tight = not hasattr(gc, "mem_free") or gc.mem_free() < _ROOMY
        for type_ in sorted(ops.TYPES, key=lambda t: (ops.TYPES[t] not in self.types, t)):
            for cols in self.cols:
                row = _tinyprof.row_bytes(type_, cols)
                rows = _ROWS if _ROWS * row <= _HOT else _ROWS // 2
                weights = None
                for n in self.batches if row else ():
                    if tight:
                        gc.collect()
                    try:
                        weights = weights or _weights(type_, rows, row, noise)
                        self._product(type_, cols, n, rows, weights)
                    except MemoryError:
                        weights = None
                        gc.collect()
                        free = gc.mem_free() if hasattr(gc, "mem_free") else 0
                        self._write(
                            "skipped",
                            reason="%s with rows of %d, %d tokens: %d bytes of RAM are free"
                            % (ops.TYPES[type_], cols, n, free),
                        )

    def _product(self, type_, cols, n, rows, weights):
        name = ops.TYPES[type_]
        scan = _tinyprof.scan(weights, 0, type_, rows, cols)
        quantized = type_ not in (ops.F32, ops.F16)
        # arena: inputs as floats, quantized for the kernel, and for the portable kernel; then the results
        size = ops.activation_bytes(cols, type_) if quantized else 0
        int16 = ops.INT16 if quantized and self.model.arch.activations == 16 else 0
        times = 2 * n if int16 else n
        own = n * cols * 4 + 15 & ~15
        other = own + times * size + 15 & ~15
        y = other + (times * ops.activation_bytes(cols) if quantized else 0) + 15 & ~15
        arena = bytearray(y + times * rows * 4)
        arena[: n * cols * 4] = (self.inputs * (cols // 64 + 1))[: cols * 4] * n
        a, b = (own, other) if quantized else (0, 0)
        compare = n == 1 and name in self.types
        plan = array("I")
        for op, flags, dst, src, count in (
            (ops.QUANTIZE if quantized else ops.ADD, int16, own, 0, 1),
            (ops.MATMUL, int16, y, a, rows // 2),
            (ops.MATMUL, int16, y, a, rows),
            (ops.EMBED, 0, 0, 0, rows),
            (ops.QUANTIZE if quantized else ops.ADD, int16 | ops.PORTABLE, other, 0, 1),
            (ops.MATMUL, int16 | ops.PORTABLE, y, b, rows),
        ):
            width = 0 if op == ops.ADD else cols
            plan.extend(array("I", (op | type_ << 8 | flags << 16, dst, src, ops.WEIGHTS, count, width)))
            plan.extend(array("I", (0, 0, size, scan, 0, 0)))
        ctl = ops.control(n)
        ctl[ops.N] = n
        units = self._run(plan, 6 if compare else 4, ctl, arena, weights)
        self._write(
            "product",
            type=name,
            cols=cols,
            n=n,
            rows=[rows // 2, rows],
            v=units[1:3],
            quantize=units[0] if quantized else 0,
            embed=units[3],
            portable=units[5] if compare else None,
        )


def _weights(type_, rows, row, noise):
    """The bytes of a matrix like those of models: rows differ, and scales have the signs that quantizing gives, equally
    often. Without an FPU signs change the cost, and a few rows of a model would not have the usual share."""
    data = memoryview(bytearray(rows * row))
    for at in range(0, len(data), len(noise)):
        data[at : at + len(noise)] = noise[: len(data) - at]
    _, size, together, signed, *tops = layout(ops.TYPES[type_])
    top = 0x2410
    if together > 1:  # a float for each row
        size, tops, top = together * row, range(2, 4 * together, 4), 0x3C20
    elif type_ == ops.F32:
        tops, top = (2,), 0x3C20
    elif type_ == ops.F16:
        tops = (0,)
    sign = 0x80 * signed
    period = 2 * size * len(noise)  # after which the bytes repeat
    for at in range(0, min(len(data), period), size):
        for offset in tops:
            data[at + offset] = top & 0xF0 | data[at + offset] & 15
            data[at + offset + 1] = top >> 8 | sign
        sign ^= 0x80 * signed
    for at in range(period, len(data), period):
        data[at : at + period] = data[: min(period, len(data) - at)]
    return data


def _noise():
    """A prime number of random bytes, so that repeating them gives no two equal blocks."""
    noise, x = bytearray(251), 1
    for i in range(len(noise)):
        # times 69069, in halves: an integer of more than 30 bits would be allocated in the heap
        x = (x & 0xFFF) * 69069 + (((x >> 12) * 69069 & 0xFFF) << 12) + 1 & 0xFFFFFF
        noise[i] = x >> 16
    return noise
