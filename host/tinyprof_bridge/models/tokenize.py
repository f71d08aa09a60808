"""Text to tokens, as the board's tokenizer makes them, and the windows in which a model is judged."""

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
    """bos: what stands before a text; size: how many tokens there are."""

    @property
    def bos(self) -> int: ...

    @property
    def size(self) -> int: ...

    def encode(self, text: str) -> list[int]:
        """Tokens of the text, without BOS."""
        ...


@dataclass(frozen=True)
class SentencePiece:
    """scores and ids by piece; spaces are '▁' in pieces."""

    pieces: list[str]
    scores: list[float]
    bos: int
    unknown: int
    add_space: bool

    @property
    def size(self) -> int:
        return len(self.pieces)

    def encode(self, text: str) -> list[int]:
        """Of neighbours that make a piece, those of the best score are joined,
        the first of equals, as long as there are any; what is no piece becomes its bytes."""
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
            # an entry is stale where either side has been joined with another since
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
    """The device package's own tokenizer, with indexes of what it looks up; a word is split once."""

    def __init__(self, reader: GGUFReader) -> None:
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
        tokens: list[int] = self._tokenizer.encode(text)
        return tokens


def strings(array: Any) -> list[bytes]:
    """All of the device package's Strings."""
    found, data, at = [], array.data, array.steps[0]
    for _ in range(array.count):
        (size,) = struct.unpack_from("<Q", data, at)
        found.append(bytes(data[at + 8 : at + 8 + size]))
        at += 8 + size
    return found


def _finder(items: list[bytes]) -> Callable[[bytes], int]:
    """Where one stands for the first time, -1 for nowhere."""
    places = {item: i for i, item in reversed(list(enumerate(items)))}
    return lambda item: places.get(item, -1)


class Metadata(GGUFReader):
    """The keys alone of a GGUF file, whose tensors may be of types that the gguf package does not know."""

    def _build_tensors(self, start_offs: int, fields: object) -> None:
        pass


def open_gguf(path: Path) -> GGUFReader:
    """Raises BadInput for what is no GGUF file."""
    try:
        return Metadata(path)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # the reader trusts the file: any error may come of a damaged one
        raise BadInput(f"{path}: not a GGUF file that can be read here: {plain(str(error))[:200]}") from None


def field(reader: GGUFReader, key: str, default: Any = None) -> Any:
    """The value of a metadata key; BadInput where it is missing and has no default."""
    found = reader.get_field(key)
    if found is None and default is None:
        raise BadInput(f"the model has no {key}")
    return default if found is None else found.contents()


def trained_context(reader: GGUFReader) -> int:
    """Tokens."""
    return int(field(reader, f"{field(reader, 'general.architecture')}.context_length"))


def vocabulary(reader: GGUFReader) -> Vocabulary:
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
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path}: not UTF-8 text") from None
    if not text.strip():
        raise BadInput(f"{path}: has no text")
    return text


def windows(words: Vocabulary, text: str, length: int, limit: int) -> list[list[int]]:
    """The first `limit` tokens of the text, in windows of `length`, each with BOS in front.

    In a window each token but the first is to be foretold from those before it."""
    tokens = words.encode(text)[:limit]
    return [[words.bos, *tokens[at : at + length]] for at in range(0, len(tokens), length)]
