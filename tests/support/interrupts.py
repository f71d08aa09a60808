"""Signals in tests."""

import signal


def heed_interrupts():
    """Where the tests run in the background of a shell, SIGINT is ignored and that is inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
