"""Chooses the tokenizer, text to tokens and back, by the GGUF metadata."""

from .errors import ModelError


def load(gguf, vocab):
    """The tokenizer of a model. gguf: a gguf.GGUF; vocab: number of tokens.

    Raises ModelError for an unknown kind, or damaged metadata."""
    kind = gguf.get("tokenizer.ggml.model", None, str)
    if kind == "llama":
        from .sentencepiece import SentencePiece

        return SentencePiece(gguf, vocab)
    if kind == "gpt2":
        from .bpe import ByteLevel

        return ByteLevel(gguf, vocab)
    raise ModelError("tokenizer.ggml.model %r is not supported: only 'llama' and 'gpt2'" % kind[:32])
