"""Reads the vocabulary of a Hugging Face folder: tokenizer.model, tokenizer.json, or vocab.json with merges.txt."""

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from gguf.constants import TokenType

from ...errors import BadInput, plain
from ..source import Vocabulary, read_json, read_limited
from . import byte_level, tokenizer_json

LIMIT = 64 << 20  # bytes of a file


def read(folder: Path, vocab: int, bos: int | None, eos: int | None) -> tuple[Vocabulary, list[str]]:
    """Returns the vocabulary in a folder, and notes for the user.

    vocab: number of rows of the embedding.
    bos, eos: token numbers from config.json, None if it names none.
    Raises BadInput if there is no tokenizer, or boards do not support it."""
    notes: list[str] = []
    path = folder / "tokenizer_config.json"
    settings = read_json(path, 4 << 20) if path.exists() else {}
    if (folder / "tokenizer.model").exists():
        found = sentencepiece(folder / "tokenizer.model")
    elif (folder / "tokenizer.json").exists():
        found, notes = _json(folder / "tokenizer.json", settings, bos, eos)
    elif (folder / byte_level.VOCABULARY).exists():
        found, notes = byte_level.of_files(folder, LIMIT, settings, bos, eos)
    else:
        raise BadInput(
            f"{folder}: has no tokenizer; put tokenizer.model, tokenizer.json, or {byte_level.VOCABULARY} with"
            f" {byte_level.MERGES} there"
        )
    if isinstance(settings.get("add_bos_token"), bool):
        found = replace(found, add_bos=settings["add_bos_token"])
    if not found.pre:
        found = replace(found, bos=found.bos if bos is None else bos, eos=found.eos if eos is None else eos)
    return filled(folder, found, vocab), notes


def from_file(path: Path, vocab: int, bos: int | None, eos: int | None) -> tuple[Vocabulary, list[str]]:
    """Returns the vocabulary in a tokenizer.model or tokenizer.json, and notes for the user.

    vocab: number of rows of the embedding.
    bos, eos: used if a byte-level tokenizer.json names no such token.
    Raises BadInput if boards do not support the tokenizer."""
    found, notes = _json(path, {}, bos, eos) if path.suffix == ".json" else (sentencepiece(path), [])
    return filled(path, found, vocab), notes


def _json(path: Path, settings: dict[str, Any], bos: int | None, eos: int | None) -> tuple[Vocabulary, list[str]]:
    parsed = read_json(path, LIMIT)
    if byte_level.is_one(parsed):
        return byte_level.of_json(path, parsed, settings, bos, eos)
    return tokenizer_json.sentencepiece(path, parsed)


def filled(path: Path, found: Vocabulary, vocab: int) -> Vocabulary:
    """Returns the vocabulary with unused tokens added, up to the embedding's number of rows.

    path: for error messages.
    vocab: number of rows of the embedding.
    Raises BadInput if the vocabulary is damaged, or of another model."""
    if len(found.tokens) > vocab:
        raise BadInput(
            f"{path}: has {len(found.tokens)} tokens, the embedding has {vocab} rows; give the model's own tokenizer"
        )
    missing = range(len(found.tokens), vocab)
    tokens = [*found.tokens, *(f"[PAD{i}]" for i in missing)]
    if len(set(tokens)) < len(tokens):
        twice = plain(Counter(tokens).most_common(1)[0][0])[:64]
        raise BadInput(f"{path}: damaged: token {twice!r} occurs twice; copy it again")
    for name in ("unknown", "bos", "eos"):
        if not 0 <= getattr(found, name) < vocab:
            raise BadInput(
                f"{path}: {name} token {getattr(found, name)} is outside the vocabulary of {vocab}; give the"
                " model's own tokenizer"
            )
    if not all(math.isfinite(score) for score in found.scores):
        raise BadInput(f"{path}: damaged: a token's score is NaN or infinity; copy it again")
    try:
        "".join(tokens).encode()
    except UnicodeEncodeError:
        raise BadInput(f"{path}: damaged: a token is not valid Unicode; copy it again") from None
    scores = [] if found.pre else [*found.scores, *(-10000.0 for _ in missing)]
    return replace(found, tokens=tokens, scores=scores, types=[*found.types, *(TokenType.UNUSED for _ in missing)])


def sentencepiece(path: Path) -> Vocabulary:
    """Returns the vocabulary in a tokenizer.model, read with sentencepiece_model.proto of the sentencepiece package.

    Raises BadInput if the file is damaged, or not of type BPE."""
    try:
        from google.protobuf.message import DecodeError
        from sentencepiece import sentencepiece_model_pb2 as description
    except ImportError:
        raise BadInput(f"{path}: the sentencepiece package is missing; pip install 'tinyprof[models]'") from None
    model: Any = vars(description)["ModelProto"]()  # protobuf creates the class at run time
    try:
        model.ParseFromString(read_limited(path, LIMIT))
    except (DecodeError, UnicodeDecodeError):
        raise BadInput(f"{path}: damaged, or not a SentencePiece model; copy it again") from None
    if not model.pieces:
        raise BadInput(f"{path}: has no tokens: damaged, or not a SentencePiece model; copy it again")
    if model.trainer_spec.model_type != model.trainer_spec.BPE:
        kind = model.trainer_spec.ModelType.Name(model.trainer_spec.model_type)
        raise BadInput(f"{path}: a SentencePiece model of type {kind} is not supported; only BPE is")
    spec = model.trainer_spec
    return Vocabulary(
        [p.piece for p in model.pieces],
        [TokenType(p.type) for p in model.pieces],
        [p.score for p in model.pieces],
        max(spec.unk_id, 0),
        max(spec.bos_id, 0),
        max(spec.eos_id, 0),
        spec.bos_id >= 0,
        model.normalizer_spec.add_dummy_prefix,
    )
