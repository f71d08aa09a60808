"""The device package as files: where it is, and its modules of pure data."""

import functools
import sys
from importlib import util
from pathlib import Path
from types import ModuleType
from unittest import mock

from .errors import RunFailed

PACKAGE = Path(__file__).resolve().parent


def folder() -> Path:
    """The folder of the device package: in an installed wheel, or in a checkout.

    Raises RunFailed where it is in neither."""
    for found in (PACKAGE / "device" / "tinyprof", PACKAGE.parents[1] / "device" / "tinyprof"):
        if found.is_dir():
            return found
    raise RunFailed("the device package is missing from this installation: install tinyprof again")


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
    with mock.patch.dict(sys.modules, {"micropython": micropython, "_tinyprof": native}):
        spec.loader.exec_module(module)
    return module
