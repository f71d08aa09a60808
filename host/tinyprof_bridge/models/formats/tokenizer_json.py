"""tokenizer.json, as Hugging Face's tokenizers writes it: its parts, and BPE of SentencePiece's kind.

Boards merge by score whatever two neighbours make a token, as SentencePiece and llama.cpp do."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf.constants import TokenType

from ...errors import BadInput
from ..source import Vocabulary

LONGEST = 512  # characters of a token
BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")
OTHERWISE = "text is split by scores, which may differ from what tokenizer.json's merges give"


@dataclass(frozen=True)
class Pieces:
    """The numbers of a model's own tokens, what was added to them (content, and whether it is special), and merges."""

    ids: dict[str, int]
    added: dict[int, tuple[str, bool]]
    merges: list[tuple[str, str]]

    def tokens(self, path: Path) -> list[str]:
        """All tokens by number."""
        by_id = {i: token for token, i in self.ids.items()} | {i: token for i, (token, _) in self.added.items()}
        if sorted(by_id) != list(range(len(by_id))):
            raise BadInput(f"{path}: the numbers of its tokens have gaps, or are there twice")
        return [by_id[i] for i in range(len(by_id))]


def pieces(path: Path, ids: Any, added: Any, merges: Any) -> Pieces:
    """Raises BadInput where something is not as it should be. ids, added, merges: as tokenizer.json has them."""
    try:
        return Pieces(
            {str(token): _index(i) for token, i in ids.items()},
            {_index(t["id"]): (str(t["content"]), bool(t.get("special"))) for t in added or []},
            [_pair(m.split(" ", 1) if isinstance(m, str) else m) for m in merges],
        )
    except (TypeError, ValueError, KeyError, IndexError, AttributeError):
        raise BadInput(f"{path}: damaged: vocabulary, merges or added tokens are not as they should be") from None


def _index(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value < 1 << 24:
        raise ValueError(value)
    return value


def _pair(merge: list[Any]) -> tuple[str, str]:
    left, right = merge
    return str(left), str(right)


def sentencepiece(path: Path, parsed: dict[str, Any]) -> tuple[Vocabulary, list[str]]:
    """A token's score is less, the later it is made."""
    model = parsed.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict):
        kind = model.get("type") if isinstance(model, dict) else None
        raise BadInput(f"{path}: a tokenizer of type {str(kind)[:32]} is not supported: only BPE")
    if model.get("type") != "BPE" or not model.get("byte_fallback"):
        raise BadInput(
            f"{path}: boards split text as SentencePiece's BPE with byte fallback does, or as byte-level BPE; this"
            f" tokenizer ({str(model.get('type'))[:32]}, of words or characters) is not supported"
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


def steps(parsed: dict[str, Any], name: str, part: str) -> list[dict[str, Any]]:
    """A normalizer, pre-tokenizer or post-processor, alone or those of a sequence."""
    step = parsed.get(name)
    if not isinstance(step, dict):
        return []
    inner = step.get(part) if step.get("type") == "Sequence" else [step]
    return [s for s in inner if isinstance(s, dict)] if isinstance(inner, list) else []


def adds_bos(parsed: dict[str, Any]) -> bool:
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
