"""The record types of a run, in one place. What the board writes, the host checks against this.

A record is one JSON line: {"tp":1,"run":"5f3a","seq":7,"kind":...,"crc":"1c291ca3"}. Readers
ignore fields they do not know and refuse a schema newer than theirs."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, TypeAdapter

SCHEMA = 1

Source = Literal["hw-cycles", "hw-timer", "hw-event", "emulated-icount", "modelled", "host-clock", "sensor"]
Count = Annotated[int, Field(ge=0, le=1 << 64)]


class Record(BaseModel):
    tp: Annotated[int, Field(ge=1, le=SCHEMA)]
    run: Annotated[str, Field(max_length=32)]
    seq: Annotated[int, Field(ge=-1, lt=1 << 24)]


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
    emulator: str | None = None
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
    """units = ticks * resolution[0] / resolution[1]"""

    kind: Literal["counter"]
    name: str
    source: Source
    unit: Literal["instr", "cycles", "ns", "us", "ticks"]
    resolution: tuple[int, int]
    wrap: Count
    read_cost: Count


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


class Check(Record):
    """CRC-32 over the logits of a fixed prompt and of the tokens that follow it greedily."""

    kind: Literal["check"]
    logits_crc32: str
    prompt: Count
    tokens: list[int]


class Test(Record):
    """A test begins. cold: units of its first, unmeasured run (0 without warm-up)."""

    kind: Literal["test"]
    test: str
    phase: Literal["prefill", "decode"]
    tokens: Annotated[int, Field(ge=1)]
    depth: Count
    cold: Count


class Samples(Record):
    """Units of each token from token 'at' on (decode), or of the whole prompt (prefill), each
    with the choice of the next token."""

    kind: Literal["samples"]
    test: str
    rep: Count
    at: Count
    v: list[Count]


class Cost(Record):
    """Units spent in records 'at', 'at' + 1, ... of the plan, over all repetitions of a test."""

    kind: Literal["cost"]
    test: str
    runs: Annotated[int, Field(ge=1)]
    at: Count
    v: list[Count]


class Overhead(Record):
    """Units of the same decode with operator stamps and without, in turns."""

    kind: Literal["overhead"]
    tokens: Annotated[int, Field(ge=1)]
    on: list[Count]
    off: list[Count]


class Sensor(Record):
    """What reads the board's supply. amperes = i * shunt_pv / shunt_uohm / 1e6, volts = v * bus_pv / 1e12 of the
    counts i and v in power records; each is the mean over conversion_us before it was read, or less."""

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


class Marker(Record):
    """Idle and busy steps of one length each, from begin to end; the bits of pattern, first the highest: 1 is busy."""

    kind: Literal["marker"]
    name: Literal["begin", "end"]
    begin: Count
    end: Count
    bits: Annotated[int, Field(ge=1, le=64)]
    pattern: Count


class Window(Record):
    """One repetition under a sensor; begin, end in us since the first window or marker."""

    kind: Literal["window"]
    test: str
    rep: Count
    tokens: Count
    begin: Count
    end: Count
    units: Count | None = None
    readings: Count | None = None
    lost: Count = 0
    errors: Count = 0
    overflow: bool = False
    energy_nj: Count | None = None
    charge_nc: int | None = None


class Power(Record):
    """Readings 'at', 'at' + 1, ... of a window: us after its begin, counts of the shunt and of the bus."""

    kind: Literal["power"]
    source: Literal["sensor"]
    test: str
    rep: Count
    at: Count
    t: list[int]
    i: list[int]
    v: list[int]


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
    | Test
    | Samples
    | Cost
    | Overhead
    | Sensor
    | Marker
    | Window
    | Power
    | Memory
    | End,
    Field(discriminator="kind"),
]
ADAPTER: TypeAdapter[AnyRecord] = TypeAdapter(AnyRecord)
