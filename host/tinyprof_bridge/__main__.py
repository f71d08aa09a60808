"""Entry point of `tinyprof-bridge` and `python -m tinyprof_bridge`."""

import signal


def main() -> None:
    """Runs the command line. Ctrl-C never prints a traceback, not even while modules load."""
    # Python's own handler would raise KeyboardInterrupt inside an import. cli.app installs its handler once loaded.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from .cli.app import main as run

    run()


if __name__ == "__main__":
    main()
