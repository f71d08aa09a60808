"""Errors that a user of the command line sees as one line."""


class BadInput(Exception):
    """What the user gave cannot be used: exit code 2."""


class RunFailed(Exception):
    """The input was good but the run did not succeed: exit code 1."""
