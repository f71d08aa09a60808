"""Perplexity, divergence and agreement: from the boards' own logits, on the host and on a board."""

import binascii
import math

import numpy as np
import pytest
from bridge import bridge
from models import make_model
from on_board import DATA
from reference import Reference, encode
from tinyprof_bridge.measure import quality
from tinyprof_bridge.measure.collect import Request, collect
from tinyprof_bridge.models.demo import DEMO_MODEL
from tinyprof_bridge.models.tokenize import open_gguf, read_text, vocabulary, windows
from tinyprof_bridge.progress import Progress

TEXT = (
    "First Citizen: Before we proceed any further, hear me speak. 'naïve' \U0001f600 said Dorothy;\n\n"
    "and the Scarecrow  went on to the Emerald City.\n"
)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "held-out.txt"
    path.write_text(TEXT * 3)
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {t: make_model(folder / f"{t}.gguf", type_=t, seed=3) for t in ("F32", "Q8_0", "Q4_0", "TP2")}


@pytest.mark.parametrize("file", ["", "tinyshakespeare.txt", "wizard_of_oz.txt"])
def test_tokens_are_those_of_the_reference(file):
    if file and not (DATA / file).exists():
        pytest.skip(f"{file} is not in {DATA}: set TINYPROF_TEST_DATA to a folder that has it")
    content = (DATA / file).read_text(encoding="utf-8-sig")[5000:7000] if file else TEXT
    reader = open_gguf(DEMO_MODEL)
    ours = vocabulary(open_gguf(DEMO_MODEL)).encode(content)
    assert ours == encode(reader, content, bos=False)
    assert vocabulary(reader).encode("") == []


def test_windows():
    words = vocabulary(open_gguf(DEMO_MODEL))
    parts = windows(words, TEXT, 8, 20)
    assert [len(part) for part in parts] == [9, 9, 5] and all(part[0] == words.bos for part in parts)
    assert [token for part in parts for token in part[1:]] == words.encode(TEXT)[:20]


def test_a_model_loses_nothing_against_itself(models, text):
    (same,) = quality.measure([models["F32"]], models["F32"], text, ["float"], 16, 40, 60)
    assert (same.kl, same.agreement, same.tokens) == (0, 1, 40)
    assert same.perplexity == same.reference


def test_figures_are_those_of_the_formula(models, text):
    """The unix port's logits of an F32 model against the reference in numpy, in windows."""
    words = vocabulary(open_gguf(models["F32"]))
    parts = windows(words, read_text(text), 16, 40)
    loss = 0.0
    for part in parts:
        for z, wanted in zip(Reference(models["F32"]).logits(part[:-1]), part[1:], strict=True):
            loss += math.log(np.exp(z - z.max()).sum()) + z.max() - z[wanted]
    (found,) = quality.measure([models["F32"]], models["F32"], text, ["float"], 16, 40, 60)
    assert found.perplexity == pytest.approx(math.exp(loss / 40), rel=1e-5)


def test_fewer_bits_lose_more_on_both_paths(models, text):
    kinds = ("Q8_0", "Q4_0", "TP2")
    found = quality.measure([models[t] for t in kinds], models["F32"], text, ["float", "fixed"], 32, 10**6, 60)
    for path in ("float", "fixed"):
        losses = [q.kl for q in found if q.path == path]
        assert len(losses) == 3 and losses == sorted(losses) and losses[0] > 0
    assert found[0].kl < found[1].kl  # of the first model: float is nearer than fixed


@pytest.mark.parametrize("path", ["float", "fixed"])
def test_int16_activations_lose_less(models, text, path):
    int8, int16 = (
        quality.measure([models["Q8_0"]], models["F32"], text, [path], 32, 10**6, 60, bits)[0] for bits in (8, 16)
    )
    assert int16.kl < int8.kl


@pytest.mark.parametrize("name", ["m4", "m3"])
def test_a_board_finds_what_the_host_finds(name, text, tmp_path):
    """On a core with FPU and on one without: the loss of each token, and the bits of all logits."""
    request = Request(board=name, model=DEMO_MODEL, p=(4,), n=(2,), r=1, warmup=0, text=text, text_tokens=70)
    run, out = collect(request, tmp_path / "run.jsonl", Progress(quiet=True))
    judged = run.perplexity
    assert (judged.tokens, judged.window) == (70, 32)
    parts = windows(vocabulary(open_gguf(DEMO_MODEL)), read_text(text), 32, 70)
    board = {"m4": "unix", "m3": "unix-fixed"}[name]
    logits = np.array(quality.logits(DEMO_MODEL, board, parts, tmp_path / "logits", 60))
    assert judged.logits_crc32 == f"{binascii.crc32(logits.tobytes()):08x}"
    wanted = np.array([token for part in parts for token in part[1:]])
    _, perplexity, *_ = quality.compare(logits, logits, wanted)
    assert math.exp(judged.loss / 70e6) == pytest.approx(perplexity, rel=3e-6)
    assert judged.right == (logits.argmax(1) == wanted).sum()
    losses = [
        v
        for line in out.read_text().splitlines()
        if '"kind":"loss"' in line
        for v in eval(line.split('"v":')[1].split("]")[0] + "]")
    ]
    assert len(losses) == 70 and sum(losses) == judged.loss


def test_bad_input_is_one_line(models, text, tmp_path):
    empty, binary = tmp_path / "empty.txt", tmp_path / "binary.txt"
    empty.write_text(" \n")
    binary.write_bytes(b"\xff\xfe\x00")
    other = make_model(tmp_path / "other.gguf", vocab=300)
    reference = ("--reference", models["F32"])
    for arguments, problem in (
        ((models["Q8_0"], *reference, "--text", empty), "contains no text"),
        ((models["Q8_0"], *reference, "--text", binary), "not UTF-8 text"),
        ((models["Q8_0"], *reference, "--text", tmp_path), "cannot be read"),
        ((models["Q8_0"], *reference, "--text", text, "--path", "x"), "--path takes"),
        ((models["Q8_0"], *reference, "--text", text, "--activations", "int4"), "--activations takes int8 or int16"),
        ((models["Q8_0"], "--reference", text, "--text", text), "not a GGUF file"),
        ((text, *reference, "--text", text), "not a GGUF file"),
        ((other, *reference, "--text", text), "give the model it was made from as the reference"),
    ):
        result = bridge("quality", *arguments)
        assert (result.returncode, problem in result.stderr, result.stderr.count("\n")) == (2, True, 1), result.stderr
    result = bridge("collect", "--board", "unix", "--perplexity", binary)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)


def test_a_damaged_reference_is_bad_input(models, tmp_path):
    whole, cut, text = models["F32"].read_bytes(), tmp_path / "cut.gguf", tmp_path / "text.txt"
    text.write_text(TEXT)
    for size in (4, 30, 400, 2000, 9000, len(whole) - 1):
        cut.write_bytes(whole[:size])
        result = bridge("quality", models["Q8_0"], "--reference", cut, "--text", text)
        assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
