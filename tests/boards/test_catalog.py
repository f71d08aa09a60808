"""The table of boards, and boards found by their USB ids."""

import subprocess
import sys

from on_board import ROOT
from tinyprof_bridge.boards import catalog, deploy
from tinyprof_bridge.boards.emulators import EMULATED

BOARDS = catalog.boards()


def test_the_table_is_whole():
    assert len(BOARDS) >= 30 and len({b.family for b in BOARDS}) >= 10
    assert len({b.board for b in BOARDS}) == len(BOARDS)
    for b in BOARDS:
        assert b.arch in ("", *deploy.ARCHITECTURES), b
        assert all(getattr(b, name).isdigit() for name in catalog.NUMBERS if getattr(b, name)), b
        assert b.evidence in ("run", "run on silicon", "run in an emulator", "built", "by the manual"), b
        assert not b.usb or all(len(part) == 4 and int(part, 16) for part in b.usb.split(":")), b


def test_emulated_boards_are_in_it():
    names = {name: name for name, spec in EMULATED.items() if not spec.stock} | {"rp2040": "RPI_PICO"}
    for name, known_as in names.items():
        (board,) = (b for b in BOARDS if b.board == known_as)
        assert (board.arch, board.evidence) == (EMULATED[name].arch, "run in an emulator")


def test_the_docs_show_it():
    assert catalog.markdown() in (ROOT / "docs/known_boards.md").read_text()


def test_the_verb_shows_all():
    out = subprocess.run(
        [sys.executable, "-m", "tinyprof_bridge", "devices", "--known"], capture_output=True, text=True, check=True
    ).stdout
    assert all(b.board in out for b in BOARDS)
