"""The function that tinyprof-bridge calls on a board: load and profile, with each failure in a record."""

import gc

from .records import Records


def main(source, run, load, profile):
    """Loads and profiles a model. The last record is an end record in any case.

    source: of tinyprof.load; run: id of the run; load, profile: dicts of keywords for tinyprof.load and
    tinyprof.profile, except that text is base64 of tokens of 16 bits.

    Raises KeyboardInterrupt only."""
    import tinyprof

    gc.collect()
    try:
        model = tinyprof.load(source, **load)
    except BaseException as e:
        Records(run).end(e)
        if isinstance(e, KeyboardInterrupt):
            raise
        return
    try:
        if "text" in profile:
            from array import array
            from binascii import a2b_base64

            profile["text"] = array("H", a2b_base64(profile["text"]))
        tinyprof.profile(model, run=run, **profile)
    except Exception:
        pass  # the end record has it
