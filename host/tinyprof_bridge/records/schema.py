"""The types of all records. The host checks each record of a board against them.

A record is one line of JSON: {"tp":1,"run":"5f3a","seq":7,"kind":...,"crc":"1c291ca3"}. Readers ignore unknown fields
and refuse a schema newer than theirs. docs/records.md describes the same for users.

"Units" are those of the counter record: instructions, cycles, ns, us or ticks."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, TypeAdapter

SCHEMA = 1

Source = Literal["hw-cycles", "hw-timer", "hw-event", "emulated-icount", "modelled", "host-clock", "sensor"]
Count = Annotated[int, Field(ge=0, le=1 << 64)]
Index = Annotated[int, Field(ge=0, lt=1 << 32)]
Tokens = Annotated[int, Field(ge=1, lt=1 << 32)]


class Record(BaseModel):
    """The fields of every record.

    tp: version of the schema.
    run: id of the run.
    seq: sequence number: 0, 1, 2 ... from the board; -1, -2 ... from the host."""

    tp: Annotated[int, Field(ge=1, le=SCHEMA)]
    run: Annotated[str, Field(max_length=32)]
    seq: Annotated[int, Field(gt=-1 << 24, lt=1 << 24)]


class Host(Record):
    """What only the host knows about a run; written by it, with seq -1.

    tinyprof: version on the host.
    time: start of the run in UTC.
    board, command: as the user gave them.
    model_file, model_sha256: the model that was deployed.
    reference_logits: CRC-32 of the unix port's logits, by path ("float", "fixed").
    firmware_sha256: of an emulated board or the unix port.
    module_sha256: of the native module; None if it is built into the firmware.
    package_sha256: of the device package (deploy.hashes).
    emulator: its command; None for a real board.
    text_file, text_sha256: text of --perplexity.
    power: name of the sensor of --power.
    power_calibration: what `power calibrate` found for this sensor."""

    kind: Literal["host"]
    tinyprof: str
    time: str
    board: str
    command: str
    model_file: str
    model_sha256: str
    reference_logits: dict[str, str] = {}
    firmware_sha256: str | None = None
    module_sha256: str | None = None
    package_sha256: str | None = None
    emulator: str | None = None
    text_file: str | None = None
    text_sha256: str | None = None
    power: str | None = None
    power_calibration: dict[str, Any] | None = None


class Native(BaseModel):
    """The native code on the board.

    abi: version of its interface to the device package.
    kernels: variant of the matrix products, such as "armv7em".
    compiler, flags: that built it.
    path: arithmetic outside of matrix products, floating point or fixed point."""

    abi: int
    kernels: str
    compiler: str
    flags: str
    path: Literal["float", "fixed"]


class Begin(Record):
    """The first record of a board.

    tinyprof: version of the device package.
    machine, platform, micropython, build: the board and its MicroPython, as MicroPython names them.
    mpy: sys.implementation._mpy, which says which .mpy files the board accepts.
    clock_hz: CPU clock; 0 if unknown.
    native: the native code.
    repetitions, warmup: measured and unmeasured repetitions of each test.
    meta: whatever the caller of profile() passed."""

    kind: Literal["begin"]
    tinyprof: str
    machine: str
    platform: str
    micropython: str
    build: str
    mpy: int
    clock_hz: Count
    native: Native
    repetitions: Count
    warmup: Count
    meta: dict[str, Any] = {}


class Counter(Record):
    """The counter that all figures of the run come from.

    name: such as "dwt".
    source: how it gets its figures (docs/measuring.md, "Sources").
    unit: of all "units".
    resolution: units = ticks * resolution[0] / resolution[1].
    wrap: ticks after which the counter starts again at 0.
    read_cost: units of one read of the counter.
    rate: units per second, measured with a second clock; None without one.
    clock: that second clock, on the board or in the emulated machine.
    clock_hz: the second clock's nominal frequency."""

    kind: Literal["counter"]
    name: str
    source: Source
    unit: Literal["instr", "cycles", "ns", "us", "ticks"]
    resolution: tuple[int, int]
    wrap: Count
    read_cost: Count
    rate: Count | None = None
    clock: str | None = None
    clock_hz: Count | None = None


class Model(Record):
    """The model that was measured.

    bytes: size of its file.
    placement: of the weights: mapped in flash, copied into RAM, or streamed from a file.
    types: number of tensors of each weight type, such as "Q4_0:29 F32:9".
    dim, hidden: size of the embedding and of the feed-forward layer.
    heads, kv_heads: attention heads, and those of keys and values.
    kv: type of the KV cache.
    activations: type of the quantized activations.
    vocab: tokens in the vocabulary.
    context: positions in the KV cache.
    batch: tokens that prefill processes at once.
    macs_per_token: MACs of all matrix products for one token."""

    kind: Literal["model"]
    name: str
    sha256: str | None
    bytes: Count
    placement: Literal["mapped", "ram", "stream"]
    types: str
    architecture: str
    layers: Count
    dim: Count
    hidden: Count
    heads: Count
    kv_heads: Count
    kv: Literal["f32", "f16", "q8"]
    activations: Literal["int8", "int16"] = "int8"
    vocab: Count
    context: Count
    batch: Annotated[int, Field(ge=1)]
    macs_per_token: Count


class Op(Record):
    """One operator of the plan. The operators run in the order of these records.

    i: its index in the plan.
    op: its kernel, such as "matmul".
    role: its place in the model, such as "ffn_up".
    layer: -1 outside of the layers.
    type: of the weights, "F32" without any.
    rows, cols: shape of the weights, or the sizes of an operator without weights.
    p2: of an attention, the key/value heads; of matmul and quantize, the bytes of one token's activations; of read, the
        bytes that one decoded token reads.
    window: positions that an attention sees at most; 0: all."""

    kind: Literal["op"]
    i: Count
    op: str
    role: str
    layer: Annotated[int, Field(ge=-1)]
    type: str
    rows: Count
    cols: Count
    p2: Count
    window: Count = 0


class Check(Record):
    """The logits of a fixed prompt and of the tokens generated greedily after it.

    logits_crc32: CRC-32 over all these logits.
    prompt: tokens in the prompt.
    tokens: the generated tokens."""

    kind: Literal["check"]
    logits_crc32: str
    prompt: Count
    tokens: list[int]


class Cold(Record):
    """The cost of a first token, from a cold start.

    after: what came before: loading the model, emptying the CPU's caches, or light sleep.
    units: of one token at position 0.
    warm: units of the same token, repeated directly afterwards."""

    kind: Literal["cold"]
    after: Literal["load", "cache", "sleep"]
    units: Count
    warm: Annotated[list[Count], Field(min_length=1)]


class Test(Record):
    """The start of a test.

    test: its name, such as "tg32 @ d64".
    tokens: processed in one repetition.
    depth: positions in the KV cache before the first token.
    cold: units of its first, unmeasured run; 0 without warm-up."""

    kind: Literal["test"]
    test: str
    phase: Literal["prefill", "decode"]
    tokens: Tokens
    depth: Count
    cold: Count


class Samples(Record):
    """Samples of one repetition. Each includes the choice of the next token.

    rep: repetition.
    at: token of the first value.
    v: units of tokens at, at + 1, ... (decode), or of the whole prompt (prefill)."""

    kind: Literal["samples"]
    test: str
    rep: Index
    at: Index
    v: list[Count]


class Cost(Record):
    """The cost of operators in a test.

    runs: repetitions that the values sum over.
    at: index in the plan of the first value.
    v: units of operators at, at + 1, ..."""

    kind: Literal["cost"]
    test: str
    runs: Annotated[int, Field(ge=1)]
    at: Count
    v: list[Count]


class Event(Record):
    """An event that the core or chip counts, in one repetition of a test.

    counter: the hardware counter.
    tokens: processed in this repetition.
    count: events in the whole repetition; None if the counter overflowed.
    at: index in the plan of the first value.
    v: events in operators at, at + 1, ...; empty if they cannot be counted per operator."""

    kind: Literal["event"]
    test: str
    counter: str
    event: str
    source: Source
    tokens: Tokens
    count: Count | None
    at: Count
    v: list[Count]


class Overhead(Record):
    """The profiler's own cost: the same decode, alternately with and without per-operator timestamps.

    tokens: decoded in each run.
    on, off: units of each run with and without timestamps."""

    kind: Literal["overhead"]
    tokens: Tokens
    on: list[Count]
    off: list[Count]


class Sensor(Record):
    """The power sensor on the board. Each reading is the mean over one conversion, and every conversion is read.

    Counts i and v of power records become amperes = i * shunt_pv / shunt_uohm / 1e6 and volts = v * bus_pv / 1e12.

    mode: readings while a test runs, or the sensor's own energy accumulator.
    name: the chip, such as "ina226".
    rate_hz: conversions per second.
    shunt_uohm: resistance of the shunt in microohms.
    shunt_pv, bus_pv: picovolts of one count of the shunt and of the bus voltage.
    full_scale: counts at which the shunt's reading is saturated.
    conversion_us: duration of a conversion of the shunt.
    timing: how the end of a conversion is noticed: by polling, or by the sensor's ALERT pin; empty for an accumulator.
    poll_us: interval of polling."""

    kind: Literal["sensor"]
    source: Literal["sensor"]
    mode: Literal["samples", "accumulator"]
    name: str
    rate_hz: Annotated[int, Field(ge=1)]
    shunt_uohm: Annotated[int, Field(ge=1)]
    shunt_pv: Annotated[int, Field(ge=1)]
    bus_pv: Annotated[int, Field(ge=1)]
    full_scale: Annotated[int, Field(ge=1)]
    conversion_us: Count
    timing: Literal["", "poll", "alert"]
    poll_us: Count


class Marker(Record):
    """Alternating load before and after the tests, by which a sensor elsewhere finds the board's time.

    begin, end: us since the first window or marker.
    bits: number of steps, all of the same length.
    pattern: one bit per step, the highest bit first; 1 is busy, 0 is idle."""

    kind: Literal["marker"]
    name: Literal["begin", "end"]
    begin: Count
    end: Count
    bits: Annotated[int, Field(ge=1, le=64)]
    pattern: Count


class Window(Record):
    """A stretch of time under a power sensor.

    test: a test's name; "idle"; or "operator", where one operator runs alone.
    rep: repetition of the test; for "operator", its index in the plan.
    tokens: processed; for "operator", how often it ran.
    begin, end: us since the first window or marker.
    units: counter units of the work.
    readings: number of readings.
    rate_hz: readings per second that were reached.
    lost: readings that found no room in the buffer.
    errors: readings that failed.
    overflow: the accumulator overflowed.
    energy_nj, charge_nc: nJ and nC from the accumulator."""

    kind: Literal["window"]
    test: str
    rep: Count
    tokens: Count
    begin: Count
    end: Count
    units: Count | None = None
    readings: Count | None = None
    rate_hz: Count | None = None
    lost: Count = 0
    errors: Count = 0
    overflow: bool = False
    energy_nj: Count | None = None
    charge_nc: int | None = None


class Power(Record):
    """Readings of a window.

    test, rep: of the window.
    at: index of the first reading.
    t: us after the start of the window.
    i: counts of the shunt.
    v: counts of the bus voltage; shorter than i where only the shunt was converted."""

    kind: Literal["power"]
    source: Literal["sensor"]
    test: str
    rep: Count
    at: Count
    t: list[int]
    i: list[int]
    v: list[int]


class Loss(Record):
    """The loss of tokens of a text: -log of the probability that the model gave to them.

    at: index in the text of the first value.
    v: millionths of a nat."""

    kind: Literal["loss"]
    at: Count
    v: list[Count]


class Perplexity(Record):
    """The loss of a whole text, computed in windows that each start with BOS.

    tokens: predicted in all.
    window: tokens of the text in a window, at most.
    loss: sum over all tokens, in millionths of a nat.
    right: how many tokens were the most probable ones.
    logits_crc32: CRC-32 over all logits."""

    kind: Literal["perplexity"]
    tokens: Annotated[int, Field(ge=1)]
    window: Annotated[int, Field(ge=1)]
    loss: Count
    right: Count
    logits_crc32: str


class Memory(Record):
    """Memory on the board, in bytes.

    arena: activations.
    kv: KV cache.
    plan: table of operators.
    model_ram, model_storage: of the model in RAM, and in flash or a file.
    heap_total: size of MicroPython's heap.
    heap_live: in use after a garbage collection.
    heap_peak: the most in use at the end of a measured region.
    allocated_in_region: the most that a measured region allocated."""

    kind: Literal["memory"]
    arena: Count
    kv: Count
    plan: Count
    model_ram: Count
    model_storage: Count
    heap_total: Count
    heap_live: Count
    heap_peak: Count
    allocated_in_region: int


class Roof(Record):
    """A ceiling of the board: the least units that a piece of work takes there. Measured after the tests.

    what: which kind of work; it decides which other fields are used.
        product: matrix products with weights in the cache or RAM. v: units for rows[0] and for rows[1] rows of cols
            weights with n tokens; quantize, embed: units of these operators for n tokens; portable: units of the
            portable kernel with rows[1] rows.
        hot: operators of the plan, each run again right after itself. v: units of operators at, at + 1, ... with n
            tokens from position pos on; 0: not measured.
        read: units of reading bytes from a place.
        call: units of an operator that does nothing.
        skipped: what did not fit into RAM, in reason."""

    kind: Literal["roof"]
    what: Literal["product", "hot", "read", "call", "skipped"]
    type: str = ""
    cols: Count = 0
    n: Count = 1
    rows: list[Count] = []
    units: Count = 0
    quantize: Count = 0
    embed: Count = 0
    portable: Count | None = None
    pos: Count = 0
    at: Count = 0
    v: list[Count] = []
    place: Literal["", "hot", "ram", "mapped", "storage", "copy"] = ""
    bytes: Count = 0
    reason: str = ""


class Simulated(Record):
    """The simulation by QEMU's plugin (--counters full); written by the host.

    core: whose cycles are modelled.
    icache, dcache: (bytes, ways, bytes per line) of the modelled caches; None for no cache."""

    kind: Literal["simulated"]
    core: str
    source: Literal["modelled"]
    icache: tuple[Count, Count, Count] | None
    dcache: tuple[Count, Count, Count] | None


class Counts(Record):
    """What QEMU's plugin counted in one operator; written by the host.

    runs: repetitions of the test that the counts sum over.
    i: index in the plan; -1 for everything outside of operators.
    region: the user's own region inside the operator (docs/counters.md); 0 outside of such regions. Counts of a region
        do not include those of regions nested in it.
    calls: of the operator or region.
    instr: instructions.
    classes: instructions of each class.
    cycles: modelled.
    taken, not_taken: branches.
    loaded, stored: bytes by region of memory.
    icache_misses, dcache_misses: None without that cache."""

    kind: Literal["counts"]
    test: str
    runs: Annotated[int, Field(ge=1)]
    i: Annotated[int, Field(ge=-1)]
    region: Annotated[int, Field(ge=0, le=4)]
    calls: Count
    instr: Count
    classes: dict[str, Count]
    cycles: Count
    taken: Count
    not_taken: Count
    loaded: dict[str, Count]
    stored: dict[str, Count]
    icache_misses: Count | None
    dcache_misses: Count | None


class End(Record):
    """The last record of a board.

    records: number of records that the board wrote, including this one.
    ok: the run ended without an error.
    error: type of the exception.
    reason: its text."""

    kind: Literal["end"]
    records: Annotated[int, Field(ge=1)]
    ok: bool
    error: str | None = None
    reason: str | None = None


AnyRecord = Annotated[
    Host
    | Begin
    | Counter
    | Model
    | Op
    | Check
    | Cold
    | Test
    | Samples
    | Cost
    | Event
    | Overhead
    | Sensor
    | Marker
    | Window
    | Power
    | Loss
    | Perplexity
    | Memory
    | Roof
    | Simulated
    | Counts
    | End,
    Field(discriminator="kind"),
]
ADAPTER: TypeAdapter[AnyRecord] = TypeAdapter(AnyRecord)
