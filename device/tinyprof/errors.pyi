class ModelError(ValueError):
    truncated: bool

class SensorError(ValueError): ...
