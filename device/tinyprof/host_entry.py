"""What tinyprof-bridge runs on a board: load, profile, and every failure told as a record."""

import gc

from .records import Records


def main(source, run, load, profile):
    """source, load and profile: as for tinyprof.load and tinyprof.profile, but for a text in base64, 16 bits a token;
    run: the run's id.

    Ends with an end record in any case; raises only KeyboardInterrupt."""
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
        pass  # told by the end record
