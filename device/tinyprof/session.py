"""A model in use: loading, prefill, decode, sampling."""

import gc
import sys

import _tinyprof
from _tinyprof import run

from . import llama, ops, tokenizer
from .errors import ModelError
from .gguf import GGUF
from .ops import NEXT, POS, TOKENS, N
from .stream import Stream

_PLACES = ("/rom/model.gguf", "/model.gguf", "/flash/model.gguf", "/sd/model.gguf", "model.gguf")


def find_model():
    """The path of the first model file in the usual places. Raises ModelError, which names them, if there is none."""
    for path in _PLACES:
        try:
            open(path, "rb").close()
            return path
        except OSError:
            pass
    raise ModelError("no model found: none of " + ", ".join(_PLACES))


def load(source, size=0, context=None, batch=8, kv=None, stream=None, activations=8):
    """A Model, ready to run.

    source: a path; an address in mapped memory; or bytes. A file in ROMFS is used in place. A file of any other
    filesystem is read into RAM if it fits; otherwise its weights are read while it runs, a few tensors at a time.
    size: bytes of the model at an address.
    context: positions of the KV cache, None for those that the model was trained for, at most 256.
    batch: tokens that prefill computes at once.
    kv: how the KV cache holds values: "f32", "f16" or "q8"; None for "f32", or "q8" on the fixed-point path, which has
    no other.
    stream: True to read weights while the model runs, False to forbid it, None to decide by the RAM.
    activations: bits of the activations that meet quantized weights: 8, or 16 for twice the products.

    Raises ModelError if the file or the board does not allow it, ImportError if the native module does not fit."""
    ops.check_native()
    if isinstance(source, int):
        import uctypes

        return Model(uctypes.bytearray_at(source, size), "mapped", context, batch, kv, activations)
    if isinstance(source, str):
        data, placement = _open(source, stream)
        return Model(data, placement, context, batch, kv, activations)
    return Model(source, "ram", context, batch, kv, activations)


def _open(path, stream):
    try:
        f = open(path, "rb")
    except OSError:
        raise ModelError("cannot open %s" % path)
    if not stream:
        try:
            return memoryview(f), "mapped"  # files of ROMFS give access to their memory
        except TypeError:
            pass
    size = f.seek(0, 2)
    f.seek(0)
    data = None
    if not stream:
        gc.collect()
        try:
            data = _allocate(size, path)
        except ModelError as e:  # there may be enough RAM, but in pieces
            if stream is False:
                f.close()
                raise ModelError("%s: put it into ROMFS, load it with stream=True, or use a smaller model" % e)
    if data is None:
        return Stream(f, _allocate), "stream"
    with f:
        if f.readinto(data) != size:
            raise ModelError("cannot read the whole of %s" % path)
    return data, "ram"


def _allocate(size, what):
    try:
        return bytearray(size)
    except MemoryError:
        free = gc.mem_free() if hasattr(gc, "mem_free") else 0
        raise ModelError("%s needs %d bytes of RAM in one piece, %d are free" % (what, size, free))


class Model:
    """A loaded model. See load, which makes it.

    arch: a llama.Llama, sizes and plan; tokenizer: with encode and decode; pos: the next position in the KV cache, 0
    starts a new text; logits: a memoryview of vocab float32, those of the last token; name, tensor_types: of the file,
    as text; bytes: size of the file; placement: mapped, ram or stream; arena_bytes: size of the arena."""

    def __init__(self, data, placement, context, batch, kv, activations):
        self.placement = placement
        self.stream = data if placement == "stream" else None
        if self.stream:
            gguf = self._header(batch)
            self.data = gguf.data
            room = len(self.stream.buffer)
        else:
            self.data = memoryview(data)
            gguf = GGUF(self.data)
            room = 0
        self.bytes = gguf.end  # of the file
        self.name = gguf.get("general.name", "?", str)[:64]
        self.arch = arch = llama.Llama(gguf, context, batch, kv, room, activations)
        self.tensor_types = arch.tensor_types(gguf)
        self.tokenizer = tokenizer.load(gguf, arch.vocab)
        del gguf
        if self.stream:
            self.stream.prepare(arch.plan, arch.body, arch.batch)
        else:
            self._check_alignment()
        self.arena_bytes = arch.plan.arena_bytes
        gc.collect()
        need = self.arena_bytes + arch.kv_bytes
        if hasattr(gc, "mem_free") and need > gc.mem_free():
            raise ModelError(
                "needs %d bytes of RAM (arena %d, KV cache %d for context %d), %d are free:"
                " use a shorter context, a smaller batch or a smaller model"
                % (need, self.arena_bytes, arch.kv_bytes, arch.context, gc.mem_free())
            )
        self.kv = _allocate(arch.kv_bytes, "the KV cache for context %d" % arch.context)
        self.arena = _allocate(self.arena_bytes, "the arena")
        llama.fill_freqs(arch, self.arena)
        at = arch.plan.offset(arch.logits)
        self.logits = memoryview(self.arena)[at : at + 4 * arch.vocab]
        self.ctl = ops.control(arch.batch)
        self._count = arch.plan.count  # records that _run runs; made here, since step must not allocate
        self.pos = 0

    def _header(self, batch):
        """The GGUF header of a streamed file. Makes the buffer for its weights, too."""
        stream = self.stream
        while True:
            try:
                gguf = GGUF(stream.header, stream.size, stream.scan, stream.read)
                break
            except ModelError as e:
                if not e.truncated or not stream.longer_header():
                    raise
        room = 0
        for name, (type_, cols, rows, _) in gguf.tensors.items():
            # these two need not be read as a whole: of the embedding single rows are, of the output some at a time
            some = name in ("token_embd.weight", "output.weight")
            if some:
                rows = min(rows, max(batch, 1) * max(2, ops.together(type_)))
            room = max(room, rows * _tinyprof.row_bytes(type_, cols))
        stream.room(room)
        return gguf

    def sha256(self):
        """The SHA-256 of the model file, 32 bytes; None on a board without hashlib."""
        try:
            import hashlib

            digest = hashlib.sha256()
        except (ImportError, AttributeError):
            return None
        if self.stream:
            return self.stream.sha256()
        for at in range(0, len(self.data), 4096):
            digest.update(self.data[at : at + 4096])
        return digest.digest()

    def _run(self, acc):
        """Runs the first _count records of the plan.

        One more local variable, such as a count, would put the frame into the heap at each call. That takes thousands
        of instructions in a fragmented heap (MicroPython's VM_MAX_STATE_ON_STACK, 11 words)."""
        if self.stream:
            self.stream.run(self._count, self.ctl, self.arena, self.kv, acc)
        else:
            run(self.arch.plan.words, 0, self._count, self.ctl, self.arena, self.kv, self.data, acc)

    def _check_alignment(self):
        try:
            import uctypes

            address = uctypes.addressof(self.data)
        except ImportError:
            return
        if address & 3:
            raise ModelError("the model is not at a multiple of 4 bytes: deploy it with tinyprof-bridge")

    def __repr__(self):
        a = self.arch
        return "<%s: %d layers, dim %d, vocab %d, context %d, %s>" % (
            self.name,
            a.layers,
            a.dim,
            a.vocab,
            a.context,
            self.tensor_types,
        )

    def prefill(self, tokens, acc=None, logits=True, stamps=None):
        """Runs tokens from position pos on.

        tokens: a sequence of ints; acc: an array('Q') to which the ticks of each record are added, with plan.count
        entries, and one more for reading where weights are streamed; logits: whether to compute those of the last
        token; stamps: an array('I') that takes a reading of the counter after each batch, from its second entry on.

        Raises ModelError if the tokens do not fit in the context."""
        arch, ctl = self.arch, self.ctl
        left = len(tokens)
        if self.pos + left > arch.context:
            raise ModelError("%d tokens do not fit in the context of %d" % (self.pos + left, arch.context))
        at = stamp = 0
        while left:
            n = min(left, arch.batch)
            for i in range(n):
                ctl[TOKENS + i] = tokens[at + i]
            ctl[POS] = self.pos
            ctl[N] = n
            at += n
            left -= n
            self._count = arch.plan.count if logits and not left else arch.body
            self._run(acc)
            self.pos += n
            if stamps is not None:
                stamp += 1
                _tinyprof.stamp(ctl, stamps, stamp)

    def step(self, token, acc=None):
        """The most probable next token after token at position pos. Allocates nothing.

        token: an int; acc: as for prefill. Raises ModelError if the context is full."""
        ctl, pos, arch = self.ctl, self.pos, self.arch
        if pos >= arch.context:
            raise ModelError("the context is full")
        ctl[TOKENS] = token
        ctl[POS] = pos
        ctl[N] = 1
        self._count = arch.plan.count
        self._run(acc)
        self.pos = pos + 1
        return ctl[NEXT]

    def generate(self, prompt="", n=64, temperature=0, seed=1, write=None):
        """The number of tokens written after prompt. Stops at the end of the context or at the model's end token.

        prompt: a str; n: tokens at most; temperature: 0 always chooses the most probable token; seed: of the random
        choice; write: a function of bytes, None for the terminal.

        Raises ModelError for a negative temperature, or a prompt that is empty or too long."""
        write = write or _to_terminal
        if temperature < 0:
            raise ModelError("the temperature must not be negative")
        tokens = self.tokenizer.encode(prompt)
        if not tokens:
            raise ModelError("an empty prompt for a model that wants no BOS token")
        self.pos = 0
        self.prefill(tokens)
        write(prompt.encode())
        written = 0
        while written < n:
            # four steps, after which the high bits differ even for small seeds
            for _ in range(4):
                seed = (seed * 1664525 + 1013904223) & 0xFFFFFFFF
            token = self._choose(temperature, seed)
            if token == self.tokenizer.eos or token == self.tokenizer.bos:
                break
            text = self.tokenizer.decode(token)
            # the space that encode puts before the first word is not part of the text
            added = self.tokenizer.add_space and not prompt and not written
            write(text[1:] if added and text[:1] == b" " else text)
            written += 1
            if self.pos >= self.arch.context:
                break
            if written < n:
                self.step(token)
        write(b"\n")
        return written

    def _choose(self, temperature, seed):
        if temperature < 0.001:
            return self.ctl[NEXT]
        return _tinyprof.sample(self.logits, int(temperature * 1000), seed >> 8)


def _to_terminal(data):
    out = getattr(sys.stdout, "buffer", None)
    if out is not None:
        out.write(data)
    else:
        try:
            text = str(data, "utf-8")
        except UnicodeError:  # part of a character
            text = "?"
        print(text, end="")
