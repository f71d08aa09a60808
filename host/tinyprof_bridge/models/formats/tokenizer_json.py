"""Reads tokenizer.json of Hugging Face's tokenizers: its parts, and BPE as SentencePiece does it.

Boards merge any two neighbours that make a token, the highest score first, as SentencePiece and llama.cpp do."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf.constants import TokenType

from ...errors import BadInput
from ..source import Vocabulary

LONGEST = 512  # characters of a token, up to which all its splits are compared with the merges
BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")
OTHERWISE = "boards split text by scores, so tokens may differ from those that its merges give"


@dataclass(frozen=True)
class Pieces:
    """Tokens and merges of a tokenizer.json.

    ids: number of each token of the BPE model.
    added: text of each added token, and whether it is special, by number.
    merges: pairs of tokens, the first one merged first."""

    ids: dict[str, int]
    added: dict[int, tuple[str, bool]]
    merges: list[tuple[str, str]]

    def tokens(self, path: Path) -> list[str]:
        """Returns all tokens in the order of their numbers. Raises BadInput if a number is missing or used twice."""
        by_id = {i: token for token, i in self.ids.items()} | {i: token for i, (token, _) in self.added.items()}
        if sorted(by_id) != list(range(len(by_id))):
            raise BadInput(f"{path}: a token's number is missing, or used twice; copy it again")
        return [by_id[i] for i in range(len(by_id))]


def pieces(path: Path, ids: Any, added: Any, merges: Any) -> Pieces:
    """Returns the tokens and merges after checking their types.

    path: for error messages.
    ids, added, merges: as tokenizer.json has them under vocab, added_tokens and merges.
    Raises BadInput if one is malformed."""
    try:
        return Pieces(
            {str(token): _index(i) for token, i in ids.items()},
            {_index(t["id"]): (str(t["content"]), bool(t.get("special"))) for t in added or []},
            [_pair(m.split(" ", 1) if isinstance(m, str) else m) for m in merges],
        )
    except (TypeError, ValueError, KeyError, IndexError, AttributeError):
        raise BadInput(
            f"{path}: damaged: its vocabulary, merges or added tokens are malformed; copy it again"
        ) from None


def _index(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value < 1 << 24:
        raise ValueError(value)
    return value


def _pair(merge: list[Any]) -> tuple[str, str]:
    left, right = merge
    return str(left), str(right)


def sentencepiece(path: Path, parsed: dict[str, Any]) -> tuple[Vocabulary, list[str]]:
    """Returns the vocabulary in a tokenizer.json of SentencePiece's kind, and notes for the user.

    The later a token's merge, the lower its score.

    path: for error messages.
    parsed: content of tokenizer.json.
    Raises BadInput if the tokenizer is of another kind."""
    model = parsed.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict):
        kind = model.get("type") if isinstance(model, dict) else None
        raise BadInput(f"{path}: a tokenizer of type {str(kind)[:32]} is not supported; only BPE is")
    if model.get("type") != "BPE" or not model.get("byte_fallback"):
        raise BadInput(
            f"{path}: a tokenizer of type {str(model.get('type'))[:32]} without byte fallback is not supported; take a"
            " model with SentencePiece's BPE and byte fallback, or with byte-level BPE"
        )
    found = pieces(path, model["vocab"], parsed.get("added_tokens"), model.get("merges"))
    tokens = found.tokens(path)
    ranks: dict[str, int] = {}
    for rank, (left, right) in enumerate(found.merges):
        ranks.setdefault(left + right, rank)
    unknown = found.ids.get(str(model.get("unk_token")), 0)
    vocabulary = Vocabulary(
        tokens,
        [_type(i, token, found.added, unknown) for i, token in enumerate(tokens)],
        [-float(ranks.get(token, len(ranks))) for token in tokens],
        unknown,
        found.ids.get("<s>", 0),
        found.ids.get("</s>", 0),
        adds_bos(parsed),
        _adds_space(parsed),
    )
    normal = {token for token, type_ in zip(tokens, vocabulary.types, strict=True) if type_ == TokenType.NORMAL}
    return vocabulary, [] if _as_sentencepiece(normal, found.merges) else [f"{path}: {OTHERWISE}"]


def _type(i: int, token: str, added: dict[int, tuple[str, bool]], unknown: int) -> TokenType:
    if i == unknown:
        return TokenType.UNKNOWN
    if i in added:
        return TokenType.CONTROL if added[i][1] else TokenType.USER_DEFINED
    return TokenType.BYTE if BYTE_TOKEN.fullmatch(token) else TokenType.NORMAL


def _as_sentencepiece(normal: set[str], merges: list[tuple[str, str]]) -> bool:
    """Whether merging by score gives the same tokens as the merges do.

    It does if the merges contain every pair of tokens that makes a token, and the pairs of each token are adjacent."""
    order = [left + right for left, right in merges]
    made = set(order)
    if len(made) != sum(a != b for a, b in zip([None, *order], order, strict=False)):
        return False
    if max(map(len, normal), default=0) > LONGEST:
        return False
    pairs = set(merges)
    splits = ((token[:i], token[i:]) for token in normal for i in range(1, len(token)))
    return all(pair in pairs or not normal.issuperset(pair) for pair in splits)


def steps(parsed: dict[str, Any], name: str, part: str) -> list[dict[str, Any]]:
    """Returns the steps of a normalizer, pre-tokenizer or post-processor: itself, or those of a sequence.

    parsed: content of tokenizer.json.
    name: of the key, such as "normalizer".
    part: key of the steps in a sequence, such as "normalizers"."""
    step = parsed.get(name)
    if not isinstance(step, dict):
        return []
    inner = step.get(part) if step.get("type") == "Sequence" else [step]
    return [s for s in inner if isinstance(s, dict)] if isinstance(inner, list) else []


def adds_bos(parsed: dict[str, Any]) -> bool:
    """Returns whether the content of a tokenizer.json puts BOS before a text."""
    for step in steps(parsed, "post_processor", "processors"):
        single = step.get("single")
        if step.get("type") == "TemplateProcessing" and isinstance(single, list) and single:
            return isinstance(single[0], dict) and "SpecialToken" in single[0]
    return False


def _adds_space(parsed: dict[str, Any]) -> bool:
    for step in steps(parsed, "normalizer", "normalizers") + steps(parsed, "pre_tokenizer", "pretokenizers"):
        if step.get("type") == "Prepend":
            return True
        if step.get("type") == "Metaspace":
            return step.get("prepend_scheme", "always") != "never" and step.get("add_prefix_space", True) is not False
    return False
