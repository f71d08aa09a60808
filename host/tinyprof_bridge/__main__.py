"""What `tinyprof-bridge` and `python -m tinyprof_bridge` start."""

import signal
import sys

from . import __version__


def main() -> None:
    """Entry point: the command line, with Ctrl-C free of tracebacks from the start."""
    # While the libraries load, Ctrl-C ends us as it ends any program; cli takes it over.
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
