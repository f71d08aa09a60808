"""The same bits on every board, and the right values: against numpy, llama2.c and llama2.c's text."""

import binascii

import numpy as np
import pytest
from models import make_model
from on_board import ALL, DATA, FIXED, NO_DATA, board
from on_board import reference as reference_board
from reference import Reference, decode, encode
from tinyprof_bridge.boards.emulators import REFERENCES
from tinyprof_bridge.models.convert import convert
from tinyprof_bridge.models.demo import DEMO_MODEL

TYPES = ("F32", "F16", "Q8_0", "Q4_0")

MODELS = {
    **{f"random-{t}": {"type_": t} for t in TYPES},
    "untied": {"type_": "Q8_0", "tied": False, "seed": 2},
    "one-kv-head": {"type_": "F32", "kv_heads": 1, "seed": 3},
    "rope": {"type_": "F32", "rope_base": 50000.0, "rope_scale": 4.0, "rope_factors": [1, 1, 1.7, 0.6] * 2, "seed": 4},
    **{t: {"type_": t, "seed": 6} for t in ("Q5_1", "TP2", "TP3", "TPT")},
    "Q4_K": {"type_": "Q4_K", "dim": 256, "hidden": 256, "layers": 1, "seed": 7},
    **{
        f"qwen2-{t}": {"architecture": "qwen2", "type_": t, "tied": False, "rope_base": 1e6, "seed": 8}
        for t in ("F32", "Q4_0")
    },
    **{
        f"gemma-{t}": {"architecture": "gemma", "type_": t, "dim": 96, "head_dim": 32, "seed": 10}
        for t in ("F32", "Q4_0")
    },
    "gemma2": {"architecture": "gemma2", "type_": "F32", "dim": 96, "head_dim": 32, "window": 4, "seed": 11},
    "gemma3": {
        "architecture": "gemma3",
        "type_": "F32",
        "layers": 3,
        "dim": 96,
        "head_dim": 32,
        "window": 4,
        "rope_base": 1e6,
        "rope_scale": 4.0,
        "seed": 12,
    },
    **{
        f"qwen3-{t}": {"architecture": "qwen3", "type_": t, "head_dim": 32, "rope_base": 1e6, "seed": 9}
        for t in ("F32", "Q4_0")
    },
    "eps": {"type_": "F32", "eps": 1e-3, "heads": 2, "kv_heads": 2, "seed": 5},
}

LOGITS = """
import tinyprof, binascii
m = tinyprof.load({source!r}, context=64, batch={batch}, kv={kv!r}, activations={activations})
tokens = {tokens!r}
if {batch} > 1:
    m.prefill(tokens)
    print(str(binascii.hexlify(m.logits), "ascii"))
else:
    for t in tokens:
        m.step(t)
        print(str(binascii.hexlify(m.logits), "ascii"))
"""
TOKENS = [1, 40, 270, 5, 99, 263, 261, 7, 130, 262]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {name: make_model(folder / f"{name}.gguf", **options) for name, options in MODELS.items()}


def logits_on(name, model, tokens=TOKENS, batch=1, kv=None, activations=8):
    """(tokens, vocab) float32 of a board, as its bytes."""
    with board(name, model) as b:
        text = b.run(LOGITS.format(source=b.source, tokens=tokens, batch=batch, kv=kv, activations=activations))
    return np.array([np.frombuffer(binascii.unhexlify(line), "<f4") for line in text.split()])


@pytest.fixture(scope="module")
def reference_logits(models):
    """Of each reference board and model."""
    return {b: {name: logits_on(b, path) for name, path in models.items()} for b in REFERENCES.values()}


@pytest.fixture(scope="module")
def unix_logits(reference_logits):
    return reference_logits["unix"]


# The reference knows types that the gguf package reads, and activations rounded by blocks of 32.
@pytest.mark.parametrize("model", [m for m in MODELS if m not in ("TP2", "TP3", "TPT", "Q4_K")])
def test_values_against_numpy(model, models, unix_logits):
    reference = Reference(models[model], act_q8=True).logits(TOKENS)
    difference = np.abs(unix_logits[model] - reference).max(1)
    # Rounding activations to int8 is chaotic: one value on the edge moves all that follow. So the
    # first tokens are held tightly, the rest where nothing is rounded.
    held = slice(0, 3) if "Q" in MODELS[model]["type_"] else slice(None)
    assert difference[held].max() < 2e-4, difference


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", [b for b in ALL if b not in REFERENCES.values()])
def test_same_bits_on_every_board(name, model, models, reference_logits):
    ours = logits_on(name, models[model])
    assert np.array_equal(ours.view("u4"), reference_logits[reference_board(name)][model].view("u4"))


@pytest.mark.parametrize("model", MODELS)
def test_fixed_point_is_close_to_float(model, reference_logits):
    fixed, exact = reference_logits["unix-fixed"][model], reference_logits["unix"][model]
    assert np.sqrt(np.mean((fixed - exact) ** 2)) < 0.03 * exact.std()


@pytest.mark.parametrize("kv,bound", [("f16", 0.001), ("q8", 0.02)])
def test_caches_of_fewer_bits_are_close(kv, bound, models, unix_logits):
    exact = unix_logits["random-F32"]
    ours = logits_on("unix", models["random-F32"], kv=kv)
    assert 0 < np.sqrt(np.mean((ours - exact) ** 2)) < bound * exact.std()
    assert np.array_equal(logits_on("m4", models["random-F32"], kv=kv).view("u4"), ours.view("u4"))


@pytest.mark.parametrize("model", ["untied", "Q5_1", "Q4_K", "qwen2-Q4_0", "qwen3-Q4_0", "gemma-Q4_0"])
def test_int16_activations_are_close_to_floats(model, models, unix_logits):
    exact = Reference(models[model], act_q8=False).logits(TOKENS)
    ours = logits_on("unix", models[model], activations=16)
    lost, of_int8 = (np.sqrt(np.mean((logits - exact) ** 2)) for logits in (ours, unix_logits[model]))
    assert lost < of_int8 / 50 and lost < 2e-4 * exact.std()
    whole = logits_on("unix", models[model], batch=4, activations=16)
    assert np.array_equal(whole[0].view("u4"), ours[-1].view("u4"))


def test_int16_activations_with_an_output_of_several_parts(tmp_path):
    model = make_model(tmp_path / "model.gguf", type_="Q8_0", layers=1, vocab=5000)
    exact = Reference(model, act_q8=False).logits(TOKENS[:3])
    assert np.abs(logits_on("unix", model, TOKENS[:3], activations=16) - exact).max() < 1e-3 * exact.std()


@pytest.mark.parametrize("batch", [2, 4, 16])
@pytest.mark.parametrize("model", ["random-Q4_0", "random-F16"])
def test_prefill_in_batches_gives_the_bits_of_single_steps(model, batch, models, unix_logits):
    whole = logits_on("unix", models[model], batch=batch)
    assert np.array_equal(whole[0].view("u4"), unix_logits[model][-1].view("u4"))


def test_sanitizers_find_nothing(models):
    try:
        for path in models.values():
            logits_on("unix-asan", path)
            logits_on("unix-fixed-asan", path)
    except Exception as error:
        if "no firmware" in str(error):
            pytest.skip("the unix port with sanitizers is not built (SANITIZE=1 make firmware BOARDS=unix)")
        raise


GOLDEN = "import tinyprof\ntinyprof.load({source!r}, context=256).generate('', 200)\n"


@pytest.fixture(scope="module")
def stories(tmp_path_factory):
    if not (DATA / "stories260K.bin").exists():
        pytest.skip(NO_DATA)
    out = tmp_path_factory.mktemp("stories") / "stories.gguf"
    convert(DATA / "stories260K.bin", DATA / "tok512.bin", out, "F32")
    return out


@pytest.mark.parametrize("name", [b for b in ALL if b not in FIXED])
def test_golden_text_of_llama2c(name, stories):
    with board(name, stories) as b:
        text = b.run(GOLDEN.format(source=b.source))
    assert text.strip() == (DATA / "stories260K.greedy200.txt").read_text().strip()


CHECK = """
import tinyprof
from tinyprof.measure import check
for bits in (8, 16):
    print(check(tinyprof.load({source!r}, context=32, activations=bits))[0])
"""


def test_demo_model_gives_one_hash_on_all_boards_of_a_path():
    hashes = {False: set(), True: set()}
    for name in ALL:
        with board(name, DEMO_MODEL) as b:
            hashes[name in FIXED].add(tuple(b.run(CHECK.format(source=b.source)).split()))
    assert hashes == {False: {("75b1cc32", "8a2146b9")}, True: {("066244e1", "67877faa")}}


ENCODE = """
import tinyprof
t = tinyprof.load({source!r}, context=32).tokenizer
for text in {texts!r}:
    ids = t.encode(text)
    print(ids)
    print(b"".join([t.decode(i) for i in ids]))
"""
TEXTS = [
    "Once upon a time",
    "",
    " ",
    "  two  spaces ",
    "KING RICHARD III:\nThen, my lord",
    "naïve café €5 \U0001f600",
    "zzzzqqqq",
    "a",
    "the the the",
]


@pytest.mark.parametrize("name", ["unix", "m4"])
def test_tokenizer(name):
    from gguf import GGUFReader

    reader = GGUFReader(DEMO_MODEL)
    with board(name, DEMO_MODEL) as b:
        lines = b.run(ENCODE.format(source=b.source, texts=TEXTS)).splitlines()
    for text, ids, decoded in zip(TEXTS, lines[0::2], lines[1::2], strict=True):
        ids = eval(ids)
        assert ids == list(encode(reader, text)), text
        assert eval(decoded).decode() == (" " + text if text else "")
        assert decode(reader, ids).lstrip(" ") == text.lstrip(" ")
