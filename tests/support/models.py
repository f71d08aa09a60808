"""Small random models for tests."""

import functools
import string
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, RopeScalingType, TokenType
from tinyprof_bridge.quantize import weight_types

# The smallest vocabulary: 3 specials, 256 bytes and these, with scores falling in this order.
PIECES = ["▁t", "he", "▁a", "in", "▁the", "er", "re", "on", "▁b", "an", "at", "lo", "▁c", "ou"]
PIECES += list("▁etaonihsrldcub")
SMALLEST_VOCAB = 3 + 256 + len(PIECES)


def tokenizer(vocab):
    """(tokens, scores, types) of a SentencePiece vocabulary of `vocab` tokens."""
    if vocab < SMALLEST_VOCAB:
        raise ValueError(f"a vocabulary has {SMALLEST_VOCAB} tokens or more")
    letters = string.ascii_letters + string.digits
    spare = [c for c in letters if c not in PIECES]
    spare += [a + b for a in letters for b in letters if a + b not in PIECES]
    spare += [a + b + c for a in letters for b in letters for c in letters]
    pieces = PIECES + spare[: vocab - SMALLEST_VOCAB]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *pieces]
    scores = [0.0] * 259 + [-float(i) for i in range(len(pieces))]
    types = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL]
    types += [TokenType.BYTE] * 256 + [TokenType.NORMAL] * len(pieces)
    return tokens, scores, types


# As GPT-2's bytes_to_unicode: by byte the character that stands for it in pieces.
SHOWN = [*range(33, 127), *range(161, 173), *range(174, 256)]
CHARACTERS = dict(zip([*SHOWN, *sorted(set(range(256)) - set(SHOWN))], [*SHOWN, *range(256, 324)], strict=True))
LEARNT = (
    Path(__file__).parents[2].joinpath("LICENSE").read_text()
    + " Größe naïve Ελλάδα Москва Москвы 日本語 日本 \n\n    x" * 3
)
END = "<|endoftext|>"


@functools.cache
def byte_level(merges=120, text=LEARNT):
    """(tokens, merges) of byte-level BPE: an end of text, the bytes, and what merging the most frequent pairs of words
    makes."""
    words = Counter(tuple(chr(CHARACTERS[b]) for b in word.encode()) for word in text.replace(" ", "\0 ").split("\0"))
    found = []
    for _ in range(merges):
        pairs = Counter()
        for word, count in words.items():
            for pair in pairwise(word):
                pairs[pair] += count
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        found.append(best)
        words = Counter({merged(word, best): count for word, count in words.items()})
    made = dict.fromkeys(a + b for a, b in found)
    return [END, *(chr(CHARACTERS[b]) for b in range(256)), *made], [f"{a} {b}" for a, b in found]


def merged(word, pair):
    """A word (characters) with each of that pair as one."""
    out, i = [], 0
    while i < len(word):
        size = 2 if word[i : i + 2] == pair else 1
        out.append("".join(word[i : i + size]))
        i += size
    return tuple(out)


def make_model(
    path,
    *,
    architecture="llama",
    type_="F32",
    dim=64,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=None,
    hidden=96,
    vocab=SMALLEST_VOCAB,
    context=64,
    tied=True,
    rope_base=10000.0,
    rope_scale=None,
    rope_factors=None,
    window=None,
    period=2,
    caps=(5.0, 3.0),
    eps=1e-5,
    seed=1,
    keys=None,
    pre=None,
):
    """Write a random model to `path` and return `path`.

    architecture: llama, or as llama.cpp names it; head_dim: where it is not dim / heads.
    type_: any of quants.TYPES, for the matrices; norms are F32.
    rope_scale: factor of linear RoPE scaling; rope_factors: of each frequency; None for none.
    window: of a gemma2 or gemma3, positions that attention sees but in each period-th layer; caps: of a gemma2's scores
    and logits.
    pre: the pre-tokenizer of byte-level BPE, where the tokenizer is of that kind.
    keys: name -> (value, GGUFValueType) of metadata to add or to write instead.
    """
    rng = np.random.default_rng(seed)
    writer = GGUFWriter(path, architecture)
    if head_dim is not None:
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    head_dim = head_dim or dim // heads
    writer.add_name(f"random-{seed}")
    writer.add_context_length(context)
    writer.add_embedding_length(dim)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(hidden)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_vocab_size(vocab)
    writer.add_layer_norm_rms_eps(eps)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(rope_base)
    if rope_scale is not None:
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope_scale)
    if window:
        writer.add_sliding_window(window)
        writer.add_sliding_window_pattern(period)
    if architecture == "gemma2":
        writer.add_attn_logit_softcapping(caps[0])
        writer.add_final_logit_softcapping(caps[1])
    if pre:
        add_byte_level(writer, vocab, pre)
    else:
        add_tokenizer(writer, vocab)
    for key, (value, value_type) in (keys or {}).items():
        for shard in writer.kv_data:
            shard.pop(key, None)
        writer.add_key_value(key, value, value_type)

    def add_vector(name, mean, spread, size):
        writer.add_tensor(name, rng.normal(mean, spread, size).astype(np.float32))

    def add_matrix(name, rows, cols):
        # Large enough that tokens and positions matter to the logits.
        weights = rng.normal(0, cols**-0.5, (rows, cols)).astype(np.float32)
        data = weight_types.quantize(weights, type_)
        if data.dtype == np.uint8:  # which the writer would take for a type of its own
            data = data.view(np.int8)
        writer.add_tensor(name, data, (rows, cols), raw_dtype=weight_types.raw_type(type_))

    q_dim, kv_dim = heads * head_dim, kv_heads * head_dim
    add_matrix("token_embd.weight", vocab, dim)
    for i in range(layers):
        add_vector(f"blk.{i}.attn_norm.weight", 1, 0.1, dim)
        for kind, rows in (("q", q_dim), ("k", kv_dim), ("v", kv_dim)):
            add_matrix(f"blk.{i}.attn_{kind}.weight", rows, dim)
            if architecture == "qwen2":
                add_vector(f"blk.{i}.attn_{kind}.bias", 0, 0.3, rows)
            if architecture in ("qwen3", "gemma3") and kind != "v":
                add_vector(f"blk.{i}.attn_{kind}_norm.weight", 1, 0.3 if architecture == "qwen3" else 0.1, head_dim)
        add_matrix(f"blk.{i}.attn_output.weight", dim, q_dim)
        if window:
            add_vector(f"blk.{i}.post_attention_norm.weight", 1, 0.1, dim)
        add_vector(f"blk.{i}.ffn_norm.weight", 1, 0.1, dim)
        add_matrix(f"blk.{i}.ffn_gate.weight", hidden, dim)
        add_matrix(f"blk.{i}.ffn_down.weight", dim, hidden)
        add_matrix(f"blk.{i}.ffn_up.weight", hidden, dim)
        if window:
            add_vector(f"blk.{i}.post_ffw_norm.weight", 1, 0.1, dim)
    add_vector("output_norm.weight", 1, 0.1, dim)
    if rope_factors is not None:
        writer.add_tensor("rope_freqs.weight", np.array(rope_factors, np.float32))
    if not tied:
        add_matrix("output.weight", vocab, dim)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_tokenizer(writer, vocab):
    tokens, scores, types = tokenizer(vocab)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(True)


def add_byte_level(writer, vocab, pre, user_defined=("<think>", "<think>more")):
    """The user-defined tokens are the last; between them and the others is padding, as converters write it."""
    tokens, merges = byte_level()
    fill = vocab - len(tokens) - len(user_defined)
    if fill < 0:
        raise ValueError(f"this vocabulary has {len(tokens) + len(user_defined)} tokens or more")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([*tokens, *(f"[PAD{i}]" for i in range(fill)), *user_defined])
    writer.add_token_merges(merges)
    types = [TokenType.CONTROL] + [TokenType.NORMAL] * (len(tokens) - 1) + [TokenType.UNUSED] * fill
    writer.add_token_types(types + [TokenType.USER_DEFINED] * len(user_defined))
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)
