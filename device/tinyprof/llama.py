"""Compiles a GGUF model of one of the supported architectures into a plan.

What distinguishes the architectures is in architectures.py; the rest is that of llama."""

import struct

import _tinyprof
from micropython import const

from . import ops
from .architectures import ARCHITECTURES
from .errors import ModelError
from .plan import Plan

ROLES = (
    "embed",
    "embed_scale",
    "rope_table",
    "attn_norm",
    "attn_q8",
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_q_bias",
    "attn_k_bias",
    "attn_v_bias",
    "attn_q_norm",
    "attn_k_norm",
    "rope_q",
    "rope_k",
    "kv_k",
    "kv_v",
    "attention",
    "attn_output_q8",
    "attn_output",
    "post_attention_norm",
    "attn_add",
    "ffn_norm",
    "ffn_q8",
    "ffn_gate",
    "ffn_up",
    "ffn_swiglu",
    "ffn_geglu",
    "ffn_down_q8",
    "ffn_down",
    "post_ffw_norm",
    "ffn_add",
    "output_norm",
    "output_q8",
    "output",
    "argmax",
    "output_softcap",
)

# Floats are compared and passed on as their bits: the order of positive floats is that of their bits.
_ONE = 0x3F800000  # 1.0
_10000 = 0x461C4000
_LEAST = 0x3A800000  # 2^-10
_MOST = 0x49800000  # 2^20
_LEAST_NORMAL = 0x00800000
_LARGEST = 0x7F7FFFFF  # the largest finite float

_PART = const(4096)  # rows of the output that one record computes where each row takes two products

KV_TYPES = {"f32": ops.F32, "f16": ops.F16, "q8": ops.Q8_0}


class Keys:
    """The metadata of a file that decides what records compute. Floats are given by their bits.

    gguf: a gguf.GGUF.

    architecture: general.architecture; traits: the words of its line in architectures.py, until the model is compiled;
    window: positions that attention sees, except in every period-th layer, 0: all; rope_base, rope_scale, window_rope:
    RoPE without and, as (base, scale), with a window; eps: of RMSNorm; score_cap, logit_cap: 0 for none.

    Raises ModelError for an architecture or a value that is not supported."""

    def __init__(self, gguf):
        self.architecture = architecture = gguf.get("general.architecture", None, str)
        lines = [line.split() for line in ARCHITECTURES.split("\n")]
        found = [line for line in lines if line[0] == architecture]
        if not found:
            names = ", ".join([line[0] for line in lines])
            raise ModelError("general.architecture %r is not supported: only %s" % (architecture[:32], names))
        self.traits = found[0]
        self.window = self.trait("window", 0)
        self.period = self.trait("period", 1)
        key = architecture + "."
        if gguf.get(key + "expert_count", 0, int):
            raise ModelError(key + "expert_count: mixture of experts is not supported")
        window_key = key + "attention.sliding_window"
        if gguf.get(window_key, 0, int):
            if self.period == 1:
                raise ModelError(window_key + " is not supported")
            self.window = gguf.count(window_key)
            self.period = gguf.count(window_key + "_pattern", self.period)
        self._rope(gguf, key)
        self.score_cap = self._cap(gguf, key + "attn_logit_softcapping", "score_cap")
        self.logit_cap = self._cap(gguf, key + "final_logit_softcapping", "logit_cap")
        eps_key = key + "attention.layer_norm_rms_epsilon"
        self.eps = gguf.float_bits(eps_key, 0x3727C5AC)  # 1e-5
        _check_range(eps_key, self.eps, _LEAST_NORMAL, _LARGEST)

    def trait(self, name, default):
        """The number that the architecture has for name; default without one."""
        for word in self.traits:
            if word.startswith(name + "="):
                return int(word[len(name) + 1 :])
        return default

    def _rope(self, gguf, key):
        """As in llama.cpp: scaling without a type is linear, and a factor of 0 means none."""
        scaling = gguf.get(key + "rope.scaling.type", "linear", str)
        if scaling not in ("none", "linear"):
            raise ModelError("%srope.scaling.type %r is not supported: only 'linear'" % (key, scaling[:32]))
        factor_key = key + "rope.scaling.factor"
        if factor_key not in gguf.keys:
            factor_key = key + "rope.scale_linear"  # its name in older files
        scale = gguf.float_bits(factor_key, _ONE)
        if scaling == "none" or scale == 0:
            scale = _ONE
        _check_range(factor_key, scale, _LEAST, _MOST)
        base_key = key + "rope.freq_base"
        base = gguf.float_bits(base_key, _10000)
        _check_range(base_key, base, _ONE, _LARGEST)
        self.rope_base, self.rope_scale = base, scale
        if "local_rope" in self.traits:
            base, scale = _10000, _ONE
        window_base_key = base_key + "_swa"
        base = gguf.float_bits(window_base_key, base)
        _check_range(window_base_key, base, _ONE, _LARGEST)
        self.window_rope = base, scale

    def _cap(self, gguf, key, name):
        """The bits of a limit of scores or logits; 0 without one."""
        default = self.trait(name, 0)
        if not default:
            if key in gguf.keys:
                raise ModelError("%s: capped scores and logits are not supported" % self.architecture)
            return 0
        cap = gguf.float_bits(key, struct.unpack("<I", struct.pack("<f", default))[0])
        if cap:
            _check_range(key, cap, _LEAST, _MOST)
        return cap

    def layer(self, i):
        """((base, scale) of the RoPE of layer i, its window or 0)"""
        if self.window and (i + 1) % self.period:
            return self.window_rope, self.window
        return (self.rope_base, self.rope_scale), 0


def _check_range(key, bits, least, most):
    if not least <= bits <= most:
        raise ModelError("key %s is not a usable number" % key)


class Llama:
    """The sizes and the plan of a model.

    gguf: a gguf.GGUF; context: positions of the KV cache, None for those that the model was trained for, at most 256;
    batch: tokens of a run at most; kv: how the KV cache holds values, one of KV_TYPES, None for f32, or q8 on the
    fixed-point path; room: bytes of weights that one record of the output may read, 0 for no limit; activations: bits
    of the activations that meet quantized weights, 8 or 16.

    plan: a finished plan.Plan; body: how many of its records come before the output head; logits: a plan.Buffer of
    vocab floats; kv_bytes: size of the KV cache; kv_row: bytes of K or V for one position; macs: multiplications of
    all matrix products for a token; freqs: by (base, scale) the plan.Buffer for RoPE frequencies, which fill_freqs
    fills; rope_factors: bytes of floats by which the frequencies are divided, or None.

    Raises ModelError if the file or the firmware does not allow the model."""

    def __init__(self, gguf, context, batch, kv=None, room=0, activations=8):
        if batch < 1 or (context is not None and context < 1):
            raise ModelError("batch and context must be positive")
        self._gguf = gguf
        self._left = set(gguf.tensors)
        self.keys = Keys(gguf)
        self.architecture = self.keys.architecture
        self._read_sizes(gguf, self.architecture + ".")
        self.context = min(context or 256, self.trained_context)
        self.batch = min(batch, self.context)
        self._choose_types(kv, activations)
        self.macs = 0
        self.rope_factors = self._factors()
        self._compile(room)
        if self._left:
            raise ModelError("tensor %s is not supported" % sorted(self._left)[0])
        # set to None: a deleted attribute would stay in the object's map, visible to the collector
        self._gguf = self._left = self.keys.traits = None

    def _read_sizes(self, gguf, key):
        self.dim = gguf.count(key + "embedding_length")
        self.layers = gguf.count(key + "block_count")
        self.hidden = gguf.count_of_all(key + "feed_forward_length", self.layers)
        self.heads = gguf.count_of_all(key + "attention.head_count", self.layers)
        self.kv_heads = gguf.count_of_all(key + "attention.head_count_kv", self.layers, self.heads)
        self.trained_context = gguf.count(key + "context_length")
        own_size = key + "attention.key_length" in gguf.keys
        if (self.dim % self.heads and not own_size) or self.heads % self.kv_heads:
            raise ModelError(
                "%sattention.head_count %d does not divide %d, or head_count_kv %d does not"
                " divide it" % (key, self.heads, self.dim, self.kv_heads)
            )
        self.head_dim = gguf.count(key + "attention.key_length", self.dim // self.heads)
        if self.layers == self.keys.trait("other", 0) and self.head_dim != self.dim // self.heads:
            raise ModelError(
                "%s with %d layers scales attention in another way: not supported" % (key[:-1], self.layers)
            )
        if gguf.count(key + "attention.value_length", self.head_dim) != self.head_dim:
            raise ModelError("%sattention.value_length other than %d is not supported" % (key, self.head_dim))
        self.kv_dim = self.kv_heads * self.head_dim
        self.rope_dims = gguf.count(key + "rope.dimension_count", self.head_dim)
        if self.rope_dims % 2 or self.rope_dims > self.head_dim:
            raise ModelError("%srope.dimension_count is %d" % (key, self.rope_dims))
        if "token_embd.weight" not in gguf.tensors:
            raise ModelError("tensor token_embd.weight is missing")
        self.vocab = gguf.tensors["token_embd.weight"][2]

    def _choose_types(self, kv, activations):
        """Chooses the types of KV cache and activations, and the size of the cache."""
        fixed = _tinyprof.build()[4] == "fixed"
        self.kv = kv or ("q8" if fixed else "f32")
        if self.kv not in KV_TYPES:
            raise ModelError("kv '%s' is unknown: one of %s" % (self.kv, " ".join(sorted(KV_TYPES))))
        if activations not in (8, 16):
            raise ModelError("activations of %s bits are unknown: 8 or 16" % activations)
        self.activations = activations
        head_bytes = _tinyprof.kv_bytes(KV_TYPES[self.kv], self.head_dim)
        if head_bytes == 0 or head_bytes % 4:
            raise ModelError("this firmware has no %s KV cache for heads of %d" % (self.kv, self.head_dim))
        if fixed and self.head_dim > 256:
            raise ModelError("heads of %d are not supported on the fixed-point path: 256 at most" % self.head_dim)
        self.kv_row = self.kv_heads * head_bytes
        self.kv_bytes = 2 * self.layers * self.context * self.kv_row

    def _tensor(self, name, rows, cols, types=ops.TYPES, kind=".weight"):
        """(operand, type, scan) of a tensor, whose shape, type, place and values are checked.

        types: numbers of the types that are allowed; scan: what _tinyprof.scan returns."""
        name += kind
        found = self._gguf.tensors.get(name)
        if found is None:
            raise ModelError("tensor %s is missing" % name)
        type_, has_cols, has_rows, offset = found
        if type_ not in types:
            raise ModelError(
                "tensor %s has type %d, which is not supported: %s are"
                % (name, type_, " ".join(sorted(ops.TYPES.values())))
                if types is ops.TYPES
                else "tensor %s must be F32" % name
            )
        if has_cols != cols or has_rows != rows:
            raise ModelError("tensor %s is %d x %d, not %d x %d" % (name, has_rows, has_cols, rows, cols))
        row_bytes = _tinyprof.row_bytes(type_, cols)
        if row_bytes == 0:
            raise ModelError(
                "tensor %s: rows of %d are no multiple of the block of %s, or this firmware was built"
                " without that type" % (name, cols, ops.TYPES[type_])
            )
        if rows % ops.together(type_):
            together = "fours" if type_ == ops.TP3 else "pairs"
            raise ModelError(
                "tensor %s: %s keeps rows in %s, and there are %d" % (name, ops.TYPES[type_], together, rows)
            )
        if offset % self._gguf.alignment:
            raise ModelError("tensor %s is not aligned" % name)
        offset += self._gguf.data_offset
        if offset >= 1 << 30:
            raise ModelError("tensor %s begins after the first GiB of the file: not supported" % name)
        if offset + rows * row_bytes > self._gguf.end:
            raise ModelError(
                "truncated GGUF: tensor %s ends at %d of %d" % (name, offset + rows * row_bytes, self._gguf.end)
            )
        scan = self._gguf.scan(offset, type_, rows, cols)
        if scan == 0:
            raise ModelError("tensor %s contains NaN or infinity: convert it again from the original" % name)
        self._left.discard(name)
        return ops.WEIGHTS | offset, type_, scan

    def _factors(self):
        """The bytes of Llama 3's divisors of the RoPE frequencies, None without them. llama.cpp reads them for llama
        only."""
        if "rope_factors" not in self.keys.traits or "rope_freqs.weight" not in self._left:
            return None
        word, _, _ = self._tensor("rope_freqs", 1, self.rope_dims // 2, (ops.F32,))
        factors = self._gguf.read(word & 0x3FFFFFFF, 2 * self.rope_dims)
        for bits in struct.unpack("<%dI" % (self.rope_dims // 2), factors):
            if not _LEAST <= bits <= _MOST:
                raise ModelError("tensor rope_freqs.weight holds no usable factors")
        return factors

    def _floats(self, count):
        """A new buffer of count floats for each token of a batch."""
        return self.plan.buffer(4 * self.batch * count)

    def _results(self, count):
        """A new buffer of count results of a product for each token: with int16 activations there are two of each,
        which the kernel adds."""
        return self.plan.buffer(4 * self.batch * self.activations // 8 * count)

    def _norm(self, role, layer, dst, name, a, flags=0):
        """RMSNorm of a vector of dim values."""
        weights, _, _ = self._tensor(name, 1, self.dim, (ops.F32,))
        self.plan.add(ops.RMSNORM, role, layer, dst, a, weights, cols=self.dim, p=(self.keys.eps,), flags=flags)

    def _bias(self, role, layer, dst, cols, flags):
        """Adds a bias to dst, the result of a product. role: the name of the bias."""
        weights, _, _ = self._tensor("blk.%d.%s" % (layer - 1, role[:-5]), 1, cols, (ops.F32,), ".bias")
        self.plan.add(ops.BIAS, role, layer, dst, 0, weights, cols=cols, flags=flags)

    def _head_norm(self, role, layer, x, heads, flags):
        """RMSNorm of each head of x, in place."""
        weights, _, _ = self._tensor("blk.%d.%s" % (layer - 1, role), 1, self.head_dim, (ops.F32,))
        self.plan.add(ops.RMSNORM, role, layer, x, x, weights, heads, self.head_dim, (self.keys.eps,), flags=flags)

    def _inputs(self, role, layer, x, cols, tensors, flags=0):
        """By weight type of the tensors, the buffer that a product with them reads: x, or x quantized for the type."""
        inputs = {ops.F32: x, ops.F16: x}
        for _, type_, _ in tensors:
            if type_ not in inputs:
                size, int16 = self._activation(cols, type_)
                inputs[type_] = q = self.plan.buffer(self.batch * size)
                self.plan.add(ops.QUANTIZE, role, layer, q, x, 0, 1, cols, (0, 0, size), type_, flags | int16)
        return inputs

    def _activation(self, cols, type_):
        """(bytes of a token's activations for weights of a type, flag of their records)"""
        if type_ in (ops.F32, ops.F16):
            return 4 * cols, 0
        size = ops.activation_bytes(cols, type_)
        return (2 * size, ops.INT16) if self.activations == 16 else (size, 0)

    def _matmul(self, role, layer, dst, inputs, tensor, rows, cols, flags=0):
        """A product of a tensor (rows, cols) with one of the inputs."""
        weights, type_, scan = tensor
        a = inputs[type_]
        size, int16 = self._activation(cols, type_)
        self.plan.add(ops.MATMUL, role, layer, dst, a, weights, rows, cols, (0, 0, size, scan), type_, flags | int16)
        self.macs += rows * cols

    def _compile(self, room):
        self.plan = plan = Plan(ROLES)
        x = self._floats(self.dim)
        scores = plan.buffer(4 * self.context)
        self._embedding(x)
        tables = self._rope_tables()
        for i in range(self.layers):
            self._attention(i, x, scores, tables)
            self._feed_forward(i, x)
        self.body = plan.count
        self._head(x, room)
        plan.finish()

    def _embedding(self, x):
        weights, type_, _ = self._tensor("token_embd", self.vocab, self.dim)
        self.plan.add(ops.EMBED, "embed", 0, x, 0, weights, self.vocab, self.dim, type=type_)
        if "embed_scale" in self.keys.traits:
            self.plan.add(ops.SCALE, "embed_scale", 0, x, cols=self.dim, p=(_sqrt_bits(self.dim),))

    def _rope_tables(self):
        """By (base, scale), the buffer of the sines and cosines for a batch."""
        tables = {}
        self.freqs = {}
        for i in range(self.layers):
            rope, _ = self.keys.layer(i)
            if rope not in tables:
                tables[rope] = table = self._floats(self.rope_dims)
                self.freqs[rope] = freqs = self.plan.buffer(2 * self.rope_dims, always=True)
                self.plan.add(ops.ROPE_TABLE, "rope_table", 0, table, 0, freqs, cols=self.rope_dims)
        return tables

    def _attention(self, i, x, scores, tables):
        """Adds attention of layer i to x. scores: a buffer of context floats."""
        plan, dim, kv_dim, traits = self.plan, self.dim, self.kv_dim, self.keys.traits
        layer, blk, q_dim = i + 1, "blk.%d." % i, self.heads * self.head_dim
        wq = self._tensor(blk + "attn_q", q_dim, dim)
        wk = self._tensor(blk + "attn_k", kv_dim, dim)
        wv = self._tensor(blk + "attn_v", kv_dim, dim)
        wo = self._tensor(blk + "attn_output", dim, q_dim)
        h = self._floats(dim)
        q = self._results(q_dim)
        k = ops.KV | 2 * i * self.context * self.kv_row
        v = k + self.context * self.kv_row
        kv_type = KV_TYPES[self.kv]
        # F32 values of a single product are computed in the cache itself, all others are copied when they are complete
        in_place = kv_type == ops.F32 and self.activations == 8
        to_k, to_v = (k, v) if in_place else (self._results(kv_dim), self._results(kv_dim))
        at = ops.AT_POS if in_place else 0
        self._norm("attn_norm", layer, h, blk + "attn_norm", x)
        inputs = self._inputs("attn_q8", layer, h, dim, (wq, wk, wv))
        self._matmul("attn_q", layer, q, inputs, wq, q_dim, dim)
        self._matmul("attn_k", layer, to_k, inputs, wk, kv_dim, dim, at)
        self._matmul("attn_v", layer, to_v, inputs, wv, kv_dim, dim, at)
        if "qkv_biases" in traits:
            self._bias("attn_q_bias", layer, q, q_dim, 0)
            self._bias("attn_k_bias", layer, to_k, kv_dim, at)
            self._bias("attn_v_bias", layer, to_v, kv_dim, at)
        if "head_norms" in traits:
            self._head_norm("attn_q_norm", layer, q, self.heads, 0)
            self._head_norm("attn_k_norm", layer, to_k, self.kv_heads, at)
        pairs = ops.HALVES if "halves" in traits else 0
        rope, window = self.keys.layer(i)
        table, rope = tables[rope], (self.rope_dims,)
        plan.add(ops.ROPE, "rope_q", layer, q, table, 0, self.heads, self.head_dim, rope, flags=pairs)
        plan.add(ops.ROPE, "rope_k", layer, to_k, table, 0, self.kv_heads, self.head_dim, rope, flags=pairs | at)
        if not in_place:
            for role, cache, values in (("kv_k", k, to_k), ("kv_v", v, to_v)):
                plan.add(ops.KV_STORE, role, layer, cache, values, 0, self.kv_heads, self.head_dim, type=kv_type)
        a = self._floats(q_dim)
        parameters = (v, scores, self.kv_heads, window)
        heads, cap = self.heads, self.keys.score_cap
        plan.add(ops.ATTENTION, "attention", layer, a, q, k, heads, self.head_dim, parameters, kv_type, p4=cap)
        o = self._results(dim)
        inputs = self._inputs("attn_output_q8", layer, a, q_dim, (wo,))
        self._matmul("attn_output", layer, o, inputs, wo, dim, q_dim)
        if "post_norms" in traits:
            self._norm("post_attention_norm", layer, o, blk + "post_attention_norm", o)
        plan.add(ops.ADD, "attn_add", layer, x, o, cols=dim)

    def _feed_forward(self, i, x):
        """Adds the feed-forward network of layer i to x."""
        plan, dim, hidden, traits = self.plan, self.dim, self.hidden, self.keys.traits
        layer, blk = i + 1, "blk.%d." % i
        gate = self._tensor(blk + "ffn_gate", hidden, dim)
        up = self._tensor(blk + "ffn_up", hidden, dim)
        down = self._tensor(blk + "ffn_down", dim, hidden)
        h = self._floats(dim)
        self._norm("ffn_norm", layer, h, blk + "ffn_norm", x)
        inputs = self._inputs("ffn_q8", layer, h, dim, (gate, up))
        g = self._results(hidden)
        u = self._results(hidden)
        self._matmul("ffn_gate", layer, g, inputs, gate, hidden, dim)
        self._matmul("ffn_up", layer, u, inputs, up, hidden, dim)
        op, role = (ops.GEGLU, "ffn_geglu") if "gelu" in traits else (ops.SWIGLU, "ffn_swiglu")
        plan.add(op, role, layer, g, g, u, cols=hidden)
        inputs = self._inputs("ffn_down_q8", layer, g, hidden, (down,))
        d = self._results(dim)
        self._matmul("ffn_down", layer, d, inputs, down, dim, hidden)
        if "post_norms" in traits:
            self._norm("post_ffw_norm", layer, d, blk + "post_ffw_norm", d)
        plan.add(ops.ADD, "ffn_add", layer, x, d, cols=dim)

    def _head(self, x, room):
        """Logits of the last token of x, the only ones that are used, and the most probable token."""
        plan, dim, vocab = self.plan, self.dim, self.vocab
        h = plan.buffer(4 * dim)
        self._norm("output_norm", 0, h, "output_norm", x, ops.LAST)
        name = "output" if "output.weight" in self._gguf.tensors else "token_embd"
        output = self._tensor(name, vocab, dim)
        inputs = self._inputs("output_q8", 0, h, dim, (output,), ops.ONE)
        row_bytes = _tinyprof.row_bytes(output[1], dim)
        together = max(2, ops.together(output[1]))
        step = room // row_bytes // together * together or vocab
        more = 0
        if self.activations == 16:  # the second product of a part is where the next part will be
            step = more = min(step, _PART)
        self.logits = plan.buffer(4 * (vocab + more))
        for first in range(0, vocab, step):
            part = (output[0] + first * row_bytes, output[1], output[2])
            rows = min(step, vocab - first)
            self._matmul("output", 0, self.logits + 4 * first, inputs, part, rows, dim, ops.ONE)
        plan.add(ops.ARGMAX, "argmax", 0, 0, self.logits, cols=vocab)
        cap = self.keys.logit_cap
        if cap:  # after the choice of a token, since it keeps the order of logits
            plan.add(ops.SOFTCAP, "output_softcap", 0, self.logits, cols=vocab, p=(cap,))

    def tensor_types(self, gguf):
        """How many tensors there are of each type, as 'Q4_0:29 F32:9'."""
        counts = {}
        for type_, _, _, _ in gguf.tensors.values():
            counts[type_] = counts.get(type_, 0) + 1
        return " ".join("%s:%d" % (ops.TYPES[t], n) for t, n in sorted(counts.items(), key=lambda c: -c[1]))


def _sqrt_bits(n):
    """The bits of the float nearest to the square root of n, 1 to 2^24. Integers only, because floats differ between
    boards."""
    exponent = 150
    while n < 1 << 48:
        n <<= 2
        exponent -= 1
    root = 1 << 25
    while root * root > n:
        root = (root + n // root) >> 1
    # root has 25 bits: the last rounds, the first adds one to the exponent
    return (exponent << 23) + ((root + 1) >> 1)


def fill_freqs(llama, arena):
    """Writes the RoPE frequencies of a Llama into their buffers in the arena, a writable buffer of arena_bytes."""
    for (base, scale), buffer in llama.freqs.items():
        at = llama.plan.offset(buffer)
        freqs = memoryview(arena)[at : at + 2 * llama.rope_dims]
        _tinyprof.rope_freqs(freqs, llama.rope_dims, base, scale, llama.rope_factors)
