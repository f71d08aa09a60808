"""Runs a profile on a board and saves its records, line by line as they arrive."""

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import shlex
import struct
import sys
import tempfile
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path

from .. import __version__, device_package
from ..boards import deploy, emulators, qemu_counters
from ..boards.emulators import EMULATED, Emulator
from ..boards.transport import SerialBoard, Transport, UnixBoard
from ..energy import sensors, shunt_calibration
from ..energy.run_energy import Energy
from ..energy.sensors import Sensor
from ..errors import BadInput, RunFailed
from ..models.demo import read_model
from ..models.inspection import check_settings
from ..models.tokenize import open_gguf, read_text, vocabulary
from ..progress import Progress
from ..records import wire
from ..records.runs import Run, supply_of
from ..records.schema import SCHEMA, AnyRecord

UNIX_HEAP_SPARE = 64 << 20
COLD = ("cache", "sleep")  # what a cold start can follow
STOP_SECONDS = 5.0  # how long to wait for an interrupted board to stop


def check_lengths(name: str, lengths: Sequence[int], least: int = 1) -> None:
    """Raises BadInput for a length below least or above 1,000,000 tokens, and for one that is there twice."""
    for length in lengths:
        if not least <= length <= 1_000_000:
            raise BadInput(f"{name} takes numbers from {least} to 1000000, not {length}")
    if len(set(lengths)) < len(lengths):
        raise BadInput(f"{name} takes each number once, not {', '.join(map(str, lengths))}; for repetitions there is r")


def check_timeout(seconds: float) -> None:
    """Raises BadInput unless seconds is more than 0 and at most a day."""
    if not 0 < seconds <= 86400:  # NaN fails too
        raise BadInput(f"timeout takes seconds, more than 0 and at most 86400, not {seconds:g}")


@dataclass(frozen=True)
class Request:
    """What to measure, in llama-bench's terms.

    board: name of an emulated board or a serial port.
    model: GGUF file.
    p: prefill lengths in tokens.
    n: decode lengths in tokens.
    d: depths: tokens in the KV cache before a test starts.
    r: repetitions.
    warmup: repetitions before them that are not measured.
    context: positions of the KV cache; None for as many as the tests need.
    batch: tokens per prefill call.
    kv: type of the KV cache; None for the default.
    activations: bits of the quantized activations, 8 or 16.
    stream: read weights from storage even if they could be mapped.
    timeout: seconds without output from the board.
    sensor: power sensor, or None.
    mhz: clock to set, or None.
    text: text file for the perplexity, or None.
    text_tokens: at most this many tokens of it.
    counting: what the emulator is to count, or None.
    events: hardware events that the board counts; empty for all, None for none.
    cold: cold starts to measure: "cache", "sleep"."""

    board: str
    model: Path
    p: tuple[int, ...] = (16, 64)
    n: tuple[int, ...] = (32,)
    d: tuple[int, ...] = (0,)
    r: int = 5
    warmup: int = 1
    context: int | None = None
    batch: int = 8
    kv: str | None = None
    activations: int = 8
    stream: bool = False
    timeout: float = field(default=120.0, compare=False)  # no figure depends on it
    sensor: Sensor | None = None
    mhz: float | None = None
    text: Path | None = None
    text_tokens: int = 256
    counting: qemu_counters.Wanted | None = None
    events: tuple[str, ...] | None = None
    cold: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises BadInput for what no board can measure."""
        check_lengths("p", self.p)
        check_lengths("n", self.n)
        check_lengths("d", self.d, least=0)
        if not self.p and not self.n:
            raise BadInput("nothing to measure: give p or n")
        if not self.d:
            raise BadInput("no depth to measure at: give d, 0 for an empty KV cache")
        check_settings(self.context, self.batch, self.kv, self.activations)
        if self.r < 1 or self.text_tokens < 1:
            raise BadInput("r and tokens must be positive")
        if self.warmup < 0:
            raise BadInput(f"warmup must not be negative, not {self.warmup}")
        if self.mhz is not None and not self.mhz > 0:
            raise BadInput(f"mhz must be positive, not {self.mhz:g}")
        if not set(COLD).issuperset(self.cold):
            raise BadInput(f"cold takes {' and '.join(COLD)}, not '{','.join(self.cold)}'")
        check_timeout(self.timeout)

    @property
    def needed_context(self) -> int:
        """Positions of the KV cache: the requested context, or more if the tests need it."""
        return max(self.context or 0, max(self.d) + max((*self.p, *self.n)), 32)

    @property
    def tests(self) -> list[str]:
        """Names of the tests, in the order in which the board runs them."""
        names = [*(f"pp{p}" for p in self.p), *(f"tg{n}" for n in self.n)]
        return [f"{name} @ d{depth}" if depth else name for depth in self.d for name in names]


@dataclass
class Place:
    """A board that is ready to run.

    transport: the link to it.
    source: path of the model on it.
    package: files of the device package on it, by name.
    firmware_sha256: hash of its firmware; None for a real board.
    emulator: description of what emulates it; None for a real board or the unix port.
    dumps: counter dumps of the emulator, or None.
    pid: process id of the emulator, or None."""

    transport: Transport
    source: str
    package: dict[str, bytes]
    firmware_sha256: str | None
    emulator: str | None
    dumps: qemu_counters.Dumps | None = None
    pid: int | None = None


@contextlib.contextmanager
def prepare(
    board: str, model: Path | None, progress: Progress, wanted: qemu_counters.Wanted | None = None
) -> Iterator[Place]:
    """A context with a started or opened board that has the device package and the model.

    board: name of an emulated board or a serial port.
    model: GGUF file, or None.
    wanted: what the emulator is to count, or None."""
    core = qemu_counters.core_of(board) if wanted else ""
    data = read_model(model) if model else None
    with contextlib.ExitStack() as stack:
        if board in emulators.REFERENCES.values():
            yield stack.enter_context(_unix(board, model, len(data or b"")))
        elif board in EMULATED:
            spec = EMULATED[board]
            progress.step(f"starting {spec.description}")
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            package, file = deploy.package_of(spec), scratch / "image.romfs" if spec.rom_bytes else None
            if file:
                file.write_bytes(deploy.romfs_image(package, data))
            options = qemu_counters.arguments(board, wanted, scratch / "counters") if wanted else []
            emulator = stack.enter_context(Emulator(board, file, options))
            link = SerialBoard(emulator.device)
            stack.callback(link.close)
            source = "/rom/model.gguf"
            if file is None:
                source, package = deploy.deploy(link, data, progress)
            dumps = qemu_counters.Dumps(core, wanted, scratch / "counters") if wanted else None
            digest = _sha256_of(emulators.firmware(board))
            yield Place(link, source, package, digest, spec.about, dumps, emulator.pid)
        else:
            device = emulators.serial_port(board)
            progress.step(f"opening {device}")
            link = SerialBoard(device)
            stack.callback(link.close)
            progress.step(f"deploying to {device}")
            source, package = deploy.deploy(link, data, progress)
            yield Place(link, source, package, None, None)


@contextlib.contextmanager
def _unix(board: str, model: Path | None, size: int) -> Iterator[Place]:
    """A context with a build of the unix port. size: bytes of the model, for which its heap has room."""
    program = emulators.firmware(board)
    with tempfile.TemporaryDirectory() as scratch:
        # a link with a safe name: MicroPython opens only names that are valid UTF-8
        link = Path(scratch) / "model.gguf"
        if model is not None:
            link.symlink_to(model.resolve())
        unix = UnixBoard(program, device_package.folder().parent, size + UNIX_HEAP_SPARE)
        try:
            package = {f"tinyprof/{file.name}": file.read_bytes() for file in device_package.folder().glob("*.py")}
            yield Place(unix, str(link), package, _sha256_of(program), None)
        finally:
            unix.close()


def _sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _reference_logits(request: Request, model: bytes, progress: Progress) -> dict[str, str]:
    """CRC-32 of the model's check logits on the unix port, by path ("float", "fixed"), for the builds there are."""
    load = {"context": request.needed_context, "kv": request.kv, "activations": request.activations}
    found = {}
    for path, board in emulators.REFERENCES.items():
        progress.step(f"computing reference logits ({path} path)")
        try:
            with _unix(board, request.model, len(model)) as place:
                code = (
                    "import tinyprof\nfrom tinyprof.measure import check\n"
                    f"print(check(tinyprof.load({place.source!r}, **{load!r}))[0])"
                )
                found[path] = b"".join(place.transport.run(code, request.timeout)).decode().strip()
        except (BadInput, RunFailed) as error:
            # if this path cannot load the model, the board itself will report why
            if "ModelError" not in str(error):
                progress.step(f"no reference, so logits of the {path} path are not checked: {error}")
    return found


def collect(request: Request, out: Path, progress: Progress, command: str | None = None) -> tuple[Run, Path]:
    """(the run, the file that holds it), after measuring.

    out: the file to write, JSON lines. During the run, and after a failed one, it is named *.partial.jsonl.
    command: what the records name as the command; None for that of this process.

    Raises BadInput if the board cannot do what is requested. Raises RunFailed, naming the partial file, if the run
    failed or was interrupted; the board is then back at its REPL."""
    model = read_model(request.model)
    text = _tokens(request)
    if out.is_dir() or not out.name:
        raise BadInput(f"--out takes the name of a file, not of a folder: {out}")
    if out.exists() and out.samefile(request.model):
        raise BadInput(f"{out} is the model itself; give --out another name")
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_of(out)
    # MicroPython interns constants of up to ten characters. An interned id would change the board's memory layout
    # from run to run, and with it the last digits of the figures; so the id is longer.
    id_ = secrets.token_hex(6)
    run = Run(str(partial), wire.Stream(id_))
    failure: BaseException | None = None
    with contextlib.ExitStack() as stack:
        # the sensor starts before the board, because a source meter supplies it
        source = stack.enter_context(_watching(request))
        place = stack.enter_context(prepare(request.board, request.model, progress, request.counting))
        file = stack.enter_context(_claimed(partial))
        checked = request.board not in emulators.REFERENCES.values()  # those would be compared with themselves
        reference = _reference_logits(request, model, progress) if checked else {}
        header = _host_line(id_, request, model, place, reference, command)
        keep = _Keeper(run, file, place.dumps, progress)
        keep.own(header)
        if place.dumps:
            keep.own(keep.numbered(place.dumps.about()))
        progress.begin(request.tests, request.r)
        try:
            for line in place.transport.run(_code(request, place, id_, text), request.timeout):
                keep.take(line)
        except (RunFailed, KeyboardInterrupt) as error:
            failure = error
            patience = STOP_SECONDS
            if isinstance(error, KeyboardInterrupt):
                progress.step("stopping the board; press Ctrl-C again to leave it as it is")
                patience = max(request.timeout, STOP_SECONDS)
            with contextlib.suppress(KeyboardInterrupt):
                for line in place.transport.interrupt(patience):
                    keep.take(line)
        except OSError as error:  # for example a full disk: stop the board too
            place.transport.interrupt(STOP_SECONDS)
            failure = RunFailed(f"cannot write {partial}: {error.strerror}")
        finally:
            progress.end()
        trace = source.stop() if source and failure is None else None
    _judge(run, failure, partial)
    os.replace(partial, out)
    if trace is not None:
        supply_of(out).write_bytes(sensors.write_csv(trace))
        run.supply = trace
    run.path = str(out)
    return run, out


def default_out(board: str, model: Path) -> Path:
    """A new file in results/, named by time, board and model."""
    place = Path(board).name if "/" in board else board
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in f"{place}-{model.stem}")
    stem = f"{datetime.now():%Y-%m-%dT%H%M%S}-{safe}"
    names = (stem, *(f"{stem}-{i}" for i in range(2, 100)))  # several runs may end within one second
    return next(path for name in names if not (path := Path("results") / f"{name}.jsonl").exists())


def problems(run: Run, energy: Energy | None) -> list[str]:
    """Why figures of a run are not valid; empty for a good run. energy: of the run, None without a sensor."""
    found = [] if run.complete else [f"the run is incomplete: {run.losses}"]
    if run.correctness == "WRONG":
        found.append("the logits differ from those of the unix port: a kernel is wrong, so its figures do not count")
    if energy and energy.findings:
        found.append(f"the energy is not valid: {'; '.join(energy.findings)}")
    return found


def _watching(request: Request) -> contextlib.AbstractContextManager[sensors.Source | None]:
    """A context in which the sensor at the host records; does nothing for other sensors.

    Raises BadInput if power or a clock is requested of an emulated board."""
    emulated = request.board in EMULATED or request.board in emulators.REFERENCES.values()
    if request.sensor and request.sensor.name != "markers" and emulated:
        raise BadInput(f"--power needs a real board: {request.board} is emulated and draws no current")
    if request.mhz and emulated:
        raise BadInput(f"--freq needs a real board: {request.board} is emulated and has no clock to set")
    at_host = request.sensor is not None and request.sensor.at_host
    return sensors.watching(request.sensor) if at_host and request.sensor else contextlib.nullcontext()


def partial_of(out: Path) -> Path:
    """Name of the file of a run that is in progress or failed. out: the name of the complete run."""
    return out.with_suffix(".partial.jsonl") if out.suffix == ".jsonl" else out.with_name(out.name + ".partial.jsonl")


@contextlib.contextmanager
def _claimed(path: Path) -> Iterator[FileIO]:
    """A context with an empty, locked file for a run's records. It is deleted if no run starts in it.

    Raises BadInput if another run is writing it."""
    with path.open("ab", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BadInput(f"another run is writing {path}; give this run another --out") from None
        file.truncate(0)
        try:
            yield file
        except OSError as error:
            raise RunFailed(f"cannot write {path}: {error.strerror}") from None
        finally:
            if b'"kind":"begin"' not in path.read_bytes():
                path.unlink()


def _write(file: FileIO, line: bytes) -> None:
    """Writes a line at once, without a buffer, so that nothing is lost if the run breaks."""
    if file.write(line + b"\n") != len(line) + 1:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class _Keeper:
    """Saves the records of a run: the board's as they arrive, and the host's between them."""

    def __init__(self, run: Run, file: FileIO, dumps: qemu_counters.Dumps | None, progress: Progress) -> None:
        self._run = run
        self._file = file
        self._dumps = dumps
        self._progress = progress
        self._last = -1

    def take(self, line: bytes) -> None:
        """Saves a line from the board, if it is an intact, new record of this run."""
        record = self._run.feed(line)
        if record is None:
            return
        _write(self._file, line[line.find(b'{"tp":') :].strip(b"\r\n \x00"))
        if record.kind == "begin" and record.tinyprof != __version__:
            self._progress.step(deploy.skew(record.tinyprof))
        _follow(self._progress, record)
        if self._dumps and record.kind == "cost" and record.at == 0:
            for fields in self._dumps.take(record.test, record.runs):
                self.own(self.numbered(fields))

    def own(self, line: bytes) -> None:
        """Saves a record of the host."""
        _write(self._file, line)
        self._run.feed(line)

    def numbered(self, fields: dict[str, object]) -> bytes:
        """The host's next record as a line. Its sequence numbers are negative."""
        self._last -= 1
        return wire.encode({"tp": SCHEMA, "run": self._run.stream.run or "", "seq": self._last, **fields})


def _judge(run: Run, failure: BaseException | None, partial: Path) -> None:
    """Raises BadInput or RunFailed if the run failed or is incomplete."""
    kept = f"the records so far are in {partial}" if run.begin else "nothing was measured"
    if isinstance(failure, KeyboardInterrupt):
        raise RunFailed(f"interrupted: {kept}") from failure
    if failure is not None:
        raise RunFailed(f"{failure}; {kept}")
    if run.end is not None and not run.end.ok:
        if run.end.error in ("ModelError", "SensorError"):
            raise BadInput(f"{run.end.reason}")
        raise RunFailed(f"the board stopped with {run.end.error}: {run.end.reason}; {kept}")
    if run.model and run.host and run.model.sha256 not in (None, run.host.model_sha256):
        raise RunFailed(f"the board ran another model than the given one; deploy it again; {kept}")
    if not run.complete:
        raise RunFailed(f"the run is incomplete: {run.losses}; check the cable and run again; {kept}")


def _tokens(request: Request) -> bytes | None:
    """The text's token ids in base64, 16 bits each, little-endian; None without a text.

    Raises BadInput if the vocabulary is too large for 16 bits."""
    if request.text is None:
        return None
    words = vocabulary(open_gguf(request.model))
    if words.size > 1 << 16:
        raise BadInput(f"{request.model}: its vocabulary has {words.size:,} tokens; --perplexity takes up to 65,536")
    tokens = words.encode(read_text(request.text))[: request.text_tokens]
    return b64encode(struct.pack(f"<{len(tokens)}H", *tokens))


def _code(request: Request, place: Place, run: str, text: bytes | None) -> str:
    """The Python code that the board runs. run: id of the run. text: from `_tokens`."""
    load = {
        "context": request.needed_context,
        "batch": request.batch,
        "kv": request.kv,
        "activations": request.activations,
    }
    if request.stream:
        load["stream"] = True
    profile: dict[str, object] = {
        "p": request.p,
        "n": request.n,
        "d": request.d,
        "r": request.r,
        "warmup": request.warmup,
        "meta": {"via": "collect"},
    }
    if request.sensor is not None:
        profile["power"] = shunt_calibration.applied(request.sensor)[0].board
    if text:
        profile["text"] = text
    if request.events is not None:
        profile["events"] = request.events
    if request.cold:
        profile["cold"] = request.cold
    code = f"from tinyprof.host_entry import main\nmain({place.source!r},{run!r},{load!r},{profile!r})\n"
    if request.mhz is None:
        return code
    return (
        f"import machine\n_f=machine.freq()\nmachine.freq({round(request.mhz * 1e6)})\n"
        f"try:\n {code.strip().replace(chr(10), chr(10) + ' ')}\n"
        "finally:\n machine.freq(_f[0] if isinstance(_f,tuple) else _f)\n"
    )


def _host_line(
    run: str, request: Request, model: bytes, place: Place, reference: dict[str, str], command: str | None
) -> bytes:
    """The host record as a line. reference: from `_reference_logits`."""
    package, module = deploy.hashes(place.package)
    fields: dict[str, object] = {
        "tp": SCHEMA,
        "run": run,
        "seq": -1,
        "kind": "host",
        "tinyprof": __version__,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "board": request.board,
        "command": command or shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "model_file": request.model.name,
        "model_sha256": hashlib.sha256(model).hexdigest(),
        "reference_logits": reference,
        "firmware_sha256": place.firmware_sha256,
        "module_sha256": module,
        "package_sha256": package,
        "emulator": place.emulator,
    }
    if request.text:
        fields |= {"text_file": request.text.name, "text_sha256": _sha256_of(request.text)}
    if request.sensor is not None:
        known = shunt_calibration.applied(request.sensor)[1]
        fields |= {"power": request.sensor.name, "power_calibration": known and asdict(known)}
    return wire.encode(fields)


def _follow(progress: Progress, record: AnyRecord) -> None:
    """Shows what the board does next, which follows from its last record."""
    match record.kind:
        case "model":
            progress.now("running the check prompt")
        case "check":
            progress.warm_up()
        case "test":
            progress.now(f"measuring {record.test}")
        case "loss" if record.at == 0:
            progress.now("computing the perplexity of the text")
        case "cost" if record.at == 0:
            progress.warm_up()
        case "memory":
            progress.now("measuring the ceilings")
        case "samples" if record.at == 0:
            progress.advance()
