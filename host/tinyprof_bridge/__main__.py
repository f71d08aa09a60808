"""Entry point of `tinyprof-bridge` and `python -m tinyprof_bridge`."""

import signal
import sys

from . import __version__


def main() -> None:
    """Runs the command line. Ctrl-C never prints a traceback, not even while modules load."""
    # Python's own handler would raise KeyboardInterrupt inside an import. cli.app installs its handler once loaded.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.argv[1:] == ["--version"] and _print_version():
        return
    from .cli.app import main as run

    run()


def _print_version() -> bool:
    """Whether it could be printed; if not, the command line reports the error."""
    try:
        print(f"tinyprof-bridge {__version__}", flush=True)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
