"""tinyprof: profile quantized models on the board.

    import tinyprof
    m = tinyprof.load("/rom/model.gguf")
    m.generate("Once upon a time")
    tinyprof.profile(m)

Modules are imported when first used, to spare RAM.
"""

import gc

__version__ = "0.1.0"


def load(source, **options):
    """A model ready to run. See tinyprof.session.load."""
    # Collecting often keeps what stays together at one end of the heap, and the rest in one piece.
    threshold = getattr(gc, "threshold", None)
    before = threshold and threshold()
    if threshold:
        threshold(max(8192, gc.mem_free() >> 9))  # of a large heap each takes long
    try:
        from .session import load

        return load(source, **options)
    finally:
        if threshold:
            threshold(before)


def profile(model, **options):
    """Measures a model and prints records, one JSON object a line. See tinyprof.measure."""
    from .measure import profile

    return profile(model, **options)


def find_model():
    """The first GGUF file in the usual places, or an error that names them."""
    from .session import find_model

    return find_model()
