"""A tokenizer.json of byte-level BPE."""

import copy

from models import END, byte_level
from tinyprof_bridge.models.formats.byte_level import SPLITS

VOCAB = 384


# By rule, the regular expressions that a text is split by, one after another, as tokenizer.json has them.
BY_NAME = {name: regex for regex, name in SPLITS.items()}


PRE_TOKENIZERS = {
    "gpt-2": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    "smollm": {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Digits", "individual_digits": True},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        ],
    },
} | {
    name: {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": BY_NAME[name]}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
        ],
    }
    for name in ("qwen2", "llama-bpe")
}


PRE_TOKENIZERS["dbrx"] = PRE_TOKENIZERS["llama-bpe"]


ADDED = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}


def tokenizer_json(pre="qwen2"):
    pieces, merges = byte_level()
    first = {"SpecialToken": {"id": END, "type_id": 0}}
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": 0, "content": END, "special": True} | ADDED,
            {"id": len(pieces), "content": "<think>", "special": False} | ADDED,
        ],
        "normalizer": {"type": "NFC"} if pre == "qwen2" else None,
        "pre_tokenizer": copy.deepcopy(PRE_TOKENIZERS[pre]),
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [*([first] if pre == "llama-bpe" else []), {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {END: {"id": END, "ids": [0], "tokens": [END]}},
        },
        "decoder": copy.deepcopy(PRE_TOKENIZERS["gpt-2"]),
        "model": {
            "type": "BPE",
            "byte_fallback": False,
            "ignore_merges": pre == "llama-bpe",
            "vocab": {piece: i for i, piece in enumerate(pieces)},
            "merges": list(merges) if pre == "gpt-2" else [merge.split(" ") for merge in merges],
        },
    }
