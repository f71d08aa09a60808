"""The order of the host's packages: each imports only what stands before it. In no package, on the host or on boards,
do modules import one another in a circle. Imports inside functions count too."""

import ast
from graphlib import CycleError, TopologicalSorter

import pytest
from on_board import ROOT

PACKAGE = ROOT / "host/tinyprof_bridge"
DEVICE = ROOT / "device/tinyprof"
# Modules beside the packages come first; the command line and what starts it last.
ORDER = [
    *("errors", "cache", "progress", "tables", "device_package"),
    *("quantize", "records", "boards", "models", "energy", "measure", "analysis", "report", "optimize"),
    *("api", "cli", "__main__"),
]


def imports(package, path):
    """Full names of what a file imports from its package, relative imports resolved."""
    parts = path.relative_to(package.parent).with_suffix("").parts
    folder = parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*folder[: len(folder) - node.level + 1], *(node.module.split(".") if node.module else [])]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == package.name:
            base = node.module.split(".")
        else:
            continue
        for alias in node.names:
            yield module(package, [*base, alias.name]) or module(package, base)


def module(package, parts):
    """The dotted name of a module of the package, '' for the package itself, None where there is no such module."""
    path = package.parent.joinpath(*parts)
    exists = path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()
    return ".".join(parts[1:]) if exists else None


def modules(package):
    """By name, the other modules of the package that each module imports. What the package's own __init__ holds does
    not count: it is there before any of its modules."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = sorted({other for other in imports(package, path) if other and other != name})
    return found


MODULES = modules(PACKAGE)


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_a_module_imports_only_what_stands_before_its_package(name):
    here = name.split(".")[0]
    for other in MODULES[name]:
        there = other.split(".")[0]
        assert there == here or ORDER.index(there) < ORDER.index(here), f"{name} imports {other}"


@pytest.mark.parametrize("package", [PACKAGE, DEVICE], ids=["host", "device"])
def test_no_modules_import_one_another_in_a_circle(package):
    try:
        TopologicalSorter(modules(package)).prepare()
    except CycleError as circle:
        pytest.fail(" -> ".join(circle.args[1]))


def test_each_package_says_what_lives_there_and_what_it_may_import():
    for folder in (path for path in PACKAGE.rglob("__init__.py")):
        assert ast.get_docstring(ast.parse(folder.read_text())), folder
