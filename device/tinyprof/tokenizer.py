"""SentencePiece-style BPE with scores and byte fallback, from the GGUF metadata, where it lies.

The vocabulary has no index in RAM: native code walks the array of pieces. Merging is greedy by
score, as in SentencePiece (Kudo and Richardson, 2018) and llama.cpp's SPM tokenizer."""

import struct

import _tinyprof
from micropython import const

from .errors import ModelError

_UNKNOWN = const(2)
_CONTROL = const(3)
_BYTE = const(6)
_SPACE = "\u2581".encode()


class Tokenizer:
    """Raises ModelError if the metadata holds no tokenizer of this kind for vocab tokens."""

    def __init__(self, gguf, vocab):
        kind = gguf.get("tokenizer.ggml.model", None, str)
        if kind != "llama":
            raise ModelError("tokenizer.ggml.model %r is not supported: only 'llama'" % kind[:32])
        self.data = gguf.data
        self.vocab = vocab
        self.tokens = self._array(gguf, "tokens", 8)
        self.scores = self._array(gguf, "scores", 6)
        self.types = self._array(gguf, "token_type", 5)
        self.bos = gguf.get("tokenizer.ggml.bos_token_id", 1, int)
        self.eos = gguf.get("tokenizer.ggml.eos_token_id", 2, int)
        self.unknown = gguf.get("tokenizer.ggml.unknown_token_id", 0, int)
        self.add_bos = gguf.get("tokenizer.ggml.add_bos_token", True, bool)
        self.add_space = gguf.get("tokenizer.ggml.add_space_prefix", True, bool)
        for token in (self.bos, self.eos, self.unknown):
            if not 0 <= token < vocab:
                raise ModelError("tokenizer: special token %d is outside the vocabulary" % token)

    def _array(self, gguf, name, item):
        name = "tokenizer.ggml." + name
        found = gguf.arrays.get(name)
        if found is None:
            raise ModelError("array %s is missing" % name)
        if found[0] != item or found[1] != self.vocab:
            raise ModelError("array %s does not hold %d items of type %d" % (name, self.vocab, item))
        return found[2]

    def _find(self, piece):
        return _tinyprof.strings_find(self.data, self.tokens, self.vocab, piece)

    def _score(self, token):
        return struct.unpack_from("<f", self.data, self.scores + 4 * token)[0]

    def _type(self, token):
        return struct.unpack_from("<i", self.data, self.types + 4 * token)[0]

    def piece(self, token):
        """The bytes of a piece as they stand in the vocabulary."""
        at = _tinyprof.strings_skip(self.data, self.tokens, token)
        size = struct.unpack_from("<I", self.data, at)[0]
        return bytes(self.data[at + 8 : at + 8 + size])

    def decode(self, token):
        """The text of a token as bytes; nothing for control tokens."""
        kind = self._type(token)
        if kind == _CONTROL or kind == _UNKNOWN:
            return b""
        piece = self.piece(token)
        if kind == _BYTE:
            return bytes((int(piece[3:5], 16),))
        return piece.replace(_SPACE, b" ")

    def encode(self, text):
        """Token ids of text (str), with BOS in front if the model wants it."""
        ids = [self.bos] if self.add_bos else []
        if not text:
            return ids
        if self.add_space:
            text = " " + text
        pieces = [c.encode() for c in text.replace(" ", "\u2581")]
        # joined[i]: (score, token) of pieces i and i + 1 as one piece, or None
        joined = [self._join(a, b) for a, b in zip(pieces, pieces[1:])]
        while True:
            best = -1
            for i, pair in enumerate(joined):
                if pair is not None and (best < 0 or pair[0] > joined[best][0]):
                    best = i
            if best < 0:
                break
            pieces[best] += pieces.pop(best + 1)
            joined.pop(best)
            if best > 0:
                joined[best - 1] = self._join(pieces[best - 1], pieces[best])
            if best < len(joined):
                joined[best] = self._join(pieces[best], pieces[best + 1])
        for piece in pieces:
            token = self._find(piece)
            if token >= 0:
                ids.append(token)
                continue
            for byte in piece:
                token = self._find(b"<0x%02X>" % byte)
                ids.append(token if token >= 0 else self.unknown)
        return ids

    def _join(self, a, b):
        token = self._find(a + b)
        return None if token < 0 else (self._score(token), token)
