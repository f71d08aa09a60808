"""Ceilings of this board, measured: what a product, an operator and a byte cost where all is hot or near.

Runs behind the tests, in the model's own arena and KV cache, whose content is lost."""

import gc
from array import array

import _tinyprof
from micropython import const

from . import llama, ops
from .records import CHUNK

_ROWS = const(16)  # of a product; half of them are measured too, so that a row's cost is told from a call's
_HOT = const(8192)  # bytes of weights that stay in any cache: fewer rows where rows are long
_FAR = const(65536)  # bytes that are swept: more than a small cache holds
_COPY = const(4096)  # copied: this and half of it, so that a byte's cost is told from a call's
_ROOMY = const(262144)  # bytes of heap, of which what is not yet collected may be left where it lies
_NEAR = const(16)  # a position of the KV cache, up to which all of it is hot
# operators that _in_order runs but once
_ONCE = (ops.MATMUL, ops.ROPE, ops.ADD, ops.SWIGLU, ops.GEGLU, ops.SCALE, ops.SOFTCAP, ops.BIAS)

# Bytes of a block, and where its fp16 scales lie.
BLOCKS = {
    "Q4_0": (18, (0,)),
    "Q4_1": (20, (0, 2)),
    "Q5_0": (22, (0,)),
    "Q5_1": (24, (0, 2)),
    "Q8_0": (34, (0,)),
    "Q2_K": (84, (80, 82)),
    "Q3_K": (110, (108,)),
    "Q4_K": (144, (0, 2)),
    "Q5_K": (176, (0, 2)),
    "Q6_K": (210, (208,)),
    "TQ1_0": (54, (52,)),
    "TQ2_0": (66, (64,)),
}
_SIGNED = ("F32", "F16", "Q4_0", "Q5_0", "Q3_K", "Q6_K")  # whose values or scales may be negative


def measure(model, counter, records, lengths=()):
    """Writes roof records. What does not fit the RAM is said to be left out.

    lengths: of the prefills that were measured."""
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
        # an emulator counts the same each time, and knows nothing of caches
        self.repetitions = 1 if counter.source in ("emulated-icount", "modelled") else 3
        self.again = 1 if self.repetitions == 1 else 1 + self.repetitions
        self.inputs = bytes(array("f", ((i * 37 & 63) / 32 - 1 for i in range(64))))  # of a product, over and over
        batch = model.arch.batch
        self.batches = sorted({1, batch} | {n % batch or batch for n in lengths})  # with what is left for a last batch

    def _write(self, what, **fields):
        self.records.write("roof", what=what, **fields)

    def calls(self):
        """An operator that has nothing to do: entering it, leaving it, one read of the counter."""
        plan = array("I", (ops.ADD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0))
        self._write("call", units=self._run(plan, 1, ops.control(), bytearray(16), bytearray(16))[0])

    def _run(self, plan, count, ctl, arena, weights):
        """Units of each record, once all is hot: the least of the repetitions."""
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
        """The operators of the first layer and outside of the layers but for products, on a model's own numbers: their
        cost depends on them where floats are a library's. At one position more attention alone."""
        arch = self.model.arch
        words = arch.plan.words
        middle = arch.body  # the end of the first layer
        while words[(middle - 1) * ops.WORDS + 10] >> 8 > 1:
            middle -= 1
        for n in reversed(self.batches):  # the batch first: it fills the KV cache for the single token
            near = min(_NEAR, arch.context - n)
            if n == 1 and arch.keys.window:  # attention to all positions is told from that of the first layer
                near = max(min(near, arch.keys.window - 1), 1)
            for pos in list(range(0, near, n if n == self.batches[-1] else near)) + [near]:
                acc = self._in_order(n, pos, middle, pos not in (0, near))
                if pos in (0, near):
                    for first, last in ((0, middle), (arch.body, 0 if pos else arch.plan.count)):
                        for at in range(first, last, CHUNK):
                            units = [self.counter.units(v) for v in acc[at : min(at + CHUNK, last)]]
                            self._write("hot", n=n, pos=pos, at=at, v=units)

    def _in_order(self, n, pos, middle, fill):
        """Ticks of each operator right after itself, those in place but once: a second time they had other numbers.
        fill: only what fills the KV cache."""
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
                continue  # its weights are not in the buffer now
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
        """Reading what is hot, RAM, where the weights lie, and through the filesystem; and copying into RAM."""
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
        """Units of calling do, the least of three: the heap may be searched for room meanwhile."""
        ctl, stamps = self.model.ctl, array("I", bytes(8))
        least = 1 << 62
        for _ in range(3):
            _tinyprof.stamp(ctl, stamps, 0)
            do(*arguments)
            _tinyprof.stamp(ctl, stamps, 1)
            least = min(least, self.counter.between(stamps[0], stamps[1]))
        return least

    def products(self):
        """Each type that this build has, those of the model first, with the model's rows."""
        noise = memoryview(_noise())
        # else weights come to lie amid what is free
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
        # the inputs as floats, for the kernel, and for the portable one; then the results
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
    """A matrix like one of a model: rows differ, and scales have the signs that quantizing gives, as many of both.
    Without FPU that matters, and few rows of a model have more of one sign than all have."""
    data = memoryview(bytearray(rows * row))
    for at in range(0, len(data), len(noise)):
        data[at : at + len(noise)] = noise[: len(data) - at]
    name = ops.TYPES[type_]
    together = ops.together(type_)
    if together > 1:  # of our own: a float for each row
        size, tops, top = together * row, range(2, 4 * together, 4), 0x3C20
    elif type_ == ops.F32:
        size, tops, top = 4, (2,), 0x3C20
    else:
        size, tops = BLOCKS.get(name, (2, (0,)))
        top = 0x2410
    sign = 0x80 if name in _SIGNED else 0
    period = 2 * size * len(noise)  # after which all is as before
    for at in range(0, min(len(data), period), size):
        for offset in tops:
            data[at + offset] = top & 0xF0 | data[at + offset] & 15
            data[at + offset + 1] = top >> 8 | sign
        sign ^= 0x80 if name in _SIGNED else 0
    for at in range(period, len(data), period):
        data[at : at + period] = data[: min(period, len(data) - at)]
    return data


def _noise():
    """A prime number of bytes, which over and over give no two blocks that are the same."""
    noise, x = bytearray(251), 1
    for i in range(len(noise)):
        # times 69069, in halves: what has more than 30 bits takes room in the heap
        x = (x & 0xFFF) * 69069 + (((x >> 12) * 69069 & 0xFFF) << 12) + 1 & 0xFFFFFF
        noise[i] = x >> 16
    return noise
