class ModelError(ValueError):
    """The model, or a request to it, cannot be used as it is. The message names the part and the remedy.

    truncated: the data end before the header of the file does, so a longer piece of the file may be enough."""

    truncated = False


class SensorError(ValueError):
    """The power sensor does not answer, is of another kind, or cannot do what is asked of it."""
