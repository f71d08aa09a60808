"""The two errors that the command line shows as one line, and text made safe to print."""


class BadInput(ValueError):
    """An option, file or board given by the user cannot be used. The command line exits with code 2."""


class RunFailed(RuntimeError):
    """The input was valid, but the work failed. The command line exits with code 1."""


def plain(text: str) -> str:
    """Returns text with each control or unprintable character replaced by '?'.

    Text from a board or a file could otherwise send escape sequences to the terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)
