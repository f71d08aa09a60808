"""Reads GGUF v3 (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md) in place.

Metadata values are kept as offsets and read on demand; tensors are offsets into the file. Every size is checked
against the end of the data before it is used, since a file may be damaged."""

import struct

import _tinyprof
from micropython import const

from .errors import ModelError

# value types
_U32 = const(4)
_I32 = const(5)
_BOOL = const(7)
_STRING = const(8)
_ARRAY = const(9)
_FORMATS = ("<B", "<b", "<H", "<h", "<I", "<i", "<f", "<B", None, None, "<Q", "<q", "<d")
_SIZES = (1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8)

# Larger numbers mean a damaged file, not a model for a microcontroller.
_MAX_KEYS = const(4096)
_MAX_TENSORS = const(4096)
_MAX_COUNT = const(0x1000000)


class GGUF:
    """The header of a GGUF file.

    data: bytes-like, the file or its beginning; size: bytes of the file, None for those of data; scan: a function of
    (offset, type, rows, cols) that returns what _tinyprof.scan does, None to scan data; read: a function of (offset,
    size) that returns bytes of the file, None to read data.

    keys: name -> (type, offset); arrays: name -> (item type, count, offset of the first item);
    tensors: name -> (type, cols, rows, offset from data_offset); alignment, end: in bytes, end is that of the file.

    Raises ModelError for a malformed file."""

    def __init__(self, data, size=None, scan=None, read=None):
        self.data = data
        self._limit = len(data)
        self.end = size or self._limit
        self.scan = scan or (lambda *tensor: _tinyprof.scan(data, *tensor))
        self.read = read or (lambda at, size: bytes(data[at : at + size]))
        self._at = 0
        if self.end < 24 or bytes(data[:4]) != b"GGUF":
            raise ModelError("not a GGUF file: it does not start with 'GGUF'")
        self._at = 4
        version = self._number("<I")
        if version != 3:
            raise ModelError("GGUF version %d is not supported: convert it to version 3" % version)
        n_tensors = self._number("<Q")
        n_keys = self._number("<Q")
        if n_tensors > _MAX_TENSORS or n_keys > _MAX_KEYS:
            raise ModelError("damaged GGUF header: %d tensors, %d keys" % (n_tensors, n_keys))
        self.keys = {}
        self.arrays = {}
        for _ in range(n_keys):
            self._key()
        self.alignment = self.count("general.alignment", 32)
        if self.alignment < 4 or self.alignment & (self.alignment - 1):
            raise ModelError("general.alignment is %d: not a power of two" % self.alignment)
        self.tensors = {}
        for _ in range(n_tensors):
            self._tensor()
        self.data_offset = (self._at + self.alignment - 1) // self.alignment * self.alignment

    def _need(self, n):
        if n > self._limit - self._at:
            self._truncated("%d bytes wanted at %d of %d" % (n, self._at, self._limit))

    def _truncated(self, what):
        error = ModelError("truncated GGUF: " + what)
        error.truncated = True
        raise error

    def _number(self, form):
        size = struct.calcsize(form)
        self._need(size)
        value = struct.unpack_from(form, self.data, self._at)[0]
        self._at += size
        return value

    def _string(self):
        size = self._number("<Q")
        self._need(size)
        text = bytes(self.data[self._at : self._at + size])
        self._at += size
        return text

    def _name(self):
        name = self._string()
        if len(name) > 128:
            raise ModelError("damaged GGUF: a name of %d bytes" % len(name))
        if name and min(name) < 32:
            raise ModelError("damaged GGUF: a name with control characters")
        try:
            return name.decode()
        except UnicodeError:
            raise ModelError("damaged GGUF: a name that is not UTF-8")

    def _key(self):
        name = self._name()
        if name in self.keys or name in self.arrays:
            raise ModelError("damaged GGUF: key %s is there twice" % name)
        type_ = self._number("<I")
        if type_ == _ARRAY:
            item = self._number("<I")
            count = self._number("<Q")
            if count > _MAX_COUNT or item > 12 or item == _ARRAY:
                raise ModelError("array %s is damaged or of a kind not supported" % name)
            self.arrays[name] = (item, count, self._at)
            if item == _STRING:
                self._at = _tinyprof.strings(self.data, self._at, count, None)
                if self._at < 0:
                    self._at = self._limit
                    self._truncated("in array " + name)
            else:
                self._need(count * _SIZES[item])
                self._at += count * _SIZES[item]
        elif type_ == _STRING:
            self.keys[name] = (type_, self._at)
            size = self._number("<Q")
            self._need(size)
            self._at += size
        elif type_ <= 12:
            self.keys[name] = (type_, self._at)
            self._need(_SIZES[type_])
            self._at += _SIZES[type_]
        else:
            raise ModelError("key %s has unknown type %d" % (name, type_))

    def _tensor(self):
        name = self._name()
        n_dims = self._number("<I")
        if not 1 <= n_dims <= 4:
            raise ModelError("tensor %s has %d dimensions" % (name, n_dims))
        cols = self._number("<Q")
        rows = 1
        for _ in range(n_dims - 1):
            rows *= self._number("<Q")
        type_ = self._number("<I")
        offset = self._number("<Q")
        if not 1 <= cols <= _MAX_COUNT or not 1 <= rows <= _MAX_COUNT:
            raise ModelError("tensor %s is damaged: %d x %d" % (name, rows, cols))
        if offset > self.end:
            raise ModelError("truncated GGUF: tensor %s begins at %d of %d" % (name, offset, self.end))
        if name in self.tensors:
            raise ModelError("damaged GGUF: tensor %s is there twice" % name)
        self.tensors[name] = (type_, cols, rows, offset)

    def get(self, name, default=None, kind=None):
        """The value of a key: a number, bool or str.

        name: of the key; default: for a missing key, None if it must be there; kind: the type of the value, None for
        any.

        Raises ModelError for a missing key without a default, or a value of another type."""
        value = self._value(name, default)
        if kind is not None and type(value) is not kind:
            raise ModelError("key %s is not of type %s" % (name, kind.__name__))
        return value

    def _value(self, name, default):
        if name in self.arrays:
            raise ModelError("key %s is an array: not supported" % name)
        found = self.keys.get(name)
        if found is None:
            if default is None:
                raise ModelError("key %s is missing" % name)
            return default
        type_, at = found
        if type_ == _STRING:
            size = struct.unpack_from("<Q", self.data, at)[0]
            try:
                return bytes(self.data[at + 8 : at + 8 + size]).decode()
            except UnicodeError:
                raise ModelError("key %s is not UTF-8" % name)
        value = struct.unpack_from(_FORMATS[type_], self.data, at)[0]
        return bool(value) if type_ == _BOOL else value

    def count(self, name, default=None):
        """The value of a key that must be an int from 1 to 2^24. name, default, Raises: as of get."""
        value = self.get(name, default, int)
        if not 1 <= value <= _MAX_COUNT:
            raise ModelError("key %s is %d: not a usable number" % (name, value))
        return value

    def count_of_all(self, name, layers, default=None):
        """As count, for a key that may also be an array with one number for each of layers: all must be equal."""
        found = self.arrays.get(name)
        if found is None:
            return self.count(name, default)
        item, count, at = found
        if item not in (_U32, _I32) or count != layers:
            raise ModelError("array %s does not hold a whole number for each of %d layers" % (name, layers))
        first = bytes(self.data[at : at + 4])
        for i in range(1, count):
            if self.data[at + 4 * i : at + 4 * i + 4] != first:
                raise ModelError("array %s: layers that differ are not supported" % name)
        value = struct.unpack_from("<i", first)[0]
        if not 1 <= value <= _MAX_COUNT:
            raise ModelError("array %s holds %d: not a usable number" % (name, value))
        return value

    def float_bits(self, name, default):
        """The 32 bits of an f32 key, exact where MicroPython's floats are not; default: bits for a missing key.

        Raises ModelError for a value of another type."""
        found = self.keys.get(name)
        if found is None and name not in self.arrays:
            return default
        if found is None or found[0] != 6:
            raise ModelError("key %s is not an f32" % name)
        return struct.unpack_from("<I", self.data, found[1])[0]
