class ModelError(ValueError):
    """The model cannot be used as it is: the message says which part, and what to do."""
