"""What `tinyprof-bridge` and `python -m tinyprof_bridge` start."""

import signal


def main() -> None:
    """Entry point: the command line, with Ctrl-C free of tracebacks from the start."""
    # While the libraries load, Ctrl-C ends us as it ends any program; cli takes it over.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from .cli.app import main as run

    run()


if __name__ == "__main__":
    main()
