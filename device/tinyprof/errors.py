class ModelError(ValueError):
    """The model, or what is asked of it, cannot be used as it is: the message says which part, and what to do."""


class SensorError(ValueError):
    """The power sensor does not answer, is another, or cannot do what is asked of it."""
