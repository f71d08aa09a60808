"""What each verb loads: help, errors and small verbs must not wait for libraries that they do not use."""

import json
import subprocess
import sys

import pytest
from models import make_model
from tinyprof_bridge.models.demo import DEMO_MODEL

# How a verb ends does not matter here: it may find no board.
CODE = """
import json, sys
from tinyprof_bridge.__main__ import main
try:
    main()
except SystemExit:
    pass
sys.stdout.flush()
print(json.dumps([*sys.modules]), file=sys.stderr)
"""
HEAVY = {"gguf", "jinja2", "matplotlib", "mpremote", "numpy", "pandas", "pydantic", "rich", "scipy", "serial"}
HEAVY |= {"statsmodels", "yaml"}
VERBS = ["demo", "collect", "report", "explain", "compare", "optimize", "convert", "inspect", "quality", "devices"]
VERBS += ["doctor", "deploy", "emulate", "power", "power fit", "bench", "bench kernels"]


def loaded(*arguments, cwd=None):
    """The top-level modules that a command has loaded at its end, and what it printed."""
    command = [sys.executable, "-c", CODE, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)
    names = json.loads(done.stderr.splitlines()[-1])
    return {name.partition(".")[0] for name in names}, done.stdout + done.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A saved run of a small model on the unix port."""
    folder = tmp_path_factory.mktemp("imports")
    model = make_model(folder / "m.gguf", type_="Q4_0", context=64)
    command = [
        sys.executable,
        "-m",
        "tinyprof_bridge",
        "collect",
        "--board",
        "unix",
        "--model",
        model,
        "--out",
        "r.jsonl",
    ]
    subprocess.run([*command, "-p", "4", "-n", "4", "-r", "1"], cwd=folder, check=True, capture_output=True)
    return folder / "r.jsonl"


def test_the_version_needs_no_typer():
    modules, said = loaded("--version")
    assert said.startswith("tinyprof-bridge ") and not modules & (HEAVY | {"typer"})


@pytest.mark.parametrize("arguments", [["--help"], *([*verb.split(), "--help"] for verb in VERBS)], ids=" ".join)
def test_help(arguments):
    modules, said = loaded(*arguments)
    assert "Usage:" in said and not modules & HEAVY


@pytest.mark.parametrize(
    "arguments,part", [(["colect"], "No such command"), (["collect", "--colour"], "No such option")]
)
def test_unknown_words(arguments, part):
    modules, said = loaded(*arguments)
    assert part in said and not modules & HEAVY


@pytest.mark.parametrize("arguments", [["-o", "pdf"], ["-r", "0"], ["-p", "x"], ["--timeout", "0"]], ids=" ".join)
def test_bad_values(arguments):
    """typer itself checks values with pydantic."""
    modules, said = loaded("collect", *arguments)
    assert "Usage" not in said and not modules & (HEAVY - {"pydantic"})


CHARTS = {"matplotlib", "scipy", "statsmodels", "jinja2"}


@pytest.mark.parametrize(
    "arguments,forbidden",
    [
        (["devices"], CHARTS | {"pandas", "numpy", "gguf"}),
        (["devices", "--known"], CHARTS | {"pandas", "numpy", "gguf"}),
        (["deploy", "--board", "/dev/nothing"], CHARTS | {"pandas", "numpy", "gguf"}),
        (["emulate", "nothing"], CHARTS | {"pandas", "numpy", "gguf"}),
        (["inspect", "demo"], CHARTS | {"pandas"}),
        (["convert", DEMO_MODEL, "--type", "keep", "-o", "x.gguf"], CHARTS | {"pandas"}),
        (["report", "RUN"], CHARTS | {"pandas", "gguf", "mpremote", "serial"}),
        (["report", "RUN", "-o", "md"], CHARTS | {"pandas", "gguf", "mpremote", "serial"}),
        (["explain", "RUN"], CHARTS | {"pandas", "gguf", "mpremote", "serial"}),
        (["compare", "RUN", "RUN"], CHARTS | {"gguf", "mpremote", "serial"}),
        (["report", "RUN", "--html", "x.html"], {"scipy", "statsmodels", "gguf", "mpremote", "serial"}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_verb_loads_what_it_uses(arguments, forbidden, run, tmp_path):
    modules, said = loaded(*(run if a == "RUN" else a for a in arguments), cwd=tmp_path)
    assert not modules & forbidden and "Traceback" not in said
