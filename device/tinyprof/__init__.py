"""tinyprof: profile quantized models on the board.

    import tinyprof
    m = tinyprof.load("/rom/model.gguf")
    m.generate("Once upon a time")
    tinyprof.profile(m)

Modules are imported when they are first used, to save RAM.
"""

import gc

__version__ = "0.1.0"


def load(source, **options):
    """A session.Model, ready to run. For source and options see session.load."""
    # Frequent collection keeps lasting objects at one end of the heap and the free part in one piece.
    threshold = getattr(gc, "threshold", None)
    before = threshold and threshold()
    if threshold:
        threshold(max(8192, gc.mem_free() >> 9))  # in a large heap each collection takes long
    try:
        from .session import load

        return load(source, **options)
    finally:
        if threshold:
            threshold(before)


def profile(model, **options):
    """A measure.Summary of the model's speed and memory. Prints records, one JSON object per line.

    model: from load; options: see measure.profile."""
    from .measure import profile

    return profile(model, **options)


def find_model():
    """The path of the first model file in the usual places. Raises ModelError, which names them, if there is none."""
    from .session import find_model

    return find_model()
