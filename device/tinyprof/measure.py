"""Measures a model and streams records. Nothing is allocated or printed inside a measured region.

Tests have the names of llama-bench: pp64 is prefill of 64 tokens, tg32 @ d64 is decode of 32 tokens after 64 that are
already in the KV cache."""

import gc
import sys
from array import array

try:
    from time import ticks_diff, ticks_ms
except ImportError:  # then a counter has no rate
    pass

import _tinyprof

from . import __version__, counters, ops
from .errors import ModelError
from .records import Records

_CHECK_PROMPT = 8
_CHECK_TOKENS = 16
_ROOF_RAM = 8192  # bytes that must be free for an attempt at the ceilings


def profile(
    model,
    p=(16, 64),
    n=(32,),
    d=(0,),
    r=5,
    warmup=1,
    run=None,
    out=None,
    meta=None,
    power=None,
    text=None,
    events=None,
    cold=(),
):
    """A Summary of the model's speed and memory. Prints records, one JSON object per line.

    model: from load; p: numbers of tokens to prefill; n: numbers of tokens to decode; d: depths, numbers of tokens
    that are in the KV cache before; r: repetitions of each test; warmup: runs before them that do not count; run: id
    of the run, None for a random one; out: function of a line, default print; meta: a dict for the begin record;
    power: a power.Meter, or a dict of arguments for power.open_meter, to run every test again under it; text: tokens
    of a text without BOS, to measure perplexity; events: names of events to count, an empty list for all that the
    board has; cold: of "cache" and "sleep", see cold_start.

    Raises ModelError if a test does not fit in the context. The records then end with ok false."""
    records = Records(run or _run_id(), out)
    try:
        if isinstance(power, dict):
            from .power import open_meter

            power = open_meter(**power)
        counter = counters.find()
        if events is not None:
            from .events import Events

            events = Events(events, counter)
        if cold:
            from .cold_start import ways_of

            cold = ways_of(cold, counter.source)
        summary = Summary(model, counter)
        _Profile(model, counter, records, summary, events).run(p, n, d, r, warmup, meta or {}, power, text, cold)
    except BaseException as e:
        # Also on Ctrl-C: earlier records stay valid, and the reader sees that the run is incomplete.
        records.end(e)
        raise
    records.end()
    return summary


def _run_id():
    """Eight hexadecimal digits that distinguish the runs of a board."""
    try:
        import os

        return "%08x" % int.from_bytes(os.urandom(4), "big")
    except (ImportError, AttributeError):
        return "%08x" % _tinyprof.crc32(str(_allocated()), 0)


def begin(records, counter, **fields):
    """Writes the begin and counter records of a run. Returns the counter's rate in units per second by the board's own
    clock, None if it is not known.

    records: a records.Records; counter: a counters.Counter; fields: of the begin record."""
    implementation = sys.implementation
    abi, variant, compiler, flags, path = _tinyprof.build()
    records.write(
        "begin",
        tinyprof=__version__,
        machine=getattr(implementation, "_machine", "?"),
        platform=sys.platform,
        micropython=".".join(str(v) for v in implementation[1][:3]),
        build=sys.version,
        mpy=getattr(implementation, "_mpy", 0),
        clock_hz=_clock(),
        native={"abi": abi, "kernels": variant, "compiler": compiler, "flags": flags, "path": path},
        **fields,
    )
    rate, clock, hz = counter.rate() or (None, None, None)
    records.write(
        "counter",
        name=counter.name,
        source=counter.source,
        unit=counter.unit,
        resolution=[counter.num, counter.den],
        wrap=counter.modulus,
        read_cost=counter.cost(),
        rate=rate,
        clock=clock,
        clock_hz=hz,
    )
    return None if counter.second else rate


def check(model):
    """(CRC-32, prompt length, tokens) of greedy decoding after a fixed prompt.

    The CRC is over all logits, so a wrong kernel changes it. It has eight hexadecimal digits. model: from load."""
    prompt = min(_CHECK_PROMPT, model.arch.context // 2)
    count = min(_CHECK_TOKENS, model.arch.context - prompt)
    model.pos = 0
    model.prefill([model.tokenizer.bos] + [(i * 31 + 7) % model.arch.vocab for i in range(1, prompt)])
    tokens = []
    crc = _tinyprof.crc32(model.logits, 0)
    token = model.ctl[ops.NEXT]
    for _ in range(count):
        tokens.append(token)
        token = model.step(token)
        crc = _tinyprof.crc32(model.logits, crc)
    return "%08x" % crc, prompt, tokens


class _Profile:
    def __init__(self, model, counter, records, summary, events):
        self.model = model
        self.events = events
        self.counter = counter
        self.records = records
        self.summary = summary
        self.heap_peak = 0
        self.allocated = 0

    def run(self, p, n, d, r, warmup, meta, power, text, cold):
        model, arch = self.model, self.model.arch
        longest = max(d) + max(max(p or (0,)), max(n or (0,)))
        if longest > arch.context:
            raise ModelError("needs a context of %d, the model is loaded with %d" % (longest, arch.context))
        if r < 1 or warmup < 0 or not (p or n) or min(tuple(p) + tuple(n) + (1,)) < 1 or min(d) < 0:
            raise ModelError("p, n and r must be positive, d and warmup not negative")
        if any(len(set(lengths)) < len(lengths) for lengths in (p, n, d)):
            raise ModelError("p, n and d must not repeat a number: use r for repetitions")
        self._begin(r, warmup, meta)
        self.counter.select(model.ctl)
        self.stamps = array("I", bytes(4 * (max(max(n or (0,)), max(p or (0,)), 8) + 2)))
        self._cold("load")
        self._check()
        self.acc = array("Q", bytes(8 * (arch.plan.count + (1 if model.stream else 0))))
        # token ids spread over the vocabulary, the same in every run
        self.tokens = array("I", ((i * 7919 + 13) % arch.vocab for i in range(max(max(p or (1,)), max(d), 1))))
        _tinyprof.mark_ranges(model.data, model.arena, model.kv, arch.plan.words)
        gc.collect()
        for depth in d:
            for length in p:
                self._test("pp", length, depth, r, warmup)
            for length in n:
                self._test("tg", length, depth, r, warmup)
        self._overhead(min(n or (4,)), min(max(r, 3), 9))
        for way, make in cold:
            make((model.data, model.arena, model.kv))
            self._cold(way)
        if power:
            self._power(power, p, n, d)
        if text:
            from .quality import judge

            judge(model, text, self.records)
        self._memory()
        self._roof(p)

    def _begin(self, r, warmup, meta):
        model, arch, write = self.model, self.model.arch, self.records.write
        self.rate = begin(self.records, self.counter, repetitions=r, warmup=warmup, meta=meta)
        write(
            "model",
            name=model.name,
            sha256=_hex(model.sha256()),
            bytes=model.bytes,
            placement=model.placement,
            types=model.tensor_types,
            architecture=arch.architecture,
            layers=arch.layers,
            dim=arch.dim,
            hidden=arch.hidden,
            heads=arch.heads,
            kv_heads=arch.kv_heads,
            kv=arch.kv,
            activations="int%d" % arch.activations,
            vocab=arch.vocab,
            context=arch.context,
            batch=arch.batch,
            macs_per_token=arch.macs,
        )
        for i in range(arch.plan.count):
            op, role, layer, type_, rows, cols, p2, window = arch.plan.describe(i)
            fields = {"window": window} if window else {}
            write("op", i=i, op=op, role=role, layer=layer, type=type_, rows=rows, cols=cols, p2=p2, **fields)
        if model.stream:
            n, size = model.stream.reads, model.stream.bytes_per_token
            write("op", i=arch.plan.count, op="read", role="storage", layer=-1, type="F32", rows=n, cols=0, p2=size)

    def _check(self):
        crc, prompt, tokens = check(self.model)
        self.summary.logits = crc
        self.records.write("check", logits_crc32=crc, prompt=prompt, tokens=tokens)

    def _cold(self, after):
        """Writes the cost of the first token after a possible cold start, and of two more like it."""
        gc.collect()
        units, *warm = (self._decode(1, 0, None) for _ in range(3))
        self.records.write("cold", after=after, units=units, warm=warm)

    def _fill(self, depth):
        """Puts depth tokens into the KV cache."""
        self.model.pos = 0
        if depth:
            self.model.prefill(self.tokens[:depth], None, False)

    def _test(self, kind, length, depth, r, warmup):
        name = _name(kind, length, depth)
        measure = self._prefill if kind == "pp" else self._decode
        tokens = self.tokens[:length] if kind == "pp" else length
        self._fill(depth)
        for i in range(len(self.acc)):
            self.acc[i] = 0
        cold = 0
        for i in range(warmup):
            spent = measure(tokens, depth, None)
            cold = cold or spent
        self.records.write(
            "test", test=name, phase="prefill" if kind == "pp" else "decode", tokens=length, depth=depth, cold=cold
        )
        _tinyprof.mark(ops.MARK_CLEAR)
        whole = 0
        for rep in range(r):
            gc.collect()
            begin = self.rate and ticks_ms()
            spent = measure(tokens, depth, self.acc)
            if self.rate:
                self._whole(spent, self.rate * ticks_diff(ticks_ms(), begin) // 1000)
            whole += spent
            self._samples(name, kind, rep, length)
            self.summary.add(name, length, spent)
        _tinyprof.mark(ops.MARK_DUMP)
        costs = [self.counter.units(v) for v in self.acc]
        self._whole(whole, sum(costs))
        self.records.chunks("cost", costs, test=name, runs=r)
        if self.events:
            calls = length if kind == "tg" else (length + self.model.arch.batch - 1) // self.model.arch.batch
            self.events.count(self, name, kind, length, depth, max(costs) // (r * calls))
        if kind == "tg" and self.summary.share is None:
            self.summary.share = (costs, r * length)

    def _whole(self, spent, least):
        """Raises ModelError if the counter wrapped within a token: spent is at least half a wrap less than least, the
        units by the board's clock or by the operators."""
        turn = self.counter.units(self.counter.modulus)
        if spent + turn // 2 < least:
            raise ModelError(
                "the counter %s wraps after %d %s, and a token or batch takes longer: use a smaller batch or model"
                % (self.counter.name, turn, self.counter.unit)
            )

    def _power(self, meter, p, n, d):
        """Runs each test in power windows, between two windows of a sleeping board, with markers around all."""
        records = self.records
        meter.about(records)
        meter.marker(records, "begin")
        meter.idle(records, 0)
        for depth in d:
            self._fill(depth)
            for length in p:
                name, tokens = _name("pp", length, depth), self.tokens[:length]
                self._watched(meter, name, length, self._prefill, tokens, depth)
            for length in n:
                self._watched(meter, _name("tg", length, depth), length, self._decode, length, depth)
        if n and meter.operator_us:
            from .operator_power import measure

            measure(self.model, meter, records, d[0] + n[0] // 2)
        meter.idle(records, 1)
        meter.marker(records, "end")

    def _watched(self, meter, name, length, measure, *args):
        for _ in range(meter.warmup):
            measure(*args, None)
        for rep in range(meter.reps):
            gc.collect()
            meter.window(self.records, name, rep, length, measure, *args, None)

    def _samples(self, name, kind, rep, length):
        between, stamps = self.counter.between, self.stamps
        if kind == "pp":
            self.records.write("samples", test=name, rep=rep, at=0, v=[self.prefilled])
            return
        values = [between(stamps[i], stamps[i + 1]) for i in range(length)]
        self.records.chunks("samples", values, test=name, rep=rep)

    def _prefill(self, tokens, depth, acc):
        """Units of a prefill, up to the choice of the first new token."""
        model, stamps, stamp, mark = self.model, self.stamps, _tinyprof.stamp, _tinyprof.mark
        model.pos = depth
        ctl = model.ctl
        before = _allocated()
        mark(ops.MARK_TEST)
        stamp(ctl, stamps, 0)
        model.prefill(tokens, acc, True, stamps)
        mark(ops.MARK_LEAVE)
        self._heap(before)
        # one stamp per batch: the counter may wrap during the whole
        batches = (len(tokens) + model.arch.batch - 1) // model.arch.batch
        self.prefilled = sum(self.counter.between(stamps[i], stamps[i + 1]) for i in range(batches))
        return self.prefilled

    def _decode(self, length, depth, acc):
        """Units of decoding length tokens. Takes a stamp before each token and one at the end."""
        model, stamps, stamp, step = self.model, self.stamps, _tinyprof.stamp, self.model.step
        mark = _tinyprof.mark
        model.pos = depth
        ctl = model.ctl
        token = 1
        before = _allocated()
        mark(ops.MARK_TEST)
        stamp(ctl, stamps, 0)
        for i in range(1, length):
            token = step(token, acc)
            stamp(ctl, stamps, i)
        step(token, acc)
        # outside the loop, which may look at the UART: nothing is to be between the last stamp and the mark
        stamp(ctl, stamps, length)
        mark(ops.MARK_LEAVE)
        self._heap(before)
        spent = 0
        for i in range(length):
            spent += self.counter.between(stamps[i], stamps[i + 1])
        return spent

    def _heap(self, before):
        after = _allocated()
        self.heap_peak = max(self.heap_peak, after)
        self.allocated = max(self.allocated, after - before)

    def _overhead(self, length, r):
        """Writes the profiler's own cost: decode with and without stamps per operator, alternately."""
        length = min(length, 8, self.model.arch.context)
        on, off = [], []
        for _ in range(r):
            on.append(self._decode(length, 0, self.acc))
            off.append(self._decode(length, 0, None))
        self.records.write("overhead", tokens=length, on=on, off=off)
        self.summary.overhead = (sorted(on)[r // 2] - sorted(off)[r // 2], sorted(off)[r // 2])

    def _roof(self, lengths):
        """Writes the ceilings, which explanations need and tests do not."""
        gc.collect()
        free = gc.mem_free() if hasattr(gc, "mem_free") else _ROOF_RAM
        if free < _ROOF_RAM:  # the last records need that RAM more than the ceilings
            self.records.write("roof", what="skipped", reason="all: %d bytes of RAM are free" % free)
            return
        from .ceilings import measure

        measure(self.model, self.counter, self.records, lengths)

    def _model_ram(self):
        model = self.model
        if model.stream:
            return len(model.data) + len(model.stream.buffer)
        return model.bytes if model.placement == "ram" else 0

    def _memory(self):
        model = self.model
        gc.collect()
        live = _allocated()
        total = live + gc.mem_free() if hasattr(gc, "mem_free") else 0
        self.records.write(
            "memory",
            arena=model.arena_bytes,
            kv=model.arch.kv_bytes,
            plan=len(model.arch.plan.words) * 4,
            model_ram=self._model_ram(),
            model_storage=model.bytes,
            heap_total=total,
            heap_live=live,
            heap_peak=max(self.heap_peak, live),
            allocated_in_region=self.allocated,
        )


def _name(kind, length, depth):
    return "%s%d" % (kind, length) + (" @ d%d" % depth if depth else "")


class Summary:
    """The results of a run; the REPL shows them as text.

    tests: [name, tokens of all repetitions, units of all]; logits: CRC-32 of the check; overhead: (units of the
    profiler, units without it), medians; share: (units of each record, tokens) of the first decode test, or None."""

    def __init__(self, model, counter):
        self._model = repr(model)
        self._counter = counter
        self.logits = ""
        self.overhead = (0, 0)
        self.share = None
        self._plan = model.arch.plan
        self.tests = []  # [name, tokens of all repetitions, units of all]

    def add(self, name, tokens, spent):
        """Adds a repetition of a test: its tokens and units."""
        if not self.tests or self.tests[-1][0] != name:
            self.tests.append([name, 0, 0])
        self.tests[-1][1] += tokens
        self.tests[-1][2] += spent

    def __repr__(self):
        c = self._counter
        lines = [self._model, "counted by %s (%s)" % (c.name, c.source)]
        for name, tokens, spent in self.tests:
            per_token = spent // tokens
            line = "%-14s %12d %s/token" % (name, per_token, c.unit)
            if c.source in ("hw-timer", "host-clock") and c.unit in ("ns", "us") and per_token:
                line += "  %.2f tok/s" % ((1e9 if c.unit == "ns" else 1e6) / per_token)
            lines.append(line)
        if self.share:
            roles = {}
            for i, cost in enumerate(self.share[0]):
                role = self._plan.describe(i)[1] if i < self._plan.count else "storage"
                roles[role] = roles.get(role, 0) + cost
            total = sum(roles.values()) or 1
            for role, cost in sorted(roles.items(), key=lambda r: -r[1])[:8]:
                lines.append("  %-14s %5.1f %%  %d" % (role, 100 * cost / total, cost // self.share[1]))
        lines.append("profiler: %d %s of %d; logits %s" % (self.overhead[0], c.unit, self.overhead[1], self.logits))
        return "\n".join(lines)


def _allocated():
    return gc.mem_alloc() if hasattr(gc, "mem_alloc") else 0


def _clock():
    try:
        import machine

        freq = machine.freq()
        return freq[0] if isinstance(freq, tuple) else freq
    except (ImportError, AttributeError):
        return 0


def _hex(digest):
    return digest and "".join("%02x" % b for b in digest)
