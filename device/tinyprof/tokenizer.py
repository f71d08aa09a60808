"""Text to tokens and back, from the GGUF metadata, where it lies.

The vocabulary has no index in RAM: native code walks the array of pieces."""

import struct

import _tinyprof
from micropython import const

from .errors import ModelError

_STRING = const(8)
_I32 = const(5)


def load(gguf, vocab):
    """The tokenizer of a model of vocab tokens. Raises ModelError for a kind that is not known, or a damaged one."""
    kind = gguf.get("tokenizer.ggml.model", None, str)
    if kind == "llama":
        from .sentencepiece import SentencePiece

        return SentencePiece(gguf, vocab)
    if kind == "gpt2":
        from .bpe import ByteLevel

        return ByteLevel(gguf, vocab)
    raise ModelError("tokenizer.ggml.model %r is not supported: only 'llama' and 'gpt2'" % kind[:32])


class Tokenizer:
    """What all kinds share. add_bos, add_space: whether encode puts BOS, and a space, before a text."""

    def __init__(self, gguf, vocab, bos, eos):
        self.data = gguf.data
        self.vocab = vocab
        self.tokens = self._array_of_all(gguf, "tokens", _STRING)
        self.types = self._array_of_all(gguf, "token_type", _I32)
        self.bos = self._special(bos)
        self.eos = self._special(eos)

    def _special(self, token):
        if not 0 <= token < self.vocab:
            raise ModelError("tokenizer: special token %d is outside the vocabulary" % token)
        return token

    def _array_of_all(self, gguf, name, item):
        """Where an array of one item a token lies."""
        count, at = self._array(gguf, name, item)
        if count != self.vocab:
            raise ModelError("array tokenizer.ggml.%s does not hold %d items" % (name, self.vocab))
        return at

    def _array(self, gguf, name, item):
        found = gguf.arrays.get("tokenizer.ggml." + name)
        if found is None:
            raise ModelError("array tokenizer.ggml.%s is missing" % name)
        if found[0] != item:
            raise ModelError("array tokenizer.ggml.%s does not hold items of type %d" % (name, item))
        return found[1:]

    def find(self, piece):
        """The token of a piece, -1 for none."""
        return _tinyprof.strings_find(self.data, self.tokens, self.vocab, piece)

    def type(self, token):
        return struct.unpack_from("<i", self.data, self.types + 4 * token)[0]

    def piece(self, token):
        """The bytes of a piece as they stand in the vocabulary."""
        at = _tinyprof.strings_skip(self.data, self.tokens, token)
        size = struct.unpack_from("<I", self.data, at)[0]
        return bytes(self.data[at + 8 : at + 8 + size])
