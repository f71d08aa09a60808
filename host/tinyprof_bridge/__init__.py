"""Host side of tinyprof: converts models, deploys them, collects and explains measurements.

`import tinyprof_bridge as tp` is the Python API (docs/python.md). A name loads its libraries when it is first used."""

TYPE_CHECKING = False  # as in typing, whose import would delay the command line's handling of Ctrl-C
__version__ = "0.1.0"

if TYPE_CHECKING:
    from .api.analyses import Comparison, Explanation, Prediction, compare, explain, what_if
    from .api.devices import boards, devices
    from .api.models import Conversion, Inspection, Optimization, convert, inspect, optimize
    from .api.runs import Run, collect, load
    from .errors import BadInput, RunFailed
else:
    # Two packages have the names of functions. Importing a package sets its name here once: it is taken away again.
    from . import boards, optimize

    del boards, optimize

    def __getattr__(name):
        """The object of that name, from the module that has it."""
        from importlib import import_module

        for module, names in _HOMES.items():
            if name in names:
                found = globals()[name] = getattr(import_module(f".{module}", __name__), name)
                return found
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")

    def __dir__():
        return __all__


_HOMES = {
    "api.analyses": ("Comparison", "Explanation", "Prediction", "compare", "explain", "what_if"),
    "api.devices": ("boards", "devices"),
    "api.models": ("Conversion", "Inspection", "Optimization", "convert", "inspect", "optimize"),
    "api.runs": ("Run", "collect", "load"),
    "errors": ("BadInput", "RunFailed"),
}
__all__ = [
    "BadInput",
    "Comparison",
    "Conversion",
    "Explanation",
    "Inspection",
    "Optimization",
    "Prediction",
    "Run",
    "RunFailed",
    "__version__",
    "boards",
    "collect",
    "compare",
    "convert",
    "devices",
    "explain",
    "inspect",
    "load",
    "optimize",
    "what_if",
]
