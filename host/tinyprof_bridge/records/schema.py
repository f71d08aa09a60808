"""The record types of a run, in one place. What the board writes, the host checks against this.

A record is one JSON line: {"tp":1,"run":"5f3a","seq":7,"kind":...,"crc":"1c291ca3"}. Readers
ignore fields they do not know and refuse a schema newer than theirs."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, TypeAdapter

SCHEMA = 1

Source = Literal["hw-cycles", "hw-timer", "hw-event", "emulated-icount", "modelled", "host-clock", "sensor"]
Count = Annotated[int, Field(ge=0, le=1 << 64)]
Index = Annotated[int, Field(ge=0, lt=1 << 32)]
Tokens = Annotated[int, Field(ge=1, lt=1 << 32)]


class Record(BaseModel):
    tp: Annotated[int, Field(ge=1, le=SCHEMA)]
    run: Annotated[str, Field(max_length=32)]
    seq: Annotated[int, Field(gt=-1 << 24, lt=1 << 24)]


class Host(Record):
    """Written by the host, seq -1: what only it knows of a run."""

    kind: Literal["host"]
    tinyprof: str
    time: str
    board: str
    command: str
    model_file: str
    model_sha256: str
    reference_logits: dict[str, str] = {}  # of each path
    firmware_sha256: str | None = None
    module_sha256: str | None = None  # None: built in
    package_sha256: str | None = None
    emulator: str | None = None
    text_file: str | None = None  # for the perplexity
    text_sha256: str | None = None
    power: str | None = None  # the sensor
    power_calibration: dict[str, Any] | None = None


class Native(BaseModel):
    abi: int
    kernels: str
    compiler: str
    flags: str
    path: Literal["float", "fixed"]


class Begin(Record):
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
    """units = ticks * resolution[0] / resolution[1]; rate: units a second by a second clock, of clock_hz by its
    manual: the board's own, or on an emulator one of the emulated machine."""

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
    """One record of the plan: what runs, in order. layer -1: outside the layers."""

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
    """CRC-32 over the logits of a fixed prompt and of the tokens that follow it greedily."""

    kind: Literal["check"]
    logits_crc32: str
    prompt: Count
    tokens: list[int]


class Cold(Record):
    """Units of one token at position 0 after loading, after the caches were emptied, after light sleep; and of two
    more like it."""

    kind: Literal["cold"]
    after: Literal["load", "cache", "sleep"]
    units: Count
    warm: Annotated[list[Count], Field(min_length=1)]


class Test(Record):
    """A test begins. cold: units of its first, unmeasured run (0 without warm-up)."""

    kind: Literal["test"]
    test: str
    phase: Literal["prefill", "decode"]
    tokens: Tokens
    depth: Count
    cold: Count


class Samples(Record):
    """Units of each token from token 'at' on (decode), or of the whole prompt (prefill), each
    with the choice of the next token."""

    kind: Literal["samples"]
    test: str
    rep: Index
    at: Index
    v: list[Count]


class Cost(Record):
    """Units spent in records 'at', 'at' + 1, ... of the plan, over all repetitions of a test."""

    kind: Literal["cost"]
    test: str
    runs: Annotated[int, Field(ge=1)]
    at: Count
    v: list[Count]


class Event(Record):
    """An event of a core or chip, counted in one repetition of a test (None: more than its counter holds); v: in
    records 'at', 'at' + 1, ... of the plan, empty where its counter is too short or out of their reach."""

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
    """Units of the same decode with operator stamps and without, in turns."""

    kind: Literal["overhead"]
    tokens: Tokens
    on: list[Count]
    off: list[Count]


class Sensor(Record):
    """What reads the board's supply. amperes = i * shunt_pv / shunt_uohm / 1e6, volts = v * bus_pv / 1e12 of the
    counts i and v in power records; each is the mean over one conversion, and each conversion is read. timing: how its
    end is seen. poll: by asking every poll_us; alert: by the sensor's pin; none of an accumulator."""

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
    """Idle and busy steps of one length each, from begin to end; the bits of pattern, first the highest: 1 is busy."""

    kind: Literal["marker"]
    name: Literal["begin", "end"]
    begin: Count
    end: Count
    bits: Annotated[int, Field(ge=1, le=64)]
    pattern: Count


class Window(Record):
    """One repetition of a test under a sensor; of 'idle'; or of 'operator': record rep of the plan, tokens times.
    begin, end in us since the first window or marker; rate_hz: what readings reached."""

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
    """Readings 'at', 'at' + 1, ... of a window: us after its begin, counts of the shunt, and of the bus as long as that
    was converted too."""

    kind: Literal["power"]
    source: Literal["sensor"]
    test: str
    rep: Count
    at: Count
    t: list[int]
    i: list[int]
    v: list[int]


class Loss(Record):
    """-log of the probability that the model gave to tokens 'at', 'at' + 1, ... of a text, in millionths of a nat."""

    kind: Literal["loss"]
    at: Count
    v: list[Count]


class Perplexity(Record):
    """Of a text in windows of so many tokens, each begun with BOS. loss: the sum over its tokens, in millionths of a
    nat; right: how many of them were the most probable; the CRC-32 is over all logits."""

    kind: Literal["perplexity"]
    tokens: Annotated[int, Field(ge=1)]
    window: Annotated[int, Field(ge=1)]
    loss: Count
    right: Count
    logits_crc32: str


class Memory(Record):
    """Bytes. heap_live after a collection; heap_peak the most seen at the end of a region;
    allocated_in_region the most that any measured region allocated."""

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
    """A ceiling of the board, measured behind the tests with all of it hot.

    product: v are units of products of rows[0] and of rows[1] rows with n tokens; quantize, embed: of n tokens;
    portable: of the portable kernel with rows[1] rows; hot: units of the plan's records from 'at' on, alone,
    n tokens from position pos on (0: not measured); read: units of reading bytes from a place; call: units of an
    operator that does nothing; skipped: what there was no RAM for."""

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
    """Written by the host: that QEMU's plugin counts, for which core it models cycles, and with which caches
    (bytes, ways, bytes of a line)."""

    kind: Literal["simulated"]
    core: str
    source: Literal["modelled"]
    icache: tuple[Count, Count, Count] | None
    dcache: tuple[Count, Count, Count] | None


class Counts(Record):
    """Written by the host: what the plugin counted in record i of the plan (-1: around them), in the region of
    one's own in it (0: outside of those), over all repetitions of a test. Without what nested regions have."""

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
    """records: how many the board wrote, this one counted."""

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
