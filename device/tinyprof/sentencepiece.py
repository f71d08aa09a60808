"""SentencePiece-style BPE with scores and byte fallback.

Merging is greedy by score, as in SentencePiece (Kudo and Richardson, 2018) and llama.cpp's SPM tokenizer."""

import struct

from micropython import const

from .tokenizer import Tokenizer

_UNKNOWN = const(2)
_CONTROL = const(3)
_BYTE = const(6)
_F32 = const(6)
_SPACE = "\u2581".encode()


class SentencePiece(Tokenizer):
    def __init__(self, gguf, vocab):
        bos = gguf.get("tokenizer.ggml.bos_token_id", 1, int)
        eos = gguf.get("tokenizer.ggml.eos_token_id", 2, int)
        super().__init__(gguf, vocab, bos, eos)
        self.scores = self._array_of_all(gguf, "scores", _F32)
        self.unknown = self._special(gguf.get("tokenizer.ggml.unknown_token_id", 0, int))
        self.add_bos = gguf.get("tokenizer.ggml.add_bos_token", True, bool)
        self.add_space = gguf.get("tokenizer.ggml.add_space_prefix", True, bool)

    def _score(self, token):
        return struct.unpack_from("<f", self.data, self.scores + 4 * token)[0]

    def decode(self, token):
        """The text of a token as bytes; nothing for control tokens."""
        kind = self.type(token)
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
            token = self.find(piece)
            if token >= 0:
                ids.append(token)
                continue
            for byte in piece:
                token = self.find(b"<0x%02X>" % byte)
                ids.append(token if token >= 0 else self.unknown)
        return ids

    def _join(self, a, b):
        token = self.find(a + b)
        return None if token < 0 else (self._score(token), token)
