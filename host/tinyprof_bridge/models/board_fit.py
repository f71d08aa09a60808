"""Which known boards have enough RAM and flash for a model."""

from dataclasses import dataclass

from ..boards import catalog, kernel_variants
from ..boards.emulators import EMULATED
from .inspection import Inspection

PACKAGE = 69 << 10  # bytes of flash that the compiled device package takes
LEAST_CONTEXT = 16  # tokens; a shorter context is not offered
# Measured heap in bytes. That of emulated boards is in their table.
MEASURED_HEAP = {"RPI_PICO": 246_080}
# By family, for boards that were not measured: the share of RAM that MicroPython with the native module leaves as heap,
# and the KiB of flash that the firmware takes. Estimates from the ports' linker scripts and partition tables.
LEFT = {
    "rp2": (0.9, 768),
    "esp32": (0.33, 2048),
    "esp8266": (0.45, 640),
    "mimxrt": (0.5, 1024),
    "": (0.5, 512),
}


@dataclass(frozen=True)
class Fit:
    """Whether one board has room for a model.

    board: name in the table of known boards.
    chip: as in that table.
    kernels: variant of the kernels that the board runs.
    how: "mapped", "mapped, streamed", "mapped, with -c N" for a shorter context, or "no: " and the reason.
    ram_needed: bytes of heap that the model needs with mapped weights.
    ram: bytes of heap that the board has.
    flash_needed: bytes of model and package.
    flash: bytes that the firmware leaves.
    measured: whether `ram` was measured; an estimate otherwise."""

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
        """Whether the model runs on the board, possibly with a shorter context."""
        return not self.how.startswith("no")


def variant(board: catalog.Known) -> str:
    """Returns the variant of the kernels that a board runs."""
    return kernel_variants.of_core(board.arch, board.fpu != "none", board.dsp)


def room(board: catalog.Known) -> tuple[int, int, bool]:
    """Returns the bytes of heap, the bytes of flash for package and model, and whether the heap was measured."""
    if board.board in EMULATED:
        return EMULATED[board.board].heap, EMULATED[board.board].rom_bytes, True
    share, firmware = LEFT.get(board.family, LEFT[""])
    ram, flash, psram = (int(text or 0) << 10 for text in (board.ram_kb, board.flash_kb, board.psram_kb))
    heap = MEASURED_HEAP.get(board.board)
    return heap or int(ram * share) + psram, max(flash - (firmware << 10), 0), heap is not None


def of(found: Inspection) -> list[Fit]:
    """Returns for each known board except the unix port whether the model fits.

    A board whose kernels cannot run the model is left out."""
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
