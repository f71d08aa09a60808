"""Splits text into the same tokens as the board's tokenizer, and into windows for measuring perplexity."""

import functools
import heapq
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from gguf import GGUFReader

from ..errors import BadInput, plain
from . import planner


class Vocabulary(Protocol):
    """Tokenizer of a model."""

    @property
    def bos(self) -> int:
        """Number of the token before a text."""
        ...

    @property
    def size(self) -> int:
        """Number of tokens in the vocabulary."""
        ...

    def encode(self, text: str) -> list[int]:
        """Returns the tokens of a text, without BOS."""
        ...


@dataclass(frozen=True)
class SentencePiece:
    """SentencePiece's BPE with byte fallback, as in llama.cpp's llm_tokenizer_spm.

    pieces: text of each token; a space is '▁'.
    scores: of each token; the highest is merged first.
    bos: number of the token before a text.
    unknown: number of the token for bytes that have none.
    add_space: whether a text gets a leading space."""

    pieces: list[str]
    scores: list[float]
    bos: int
    unknown: int
    add_space: bool

    @property
    def size(self) -> int:
        """Number of tokens in the vocabulary."""
        return len(self.pieces)

    def encode(self, text: str) -> list[int]:
        """Returns the tokens of a text, without BOS.

        Merges the neighbours whose piece has the highest score, the leftmost first, until no two neighbours make a
        piece. Characters without a piece become the tokens of their UTF-8 bytes."""
        ids = {piece: i for i, piece in reversed(list(enumerate(self.pieces)))}
        parts: list[str | None] = list((" " * self.add_space + text if text else "").replace(" ", "▁"))
        after = list(range(1, len(parts) + 1))
        before = list(range(-1, len(parts) - 1))
        pairs: list[tuple[float, int, str]] = []

        def offer(i: int) -> None:
            if i >= 0 and after[i] < len(parts):
                joined = f"{parts[i]}{parts[after[i]]}"
                if joined in ids:
                    heapq.heappush(pairs, (-self.scores[ids[joined]], i, joined))

        for i in range(len(parts)):
            offer(i)
        while pairs:
            _, i, joined = heapq.heappop(pairs)
            # skip a stale entry: one of its sides was merged with another neighbour meanwhile
            if parts[i] is None or after[i] >= len(parts) or f"{parts[i]}{parts[after[i]]}" != joined:
                continue
            parts[i], parts[after[i]] = joined, None
            after[i] = after[after[i]]
            if after[i] < len(parts):
                before[after[i]] = i
            offer(before[i])
            offer(i)
        tokens = []
        for part in parts:
            if part in ids:
                tokens.append(ids[part])
            elif part is not None:
                tokens += [ids.get(f"<0x{byte:02X}>", self.unknown) for byte in part.encode()]
        return tokens


class ByteLevel:
    """Byte-level BPE by the device package's tokenizer, made fast by dictionaries and a cache of words."""

    def __init__(self, reader: GGUFReader) -> None:
        """reader: of the GGUF file. Raises BadInput if boards do not support its tokenizer."""
        device = planner.device("portable")
        try:
            gguf = device.read(reader.data.data)
            _, self.size, _ = gguf.arrays.get("tokenizer.ggml.tokens", (0, 0, 0))
            self._tokenizer = tokenizer = device.tokenizer.load(gguf, self.size)
        except device.error as error:
            raise BadInput(plain(str(error))) from None
        self.bos: int = tokenizer.bos
        for found in (tokenizer.tokens, tokenizer.merges):
            found.find = _finder(strings(found))
        tokenizer.word = functools.cache(tokenizer.word)
        tokenizer.add_bos = False

    def encode(self, text: str) -> list[int]:
        """Returns the tokens of a text, without BOS."""
        tokens: list[int] = self._tokenizer.encode(text)
        return tokens


def strings(array: Any) -> list[bytes]:
    """Returns all strings of an array as the device package has it."""
    found, data, at = [], array.data, array.steps[0]
    for _ in range(array.count):
        (size,) = struct.unpack_from("<Q", data, at)
        found.append(bytes(data[at + 8 : at + 8 + size]))
        at += 8 + size
    return found


def _finder(items: list[bytes]) -> Callable[[bytes], int]:
    """A function that returns the first position of an item, -1 if there is none."""
    places = {item: i for i, item in reversed(list(enumerate(items)))}
    return lambda item: places.get(item, -1)


class Metadata(GGUFReader):
    """Reads only the metadata of a GGUF file. The gguf package refuses tinyprof's own tensor types."""

    def _build_tensors(self, start_offs: int, fields: object) -> None:
        pass


def open_gguf(path: Path) -> GGUFReader:
    """Returns a reader of a GGUF file's metadata. Raises BadInput if the file cannot be read."""
    try:
        return Metadata(path)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # the reader trusts the file, so a damaged one may raise anything
        raise BadInput(f"{path}: damaged, or not a GGUF file: {plain(str(error))[:200]}; copy it again") from None


def field(reader: GGUFReader, key: str, default: Any = None) -> Any:
    """Returns the value of a metadata key. Raises BadInput if it is missing and there is no default."""
    found = reader.get_field(key)
    if found is None and default is None:
        raise BadInput(f"the GGUF file lacks the metadata key {key}; convert the model again")
    return default if found is None else found.contents()


def trained_context(reader: GGUFReader) -> int:
    """Returns the context that the model was trained for, in tokens. Raises BadInput if the file does not name it."""
    return int(field(reader, f"{field(reader, 'general.architecture')}.context_length"))


def vocabulary(reader: GGUFReader) -> Vocabulary:
    """Returns the tokenizer of a GGUF file. Raises BadInput if it is incomplete or not supported."""
    if field(reader, "tokenizer.ggml.model") != "llama":
        return ByteLevel(reader)
    return SentencePiece(
        field(reader, "tokenizer.ggml.tokens"),
        field(reader, "tokenizer.ggml.scores"),
        field(reader, "tokenizer.ggml.bos_token_id", 1),
        field(reader, "tokenizer.ggml.unknown_token_id", 0),
        field(reader, "tokenizer.ggml.add_space_prefix", True),
    )


def read_text(path: Path) -> str:
    """Returns the text in a UTF-8 file, with or without byte order mark.

    Raises BadInput if the file cannot be read or holds only white space."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path}: not UTF-8 text; save it as UTF-8") from None
    if not text.strip():
        raise BadInput(f"{path}: contains no text; give another file")
    return text


def windows(words: Vocabulary, text: str, length: int, limit: int) -> list[list[int]]:
    """Returns the first `limit` tokens of a text in windows of `length` tokens; the last one may be shorter.

    BOS precedes each window, so that the model predicts every token of the text from those before it."""
    tokens = words.encode(text)[:limit]
    return [[words.bos, *tokens[at : at + length]] for at in range(0, len(tokens), length)]
