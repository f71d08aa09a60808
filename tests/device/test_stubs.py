"""The stubs of the device package and of the native module have the names and parameters of what they describe."""

import ast
import re

import pytest
from on_board import ROOT

DEVICE = ROOT / "device"
MODULES = sorted(path.stem for path in (DEVICE / "tinyprof").glob("*.py"))


def public(names):
    return {name for name in names if not name.startswith("_")}


def parameters(function):
    """Names of a function's parameters, each with = where it has a default."""
    a = function.args
    named = [arg.arg for arg in (*a.posonlyargs, *a.args)]
    at = len(named) - len(a.defaults)
    named[at:] = [name + "=" for name in named[at:]]
    return [*named, *("*" + arg.arg for arg in (a.vararg,) if arg), *("**" + arg.arg for arg in (a.kwarg,) if arg)]


def described(body):
    """By public name what a module or a class has: a function's parameters, a class's own contents, else None."""
    found = {}
    for node in body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = parameters(node)
        elif isinstance(node, ast.ClassDef):
            found[node.name] = described(node.body)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id: None for target in targets if isinstance(target, ast.Name)}
    return {name: of for name, of in found.items() if name in ("__init__", *public(found))}


def attributes(body):
    """Public names that methods store in self."""
    for node in (n for method in body for n in ast.walk(method)):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            yield node.attr


@pytest.mark.parametrize("module", MODULES)
def test_a_stub_has_the_names_and_parameters_of_its_module(module):
    source, stub = (ast.parse((DEVICE / f"tinyprof/{module}.{kind}").read_text()) for kind in ("py", "pyi"))
    code, said = described(source.body), described(stub.body)
    said.pop("Operand", None)  # a type that only the stub of plan needs
    if module == "__init__":  # whose stub spells out what **options stand for
        for name, (other, options) in {
            "load": ("session", said["load"]),
            "profile": ("measure", said["profile"]),
        }.items():
            tree = ast.parse((DEVICE / f"tinyprof/{other}.py").read_text())
            assert options == described(tree.body)[name]
            code[name] = options
    assert said.keys() == code.keys()
    for node in (n for n in source.body if isinstance(n, ast.ClassDef) and n.name in code):
        own = described(node.body) | dict.fromkeys(public(attributes(node.body)))
        bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
        if "Ina" in bases:  # the base class has the attributes
            own = {name: of for name, of in own.items() if of is not None}
        assert {k: v for k, v in said[node.name].items()} == own, node.name
    functions = {name: of for name, of in code.items() if isinstance(of, list)}
    assert {name: said[name] for name in functions} == functions


def test_the_stub_of_the_native_module_has_its_functions():
    text = (ROOT / "native_modules/module.c").read_text()
    counts = {}
    for kind, name, numbers in re.findall(r"CONST_FUN_OBJ_(\w+)\(tinyprof_(\w+)_obj, ([\d, ]*)", text):
        few, most = map(int, numbers.split(",")[:2]) if kind == "VAR_BETWEEN" else (int(kind), int(kind))
        counts[name] = (few, most)
    stub = ast.parse((DEVICE / "_tinyprof.pyi").read_text())
    said = {n.name: parameters(n) for n in stub.body if isinstance(n, ast.FunctionDef)}
    assert {name: (len([p for p in of if p[-1] != "="]), len(of)) for name, of in said.items()} == counts
    assert all(ast.get_docstring(n) for n in stub.body if isinstance(n, ast.FunctionDef))
