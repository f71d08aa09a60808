"""Which known boards have room for a model."""

from dataclasses import dataclass

from ..boards import catalog, kernel_variants
from ..boards.emulators import EMULATED
from .inspection import Inspection

PACKAGE = 68 << 10  # bytes of flash of the device package, compiled
LEAST_CONTEXT = 16  # that is worth to be told
# Bytes of heap that were measured; those of emulated boards are in their table.
MEASURED_HEAP = {"RPI_PICO": 246_080}
# What MicroPython's firmware with the native module leaves, where nothing was measured: the share of RAM that is heap,
# and KiB of flash that the firmware keeps. Estimates from the ports' linker scripts and partition tables.
LEFT = {
    "rp2": (0.9, 768),
    "esp32": (0.33, 2048),
    "esp8266": (0.45, 640),
    "mimxrt": (0.5, 1024),
    "": (0.5, 512),
}


@dataclass(frozen=True)
class Fit:
    """how: mapped, streamed, with which context, or why not. RAM is heap; measured: whether it is, or an estimate."""

    board: str
    chip: str
    kernels: str
    how: str
    ram_needed: int
    ram: int
    flash_needed: int
    flash: int
    measured: bool

    @property
    def good(self) -> bool:
        return not self.how.startswith("no")


def variant(board: catalog.Known) -> str:
    """The variant of the kernels that a board runs."""
    return kernel_variants.of_core(board.arch, board.fpu != "none", board.dsp)


def room(board: catalog.Known) -> tuple[int, int, bool]:
    """Bytes of heap and of flash for package and model, and whether the heap was measured."""
    if board.board in EMULATED:
        return EMULATED[board.board].heap, EMULATED[board.board].rom_bytes, True
    share, firmware = LEFT.get(board.family, LEFT[""])
    ram, flash, psram = (int(text or 0) << 10 for text in (board.ram_kb, board.flash_kb, board.psram_kb))
    heap = MEASURED_HEAP.get(board.board)
    return heap or int(ram * share) + psram, max(flash - (firmware << 10), 0), heap is not None


def of(found: Inspection) -> list[Fit]:
    """Of each known board, the unix port aside: whether the model fits; streamed: also where files are not mapped."""
    result = []
    for board in catalog.boards():
        kernels = variant(board)
        if board.family == "unix" or kernels not in found.mapped:
            continue
        heap, flash, measured = room(board)
        need, flash_needed = found.mapped[kernels], found.bytes + PACKAGE
        how = "mapped, streamed" if heap >= found.streamed[kernels].ram else "mapped"
        shorter = need.context - -(-100 * max(need.ram - heap, 0) // need.kv_per_100)
        if flash < flash_needed:
            how = f"no: {(flash_needed - flash + 1023) >> 10:,} KiB of flash missing"
        elif heap < need.ram and shorter >= LEAST_CONTEXT:
            how = f"mapped, with -c {shorter}"
        elif heap < need.ram:
            how = f"no: {(need.ram - heap + 1023) >> 10:,} KiB of RAM missing"
        result.append(Fit(board.board, board.chip, kernels, how, need.ram, heap, flash_needed, flash, measured))
    return result
