"""Byte-level BPE (Radford et al., 2019): tokenizer.ggml.model `gpt2` of llama.cpp.

In tokens and merges each byte is written as a character; printable bytes as themselves."""

from micropython import const

from .errors import ModelError
from .pretokenize import RULES, words
from .vocabulary import NONE, Strings, Tokenizer

_NORMAL = const(1)
_USER_DEFINED = const(4)
_STEP = const(64)
_ALL_NORMAL = b"\x01\0\0\0" * _STEP


def character(byte):
    """The UTF-8 of the character that stands for a byte. Spaces and bytes that do not print take U+0100 and up."""
    if not (33 <= byte <= 126 or 161 <= byte <= 172 or byte >= 174):
        byte = 256 + byte if byte <= 32 else 162 + byte if byte <= 160 else 323
    return bytes((byte,)) if byte < 128 else bytes((0xC0 | byte >> 6, 0x80 | byte & 0x3F))


def _byte(character):
    if character < 256:
        return character
    return character - 256 if character <= 288 else character - 162 & 255 if character <= 322 else 173


class ByteLevel(Tokenizer):
    """A tokenizer of byte-level BPE. gguf: a gguf.GGUF; vocab: number of tokens.

    Raises ModelError for a pre-tokenizer that is not supported, or damaged metadata."""

    add_space = False

    def __init__(self, gguf, vocab):
        eos = gguf.get("tokenizer.ggml.eos_token_id", None, int)
        super().__init__(gguf, vocab, gguf.get("tokenizer.ggml.bos_token_id", eos, int), eos)
        self.pre = gguf.get("tokenizer.ggml.pre", None, str)
        if self.pre not in RULES:
            raise ModelError("tokenizer.ggml.pre %r is not supported: only %s" % (self.pre[:32], ", ".join(RULES)))
        llama3 = self.pre == "llama-bpe"
        self.whole_words = llama3
        self.add_bos = gguf.get("tokenizer.ggml.add_bos_token", llama3, bool)
        self.merges = Strings(gguf, "merges")
        self.user_defined = self._from_to()

    def _from_to(self):
        """The range from the first to the last user-defined token."""
        first, end = self.vocab, 0
        for some in range(0, self.vocab, _STEP):
            at = self.types + 4 * some
            if self.data[at : at + 4 * _STEP] == _ALL_NORMAL:
                continue
            for token in range(some, min(some + _STEP, self.vocab)):
                if self.type(token) == _USER_DEFINED:
                    first, end = min(first, token), token + 1
        return range(first, end)

    def rank(self, text, at, i):
        """The place of pieces i and i + 1 among the merges; NONE if they do not merge. See Tokenizer.merged."""
        found = self.merges.find(text[at[i] : at[i + 1]] + b" " + text[at[i + 1] : at[i + 2]])
        return NONE if found < 0 else found

    def decode(self, token):
        """The text of a token (an int) as bytes; empty for control tokens."""
        kind = self.type(token)
        if kind == _USER_DEFINED:
            return bytes(self.tokens.get(token))
        text = bytearray()
        if kind == _NORMAL:
            high = 0
            for byte in self.tokens.get(token):
                if byte >= 0xC0:  # the first of two bytes of a character
                    high = (byte & 0x1F) << 6
                else:
                    text.append(_byte(byte if byte < 0x80 else high | byte & 0x3F))
        return bytes(text)

    def encode(self, text):
        """Token ids of text (a str), with BOS first if the model wants it. Control tokens in the text are not
        recognized."""
        ids = [self.bos] if self.add_bos else []
        for part in self._parts(text.encode()):
            if isinstance(part, int):
                ids.append(part)
            else:
                for word in words(part, self.pre):
                    ids.extend(self.word(word))
        return ids

    def _parts(self, text):
        """The text (bytes) in parts: bytes, and the numbers of user-defined tokens. Longer tokens are found first."""
        parts = [text]
        for piece, token in sorted(self._user_defined(text), key=lambda own: -len(own[0])):
            split = []
            for part in parts:
                while not isinstance(part, int) and piece in part:
                    at = part.find(piece)
                    split += [part[:at], token]
                    part = part[at + len(piece) :]
                split.append(part)
            parts = split
        return parts

    def _user_defined(self, text):
        """[(piece, number)] of the user-defined tokens that are in a text."""
        found = []
        for token in self.user_defined:
            if self.type(token) == _USER_DEFINED:
                piece = self.tokens.get(token)
                if 0 < len(piece) <= len(text) and bytes(piece) in text:
                    found.append((bytes(piece), token))
        return found

    def word(self, word):
        """Token ids of a word (bytes) of the pre-tokenizer."""
        text = b"".join([character(byte) for byte in word])
        if self.whole_words:
            token = self.tokens.find(text)
            if token >= 0:
                return [token]
        # as in llama.cpp, a byte without a token is left out
        return [token for token in [self.tokens.find(piece) for piece in self.merged(text)] if token >= 0]
