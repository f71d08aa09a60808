"""Vocabularies of Hugging Face folders: tokenizer.model of SentencePiece, or tokenizer.json with BPE of its kind.

Boards merge by score whatever two neighbours make a token, as SentencePiece and llama.cpp do."""

import json
import math
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from gguf.constants import TokenType

from .errors import BadInput, plain
from .source import Vocabulary, read_limited

LIMIT = 64 << 20
LONGEST = 512  # characters of a token
BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")
OTHERWISE = "text is split by scores, which may differ from what tokenizer.json's merges give"


def read(folder: Path, vocab: int, bos: int | None, eos: int | None) -> tuple[Vocabulary, list[str]]:
    """The vocabulary, of `vocab` tokens, and notes on it."""
    notes: list[str] = []
    if (folder / "tokenizer.model").exists():
        found = sentencepiece(folder / "tokenizer.model")
    elif (folder / "tokenizer.json").exists():
        found, notes = bpe(folder / "tokenizer.json")
    else:
        raise BadInput(f"{folder}: has neither tokenizer.model nor tokenizer.json")
    path = folder / "tokenizer_config.json"
    settings = parse(path, 4 << 20) if path.exists() else {}
    if isinstance(settings.get("add_bos_token"), bool):
        found = replace(found, add_bos=settings["add_bos_token"])
    found = replace(found, bos=found.bos if bos is None else bos, eos=found.eos if eos is None else eos)
    return filled(folder, found, vocab), notes


def from_file(path: Path, vocab: int) -> tuple[Vocabulary, list[str]]:
    """As read, of one file: tokenizer.model or tokenizer.json."""
    found, notes = bpe(path) if path.suffix == ".json" else (sentencepiece(path), [])
    return filled(path, found, vocab), notes


def parse(path: Path, limit: int) -> dict[str, Any]:
    """An object in JSON."""
    try:
        value = json.loads(read_limited(path, limit))
    except (ValueError, RecursionError):
        raise BadInput(f"{path}: is no JSON; copy it again") from None
    if not isinstance(value, dict):
        raise BadInput(f"{path}: is no JSON object; copy it again")
    return value


def filled(path: Path, found: Vocabulary, vocab: int) -> Vocabulary:
    """The vocabulary with as many tokens as the embedding has rows. Raises BadInput for one that cannot be used."""
    if len(found.tokens) > vocab:
        raise BadInput(f"{path}: {len(found.tokens)} tokens, but the embedding has {vocab} rows: of another model")
    missing = range(len(found.tokens), vocab)
    tokens = [*found.tokens, *(f"[PAD{i}]" for i in missing)]
    if len(set(tokens)) < len(tokens):
        twice = plain(Counter(tokens).most_common(1)[0][0])[:64]
        raise BadInput(f"{path}: token {twice!r} is there twice")
    for name in ("unknown", "bos", "eos"):
        if not 0 <= getattr(found, name) < vocab:
            raise BadInput(f"{path}: {name} token {getattr(found, name)} is outside the vocabulary of {vocab}")
    if not all(math.isfinite(score) for score in found.scores):
        raise BadInput(f"{path}: a token's score is no number")
    try:
        "".join(tokens).encode()
    except UnicodeEncodeError:
        raise BadInput(f"{path}: a token is no Unicode text") from None
    scores = [*found.scores, *(-10000.0 for _ in missing)]
    return replace(found, tokens=tokens, scores=scores, types=[*found.types, *(TokenType.UNUSED for _ in missing)])


def sentencepiece(path: Path) -> Vocabulary:
    """Pieces, scores and types as SentencePiece's own description of its files has them."""
    try:
        from google.protobuf.message import DecodeError
        from sentencepiece import sentencepiece_model_pb2 as description
    except ImportError:
        raise BadInput(f"{path}: sentencepiece is missing: pip install 'tinyprof[models]'") from None
    model: Any = vars(description)["ModelProto"]()  # made at run time
    try:
        model.ParseFromString(read_limited(path, LIMIT))
    except (DecodeError, UnicodeDecodeError):
        raise BadInput(f"{path}: damaged, or no SentencePiece model; copy it again") from None
    if not model.pieces:
        raise BadInput(f"{path}: has no pieces: damaged, or no SentencePiece model; copy it again")
    if model.trainer_spec.model_type != model.trainer_spec.BPE:
        kind = model.trainer_spec.ModelType.Name(model.trainer_spec.model_type)
        raise BadInput(f"{path}: a SentencePiece model of type {kind} is not supported: only BPE")
    spec = model.trainer_spec
    return Vocabulary(
        [p.piece for p in model.pieces],
        [p.score for p in model.pieces],
        [TokenType(p.type) for p in model.pieces],
        max(spec.unk_id, 0),
        max(spec.bos_id, 0),
        max(spec.eos_id, 0),
        spec.bos_id >= 0,
        model.normalizer_spec.add_dummy_prefix,
    )


def bpe(path: Path) -> tuple[Vocabulary, list[str]]:
    """tokenizer.json; a token's score is less, the later it is made."""
    parsed = parse(path, LIMIT)
    model = parsed.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict):
        kind = model.get("type") if isinstance(model, dict) else None
        raise BadInput(f"{path}: a tokenizer of type {str(kind)[:32]} is not supported: only BPE")
    if model.get("type") != "BPE" or not model.get("byte_fallback"):
        raise BadInput(
            f"{path}: boards split text as SentencePiece's BPE with byte fallback does; this tokenizer"
            f" ({str(model.get('type'))[:32]}, GPT-2's bytes or words) is not supported"
        )
    try:
        ids = {str(token): _index(i) for token, i in model["vocab"].items()}
        added = {_index(t["id"]): (str(t["content"]), bool(t.get("special"))) for t in parsed.get("added_tokens") or []}
        merges = [tuple(m.split(" ", 1)) if isinstance(m, str) else (str(m[0]), str(m[1])) for m in model["merges"]]
        ranks: dict[str, int] = {}
        for rank, (left, right) in enumerate(merges):
            ranks.setdefault(left + right, rank)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError):
        raise BadInput(f"{path}: damaged: vocabulary, merges or added tokens are not as they should be") from None
    by_id = {i: token for token, i in ids.items()} | {i: token for i, (token, _) in added.items()}
    if sorted(by_id) != list(range(len(by_id))):
        raise BadInput(f"{path}: the numbers of its tokens have gaps, or are there twice")
    unknown = ids.get(str(model.get("unk_token")), 0)
    tokens = [by_id[i] for i in range(len(by_id))]
    vocabulary = Vocabulary(
        tokens,
        [-float(ranks.get(token, len(ranks))) for token in tokens],
        [_type(i, token, added, unknown) for i, token in enumerate(tokens)],
        unknown,
        ids.get("<s>", 0),
        ids.get("</s>", 0),
        _adds_bos(parsed),
        _adds_space(parsed),
    )
    normal = {token for token, type_ in zip(tokens, vocabulary.types, strict=True) if type_ == TokenType.NORMAL}
    return vocabulary, [] if _as_sentencepiece(normal, merges) else [f"{path}: {OTHERWISE}"]


def _index(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value < 1 << 24:
        raise ValueError(value)
    return value


def _type(i: int, token: str, added: dict[int, tuple[str, bool]], unknown: int) -> TokenType:
    if i == unknown:
        return TokenType.UNKNOWN
    if i in added:
        return TokenType.CONTROL if added[i][1] else TokenType.USER_DEFINED
    return TokenType.BYTE if BYTE_TOKEN.fullmatch(token) else TokenType.NORMAL


def _as_sentencepiece(normal: set[str], merges: list[tuple[str, ...]]) -> bool:
    """Whether merging by score is what the merges say: all pairs that make a token are there, token after token."""
    order = [left + right for left, right in merges]
    made = set(order)
    if len(made) != sum(a != b for a, b in zip([None, *order], order, strict=False)):
        return False
    if max(map(len, normal), default=0) > LONGEST:
        return False
    pairs = set(merges)
    splits = ((token[:i], token[i:]) for token in normal for i in range(1, len(token)))
    return all(pair in pairs or not normal.issuperset(pair) for pair in splits)


def _steps(parsed: dict[str, Any], name: str, part: str) -> list[dict[str, Any]]:
    """A normalizer, pre-tokenizer or post-processor, alone or those of a sequence."""
    step = parsed.get(name)
    if not isinstance(step, dict):
        return []
    inner = step.get(part) if step.get("type") == "Sequence" else [step]
    return [s for s in inner if isinstance(s, dict)] if isinstance(inner, list) else []


def _adds_bos(parsed: dict[str, Any]) -> bool:
    for step in _steps(parsed, "post_processor", "processors"):
        single = step.get("single")
        if step.get("type") == "TemplateProcessing" and isinstance(single, list) and single:
            return isinstance(single[0], dict) and "SpecialToken" in single[0]
    return False


def _adds_space(parsed: dict[str, Any]) -> bool:
    steps = _steps(parsed, "normalizer", "normalizers") + _steps(parsed, "pre_tokenizer", "pretokenizers")
    for step in steps:
        if step.get("type") == "Prepend":
            return True
        if step.get("type") == "Metaspace":
            return step.get("prepend_scheme", "always") != "never" and step.get("add_prefix_space", True) is not False
    return False
