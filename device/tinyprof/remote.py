"""What tinyprof-bridge runs on a board: load, profile, and every failure told as a record."""

import gc

from .records import Records


def main(source, run, load, profile):
    """source, load and profile: as for tinyprof.load and tinyprof.profile; run: the run's id.

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
        tinyprof.profile(model, run=run, **profile)
    except Exception:
        pass  # told by the end record
