"""The device package as files: where it is, and its modules of pure data."""

import contextlib
import functools
import sys
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from types import ModuleType

from .errors import RunFailed

PACKAGE = Path(__file__).resolve().parent


def folder() -> Path:
    """The folder of the device package: in an installed wheel, or in a checkout.

    Raises RunFailed where it is in neither."""
    for found in (PACKAGE / "device" / "tinyprof", PACKAGE.parents[1] / "device" / "tinyprof"):
        if found.is_dir():
            return found
    raise RunFailed("the device package is missing from this installation: install tinyprof again")


@contextlib.contextmanager
def stand_ins(modules: dict[str, ModuleType]) -> Iterator[None]:
    """A context in which these modules are imported by their names, whatever else has the name."""
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


@functools.cache
def data(name: str) -> ModuleType:
    """A module that imports nothing of the package and calls nothing native while it loads (architectures, ops,
    weight_types), without running the package.

    name: of the module, without the package's."""
    micropython, native = ModuleType("micropython"), ModuleType("_tinyprof")
    vars(micropython)["const"] = lambda value: value
    spec = util.spec_from_file_location(f"tinyprof_bridge._device_{name}", folder() / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = util.module_from_spec(spec)
    with stand_ins({"micropython": micropython, "_tinyprof": native}):
        spec.loader.exec_module(module)
    return module
