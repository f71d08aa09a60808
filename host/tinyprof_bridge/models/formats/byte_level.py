"""Vocabularies of byte-level BPE: tokenizer.json with a pre-tokenizer that boards have, or GPT-2's vocab.json and
merges.txt.

As in llama.cpp, EOS comes from tokenizer_config.json, else from config.json, else it is <|endoftext|>."""

from pathlib import Path
from typing import Any

from gguf.constants import TokenType

from ...errors import BadInput, plain
from .. import planner
from ..source import Vocabulary, read_json, read_limited
from .tokenizer_json import Pieces, adds_bos, pieces, steps

VOCABULARY, MERGES = "vocab.json", "merges.txt"
END = "<|endoftext|>"
_SPACES = r"|\s+(?!\S)|\s+"
_GPT2 = r" ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+" + _SPACES
_LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+" + _SPACES
# llama.cpp's name of the pre-tokenizer, by the regular expression of its Split.
SPLITS = {
    r"'s|'t|'re|'ve|'m|'ll|'d|" + _GPT2: "gpt-2",
    r"'(?:[sdmt]|ll|ve|re)|" + _GPT2: "gpt-2",
    _LLAMA3 % r"\p{N}{1,3}": "llama-bpe",
    _LLAMA3 % r"\p{N}": "qwen2",
}
# The same by tokenizer_class, for folders without tokenizer.json.
CLASSES = {"GPT2Tokenizer": "gpt-2", "Qwen2Tokenizer": "qwen2"}
WHOLE_WORDS = "llama-bpe"  # a word that is a token skips the merges (ignore_merges)
BY_MERGES = "dbrx"  # same pre-tokenizer, but all words go through the merges
UTF_8 = sorted(set(range(256)) - {0xC0, 0xC1, *range(0xF5, 256)})  # bytes that occur in UTF-8


def is_one(parsed: dict[str, Any]) -> bool:
    """Returns whether the content of a tokenizer.json is byte-level BPE."""
    return any(step.get("type") == "ByteLevel" for step in _pre_tokenizers(parsed))


def of_json(
    path: Path, parsed: dict[str, Any], settings: dict[str, Any], bos: int | None, eos: int | None
) -> tuple[Vocabulary, list[str]]:
    """Returns the vocabulary in a tokenizer.json, and notes for the user.

    path: for error messages.
    parsed: content of tokenizer.json.
    settings: content of tokenizer_config.json.
    bos, eos: token numbers from config.json, None if it names none.
    Raises BadInput if boards do not support the tokenizer."""
    pre = _pre(path, parsed)
    model = parsed.get("model")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":
        kind = model.get("type") if isinstance(model, dict) else None
        raise BadInput(f"{path}: a byte-level tokenizer of type {plain(str(kind))[:32]} is not supported; only BPE is")
    for step in steps(parsed, "normalizer", "normalizers"):
        if step.get("type") != "NFC":
            kind = plain(str(step.get("type")))[:32]
            raise BadInput(f"{path}: a normalizer of type {kind} is not supported; take a model with NFC or none")
    for name in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            raise BadInput(f"{path}: {name} is not supported; take a model whose tokenizer has none")
    found = pieces(path, model.get("vocab"), parsed.get("added_tokens"), model.get("merges"))
    notes, whole_words = [], model.get("ignore_merges")
    if pre == WHOLE_WORDS and not whole_words:
        pre = BY_MERGES
    elif whole_words and pre != WHOLE_WORDS:
        notes.append(
            f"{path}: boards and llama.cpp do not apply its ignore_merges, so some words may split differently"
        )
    if any(step.get("add_prefix_space", True) for step in _pre_tokenizers(parsed) if step["type"] == "ByteLevel"):
        notes.append(f"{path}: boards and llama.cpp do not apply its add_prefix_space; start your texts with a space")
    return _vocabulary(path, found, pre, adds_bos(parsed), settings, bos, eos, notes)


def of_files(
    folder: Path, limit: int, settings: dict[str, Any], bos: int | None, eos: int | None
) -> tuple[Vocabulary, list[str]]:
    """Returns the vocabulary in vocab.json and merges.txt, and notes for the user.

    folder: that contains both.
    limit: bytes of each file, at most.
    settings: content of tokenizer_config.json, which may list added tokens.
    bos, eos: token numbers from config.json, None if it names none.
    Raises BadInput if a file is missing or damaged, or boards do not support the tokenizer."""
    kind = str(settings.get("tokenizer_class", "GPT2Tokenizer")).removesuffix("Fast")
    if kind not in CLASSES:
        raise BadInput(
            f"{folder}: tokenizer_class {plain(kind)[:32]} is not supported without tokenizer.json; put one there"
        )
    if not (folder / MERGES).exists():
        raise BadInput(f"{folder}: {VOCABULARY} needs {MERGES}, which is missing; copy it too")
    ids = read_json(folder / VOCABULARY, limit)
    try:
        lines = read_limited(folder / MERGES, limit).decode().split("\n")
    except UnicodeDecodeError:
        raise BadInput(f"{folder / MERGES}: not UTF-8; copy it again") from None
    merges = [line for line in lines if line and not line.startswith("#version")]
    added = settings.get("added_tokens_decoder", {})
    named = {_content(settings.get(f"{name}_token")) for name in ("bos", "eos", "unk", "pad")} | {END}
    try:
        listed = [{"id": int(i), **token} for i, token in added.items()]
    except (AttributeError, TypeError, ValueError):
        raise BadInput(
            f"{folder}: tokenizer_config.json: added_tokens_decoder is damaged; copy the file again"
        ) from None
    listed += [{"id": i, "content": name, "special": True} for name, i in ids.items() if name in named]
    found = pieces(folder, ids, listed, merges)
    return _vocabulary(folder, found, CLASSES[kind], False, settings, bos, eos, [])


def _vocabulary(
    path: Path,
    found: Pieces,
    pre: str,
    add_bos: bool,
    settings: dict[str, Any],
    bos: int | None,
    eos: int | None,
    notes: list[str],
) -> tuple[Vocabulary, list[str]]:
    if not found.merges:
        raise BadInput(f"{path}: has no merges; copy it again")
    for left, right in found.merges:
        if left + right not in found.ids or " " in left + right:
            merged = plain(left + right)[:64]
            raise BadInput(f"{path}: damaged: a merge gives {merged!r}, which is not a token; copy it again")
    tokens = found.tokens(path)
    by_name = {token: i for i, token in enumerate(tokens)}
    end = _named(by_name, settings, "eos", eos)
    if end is None:
        raise BadInput(f"{path}: no EOS token is named; set eos_token_id in config.json")
    begin = _named(by_name, settings, "bos", bos)
    character = planner.device("portable").bpe.character
    missing = sum(character(byte).decode() not in found.ids for byte in UTF_8)
    if missing:
        notes.append(f"{path}: {missing} of the {len(UTF_8)} bytes of UTF-8 have no token; they are dropped from texts")
    types = [_type(found.added.get(i)) for i in range(len(tokens))]
    merges = [f"{left} {right}" for left, right in found.merges]
    begin = end if begin is None else begin
    return Vocabulary(tokens, types, bos=begin, eos=end, add_bos=add_bos, pre=pre, merges=merges), notes


def _type(added: tuple[str, bool] | None) -> TokenType:
    if added is None:
        return TokenType.NORMAL
    return TokenType.CONTROL if added[1] else TokenType.USER_DEFINED


def _named(by_name: dict[str, int], settings: dict[str, Any], name: str, given: int | None) -> int | None:
    content = _content(settings.get(f"{name}_token"))
    found = given if content is None else by_name.get(content, given)
    return by_name.get(END) if found is None else found


def _content(token: Any) -> str | None:
    """The text of a special token in tokenizer_config.json, which is text, an object, or null."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None


def _pre_tokenizers(parsed: dict[str, Any]) -> list[dict[str, Any]]:
    return steps(parsed, "pre_tokenizer", "pretokenizers")


def _pre(path: Path, parsed: dict[str, Any]) -> str:
    """llama.cpp's name of the pre-tokenizer. Raises BadInput for one that boards do not have."""
    match _pre_tokenizers(parsed):
        case [{"type": "ByteLevel", **rest}] if rest.get("use_regex", True):
            return "gpt-2"
        case [
            {"type": "Split", "pattern": {"Regex": str(regex)}, "behavior": "Isolated", **split},
            {"type": "ByteLevel", "use_regex": False, "add_prefix_space": False},
        ] if regex in SPLITS and not split.get("invert"):
            return SPLITS[regex]
        case [
            {"type": "Digits", "individual_digits": True},
            {"type": "ByteLevel", "add_prefix_space": False, **rest},
        ] if rest.get("use_regex", True):
            return "smollm"
    told = ", ".join(_told(step) for step in _pre_tokenizers(parsed))
    known = ", ".join(planner.device("portable").bpe.RULES)
    raise BadInput(f"{path}: the pre-tokenizer {plain(told)[:200]} is not supported; only {known} are")


def _told(step: dict[str, Any]) -> str:
    pattern = step.get("pattern")
    return f"{step.get('type')}{f' {next(iter(pattern.values()), None)!r}' if isinstance(pattern, dict) else ''}"
