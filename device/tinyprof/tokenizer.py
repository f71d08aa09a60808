"""Text to tokens and back: chooses the tokenizer that the GGUF metadata names."""

from .errors import ModelError


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
