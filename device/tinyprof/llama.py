"""Compiles a GGUF model of the llama architecture, or of one like it, into a plan."""

import struct

import _tinyprof
from micropython import const

from . import ops
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

# As llama.cpp has them. qwen2: q, k and v have biases; qwen3, gemma3: q and k are normed, head by head; gemmas:
# embeddings are scaled, and the gate is GELU; gemma2, gemma3: norms also after attention and feed-forward, and windows;
# gemma2: scores and logits are capped. All but llama: RoPE turns the halves of a head.
ARCHITECTURES = ("llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3")

# Where the file does not say it, how many positions attention sees, and each which layer sees all; with how many layers
# llama.cpp divides scores by another root.
_WINDOWS = {"gemma2": (4096, 2, 46), "gemma3": (0, 6, 62)}

_ONE = 0x3F800000  # 1.0 as float bits
_10000 = 0x461C4000
_LEAST = 0x3A800000  # 2^-10
_MOST = 0x49800000  # 2^20

_PART = const(4096)  # rows of the output that are computed at once where each takes two products

KV_TYPES = {"f32": ops.F32, "f16": ops.F16, "q8": ops.Q8_0}


class Keys:
    """What the keys of a file say that goes into records: floats by their bits.

    window: positions that attention sees but in each period-th layer, 0: all; caps: 0 for none."""

    def __init__(self, gguf):
        self.architecture = architecture = gguf.get("general.architecture", None, str)
        if architecture not in ARCHITECTURES:
            raise ModelError(
                "general.architecture %r is not supported: only %s" % (architecture[:32], ", ".join(ARCHITECTURES))
            )
        key = architecture + "."
        if gguf.get(key + "expert_count", 0, int):
            raise ModelError(key + "expert_count: mixture of experts is not supported")
        self.window, self.period, self.other = _WINDOWS.get(architecture, (0, 1, 0))
        window_key = key + "attention.sliding_window"
        if gguf.get(window_key, 0, int):
            if architecture not in _WINDOWS:
                raise ModelError(window_key + " is not supported")
            self.window = gguf.count(window_key)
            self.period = gguf.count(window_key + "_pattern", self.period)
        # as llama.cpp has it: linear where no type stands, a factor of 0 means none
        scaling = gguf.get(key + "rope.scaling.type", "linear", str)
        if scaling not in ("none", "linear"):
            raise ModelError("%srope.scaling.type %r is not supported: only 'linear'" % (key, scaling[:32]))
        factor_key = key + "rope.scaling.factor"
        if factor_key not in gguf.keys:
            factor_key = key + "rope.scale_linear"  # its name in older files
        self.rope_scale = gguf.float_bits(factor_key, _ONE)
        if scaling == "none" or self.rope_scale == 0:
            self.rope_scale = _ONE
        base_key, eps_key = key + "rope.freq_base", key + "attention.layer_norm_rms_epsilon"
        self.rope_base = gguf.float_bits(base_key, _10000)
        self.eps = gguf.float_bits(eps_key, 0x3727C5AC)  # 1e-5
        # of layers with a window
        window_base_key = key + "rope.freq_base_swa"
        base, scale = (_10000, _ONE) if architecture == "gemma3" else (self.rope_base, self.rope_scale)
        self.window_rope = gguf.float_bits(window_base_key, base), scale
        score_key, logit_key = key + "attn_logit_softcapping", key + "final_logit_softcapping"
        self.score_cap = self.logit_cap = 0
        if architecture == "gemma2":
            self.score_cap = gguf.float_bits(score_key, 0x42480000)  # 50.0
            self.logit_cap = gguf.float_bits(logit_key, 0x41F00000)  # 30.0
        elif score_key in gguf.keys or logit_key in gguf.keys:
            raise ModelError("%s: capped scores and logits are not supported" % architecture)
        # a positive, normal, finite float; a base from 1, a scale from 2^-10 to 2^20
        for name, bits, least, most in (
            (factor_key, self.rope_scale, _LEAST, _MOST),
            (base_key, self.rope_base, _ONE, 0x7F7FFFFF),
            (window_base_key, self.window_rope[0], _ONE, 0x7F7FFFFF),
            (score_key, self.score_cap or _ONE, _LEAST, _MOST),
            (logit_key, self.logit_cap or _ONE, _LEAST, _MOST),
            (eps_key, self.eps, 0x00800000, 0x7F7FFFFF),
        ):
            if not least <= bits <= most:
                raise ModelError("key %s is not a usable number" % name)

    def layer(self, i):
        """((base, scale) of a layer's RoPE, its window)"""
        if self.window and (i + 1) % self.period:
            return self.window_rope, self.window
        return (self.rope_base, self.rope_scale), 0


class Llama:
    """Sizes and plan of a model for runs of up to batch tokens and context positions.

    kv: how the KV cache holds values, one of KV_TYPES; None: f32, on the fixed-point path q8.
    room: bytes of weights that a record of the output may read, 0: any number. activations: bits of what meets
    quantized weights, 8 or 16.
    plan: the records; body: how many of them come before the output head; logits: Buffer of
    vocab floats; kv_bytes; freqs: by (base, scale) Buffer of rope frequencies to be filled once; rope_factors: floats
    by which they are divided, or None."""

    def __init__(self, gguf, context, batch, kv=None, room=0, activations=8):
        self._gguf = gguf
        self._left = set(gguf.tensors)
        self.keys = keys = Keys(gguf)
        self.architecture = keys.architecture
        key = self.architecture + "."
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
        if self.layers == keys.other and self.head_dim != self.dim // self.heads:
            raise ModelError(
                "%s with %d layers scales attention in another way: not supported" % (key[:-1], self.layers)
            )
        if gguf.count(key + "attention.value_length", self.head_dim) != self.head_dim:
            raise ModelError("%sattention.value_length other than %d is not supported" % (key, self.head_dim))
        self.rope_dims = gguf.count(key + "rope.dimension_count", self.head_dim)
        if self.rope_dims % 2 or self.rope_dims > self.head_dim:
            raise ModelError("%srope.dimension_count is %d" % (key, self.rope_dims))
        if "token_embd.weight" not in gguf.tensors:
            raise ModelError("tensor token_embd.weight is missing")
        self.vocab = gguf.tensors["token_embd.weight"][2]
        if batch < 1 or (context is not None and context < 1):
            raise ModelError("batch and context must be positive")
        self.context = min(context or 256, self.trained_context)
        self.batch = min(batch, self.context)
        self.kv_dim = self.kv_heads * self.head_dim
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
        self.kv_row = self.kv_heads * head_bytes  # bytes of one position of K or V
        self.kv_bytes = 2 * self.layers * self.context * self.kv_row
        self.macs = 0  # of all matrix products, per token
        self.rope_factors = self._factors()
        self._compile(room)
        if self._left:
            raise ModelError("tensor %s is not supported" % sorted(self._left)[0])
        self._gguf = self._left = None  # what is deleted stays in the object's map, where the collector finds it

    def _tensor(self, name, rows, cols, types=ops.TYPES, kind=".weight"):
        """(word, type, scan) of a tensor after checking its shape, type, place and scales."""
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
            raise ModelError("tensor %s lies beyond 1 GiB: not supported" % name)
        if offset + rows * row_bytes > self._gguf.end:
            raise ModelError(
                "truncated GGUF: tensor %s ends at %d of %d" % (name, offset + rows * row_bytes, self._gguf.end)
            )
        scan = self._gguf.scan(offset, type_, rows, cols)
        if scan == 0:
            raise ModelError("tensor %s holds infinite values, or what is no number" % name)
        self._left.discard(name)
        return ops.WEIGHTS | offset, type_, scan

    def _factors(self):
        """As Llama 3 scales RoPE: a tensor, of which llama.cpp knows nothing in other architectures."""
        if self.architecture != "llama" or "rope_freqs.weight" not in self._left:
            return None
        word, _, _ = self._tensor("rope_freqs", 1, self.rope_dims // 2, (ops.F32,))
        factors = self._gguf.read(word & 0x3FFFFFFF, 2 * self.rope_dims)
        for bits in struct.unpack("<%dI" % (self.rope_dims // 2), factors):
            if not _LEAST <= bits <= _MOST:
                raise ModelError("tensor rope_freqs.weight holds no usable factors")
        return factors

    def _norm(self, role, layer, dst, name, a, flags=0):
        weights, _, _ = self._tensor(name, 1, self.dim, (ops.F32,))
        self.plan.add(ops.RMSNORM, role, layer, dst, a, weights, cols=self.dim, p=(self.keys.eps,), flags=flags)

    def _bias(self, role, layer, dst, cols, flags):
        """Adds the bias to what the product of the role before has made."""
        weights, _, _ = self._tensor("blk.%d.%s" % (layer - 1, role[:-5]), 1, cols, (ops.F32,), ".bias")
        self.plan.add(ops.BIAS, role, layer, dst, 0, weights, cols=cols, flags=flags)

    def _head_norm(self, role, layer, x, heads, flags):
        """RMSNorm of each head in place."""
        weights, _, _ = self._tensor("blk.%d.%s" % (layer - 1, role), 1, self.head_dim, (ops.F32,))
        self.plan.add(ops.RMSNORM, role, layer, x, x, weights, heads, self.head_dim, (self.keys.eps,), flags=flags)

    def _inputs(self, role, layer, x, cols, tensors, flags=0):
        """x, and under each type of the tensors that wants it x quantized for that type."""
        inputs = {ops.F32: x, ops.F16: x}
        for _, type_, _ in tensors:
            if type_ not in inputs:
                size, int16 = self._activation(cols, type_)
                inputs[type_] = q = self.plan.buffer(self.batch * size)
                self.plan.add(ops.QUANTIZE, role, layer, q, x, 0, 1, cols, (0, 0, size), type_, flags | int16)
        return inputs

    def _activation(self, cols, type_):
        """(bytes of a token's activations for weights of that type, flag)"""
        if type_ in (ops.F32, ops.F16):
            return 4 * cols, 0
        size = ops.activation_bytes(cols, type_)
        return (2 * size, ops.INT16) if self.activations == 16 else (size, 0)

    def _matmul(self, role, layer, dst, inputs, tensor, rows, cols, flags=0):
        weights, type_, scan = tensor
        a = inputs[type_]
        size, int16 = self._activation(cols, type_)
        self.plan.add(ops.MATMUL, role, layer, dst, a, weights, rows, cols, (0, 0, size, scan), type_, flags | int16)
        self.macs += rows * cols

    def _compile(self, room):
        self.plan = plan = Plan(ROLES)
        row = self.batch * 4
        out = row * self.activations // 8  # of a product: int16 gives two, which are added
        dim, kv_dim, hidden = self.dim, self.kv_dim, self.hidden
        q_dim = self.heads * self.head_dim
        pairs = 0 if self.architecture == "llama" else ops.HALVES
        x = plan.buffer(row * dim)
        scores = plan.buffer(4 * self.context)
        embd = self._tensor("token_embd", self.vocab, dim)
        plan.add(ops.EMBED, "embed", 0, x, 0, embd[0], self.vocab, dim, type=embd[1])
        gemma = self.architecture.startswith("gemma")
        post_norms = self.architecture in _WINDOWS
        if gemma:
            plan.add(ops.SCALE, "embed_scale", 0, x, cols=dim, p=(_sqrt_bits(dim),))
        tables = {}
        self.freqs = {}
        for i in range(self.layers):
            rope, _ = self.keys.layer(i)
            if rope not in tables:
                tables[rope] = table = plan.buffer(row * self.rope_dims)
                self.freqs[rope] = freqs = plan.buffer(2 * self.rope_dims, always=True)
                plan.add(ops.ROPE_TABLE, "rope_table", 0, table, 0, freqs, cols=self.rope_dims)
        for i in range(self.layers):
            layer = i + 1
            blk = "blk.%d." % i
            wq = self._tensor(blk + "attn_q", q_dim, dim)
            wk = self._tensor(blk + "attn_k", kv_dim, dim)
            wv = self._tensor(blk + "attn_v", kv_dim, dim)
            wo = self._tensor(blk + "attn_output", dim, q_dim)
            gate = self._tensor(blk + "ffn_gate", hidden, dim)
            up = self._tensor(blk + "ffn_up", hidden, dim)
            down = self._tensor(blk + "ffn_down", dim, hidden)
            h = plan.buffer(row * dim)
            q = plan.buffer(out * q_dim)
            k = ops.KV | 2 * i * self.context * self.kv_row
            v = k + self.context * self.kv_row
            kv_type = KV_TYPES[self.kv]
            # F32 is computed in its place in the cache if it takes one product, else put there when it is complete
            in_place = kv_type == ops.F32 and self.activations == 8
            to_k, to_v = (k, v) if in_place else (plan.buffer(out * kv_dim), plan.buffer(out * kv_dim))
            at = ops.AT_POS if in_place else 0
            self._norm("attn_norm", layer, h, blk + "attn_norm", x)
            inputs = self._inputs("attn_q8", layer, h, dim, (wq, wk, wv))
            self._matmul("attn_q", layer, q, inputs, wq, q_dim, dim)
            self._matmul("attn_k", layer, to_k, inputs, wk, kv_dim, dim, at)
            self._matmul("attn_v", layer, to_v, inputs, wv, kv_dim, dim, at)
            if self.architecture == "qwen2":
                self._bias("attn_q_bias", layer, q, q_dim, 0)
                self._bias("attn_k_bias", layer, to_k, kv_dim, at)
                self._bias("attn_v_bias", layer, to_v, kv_dim, at)
            if self.architecture in ("qwen3", "gemma3"):
                self._head_norm("attn_q_norm", layer, q, self.heads, 0)
                self._head_norm("attn_k_norm", layer, to_k, self.kv_heads, at)
            rope, window = self.keys.layer(i)
            table, rope = tables[rope], (self.rope_dims,)
            plan.add(ops.ROPE, "rope_q", layer, q, table, 0, self.heads, self.head_dim, rope, flags=pairs)
            plan.add(ops.ROPE, "rope_k", layer, to_k, table, 0, self.kv_heads, self.head_dim, rope, flags=pairs | at)
            if not in_place:
                for role, cache, values in (("kv_k", k, to_k), ("kv_v", v, to_v)):
                    plan.add(ops.KV_STORE, role, layer, cache, values, 0, self.kv_heads, self.head_dim, type=kv_type)
            a = plan.buffer(row * q_dim)
            parameters = (v, scores, self.kv_heads, window)
            heads, cap = self.heads, self.keys.score_cap
            plan.add(ops.ATTENTION, "attention", layer, a, q, k, heads, self.head_dim, parameters, kv_type, p4=cap)
            o = plan.buffer(out * dim)
            inputs = self._inputs("attn_output_q8", layer, a, q_dim, (wo,))
            self._matmul("attn_output", layer, o, inputs, wo, dim, q_dim)
            if post_norms:
                self._norm("post_attention_norm", layer, o, blk + "post_attention_norm", o)
            plan.add(ops.ADD, "attn_add", layer, x, o, cols=dim)
            h = plan.buffer(row * dim)
            self._norm("ffn_norm", layer, h, blk + "ffn_norm", x)
            inputs = self._inputs("ffn_q8", layer, h, dim, (gate, up))
            g = plan.buffer(out * hidden)
            u = plan.buffer(out * hidden)
            self._matmul("ffn_gate", layer, g, inputs, gate, hidden, dim)
            self._matmul("ffn_up", layer, u, inputs, up, hidden, dim)
            op, role = (ops.GEGLU, "ffn_geglu") if gemma else (ops.SWIGLU, "ffn_swiglu")
            plan.add(op, role, layer, g, g, u, cols=hidden)
            inputs = self._inputs("ffn_down_q8", layer, g, hidden, (down,))
            d = plan.buffer(out * dim)
            self._matmul("ffn_down", layer, d, inputs, down, dim, hidden)
            if post_norms:
                self._norm("post_ffw_norm", layer, d, blk + "post_ffw_norm", d)
            plan.add(ops.ADD, "ffn_add", layer, x, d, cols=dim)
        self.body = plan.count
        # only the last token's logits are ever wanted
        h = plan.buffer(4 * dim)
        self._norm("output_norm", 0, h, "output_norm", x, ops.LAST)
        head = "output" if "output.weight" in self._gguf.tensors else "token_embd"
        output = self._tensor(head, self.vocab, dim)
        inputs = self._inputs("output_q8", 0, h, dim, (output,), ops.ONE)
        row_bytes = _tinyprof.row_bytes(output[1], dim)
        together = max(2, ops.together(output[1]))
        step = room // row_bytes // together * together or self.vocab
        more = 0
        if self.activations == 16:  # a part's second product lies where the next part will
            step = more = min(step, _PART)
        self.logits = plan.buffer(4 * (self.vocab + more))
        for first in range(0, self.vocab, step):
            part = (output[0] + first * row_bytes, output[1], output[2])
            rows = min(step, self.vocab - first)
            self._matmul("output", 0, self.logits + 4 * first, inputs, part, rows, dim, ops.ONE)
        plan.add(ops.ARGMAX, "argmax", 0, 0, self.logits, cols=self.vocab)
        if self.keys.logit_cap:  # which leaves their order
            plan.add(ops.SOFTCAP, "output_softcap", 0, self.logits, cols=self.vocab, p=(self.keys.logit_cap,))
        plan.finish()

    def tensor_types(self, gguf):
        """'Q4_0:29 F32:9': how many tensors there are of each type."""
        counts = {}
        for type_, _, _, _ in gguf.tensors.values():
            counts[type_] = counts.get(type_, 0) + 1
        return " ".join("%s:%d" % (ops.TYPES[t], n) for t, n in sorted(counts.items(), key=lambda c: -c[1]))


def _sqrt_bits(n):
    """The bits of the float nearest to the square root of n, 1 to 2^24; by integers, as boards' floats differ."""
    exponent = 150
    while n < 1 << 48:
        n <<= 2
        exponent -= 1
    root = 1 << 25
    while root * root > n:
        root = (root + n // root) >> 1
    # of 25 bits: the last one rounds; the first one is one more of the exponent
    return (exponent << 23) + ((root + 1) >> 1)


def fill_freqs(llama, arena):
    """Writes the rope frequencies into their arena buffers."""
    for (base, scale), buffer in llama.freqs.items():
        at = llama.plan.offset(buffer)
        freqs = memoryview(arena)[at : at + 2 * llama.rope_dims]
        _tinyprof.rope_freqs(freqs, llama.rope_dims, base, scale, llama.rope_factors)
