"""The order of the host's packages: each imports only what stands before it, and no modules import one another in a
circle. Imports inside functions count too."""

import ast
from graphlib import CycleError, TopologicalSorter

import pytest
from on_board import ROOT

PACKAGE = ROOT / "host/tinyprof_bridge"
# Modules beside the packages come first; the command line and what starts it last.
ORDER = [
    *("errors", "cache", "progress", "tables"),
    *("quantize", "records", "boards", "models", "energy", "measure", "analysis", "report", "optimize"),
    *("api", "cli", "__main__"),
]


def imports(path):
    """Full names of what a file imports from this package, relative imports resolved."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    package = parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*package[: len(package) - node.level + 1], *(node.module.split(".") if node.module else [])]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE.name:
            base = node.module.split(".")
        else:
            continue
        for alias in node.names:
            yield module([*base, alias.name]) or module(base)


def module(parts):
    """The dotted name of a module of the package, '' for the package itself, None where there is no such module."""
    path = PACKAGE.parent.joinpath(*parts)
    exists = path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()
    return ".".join(parts[1:]) if exists else None


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        yield name, sorted({found for found in imports(path) if found and found != name})


MODULES = dict(modules())


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_a_module_imports_only_what_stands_before_its_package(name):
    here = name.split(".")[0]
    for other in MODULES[name]:
        there = other.split(".")[0]
        assert there == here or ORDER.index(there) < ORDER.index(here), f"{name} imports {other}"


def test_no_modules_import_one_another_in_a_circle():
    try:
        TopologicalSorter(MODULES).prepare()
    except CycleError as circle:
        pytest.fail(" -> ".join(circle.args[1]))


def test_each_package_says_what_lives_there_and_what_it_may_import():
    for folder in (path for path in PACKAGE.rglob("__init__.py")):
        assert ast.get_docstring(ast.parse(folder.read_text())), folder
