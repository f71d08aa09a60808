"""Byte-level BPE: words and tokens as the tokenizers package and llama.cpp have them, on host and boards; imports of
such models; and what is refused."""

import json
import random
import re
import struct
import sys
import unicodedata
from unittest.mock import patch

import numpy as np
import pytest
import unicode_table
from byte_level_json import BY_NAME, VOCAB, tokenizer_json
from device_code import LOAD
from gguf import GGUFReader, GGUFValueType, TokenType
from hf_folders import GREEDY, OTHERS, make_folder, state
from models import CHARACTERS, END, LEARNT, byte_level, make_model, merged
from on_board import DATA, ON_BOARDS, board
from reference import Reference, metadata
from tinyprof_bridge.errors import BadInput
from tinyprof_bridge.models import planner, tokenize
from tinyprof_bridge.models.convert import convert
from tinyprof_bridge.models.formats import tokenizers

words = sys.modules[planner.device("portable").bpe.words.__module__]
TEXTS = (
    "The software's 12345 copies, IT'S \"as is\"\n\n  and they'll\tdo!  \r\n x ",
    "Größe naïve Ελλάδα Москвы 日本語、　日本 ½ ²3 한국어 हिन्दी 🙂👍🏽 e\u0301\u00a0\u2003 ",
    "<think> <think>more<think>mor [PAD300] <|endoftext|>\0\x7f",
    "  leading, trailing   ",
    "",
)


SMALL = {"dim": 32, "hidden": 32, "heads": 2, "kv_heads": 1, "layers": 1}


def written(path, pre, vocab=VOCAB, **options):
    return make_model(path, pre=pre, vocab=vocab, **options)


def encoder(path):
    return tokenize.vocabulary(tokenize.open_gguf(path))


REGEXES = {name: [BY_NAME[name]] for name in ("gpt-2", "qwen2", "llama-bpe")} | {
    "dbrx": [BY_NAME["llama-bpe"]],
    "smollm": [r"\p{N}", BY_NAME["gpt-2"]],
}


@pytest.fixture(scope="module")
def runs():
    """First and last character and kind, of all of Unicode but what is of no kind."""
    begin, found = 0, []
    for length, kind in unicode_table.runs():
        if kind:
            found.append((begin, begin + length - 1, kind))
        begin += length
    return found


@pytest.fixture(scope="module")
def patterns(runs):
    letters, numbers, spaces = (
        "".join(f"{re.escape(chr(a))}-{re.escape(chr(b))}" for a, b, kind in runs if kind == wanted)
        for wanted in (1, 2, 3)
    )
    inside = {r"\p{L}": letters, r"\p{N}": numbers, r"\s": spaces}

    def compiled(regex):
        for name, members in inside.items():
            regex = re.sub(rf"(\[[^\]]*){re.escape(name)}", lambda m, s=members: m[1] + s, regex)
            regex = regex.replace(name, f"[{members}]")
        return re.compile(regex.replace(r"\S", f"[^{spaces}]"))

    return {rule: [compiled(regex) for regex in regexes] for rule, regexes in REGEXES.items()}


def split(patterns, text):
    """The text's parts by each pattern in turn, matched or between matches."""
    parts = [text]
    for pattern in patterns:
        some, parts = parts, []
        for part in some:
            at = 0
            for match in pattern.finditer(part):
                parts += [part[at : match.start()], match[0]]
                at = match.end()
            parts.append(part[at:])
    return [part for part in parts if part]


def assigned(*ends):
    return [chr(c) for a, b in ends for c in range(a, b) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]


# from which random texts are drawn
ALPHABETS = [
    list(" \n\r\t'sStTrReEvVmMlLdDx12.,"),
    assigned((0, 128)),
    assigned((0xA0, 0x250)),
    assigned((0x370, 0x530)),
    assigned((0x3000, 0x3100), (0x4E00, 0xA000), (0xAC00, 0xD7A4), (0xFF00, 0xFFF0)),
    assigned((0, 0x110000)),
    list("\u3000\u00a0\u2028\x85\x1c \n\ra1!"),
]


def random_texts(count, seed=1):
    rng = random.Random(seed)
    for _ in range(count):
        some = rng.sample(ALPHABETS, rng.choice((1, 1, 2, 3)))
        # a long s behind an apostrophe is s to the regular expressions alone
        yield "".join(rng.choice(rng.choice(some)) for _ in range(rng.randrange(1, 40))).replace("'ſ", "'")


@pytest.mark.skipif(unicodedata.unidata_version != "14.0.0", reason="the table is of Unicode 14")
def test_the_table_is_unicode_s():
    assert unicode_table.table() == words._RUNS


KINDS = """
import _tinyprof
from tinyprof.pretokenize import _RUNS
for text in {texts!r}:
    kinds = bytearray(text.encode())
    _tinyprof.unicode_class(kinds, _RUNS)
    print(list(kinds))
"""


@pytest.mark.skipif(unicodedata.unidata_version != "14.0.0", reason="the table is of Unicode 14")
@pytest.mark.parametrize("name", ON_BOARDS)
def test_kinds_of_characters(runs, name):
    """At all ends of runs, on the board and on the host; in an order that leads from run to run."""
    ends = {code for first, last, _ in runs for code in (first - 1, first, last, last + 1) if code >= 0}
    codes = [code for code in sorted(ends | {0x10FFFF}) if unicodedata.category(chr(code)) not in ("Cn", "Cs")]
    random.Random(1).shuffle(codes)
    texts = ["".join(map(chr, codes[i : i + 200])) for i in range(0, len(codes), 200)]
    with board(name) as b:
        found = [eval(line) for line in b.run(KINDS.format(texts=texts)).splitlines()]
    for text, kinds in zip(texts, found, strict=True):
        assert kinds == [unicode_table.kind(character) for character in text for _ in character.encode()]
        ours = bytearray(text.encode())
        planner.native("portable").unicode_class(ours, words._RUNS)
        assert list(ours) == kinds


@pytest.mark.parametrize("rule", words.RULES)
def test_words_are_those_of_the_regular_expressions(patterns, rule):
    for text in (*TEXTS, *random_texts(400)):
        found = [word.decode() for word in words.words(text.encode(), rule)]
        assert found == split(patterns[rule], text), text


def by_merges(merges, word):
    """Pieces of a word: as long as there is one, the pair of the first merge is merged wherever it is."""
    found = tuple(chr(CHARACTERS[b]) for b in word.encode())
    for merge in merges:
        found = merged(found, tuple(merge.split(" ")))
    return found


@pytest.mark.parametrize("rule", words.RULES)
def test_tokens_are_those_of_the_merges(tmp_path, patterns, rule):
    pieces, merges = byte_level()
    ours = encoder(written(tmp_path / "m.gguf", rule))
    for text in (*TEXTS[:2], LEARNT[:600], *random_texts(20)):
        expected = [piece for word in split(patterns[rule], text) for piece in by_merges(merges, word)]
        assert [pieces[token] for token in ours.encode(text)] == expected, text


def test_what_is_looked_for_in_a_text(tmp_path):
    """User-defined tokens, the longest first; never control tokens or padding."""
    ours = encoder(written(tmp_path / "m.gguf", "qwen2"))
    found = ours.encode("a<think>more<think> b")
    assert found[1:3] == [VOCAB - 1, VOCAB - 2]
    assert min(ours.encode(f"{END}[PAD365]")) > 0 and max(ours.encode(f"{END}[PAD365]")) < len(byte_level()[0])
    assert ours.encode("") == [] and ours.bos == 0 and ours.size == VOCAB


ENCODE = """
import tinyprof
t = tinyprof.load({source!r}, context=16, batch=2).tokenizer
for text in {texts!r}:
    ids = t.encode(text)
    print(ids, b"".join(t.decode(i) for i in ids) == text.encode())
print([t.decode(i) for i in (0, 1, 34, 256, 378)])
"""


@pytest.mark.parametrize(
    "name,rule", [*(("unix", rule) for rule in words.RULES), *((b, "qwen2") for b in ON_BOARDS[1:])]
)
def test_boards_have_the_host_s_tokens(tmp_path, name, rule):
    model = written(tmp_path / "m.gguf", rule, type_="Q4_0")
    texts = [*TEXTS, LEARNT[:300], *random_texts(30 if name == "unix" else 3)]
    with board(name, model) as b:
        *lines, pieces = b.run(ENCODE.format(source=b.source, texts=texts)).splitlines()
    ours = encoder(model)
    assert lines == [f"{ours.encode(text)} True" for text in texts]
    assert eval(pieces) == [b"", b"\0", b"!", b"\xff", b""]


def test_a_model_writes_text(tmp_path):
    """Without BOS a prompt is needed, and a space that comes first is the model's own."""
    keys = {"tokenizer.ggml.add_bos_token": (True, GGUFValueType.BOOL)}
    model = written(tmp_path / "m.gguf", "llama-bpe", keys=keys)
    code = "import tinyprof\nm = tinyprof.load({!r})\nprint(m.generate({!r}, n=4, write=print))"
    with board("unix", model) as b:
        assert b.run(code.format(b.source, "")).splitlines()[-1] == "4"
    with board("unix", written(tmp_path / "n.gguf", "qwen2")) as b:
        with pytest.raises(Exception, match="an empty prompt for a model that wants no BOS"):
            b.run(code.format(b.source, ""))
        assert b.run(code.format(b.source, "The")).splitlines()[-1] == "4"


COST = """
import tinyprof, _tinyprof
from array import array
from tinyprof import counters, ops
t = tinyprof.load({source!r}, context=16, batch=2).tokenizer
c = counters.find()
ctl, lap = ops.control(), array("I", (0, 0))
c.select(ctl)
for text in ("a", {text!r}):
    _tinyprof.stamp(ctl, lap, 0)
    n = len(t.encode(text))
    _tinyprof.stamp(ctl, lap, 1)
print(c.between(lap[0], lap[1]), n)
"""


def large(path, count):
    """A model with so many merges: further ones, each twice, and tokens, of ten characters are before those that are
    used."""
    pieces, merges = byte_level()
    more = range(count - len(merges))
    pieces, merges = (
        [*(f"{i:010}" for i in more), *pieces, "[PAD0]", "[PAD1]"],
        [*(f"{i // 2:05} {i // 2:05}" for i in more), *merges],
    )
    arrays = {"tokens": pieces, "merges": merges, "token_type": [TokenType.NORMAL] * len(pieces)}
    keys = {f"tokenizer.ggml.{name}": (value, GGUFValueType.ARRAY) for name, value in arrays.items()}
    return written(path, "qwen2", vocab=len(pieces), keys=keys, type_="Q4_0", **SMALL)


def indexed(model):
    out = model.with_name("indexed.gguf")
    with patch("tinyprof_bridge.models.convert.INDEXED", 1024):
        convert(model, None, out, "KEEP")
    return out


@pytest.mark.parametrize("count,index,most", [(120, False, 40_000), (16_000, False, 1_000_000), (16_000, True, 50_000)])
def test_what_a_prompt_costs(tmp_path, count, index, most):
    model = large(tmp_path / "m.gguf", count)
    with board("m4", indexed(model) if index else model) as b:
        text = "Once upon a time there was a little girl who lived"
        instructions, n = map(int, b.run(COST.format(source=b.source, text=text)).split())
    told = f"{count:,} merges{', indexed' if index else ''}"
    print(f"\n{told}: {instructions:,} instructions for {n} tokens (emulated-icount)")
    assert instructions / n < most


LANGUAGES = {
    "English": 'Once upon a time there was a little girl who lived in a house, and she said: "I don\'t know!"',
    "German": "Es war einmal ein Müller, der hatte drei Söhne, seine Mühle, einen Esel und einen Kater; größer.",
    "Russian": "Жил-был старик со своею старухой у самого синего моря; они жили в ветхой землянке ровно 30 лет.",
    "Chinese": "从前有一个小女孩，她住在森林里。有一天，她的妈妈对她说：「小红帽，把这块蛋糕送给外婆吧！」",
    "emoji": "Hi 👋🏽! 🙂🙂 It's 🎉 party 🥳 time 👨‍👩‍👧 ❤️ ok ☕ → 5€ ½ ✓ 🇩🇪",
    "one word": "abcdefghijklmnopqrst" * 50,
}


def test_what_a_character_costs(tmp_path):
    """A long word takes more: of its pieces the best pair is looked for anew after each merge."""
    model = written(tmp_path / "m.gguf", "qwen2", type_="Q4_0", **SMALL)
    with board("m4", model) as b:
        for name, text in LANGUAGES.items():
            instructions, _ = map(int, b.run(COST.format(source=b.source, text=text)).split())
            print(f"\n{name}: {instructions / len(text):,.0f} instructions a character (emulated-icount)")
            assert instructions / len(text) < 100_000


@pytest.mark.parametrize("name", ON_BOARDS)
def test_an_index_finds_the_same(tmp_path, name):
    """Of strings that are there twice the first."""
    model = large(tmp_path / "m.gguf", 3000)
    texts = [*TEXTS, LEARNT[:300], "00001 00001"]
    lines = []
    for source in (model, indexed(model)):
        with board(name, source) as b:
            lines.append(b.run(ENCODE.format(source=b.source, texts=texts) + FOUND).strip())
    assert lines[0].count("True\n") == len(texts) and lines[0].endswith("[-1, 0, 255, 256, 2900, 3136] 1440")
    assert lines[0] == lines[1]


@pytest.mark.parametrize("name", ["unix", "unix-asan", "m4"])
def test_a_damaged_index_finds_less_and_nothing_wrong(tmp_path, name):
    good = indexed(large(tmp_path / "m.gguf", 1100))
    data = bytearray(good.read_bytes())
    rng = random.Random(1)
    for key in (b"tinyprof.index.tokens", b"tinyprof.index.merges"):
        at = data.index(key) + len(key) + 4 + 4  # behind the types of array and item
        (count,) = struct.unpack_from("<Q", data, at)
        for entry in rng.sample(range(count), count // 3):
            data[at + 8 + 4 * entry : at + 12 + 4 * entry] = rng.randbytes(4)
    good.write_bytes(data)
    code = ENCODE.format(source="{source}", texts=[*TEXTS, LEARNT[:300]]) + DAMAGED
    with board(name, good) as b:
        found, wrong = map(int, b.run(code.format(source=b.source)).splitlines()[-1].split())
    assert wrong == 0 < found < 900


DAMAGED = """
t.encode("a text")
found = [(i, t.tokens.find(bytes(t.tokens.get(i)))) for i in range(t.vocab)]
print(sum(i == j for i, j in found), sum(j not in (i, -1) for i, j in found))
"""


FOUND = """
print([t.tokens.find(bytes(t.tokens.get(i)) if i >= 0 else b"none") for i in (-1, 0, 255, 256, 2900, 3136)], end=" ")
print(sum(t.merges.find(bytes(t.merges.get(i))) != i for i in range(t.merges.count)))
"""


# --- imports


def folder_of(path, tokenizer, kind="llama", source=None, **changes):
    options, other = OTHERS[kind]
    source = source or make_model(path.with_name("source.gguf"), architecture=kind, vocab=VOCAB, layers=1, **options)
    changes = other | {"model_type": kind, "vocab_size": VOCAB, "num_hidden_layers": 1} | changes
    make_folder(path, state(source), tokens=False, **changes)
    if tokenizer is not None:
        (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    return path


@pytest.mark.parametrize(
    "kind,pre",
    [("llama", "llama-bpe"), ("llama", "dbrx"), ("qwen2", "qwen2"), ("llama", "smollm"), ("llama", "gpt-2")],
)
def test_imports(tmp_path, kind, pre):
    """Logits are the source's, tokens those of the merges; and again from GGUF to GGUF."""
    folder, out = (
        folder_of(tmp_path / "hf", tokenizer_json(pre), kind, bos_token_id=None, eos_token_id=0),
        tmp_path / "out.gguf",
    )
    assert convert(folder, None, out, "F32").notes == ()
    given = [1, 270, 40, 383]
    np.testing.assert_array_equal(Reference(out).logits(given), Reference(tmp_path / "source.gguf").logits(given))
    pieces, merges = byte_level()
    reader = GGUFReader(out)
    wanted = {"model": "gpt2", "pre": pre, "merges": merges, "bos_token_id": 0, "eos_token_id": 0}
    wanted |= {"add_bos_token": pre == "llama-bpe"}
    wanted |= {"tokens": [*pieces, "<think>", *(f"[PAD{i}]" for i in range(len(pieces) + 1, VOCAB))]}
    types = [TokenType.CONTROL, *[TokenType.NORMAL] * (len(pieces) - 1), TokenType.USER_DEFINED]
    wanted |= {"token_type": types + [TokenType.UNUSED] * (VOCAB - len(types))}
    for key, value in wanted.items():
        assert metadata(reader, f"tokenizer.ggml.{key}") == value, key
    assert convert(out, None, tmp_path / "again.gguf", "KEEP").notes == ()
    again = GGUFReader(tmp_path / "again.gguf")
    keys = [key for key in reader.fields if key.startswith("tokenizer.")]
    assert {k: metadata(reader, k) for k in keys} == {k: metadata(again, k) for k in keys}


def test_gpt_2_s_two_files(tmp_path):
    pieces, merges = byte_level()
    folder = folder_of(tmp_path / "hf", None, bos_token_id=1)
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    settings = {"tokenizer_class": "Qwen2Tokenizer", "eos_token": END, "bos_token": None, "add_bos_token": False}
    settings["added_tokens_decoder"] = {str(len(pieces)): {"content": "<think>", "special": False}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert convert(folder, None, tmp_path / "out.gguf", "F32").notes == ()
    reader = GGUFReader(tmp_path / "out.gguf")
    found = {
        key: metadata(reader, f"tokenizer.ggml.{key}") for key in ("pre", "merges", "bos_token_id", "eos_token_id")
    }
    assert found == {"pre": "qwen2", "merges": merges, "bos_token_id": 1, "eos_token_id": 0}
    assert metadata(reader, "tokenizer.ggml.token_type")[0] == TokenType.CONTROL
    assert encoder(tmp_path / "out.gguf").encode("<think>") == [len(pieces)]
    (folder / "merges.txt").unlink()
    refused(folder, "vocab.json needs merges.txt, which is missing")
    (folder / "merges.txt").write_bytes(b"a \xff")
    refused(folder, "merges.txt: not UTF-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BloomTokenizer"}))
    refused(folder, "tokenizer_class BloomTokenizer is not supported without tokenizer.json")


def refused(source, message):
    with pytest.raises(BadInput) as raised:
        convert(source, None, source.with_name("out.gguf"), "Q8_0")
    line = str(raised.value)
    assert message in line and "\n" not in line and len(line) < 600, line
    return True


def change(part=None, **changes):
    def edit(parsed):
        (parsed if part is None else parsed[part]).update(changes)
        return parsed

    return edit


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
DEEPSEEK = {"type": "Split", "pattern": {"Regex": "[\r\n]"}, "behavior": "Isolated", "invert": False}


@pytest.mark.parametrize(
    "edit,message",
    [
        (change("model", merges=[]), "has no merges"),
        (change("model", merges=None), "damaged: its vocabulary"),
        (change("model", merges=[["a"]]), "damaged: its vocabulary"),
        (change("model", merges=[["a", "b", "c"]]), "damaged: its vocabulary"),
        (change("model", merges=[["q", "zq"]]), "damaged: a merge gives 'qzq', which is not a token"),
        (change("model", merges=["a b c"]), "a merge gives 'ab c', which is not a token"),
        (change("model", vocab={"a": 2**40}), "damaged: its vocabulary"),
        (change("model", vocab=["a"]), "damaged: its vocabulary"),
        (change("model", type="WordLevel"), "byte-level tokenizer of type WordLevel is not supported"),
        (change("model", end_of_word_suffix="</w>"), "end_of_word_suffix is not supported"),
        (change(model=3), "byte-level tokenizer of type None is not supported"),
        (change(normalizer={"type": "Lowercase"}), "a normalizer of type Lowercase is not supported"),
        (change(added_tokens=[{"id": 380, "content": "x"}]), "number is missing, or used twice"),
        (change(added_tokens=[{"id": -1, "content": "x"}]), "damaged: its vocabulary"),
        (
            change(pre_tokenizer={"type": "Sequence", "pretokenizers": [DEEPSEEK, BYTE_LEVEL]}),
            r"the pre-tokenizer Split '[\r\n]', ByteLevel is not supported; only gpt-2, llama-bpe, dbrx, qwen2, smollm",
        ),
        (change(pre_tokenizer=BYTE_LEVEL), "the pre-tokenizer ByteLevel is not supported"),
    ],
)  # fmt: skip
def test_bad_tokenizers(tmp_path, edit, message):
    refused(folder_of(tmp_path / "hf", edit(tokenizer_json())), message)


def damaged(rng, value):
    """JSON with one of its values replaced."""
    if isinstance(value, dict | list) and value and rng.random() < 0.9:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = rng.choice(keys)
        value[key] = damaged(rng, value[key])
        return value
    return rng.choice(
        (None, True, -1, 3, 1 << 40, 0.5, "", "x", " ", "a b", "\ud800", [], {}, ["a"], {"type": "ByteLevel"})
    )


def test_damaged_tokenizers_are_read_or_refused(tmp_path):
    path, read = tmp_path / "tokenizer.json", 0
    for seed in range(400):
        rng = random.Random(seed)
        parsed = tokenizer_json(rng.choice(words.RULES))
        path.write_text(json.dumps(damaged(rng, parsed)))
        try:
            tokenizers.from_file(path, VOCAB, None, None)
            read += 1
        except BadInput as error:
            assert str(error).isprintable() and len(str(error)) < 600
    assert 0 < read < 400


def test_ends_of_a_text(tmp_path):
    """Outside the vocabulary, or none."""
    refused(folder_of(tmp_path / "hf", tokenizer_json(), eos_token_id=400), "eos token 400 is outside the vocabulary")
    parsed = tokenizer_json()
    parsed["model"]["vocab"]["None"] = parsed["model"]["vocab"].pop("q")
    folder = folder_of(tmp_path / "hf", parsed, bos_token_id=None, eos_token_id=None)
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": None}))
    assert convert(folder, None, tmp_path / "out.gguf", "F32").notes
    reader = GGUFReader(tmp_path / "out.gguf")
    assert [metadata(reader, f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos")] == [0, 0]
    parsed["added_tokens"][0]["content"] = "<s>"
    refused(folder_of(tmp_path / "hf", parsed, eos_token_id=None), "no EOS token is named")


def test_what_is_not_done_is_noted(tmp_path):
    parsed = tokenizer_json("gpt-2")
    parsed["model"]["ignore_merges"] = parsed["pre_tokenizer"]["add_prefix_space"] = True
    parsed["model"]["vocab"]["no byte"] = parsed["model"]["vocab"].pop("q")
    notes = convert(folder_of(tmp_path / "hf", parsed), None, tmp_path / "out.gguf", "F32").notes
    expected = ("ignore_merges", "add_prefix_space", "1 of the 243 bytes")
    assert all(part in note for part, note in zip(expected, notes, strict=True)), notes
    assert encoder(tmp_path / "out.gguf").encode("q") == []


U32, STRING, ARRAY = GGUFValueType.UINT32, GGUFValueType.STRING, GGUFValueType.ARRAY
EOS, PRE, MERGES = "tokenizer.ggml.eos_token_id", "tokenizer.ggml.pre", "tokenizer.ggml.merges"
INDEX = "tinyprof.index.tokens"


def renamed(name):
    return lambda data: data.replace(name.encode(), name[:-1].encode() + b"X", 1)


def unsigned(name):
    """An array of int32 as one of uint32."""
    return lambda data: data.replace(name.encode() + b"\x09\0\0\0\x05", name.encode() + b"\x09\0\0\0\x04", 1)


@pytest.mark.parametrize(
    "keys,edit,message",
    [
        ({}, renamed(MERGES), "array tokenizer.ggml.merges is missing"),
        ({}, renamed(PRE), "key tokenizer.ggml.pre is missing"),
        ({}, renamed(EOS), "key tokenizer.ggml.eos_token_id is missing"),
        ({}, renamed("tokenizer.ggml.token_type"), "array tokenizer.ggml.token_type is missing"),
        ({EOS: (VOCAB, U32)}, None, "tokenizer: special token 384 is outside the vocabulary"),
        ({"tokenizer.ggml.bos_token_id": (2**31, U32)}, None, "special token 2147483648 is outside the vocabulary"),
        ({EOS: ("0", STRING)}, None, "key tokenizer.ggml.eos_token_id is not of type int"),
        ({PRE: ("deepseek-v3", STRING)}, None, "'deepseek-v3' is not supported: only gpt-2, llama-bpe, dbrx, qwen2,"),
        ({MERGES: ([1, 2], ARRAY)}, None, "array tokenizer.ggml.merges does not hold items of type 8"),
        ({MERGES: ("a b", STRING)}, None, "array tokenizer.ggml.merges is missing"),
        ({INDEX: ([-1] * VOCAB, ARRAY)}, None, "array tinyprof.index.tokens does not hold items of type 4"),
        ({INDEX: ([1], ARRAY)}, unsigned(INDEX), "array tinyprof.index.tokens does not hold 384 items"),
        ({"tokenizer.ggml.tokens": (["a"], ARRAY)}, None, "array tokenizer.ggml.tokens does not hold 384 items"),
        ({}, lambda d: d.replace(b"merges\x09\0\0\0\x08\0\0\0x", b"merges\x09\0\0\0\x08\0\0\0\xff"), "truncated GGUF"),
        ({}, lambda d: d[: d.index(MERGES.encode()) + 400], "truncated GGUF"),
    ],
)  # fmt: skip
def test_bad_files(tmp_path, keys, edit, message):
    """The board and the importer say the same, in one line."""
    model = written(tmp_path / "m.gguf", "qwen2", layers=1, keys=keys)
    if edit:
        before = model.read_bytes()
        model.write_bytes(edit(before))
        assert model.read_bytes() != before
    with board("unix", model) as b:
        said = b.run(LOAD.format(source=b.source))
    assert said.startswith("ModelError") and message in said and said.count("\n") <= 1
    refused(model, said.partition("ModelError ")[2].strip())


# --- against the originals


def trained(pre, merges=300):
    """As anyone trains one with the tokenizers package."""
    tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed")
    text = (DATA / "tinystories_sample.txt").read_text()[:60000] if DATA.exists() else LEARNT
    made = tokenizers.Tokenizer(tokenizers.models.BPE(ignore_merges=pre == "llama-bpe"))
    made.pre_tokenizer = tokenizers.Tokenizer.from_str(json.dumps(tokenizer_json(pre))).pre_tokenizer
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=257 + merges,
        special_tokens=[END],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([text, *TEXTS[:2] * 5], trainer)
    return made, text


@pytest.mark.parametrize("pre", words.RULES)
def test_tokenizers_agrees(tmp_path, pre):
    theirs, text = trained(pre)
    vocab = theirs.get_vocab_size()
    source = make_model(tmp_path / "source.gguf", vocab=vocab, layers=1)
    folder = folder_of(tmp_path / "hf", json.loads(theirs.to_str()), source=source, vocab_size=vocab, head_dim=None)
    summary = convert(folder, None, tmp_path / "out.gguf", "F32")
    assert summary.notes == ()
    ours = encoder(tmp_path / "out.gguf")
    for sample in (*TEXTS[:2], TEXTS[3], text[:20000], *random_texts(300, seed=2)):
        assert ours.encode(sample) == theirs.encode(sample).ids, sample
        assert theirs.decode(ours.encode(sample), skip_special_tokens=False) == sample


@pytest.mark.parametrize("pre", words.RULES)
def test_llama_cpp_agrees(tmp_path, pre):
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    model = written(tmp_path / "m.gguf", pre)
    theirs = llama_cpp.Llama(str(model), n_ctx=64, verbose=False, type_k=0, type_v=0, flash_attn=False)
    ours = encoder(model)
    for text in (*TEXTS, LEARNT, *random_texts(300, seed=3)):
        if "\0" not in text:
            assert ours.encode(text) == theirs.tokenize(text.encode(), add_bos=False, special=False), text
    prompt = ours.encode("The software is provided")
    greedy = [token for token, _ in zip(theirs.generate(prompt, temp=0), range(32), strict=False)]
    with board("unix", model) as b:
        assert [int(t) for t in b.run(GREEDY.format(source=b.source, tokens=prompt)).split()] == greedy
