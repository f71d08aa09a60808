"""Code for boards: products whose fast result differs from the portable one. A test sends this file's text."""

from array import array

from tinyprof import ops
from tinyprof.bench import Product, fits, noise_bytes, noise_floats, once, random_weights, repeated

BLOCK = 32
# fp16: zero, the smallest subnormal and the largest finite number, with both signs
SCALES = (0x2C9A, 0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x7BFF, 0xFBFF, 0x3C00)
LARGE = bytes((0x7F, 0x80, 0x81, 0xFF, 0x00))


def large_bytes(seed):
    return bytes(LARGE[b % len(LARGE)] for b in once(noise_bytes, seed))


def scaled(seed):
    """Nine blocks of floats for each of five scales."""
    x = array("f", once(noise_floats, seed)[: 4 * 9 * BLOCK])
    kinds = [bytes(array("f", (1.0 if v > 0 else -1.0 for v in x)))]
    for scale in (0.0, 1e-38, 1e30, 1e-42):
        y = array("f", (v * scale for v in x))
        for i in range(3, len(y) if scale == 0 else 0, 8):
            y[i] = float("nan")  # quantized to 127 with a scale of 0
        kinds.append(bytes(y))
    return kinds


def extreme_activations(cols, n, seed):
    """n x cols floats, whose blocks have very large and very small scales."""
    size = 4 * cols * n
    kinds, x, step = once(scaled, 1), bytearray(size), 4 * BLOCK
    for at in range(0, size, step):
        begin = (seed * 13 + at // 4) % (8 * BLOCK) * 4
        x[at : at + step] = kinds[at // step % 5][begin : begin + min(step, size - at)]
    return x


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
                        if extreme:
                            weights = random_weights(type_, r, c, seed, large_bytes, SCALES)
                            x = extreme_activations(c, n, seed + 1)
                        else:
                            weights = random_weights(type_, r, c, seed)
                            x = repeated(noise_floats, seed + 1, 4 * c * n, 4)
                        if not Product(type_, r, c, n, int16, weights, x).run():
                            wrong.append((ops.TYPES[type_], r, c, n, seed, extreme))
    return wrong
