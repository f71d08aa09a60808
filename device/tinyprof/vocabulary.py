"""What all tokenizers share: tokens and merges, read in place from the GGUF metadata."""

import struct
from array import array

import _tinyprof
from micropython import const

from .errors import ModelError

_U32 = const(4)
_I32 = const(5)
_STRING = const(8)
_STEP = const(256)
NONE = const(0x3FFFFFFF)  # larger than any rank


def array_at(gguf, name, item):
    """(number of items, offset of the first) of an array. gguf: a gguf.GGUF; name: of the key; item: type of an item.

    Raises ModelError if the array is missing or holds another type."""
    found = gguf.arrays.get(name)
    if found is None:
        raise ModelError("array %s is missing" % name)
    if found[0] != item:
        raise ModelError("array %s does not hold items of type %d" % (name, item))
    return found[1:]


def array_of(count, gguf, name, item):
    """The offset of an array of count items. gguf, name, item, Raises: as of array_at."""
    have, at = array_at(gguf, name, item)
    if have != count:
        raise ModelError("array %s does not hold %d items" % (name, count))
    return at


class Strings:
    """The strings of an array: tokens or merges. find uses the file's index if it has one, otherwise a linear search.

    gguf: a gguf.GGUF; name: 'tokens' or 'merges'.

    count: of strings; steps: the offset of every 256th string; index: the offset of the index, 0 without one."""

    def __init__(self, gguf, name):
        self.data = gguf.data
        self.count, at = array_at(gguf, "tokenizer.ggml." + name, _STRING)
        index = "tinyprof.index." + name
        self.steps = array("I", bytes(4 * (self.count // _STEP + 1)))
        for i in range(len(self.steps)):
            self.steps[i] = at
            if i < len(self.steps) - 1:
                at = _tinyprof.strings(self.data, at, _STEP, None)
        self.index = array_of(self.count, gguf, index, _U32) if index in gguf.arrays else 0

    def find(self, text):
        """The number of a string (bytes), -1 if there is none."""
        if self.index:
            return _tinyprof.strings(self.data, 0, self.count, text, self.steps, self.index)
        return _tinyprof.strings(self.data, self.steps[0], self.count, text)

    def get(self, i):
        """The bytes of string i, in place."""
        at = _tinyprof.strings(self.data, self.steps[i // _STEP], i % _STEP, None)
        size = struct.unpack_from("<I", self.data, at)[0]
        return self.data[at + 8 : at + 8 + size]


class Tokenizer:
    """The base of tokenizers. bos, eos: special tokens.

    tokens: a Strings; add_bos, add_space: whether encode puts BOS, and a space, before a text. Kinds have encode,
    decode and rank."""

    def __init__(self, gguf, vocab, bos, eos):
        self.data = gguf.data
        self.vocab = vocab
        self.tokens = Strings(gguf, "tokens")
        if self.tokens.count != vocab:
            raise ModelError("array tokenizer.ggml.tokens does not hold %d items" % vocab)
        self.types = array_of(vocab, gguf, "tokenizer.ggml.token_type", _I32)
        self.bos = self._special(bos)
        self.eos = self._special(eos)

    def _special(self, token):
        if not 0 <= token < self.vocab:
            raise ModelError("tokenizer: special token %d is outside the vocabulary" % token)
        return token

    def type(self, token):
        """The type of a token: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte."""
        return struct.unpack_from("<i", self.data, self.types + 4 * token)[0]

    def merged(self, text):
        """The pieces of a text (UTF-8 bytes) after merging.

        At first each character is a piece. As long as two neighbours have a rank, those of the lowest rank, the first
        of equals, become one. self.rank(text, at, i) is the rank of pieces i and i + 1; at has the starts of pieces."""
        at = [i for i, byte in enumerate(text) if byte & 0xC0 != 0x80]
        at.append(len(text))
        ranks = [self.rank(text, at, i) for i in range(len(at) - 2)]
        while ranks:
            least = min(ranks)
            if least == NONE:
                break
            i = ranks.index(least)
            at.pop(i + 1)
            ranks.pop(i)
            if i > 0:
                ranks[i - 1] = self.rank(text, at, i - 1)
            if i < len(ranks):
                ranks[i] = self.rank(text, at, i)
        return [text[at[i] : at[i + 1]] for i in range(len(at) - 1)]
