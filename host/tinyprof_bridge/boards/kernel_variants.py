"""The kernel variants, one for each instruction set: all facts that the host needs of them.

A new variant touches three files: its C file in native_modules/kernels, its line in isa.h there, and its entry here.
"""

from dataclasses import dataclass, field

FLOAT, FIXED = "float", "fixed"  # paths; cores without an FPU run the fixed-point one


@dataclass(frozen=True)
class Variant:
    """One variant of the matrix products.

    path: FLOAT or FIXED.
    archs: architectures of native modules whose cores run it, if dsp is empty (as in the table of known boards).
    dsp: the DSP extension that a core must have.
    activations: bytes of 32 quantized activations, by weight type; types not listed have the portable kernels' size.
    group_bytes: bytes after each group of eight such blocks (sums and a scale), by weight type.
    bounds: by weight type, the fewest instructions per MAC that the variant can reach for one token. They count loads
        of weights, unpacking, products, and loads of activations, which two to eight rows share, but no block scales
        (docs/kernels.md).
    """

    path: str
    archs: tuple[str, ...] = ()
    dsp: str = ""
    activations: dict[str, float] = field(default_factory=dict)
    group_bytes: dict[str, int] = field(default_factory=dict)
    bounds: dict[str, float] = field(default_factory=dict)


_SCALAR = {"Q4_0": 72, "Q4_K": 580 / 8, "Q6_K": 580 / 8, "TP3": 72}
VARIANTS = {
    "portable": Variant(FLOAT),
    "avx2": Variant(FLOAT),
    "armv7em": Variant(
        FLOAT,
        archs=("armv7emsp", "armv7emdp"),
        activations={"Q4_0": 72, "Q8_0": 72, "TP3": 72, "TP2": 76, "TPT": 76, "Q4_K": 536 / 8, "Q6_K": 548 / 8},
        bounds={"Q4_0": 1.16, "Q8_0": 1.28, "TP2": 0.69, "TPT": 0.69, "TP3": 1.28, "Q4_K": 1.19, "Q6_K": 2.19},
    ),
    "mve": Variant(
        FLOAT,
        dsp="MVE",
        activations={"Q4_0": 40, "Q8_0": 40, "TP3": 40, "TP2": 64, "TPT": 64, "Q4_K": 32, "Q6_K": 32},
        group_bytes={"TP2": 44, "TPT": 44, "Q4_K": 36, "Q6_K": 36},
        bounds={"Q4_0": 0.17, "Q8_0": 0.14, "TP2": 0.17, "TPT": 0.17, "TP3": 0.21, "Q4_K": 0.17, "Q6_K": 0.28},
    ),
    "armv6m": Variant(
        FIXED,
        archs=("armv6m",),
        activations=_SCALAR | {"Q8_0": 36, "TP2": 120, "TPT": 120},
        bounds={"Q4_0": 2.42, "Q8_0": 3.5, "TP2": 2.15, "TPT": 2.15, "TP3": 2.56, "Q4_K": 2.31},
    ),
    "armv7m": Variant(
        FIXED,
        archs=("armv7m",),
        activations=_SCALAR | {"Q8_0": 76, "TP2": 72, "TPT": 72},
        bounds={"Q4_0": 1.19, "Q8_0": 1.56, "TP2": 1.13, "TPT": 1.13, "TP3": 1.28, "Q4_K": 1.19},
    ),
    "rv32": Variant(
        FIXED,
        archs=("rv32imc",),
        activations=_SCALAR | {"Q8_0": 132, "TP2": 140, "TPT": 140},
        bounds={"Q4_0": 2.19, "Q8_0": 3.13, "TP2": 1.88, "TPT": 1.88, "TP3": 2.34, "Q4_K": 2.13},
    ),
    "scalar": Variant(FIXED, activations=_SCALAR | {"Q8_0": 136, "TP2": 140, "TPT": 140}),
}


def of_core(arch: str, fpu: bool, dsp: str) -> str:
    """Returns the name of the variant that a core runs: by its DSP extension, else by its architecture, else in C.

    arch: architecture of its native modules.
    fpu: whether it has an FPU.
    dsp: its DSP extension, "" for none.
    """
    of_path = {name: variant for name, variant in VARIANTS.items() if variant.path == (FLOAT if fpu else FIXED)}
    by_dsp = [name for name, variant in of_path.items() if variant.dsp and variant.dsp == dsp]
    by_arch = [name for name, variant in of_path.items() if arch in variant.archs]
    return [*by_dsp, *by_arch, "portable" if fpu else "scalar"][0]
