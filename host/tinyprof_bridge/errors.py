"""Errors that a user sees as one line, and text that is safe to print."""


class BadInput(ValueError):
    """What the user gave cannot be used. The command line exits with code 2."""


class RunFailed(RuntimeError):
    """The input was good but the run did not succeed. The command line exits with code 1."""


def plain(text: str) -> str:
    """Text of a board or a user without what a terminal would obey or cannot show."""
    return "".join(c if c.isprintable() else "?" for c in text)
