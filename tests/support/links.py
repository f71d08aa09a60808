"""Boards behind a line that can fail."""

import contextlib

from tinyprof_bridge.boards import deploy
from tinyprof_bridge.boards.emulators import Emulator
from tinyprof_bridge.boards.transport import SerialBoard


def whole_lines(data):
    """The records in these bytes, as the board wrote them."""
    return [
        line[line.find(b'{"tp":') :] for line in bytes(data).replace(b"\r", b"").split(b"\n") if line.endswith(b'"}')
    ]


def usable(board):
    link = SerialBoard(board.device)
    try:
        return link.evaluate("6 * 7") == 42
    finally:
        link.close()


class Board:
    """An emulated board that can be restarted as by its button: from another port."""

    def __init__(self, image):
        self.image = image
        self.emulator = Emulator("m4", image)

    @property
    def device(self):
        return self.emulator.device

    def restart(self):
        self.emulator.close()
        self.emulator = Emulator("m4", self.image)


@contextlib.contextmanager
def a_board(model, folder):
    """An emulated board that has package and model in its flash already."""
    image = folder / "image.romfs"
    image.write_bytes(deploy.romfs_image(deploy.compiled_package(), model.read_bytes()))
    board = Board(image)
    try:
        SerialBoard(board.device).close()
        yield board
    finally:
        board.emulator.close()
