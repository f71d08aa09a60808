"""SentencePiece-style BPE with scores and byte fallback.

Merging is greedy by score, as in SentencePiece (Kudo and Richardson, 2018) and llama.cpp's SPM tokenizer."""

import struct

from micropython import const

from .vocabulary import NONE, Tokenizer, array_of

_UNKNOWN = const(2)
_CONTROL = const(3)
_BYTE = const(6)
_F32 = const(6)
_SPACE = "\u2581".encode()


class SentencePiece(Tokenizer):
    """A tokenizer of SentencePiece's kind. gguf: a gguf.GGUF; vocab: number of tokens.

    Raises ModelError for damaged metadata."""

    def __init__(self, gguf, vocab):
        bos = gguf.get("tokenizer.ggml.bos_token_id", 1, int)
        eos = gguf.get("tokenizer.ggml.eos_token_id", 2, int)
        super().__init__(gguf, vocab, bos, eos)
        self.scores = array_of(vocab, gguf, "tokenizer.ggml.scores", _F32)
        self.unknown = self._special(gguf.get("tokenizer.ggml.unknown_token_id", 0, int))
        self.add_bos = gguf.get("tokenizer.ggml.add_bos_token", True, bool)
        self.add_space = gguf.get("tokenizer.ggml.add_space_prefix", True, bool)

    def rank(self, text, at, i):
        """The negative score of the token that pieces i and i + 1 make; NONE without one. See Tokenizer.merged."""
        token = self.tokens.find(text[at[i] : at[i + 2]])
        if token < 0:
            return NONE
        return min(NONE - 1, -struct.unpack_from("<f", self.data, self.scores + 4 * token)[0])

    def decode(self, token):
        """The text of a token (an int) as bytes; empty for control tokens."""
        kind = self.type(token)
        if kind == _CONTROL or kind == _UNKNOWN:
            return b""
        piece = bytes(self.tokens.get(token))
        if kind == _BYTE:
            return bytes((int(piece[3:5], 16),))
        return piece.replace(_SPACE, b" ")

    def encode(self, text):
        """Token ids of text (a str), with BOS first if the model wants it."""
        ids = [self.bos] if self.add_bos else []
        if not text:
            return ids
        if self.add_space:
            text = " " + text
        for piece in self.merged(text.encode().replace(b" ", _SPACE)):
            token = self.tokens.find(piece)
            if token >= 0:
                ids.append(token)
                continue
            for byte in piece:
                token = self.tokens.find(b"<0x%02X>" % byte)
                ids.append(token if token >= 0 else self.unknown)
        return ids
