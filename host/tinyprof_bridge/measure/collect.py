"""Runs a profile on a board and keeps what it says, line by line as it comes."""

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
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path

from .. import __version__
from ..boards import deploy, emulators, qemu_counters
from ..boards.emulators import EMULATED, Emulator
from ..boards.transport import SerialBoard, Transport, UnixBoard
from ..energy import sensors, shunt_calibration
from ..energy.sensors import Sensor
from ..errors import BadInput, RunFailed
from ..models.demo import read_model
from ..models.tokenize import open_gguf, read_text, vocabulary
from ..progress import Progress
from ..records import wire
from ..records.runs import Run, supply_of
from ..records.schema import SCHEMA, AnyRecord

UNIX_HEAP_SPARE = 64 << 20
STOP_SECONDS = 5.0  # for a board that may be dead to stop


@dataclass(frozen=True)
class Request:
    """What to measure, in llama-bench's terms. p, n, d: lengths of prefill, decode, depth."""

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
    activations: int = 8  # bits of what meets quantized weights
    stream: bool = False  # even where the weights could be mapped
    timeout: float = field(default=120.0, compare=False)  # in seconds; no figure depends on it
    sensor: Sensor | None = None
    mhz: float | None = None  # the clock to set
    text: Path | None = None  # to judge the model by
    text_tokens: int = 256  # of it, at most
    counting: qemu_counters.Wanted | None = None
    events: tuple[str, ...] | None = None  # that the board counts; empty: all
    cold: tuple[str, ...] = ()  # starts from cold: cache, sleep

    @property
    def needed_context(self) -> int:
        return max(self.context or 0, max(self.d) + max((*self.p, *self.n)), 32)

    @property
    def tests(self) -> list[str]:
        """What the board will call its tests, in order."""
        names = [*(f"pp{p}" for p in self.p), *(f"tg{n}" for n in self.n)]
        return [f"{name} @ d{depth}" if depth else name for depth in self.d for name in names]


@dataclass
class Place:
    """A board that is ready: its link, where the model is on it, the package on it, what runs it; dumps: of its
    counters."""

    transport: Transport
    source: str
    package: dict[str, bytes]
    firmware_sha256: str | None
    emulator: str | None
    dumps: qemu_counters.Dumps | None = None
    pid: int | None = None  # of the emulator


@contextlib.contextmanager
def prepare(
    board: str, model: Path | None, progress: Progress, wanted: qemu_counters.Wanted | None = None
) -> Iterator[Place]:
    """Starts or opens a board and puts package and model on it. wanted: what its emulator is to count."""
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
    """The unix port, of either path, with room for a model of so many bytes."""
    program = emulators.firmware(board)
    with tempfile.TemporaryDirectory() as scratch:
        # a name of our own: MicroPython opens only names that are UTF-8
        link = Path(scratch) / "model.gguf"
        if model is not None:
            link.symlink_to(model.resolve())
        unix = UnixBoard(program, deploy.device_package().parent, size + UNIX_HEAP_SPARE)
        try:
            package = {f"tinyprof/{file.name}": file.read_bytes() for file in deploy.device_package().glob("*.py")}
            yield Place(unix, str(link), package, _sha256_of(program), None)
        finally:
            unix.close()


def _sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _reference_logits(request: Request, model: bytes, progress: Progress) -> dict[str, str]:
    """The CRC of the model's logits on the unix port, under each path for which that is built."""
    load = {"context": request.needed_context, "kv": request.kv, "activations": request.activations}
    found = {}
    for path, board in emulators.REFERENCES.items():
        progress.step(f"computing the reference logits of the {path} path")
        try:
            with _unix(board, request.model, len(model)) as place:
                code = (
                    "import tinyprof\nfrom tinyprof.measure import check\n"
                    f"print(check(tinyprof.load({place.source!r}, **{load!r}))[0])"
                )
                found[path] = b"".join(place.transport.run(code, request.timeout)).decode().strip()
        except (BadInput, RunFailed) as error:
            # a model that this path cannot take: the board itself will say what is wrong
            if "ModelError" not in str(error):
                progress.step(f"without them logits of that path are not checked: {error}")
    return found


def collect(request: Request, out: Path, progress: Progress) -> tuple[Run, Path]:
    """Measures and writes out (JSON lines); returns the run and the file that holds it.

    While it runs, and for good if it does not end well, the file is named *.partial.jsonl.
    Raises BadInput for what the board cannot do, RunFailed (naming the partial file) if the
    run broke or was interrupted; the board is back at its REPL then."""
    model = read_model(request.model)
    text = _tokens(request)
    if out.is_dir() or not out.name:
        raise BadInput(f"--out takes the name of a file, not of a folder: {out}")
    if out.exists() and out.samefile(request.model):
        raise BadInput(f"{out} is the model itself")
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_of(out)
    # Longer than the ten characters up to which MicroPython interns a constant: an interned id would
    # move the board's tables, and with them the last digits of the figures, from run to run.
    id_ = secrets.token_hex(6)
    run = Run(str(partial), wire.Stream(id_))
    failure: BaseException | None = None
    with contextlib.ExitStack() as stack:
        # before the board: a source meter feeds it
        source = stack.enter_context(_watching(request))
        place = stack.enter_context(prepare(request.board, request.model, progress, request.counting))
        file = stack.enter_context(_claimed(partial))
        checked = request.board not in emulators.REFERENCES.values()  # these would be held against themselves
        reference = _reference_logits(request, model, progress) if checked else {}
        header = _host_line(id_, request, model, place, reference)
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
                progress.step("stopping the board; Ctrl-C again leaves it as it is")
                patience = max(request.timeout, STOP_SECONDS)
            with contextlib.suppress(KeyboardInterrupt):
                for line in place.transport.interrupt(patience):
                    keep.take(line)
        except OSError as error:  # a full disk: the board must not run on without us
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


def _watching(request: Request) -> contextlib.AbstractContextManager[sensors.Source | None]:
    """The sensor at the host, if that is where it is. Raises BadInput for a board that draws no current."""
    emulated = request.board in EMULATED or request.board in emulators.REFERENCES.values()
    if request.sensor and request.sensor.name != "markers" and emulated:
        raise BadInput(f"--power needs a real board: {request.board} draws no current")
    if request.mhz and emulated:
        raise BadInput(f"--freq needs a real board: {request.board} has no clock to set")
    at_host = request.sensor is not None and request.sensor.at_host
    return sensors.watching(request.sensor) if at_host and request.sensor else contextlib.nullcontext()


def partial_of(out: Path) -> Path:
    """The name of a run that has not ended well."""
    return out.with_suffix(".partial.jsonl") if out.suffix == ".jsonl" else out.with_name(out.name + ".partial.jsonl")


@contextlib.contextmanager
def _claimed(path: Path) -> Iterator[FileIO]:
    """A file for a run's records, empty at first; it goes again if no run begins in it.

    Raises BadInput if another run is writing it."""
    with path.open("ab", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BadInput(f"another run is writing {path}: give this one its own --out") from None
        file.truncate(0)
        try:
            yield file
        except OSError as error:
            raise RunFailed(f"cannot write {path}: {error.strerror}") from None
        finally:
            if b'"kind":"begin"' not in path.read_bytes():
                path.unlink()


def _write(file: FileIO, line: bytes) -> None:
    """Writes a line at once: nothing waits in a buffer for a cable to be pulled."""
    if file.write(line + b"\n") != len(line) + 1:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class _Keeper:
    """Keeps what a run says: the board's records as they come, and the host's between them."""

    def __init__(self, run: Run, file: FileIO, dumps: qemu_counters.Dumps | None, progress: Progress) -> None:
        self._run = run
        self._file = file
        self._dumps = dumps
        self._progress = progress
        self._last = -1

    def take(self, line: bytes) -> None:
        """Keeps a line that is an intact, new record of this run; written out at once."""
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
        """Keeps a line of the host."""
        _write(self._file, line)
        self._run.feed(line)

    def numbered(self, fields: dict[str, object]) -> bytes:
        """The host's next line."""
        self._last -= 1
        return wire.encode({"tp": SCHEMA, "run": self._run.stream.run or "", "seq": self._last, **fields})


def _judge(run: Run, failure: BaseException | None, partial: Path) -> None:
    """Raises what is wrong with a run, if anything is."""
    kept = f"what was measured so far is in {partial}" if run.begin else "nothing was measured"
    if isinstance(failure, KeyboardInterrupt):
        raise RunFailed(f"interrupted: {kept}")
    if failure is not None:
        raise RunFailed(f"{failure}; {kept}")
    if run.end is not None and not run.end.ok:
        if run.end.error in ("ModelError", "SensorError"):
            raise BadInput(f"{run.end.reason}")
        raise RunFailed(f"the board stopped with {run.end.error}: {run.end.reason}; {kept}")
    if run.model and run.host and run.model.sha256 not in (None, run.host.model_sha256):
        raise RunFailed(f"the board ran another model than the one given: deploy again; {kept}")
    if not run.complete:
        raise RunFailed(f"the run is incomplete: {run.losses}; {kept}")


def _tokens(request: Request) -> bytes | None:
    """The text's tokens in base64, 16 bits each. Raises BadInput for a model whose tokens are not of this kind."""
    if request.text is None:
        return None
    words = vocabulary(open_gguf(request.model))
    if words.size > 1 << 16:
        raise BadInput(f"{request.model}: --perplexity takes a vocabulary of 65536 at most")
    tokens = words.encode(read_text(request.text))[: request.text_tokens]
    return b64encode(struct.pack(f"<{len(tokens)}H", *tokens))


def _code(request: Request, place: Place, run: str, text: bytes | None) -> str:
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
    code = f"from tinyprof.remote import main\nmain({place.source!r},{run!r},{load!r},{profile!r})\n"
    if request.mhz is None:
        return code
    return (
        f"import machine\n_f=machine.freq()\nmachine.freq({round(request.mhz * 1e6)})\n"
        f"try:\n {code.strip().replace(chr(10), chr(10) + ' ')}\n"
        "finally:\n machine.freq(_f[0] if isinstance(_f,tuple) else _f)\n"
    )


def _host_line(run: str, request: Request, model: bytes, place: Place, reference: dict[str, str]) -> bytes:
    package, module = deploy.hashes(place.package)
    fields: dict[str, object] = {
        "tp": SCHEMA,
        "run": run,
        "seq": -1,
        "kind": "host",
        "tinyprof": __version__,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "board": request.board,
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
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
    """Says what the board does next, which is known from what it has done."""
    match record.kind:
        case "model":
            progress.now("running the check prompt")
        case "check":
            progress.warm_up()
        case "test":
            progress.now(f"measuring {record.test}")
        case "loss" if record.at == 0:
            progress.now("judging the model by the text")
        case "cost" if record.at == 0:
            progress.warm_up()
        case "memory":
            progress.now("measuring the ceilings")
        case "samples" if record.at == 0:
            progress.advance()
