"""Errors that a user of the command line sees as one line, and text that is safe to print."""


class BadInput(Exception):
    """What the user gave cannot be used: exit code 2."""


class RunFailed(Exception):
    """The input was good but the run did not succeed: exit code 1."""


def plain(text: str) -> str:
    """Text of a board or a user without what a terminal would obey or cannot show."""
    return "".join(c if c.isprintable() else "?" for c in text)
