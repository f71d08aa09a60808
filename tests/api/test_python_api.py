"""`import tinyprof_bridge as tp`: real runs, tables, errors, silence, HTML that is safe, and nothing left behind."""

import doctest
import html.parser
import json
import os
import re
import subprocess
import sys
import time
from importlib import import_module

import pandas as pd
import pytest
import tinyprof_bridge as tp
from models import make_model
from on_board import ROOT
from tinyprof_bridge.boards import emulators
from tinyprof_bridge.models.demo import DEMO_MODEL

API = ("analyses", "devices", "models", "runs")
PYTHON = {**os.environ, "PYTHONPATH": str(ROOT / "host")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("api")


@pytest.fixture(scope="module")
def runs(folder):
    return {name: tp.collect(name, p=4, n=(4, 8), r=3, out=folder / f"{name}.jsonl") for name in ("unix", "m4")}


def built(name):
    return (emulators.build_folder() / "firmware" / name).is_dir()


@pytest.mark.parametrize("name", ["unix", "m4"])
def test_a_run_has_tables(name, runs, folder):
    run = runs[name]
    assert run.path == folder / f"{name}.jsonl" and run.complete and run.problems == []
    assert run.board == name and run.model == "tinyprof-demo"
    assert run.correctness == ("match" if name == "m4" else "not checked")
    assert (run.unit, run.source) == (("instr", "emulated-icount") if name == "m4" else ("ns", "host-clock"))
    assert run.tests["test"].tolist() == ["pp4", "tg4", "tg8"] and set(run.tests["source"]) == {run.source}
    assert run.tests["tok_s"].isna().all() == (name == "m4")
    assert run.operators()["role"].is_unique and run.operators().equals(run.operators("tg4"))
    assert run.operators("tg8")["share"].sum() == pytest.approx(1) and set(run.operators()["unit"]) == {run.unit}
    assert run.latencies("tg8").groupby("repetition").size().tolist() == [8, 8, 8] and len(run.latencies("pp4")) == 3
    assert run.memory.set_index("what").loc["model_storage", "bytes"] == DEMO_MODEL.stat().st_size
    assert run.energy.empty and run.operator_energy.empty and run.events.empty and run.counted().empty
    assert run.perplexity != run.perplexity
    assert {"model", "board", "kernels", "counted by", "logits"} <= run.facts.keys()
    assert repr(run).startswith(f"<Run of tinyprof-demo on {name}: pp4, tg4, tg8; {run.unit} by {run.source}; valid>")
    assert run.source in run.to_markdown() and json.loads(run.to_json())["complete"]


def test_a_saved_run_is_the_same(runs):
    again = tp.load(runs["m4"].path)
    assert again.tests.equals(runs["m4"].tests) and again.facts == runs["m4"].facts
    assert (
        "collect('m4'" not in again.record.host.command and "collect(p=4, n=(4, 8), r=3," in again.record.host.command
    )


def test_default_files_are_new_ones(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    first, second = (tp.collect("unix", p=(), n=4, r=1) for _ in range(2))
    assert first.path != second.path and first.path.parent.name == "results" and first.path.is_file()


def test_figures_of_a_text_and_of_a_simulator(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("Once upon a time there was a little girl who lived in a house.")
    run = tp.collect("m4", p=(), n=4, r=1, counters="full", perplexity=text, tokens=8, out=tmp_path / "r.jsonl")
    assert 1 < run.perplexity < 1000 and run.counted()["instr"].sum() > 1e6


def test_runs_side_by_side(runs, folder, tmp_path):
    converted = tp.convert("demo", tmp_path / "q8.gguf", "q8_0")
    assert converted.tensors == {"Q8_0": 29, "F32": 9} and converted.bytes == (tmp_path / "q8.gguf").stat().st_size
    other = tp.collect("m4", tmp_path / "q8.gguf", p=4, n=(4, 8), r=3, out=tmp_path / "q8.jsonl")
    with pytest.raises(tp.BadInput, match="ran different models"):
        tp.compare([runs["m4"], other])
    result = tp.compare([runs["m4"], other.path], by="types")
    assert result.groups == ["Q4_0:29 F32:9", "Q8_0:29 F32:9"]
    assert result.tests["test"].tolist() == ["pp4", "pp4", "tg4", "tg4", "tg8", "tg8"]
    assert result.tests["ratio"].dropna().between(1, 1.2).all() and result.tests["ratio"].isna().sum() == 3
    assert set(result.memory["what"]) >= {"kv", "arena"} and set(result.operators["test"]) == {"pp4", "tg4", "tg8"}
    assert any("tg8" in line for line in result.slower(1)) and result.slower(50) == []
    assert "Q8_0" in repr(result) and "emulated-icount" in result._repr_html_()
    assert result.to_html(tmp_path / "compare.html").is_file() and runs["m4"].to_html(tmp_path / "r.html").is_file()


def test_why_and_what_if(runs):
    why = tp.explain(runs["m4"], "tg8")
    assert why.test == "tg8" and why.operators["share"].iloc[-1] == pytest.approx(1)
    assert why.findings.columns.tolist() == ["what", "evidence", "gain", "step", "alarm"]
    assert not why.roofline.empty and why.notes and "tg8" in repr(why)
    said = []
    found = tp.what_if(runs["m4"], "type=Q8_0", verify=True, progress=said.append)
    assert found.table["error"].abs().max() < 0.01 and found.measured.complete and said
    assert tp.what_if(runs["m4"].path, "context=64").measured is None
    for result in (why, found):
        assert "emulated-icount" in result._repr_html_()


def test_models_and_boards(tmp_path):
    found = tp.inspect("demo", context=64)
    assert found.boards.query("board == 'm4'")["fits"].item() and not found.boards["fits"].all()
    assert found.memory.query("kernels == 'armv7em' and placement == 'mapped'")["context"].item() == 64
    assert len(found.tensors) == 38 and found.reason == "" and "fits" in repr(found)
    assert set(emulators.REFERENCES.values()) >= set(tp.boards().query("here")["board"]) - set(emulators.EMULATED)
    assert tp.boards()["ram_kb"].dtype == float
    assert isinstance(tp.devices(), pd.DataFrame) and "problem" in tp.devices().attrs


def test_types_for_a_board(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    text = tmp_path / "text.txt"
    text.write_text("Once upon a time there was a girl. " * 40)
    model = make_model(tmp_path / "f32.gguf", type_="F32", dim=64, hidden=96, layers=1, context=64)
    said = []
    options = {"types": "q4_0,q8_0", "context": 32, "tokens": 64, "progress": said.append}
    found = tp.optimize(model, text, "unix", **options)
    assert (
        found.feasible
        and found.problems == []
        and found.context == 32
        and set(found.types.values()) <= {"Q4_0", "Q8_0"}
    )
    assert said and found.save(tmp_path / "best.gguf").is_file() and "Q8_0" in found.recipe()
    assert {"units", "flash", "ram", "loss"} <= set(found.front.columns) and "host-clock" in found._repr_html_()
    nothing = tp.optimize(model, text, "unix", max_flash=1000, **options)
    assert (
        not nothing.feasible
        and "no plan is within the bounds" in nothing.problems[0]
        and "nothing within" in nothing._repr_html_()
    )
    with pytest.raises(tp.RunFailed, match="no plan is within the bounds"):
        nothing.save(tmp_path / "none.gguf")


@pytest.mark.parametrize(
    "arguments,part",
    [
        ({"p": (), "n": ()}, "nothing to measure"),
        ({"p": 0}, "p takes numbers from 1"),
        ({"n": (8, 8)}, "n takes each number once"),
        ({"d": -1}, "d takes numbers from 0"),
        ({"p": "16,64"}, "p takes whole numbers, such as 16 or"),
        ({"p": 16.5}, "p takes whole numbers"),
        ({"r": 0}, "must be positive"),
        ({"batch": 0}, "batch must be from 1"),
        ({"context": 0}, "context must be positive"),
        ({"warmup": -1}, "warmup must not be negative"),
        ({"timeout": float("nan")}, "timeout takes seconds"),
        ({"kv": "f8"}, "kv takes f32, f16, q8"),
        ({"activations": "int4"}, "activations takes int8 or int16"),
        ({"counters": "some"}, "counters takes off or full"),
        ({"icache": "1:2"}, "icache takes"),
        ({"cold": "fridge"}, "cold takes cache and sleep"),
        ({"power": "ina999"}, "no sensor 'ina999'"),
        ({"board": "m5"}, "no board 'm5'"),
        ({"model": "none.gguf"}, "cannot read the model"),
        ({"mhz": 100}, "needs a real board"),
    ],
)
def test_bad_input(arguments, part, tmp_path):
    with pytest.raises(tp.BadInput, match=re.escape(part)) as raised:
        tp.collect(**{"p": 4, "n": 4, "r": 1, "out": tmp_path / "r.jsonl", **arguments})
    assert isinstance(raised.value, ValueError) and "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_bad_input_of_other_functions(runs, tmp_path):
    for call, part in (
        (lambda: tp.load(tmp_path / "none.jsonl"), "cannot read"),
        (lambda: runs["m4"].operators("tg9"), "no test 'tg9'"),
        (lambda: tp.compare([runs["m4"]]), "nothing to compare"),
        (lambda: tp.explain(runs["m4"], "tg9"), "tg9"),
        (lambda: tp.what_if(runs["m4"], "colour=red"), "takes type=Q8_0"),
        (lambda: tp.inspect("demo", kv="f8"), "kv takes"),
        (lambda: tp.convert("demo", tmp_path / "x.gguf", "Q9"), "type Q9 is unknown"),
        (lambda: tp.convert("demo", tmp_path / "x.gguf", method="best"), "method takes"),
        (lambda: tp.optimize("demo", tmp_path / "none.txt"), "none.txt"),
        (lambda: tp.optimize("demo", tmp_path / "none.txt", max_ram=-1), "must be positive"),
        (lambda: tp.optimize("demo", tmp_path / "none.txt", context=1), "context takes numbers from"),
    ):
        with pytest.raises(tp.BadInput, match=re.escape(part)):
            call()


def test_a_wrong_run_is_no_result(monkeypatch, tmp_path):
    monkeypatch.setattr("tinyprof_bridge.measure.collect._reference_logits", lambda *_: {"float": "00000000"})
    with pytest.raises(
        tp.RunFailed, match="a kernel is wrong, so its figures do not count; the records are in"
    ) as raised:
        tp.collect("m4", p=(), n=4, r=1, out=tmp_path / "r.jsonl")
    assert isinstance(raised.value, RuntimeError)
    run = tp.load(tmp_path / "r.jsonl")
    assert "a kernel is wrong" in run.problems[0] and "NOT VALID" in repr(run) and "NOT VALID" in run._repr_html_()


def test_an_incomplete_run_says_so(runs, tmp_path):
    lines = runs["m4"].path.read_bytes().splitlines(keepends=True)
    (tmp_path / "cut.jsonl").write_bytes(b"".join(lines[:-20]))
    run = tp.load(tmp_path / "cut.jsonl")
    assert not run.complete and "incomplete" in run.problems[0]
    assert "NOT VALID" in run._repr_html_() and "complete and valid" not in run._repr_html_()


def test_it_is_silent(runs, tmp_path, capfd):
    run = tp.collect("m4", p=(), n=4, r=1, out=tmp_path / "r.jsonl")
    tp.explain(run)
    tp.what_if(run, "type=Q8_0")
    tp.compare([run, runs["m4"]])
    tp.convert("demo", tmp_path / "x.gguf", "Q8_0")
    tp.inspect()
    assert capfd.readouterr() == ("", "")


def test_progress_is_a_line_a_step(tmp_path, capfd):
    said = []
    tp.collect("m4", p=4, n=4, r=1, out=tmp_path / "r.jsonl", progress=said.append)
    assert said[0].startswith("starting Cortex-M4F") and "measuring tg4" in said
    assert all(isinstance(line, str) and "\n" not in line for line in said)
    assert capfd.readouterr() == ("", "")


class Tags(html.parser.HTMLParser):
    """The tags of a document, in order, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_html_is_safe_and_whole(runs, tmp_path):
    name = "<script>alert(1)</script>&\"'"
    evil = tmp_path / "<img src=x>.gguf"
    tp.convert("demo", evil, "Q4_0", name=name)
    run = tp.collect("unix", evil, p=(), n=(4, 8), r=2, out=tmp_path / "<b>.jsonl")
    other = tp.collect("unix", evil, p=(), n=(4, 8), r=2, out=tmp_path / "<i>.jsonl")
    run.record.host.board = "<iframe>"
    run.record.ops[0].role = "<object>"
    shown = [
        run,
        tp.compare([run, other]),
        tp.explain(run),
        tp.what_if(run, "type=Q8_0"),
        tp.inspect(evil),
        tp.convert(evil, tmp_path / "<u>.gguf"),
    ]
    for result in shown:
        found = Tags(result._repr_html_())
        assert not found.open, result
        harmless = {"div", "style", "span", "table", "tr", "th", "td", "p", "details", "summary", "ol", "li", "b", "br"}
        assert set(found.tags) <= harmless, result
        assert "\n" not in repr(result) and len(repr(result)) < 400
    assert name in Tags(run._repr_html_()).text and "<iframe>" in Tags(run._repr_html_()).text


def test_names_that_are_packages_too_are_functions():
    code = (
        "import tinyprof_bridge.boards.emulators, tinyprof_bridge.optimize.costs\n"
        "import tinyprof_bridge as tp\n"
        "from tinyprof_bridge.boards import emulators\n"
        "assert all(callable(getattr(tp, name)) for name in tp.__all__ if name != '__version__')\n"
        "assert set(dir(tp)) == set(tp.__all__) and emulators.NAMES\n"
        "try: tp.nothing\n"
        "except AttributeError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=PYTHON, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("module 'tinyprof_bridge' has no attribute 'nothing'\n", "")


def test_importing_it_loads_no_library():
    code = "import sys, tinyprof_bridge; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], env=PYTHON, capture_output=True, text=True, check=True)
    assert not {"numpy", "pandas", "pydantic", "rich", "typer", "serial", "gguf", "matplotlib"} & {*done.stdout.split()}


def test_matplotlib_keeps_its_backend(runs, tmp_path):
    code = (
        "import matplotlib; matplotlib.use('svg')\n"
        f"import tinyprof_bridge as tp; tp.load({str(runs['m4'].path)!r}).to_html({str(tmp_path / 'r.html')!r})\n"
        "from tinyprof_bridge.optimize import front_report\n"
        "print(matplotlib.get_backend())"
    )
    done = subprocess.run([sys.executable, "-c", code], env=PYTHON, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "svg"


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found by /proc")
@pytest.mark.parametrize("step,seconds", [("starting", 0.05), ("starting", 0.4), ("measuring tg64", 0.5)])
def test_an_interrupt_leaves_no_emulator(step, seconds, tmp_path):
    code = (
        "import os, signal, threading\nimport tinyprof_bridge as tp\n"
        "def told(text):\n"
        f"    if text == {step!r} or text.startswith({step + ' '!r}):\n"
        f"        threading.Timer({seconds}, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "tp.BadInput, tp.collect\n"  # loaded now
        "try:\n    tp.collect('m4', p=(), n=64, r=100, out='r.jsonl', progress=told)\n"
        "except tp.RunFailed:\n    print('failed')\n"
        "except KeyboardInterrupt as end:\n    print('interrupted', end)\n"
    )
    mark = f"TINYPROF_TEST={tmp_path}"
    environment = {**PYTHON, "TINYPROF_TEST": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.startswith("interrupted") and done.stderr == "", done.stderr
    assert ("r.partial.jsonl" in done.stdout) == (step != "starting")
    time.sleep(0.2)
    assert not [path for path in environments() if mark in path]


def environments():
    """Of all processes that may be looked at, as text."""
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{process}/environ", errors="replace") as file:
                yield file.read()
        except OSError:
            pass


def test_editors_and_mypy_see_types(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "good.py").write_text(
        "import pandas as pd\nimport tinyprof_bridge as tp\n"
        "run: tp.Run = tp.collect('m4', p=16, n=(32, 64), kv='q8', progress=print)\n"
        "tests: pd.DataFrame = run.tests\n"
        "pairs: list[str] = tp.compare([run, 'other.jsonl']).slower(5)\n"
        "page: str = tp.explain(run)._repr_html_()\n"
        "known: pd.DataFrame = tp.boards()\n"
        "error: type[ValueError] = tp.BadInput\n"
    )
    (tmp_path / "bad.py").write_text(
        "import tinyprof_bridge as tp\ntp.colect()\ntp.collect(kv='f8')\ntp.load(3)\ntp.boards().x().y\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file", ROOT / "pyproject.toml", "--cache-dir",
         ROOT / ".mypy_cache", tmp_path / "good.py", tmp_path / "bad.py"],
        cwd=ROOT, env=PYTHON, capture_output=True, text=True,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert [line.split(":")[1] for line in lines] == ["2", "3", "4", "5"], done.stdout + done.stderr


@pytest.mark.parametrize("module", API)
def test_examples_in_docstrings(module, monkeypatch, tmp_path):
    if not built("m4"):
        pytest.skip("the firmware of m4 is not built: make firmware")
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(import_module(f"tinyprof_bridge.api.{module}"), extraglobs={"tp": tp})
    assert result.attempted and not result.failed


def test_every_name_says_what_it_is():
    for name in tp.__all__:
        thing = getattr(tp, name)
        members = [m for n, m in vars(thing).items() if not n.startswith("_")] if isinstance(thing, type) else []
        for part in [thing, *members]:
            assert getattr(part, "__doc__", None), (name, part)


def pieces(name):
    """The Python code of a page of the docs, in the pieces in which it is shown."""
    text = (ROOT / "docs" / name).read_text()
    if name.endswith(".md"):
        return re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("name", ["python.md", "notebook.ipynb"])
def test_what_the_docs_show_runs(name, monkeypatch, tmp_path):
    if not built("m4"):
        pytest.skip("the firmware of m4 is not built: make firmware")
    monkeypatch.chdir(tmp_path)
    names = {}
    for piece in pieces(name):
        exec(compile(piece, name, "exec"), names)
    assert names["run"].problems == []


def test_the_notebook_names_no_place_of_its_author():
    text = (ROOT / "docs/notebook.ipynb").read_text()
    assert not re.search(r"/(home|root|work|tmp|Users)/", text) and len(text) < 100_000
