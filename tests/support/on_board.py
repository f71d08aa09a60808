"""Running code on the boards that can be here: emulated ones and the unix port."""

import contextlib
import os
import tempfile
from pathlib import Path

from tinyprof_bridge.boards import deploy, emulators, kernel_variants
from tinyprof_bridge.boards.emulators import EMULATED, Emulator
from tinyprof_bridge.boards.transport import SerialBoard, UnixBoard

ROOT = Path(__file__).parents[2]
# files that are not in the repository: stories260K.bin, tok512.bin, stories260K.greedy200.txt
DATA = Path(os.environ.get("TINYPROF_TEST_DATA") or ROOT.parent / "shared" / "data")
NO_DATA = f"stories260K.bin is not in {DATA}: set TINYPROF_TEST_DATA to a folder that has it"
# The RP2040 has tests of its own: it runs fewer instructions a second, and is not always built.
QEMU = tuple(n for n, spec in EMULATED.items() if spec.program != "node")
ALL = (*(n for n in QEMU if not EMULATED[n].stock), *emulators.REFERENCES.values())
# boards of the fixed-point path
FIXED = tuple(
    n
    for n, facts in emulators.TABLE.items()
    if kernel_variants.VARIANTS[facts["kernels"]].path == kernel_variants.FIXED
)
KERNELS = {n: EMULATED[n].kernels for n in QEMU if not EMULATED[n].stock}
ON_BOARDS = ("unix", "m4")  # where tests of device code run by default

# Code that gives a board a filesystem at /flash, in its heap.
FILES_IN_RAM = """
import vfs, os, sys
class RAM:
    def __init__(self, n):
        self.data = bytearray(n * 512)
    def readblocks(self, n, buf, off=0):
        buf[:] = self.data[n * 512 + off : n * 512 + off + len(buf)]
    def writeblocks(self, n, buf, off=0):
        self.data[n * 512 + off : n * 512 + off + len(buf)] = buf
    def ioctl(self, op, arg):
        return len(self.data) // 512 if op == 4 else 512 if op == 5 else 0
r = RAM(600)
vfs.VfsLfs2.mkfs(r)
vfs.mount(r, '/flash')
os.mkdir('/flash/lib')
os.chdir('/flash')
sys.path.insert(0, '/flash/lib')
"""


def reference(name):
    """The board whose bits this one must give."""
    return emulators.REFERENCES["fixed" if name in FIXED else "float"]


class Board:
    """source: where the model is on the board, None without one; emulator: None on unix."""

    def __init__(self, transport, source, emulator=None):
        self.transport = transport
        self.source = source
        self.emulator = emulator

    def run(self, code, timeout=120):
        """What the code prints."""
        return b"\n".join(self.transport.run(code, timeout)).replace(b"\r", b"").decode()


@contextlib.contextmanager
def board(name, model=None):
    """A running board with the device package and, at .source, the model file."""
    if name.startswith("unix"):
        # as much heap as the other boards have, and room for the file: of a large one each collection takes long
        heap = (4 << 20) + (4 * Path(model).stat().st_size if model else 0)
        unix = UnixBoard(emulators.firmware(name), deploy.device_package().parent, heap)
        yield Board(unix, model and str(model))
        return
    with tempfile.TemporaryDirectory() as scratch:
        image = Path(scratch) / "image.romfs"
        data = Path(model).read_bytes() if model else None
        image.write_bytes(deploy.romfs_image(deploy.package_of(EMULATED[name]), data))
        with Emulator(name, image) as emulator:
            link = SerialBoard(emulator.device)
            try:
                yield Board(link, model and "/rom/model.gguf", emulator)
            finally:
                link.close()
