"""Code for boards: products whose fast result differs from the portable one. A test sends this file's text."""

from tinyprof import ops
from tinyprof.bench import Product, fits


def differences(types, rows, cols, tokens, seed=1, int16=0):
    """A list of the quantized products, random and extreme, that differ in a bit; empty where all are right.

    types: numbers of weight types; rows, cols: sizes of matrices; tokens: numbers of tokens;
    int16: 0, or ops.INT16 for activations of 16 bits."""
    wrong = []
    for type_ in types:
        for c in cols:
            for r in rows:
                for n in tokens if fits(type_, r, c) else ():
                    for extreme in (False, True):
                        seed += 1
                        if not Product(type_, r, c, n, seed, extreme, int16).run():
                            wrong.append((ops.TYPES[type_], r, c, n, seed, extreme))
    return wrong
