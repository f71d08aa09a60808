"""Perplexity: how well a model predicts a text, from the loss of each token with this board's own logits."""

from array import array
from math import exp, log

import _tinyprof

from . import ops
from .errors import ModelError

_PART = 256  # bytes of logits that are converted to floats at a time


def judge(model, tokens, records):
    """The loss of all tokens in millionths of a nat. Writes a perplexity record, and records of each token's loss.

    The text is cut into windows of the model's context, each after BOS. model: a session.Model; tokens: of a text,
    without BOS; records: a records.Records.

    Raises ModelError for no tokens, or tokens beyond the vocabulary."""
    if not tokens or max(tokens) >= model.arch.vocab:
        raise ModelError("no tokens for perplexity, or tokens beyond the model's vocabulary")
    context = model.arch.context
    losses = []
    total = right = crc = 0
    token = model.tokenizer.bos
    for i, wanted in enumerate(tokens):
        if i % context == 0:
            model.pos = 0
            token = model.tokenizer.bos
        right += model.step(token) == wanted
        crc = _tinyprof.crc32(model.logits, crc)
        losses.append(_loss(model, wanted))
        total += losses[-1]
        token = wanted
        if len(losses) == 16 or i + 1 == len(tokens):
            records.write("loss", at=i + 1 - len(losses), v=losses)
            losses = []
    records.write("perplexity", tokens=len(tokens), window=context, loss=total, right=right, logits_crc32="%08x" % crc)
    return total


def _loss(model, wanted):
    """-log of the probability of a token, in millionths of a nat."""
    logits = model.logits
    top = _floats(logits, 4 * model.ctl[ops.NEXT], 4)[0]
    total = 0.0
    for at in range(0, len(logits), _PART):
        part = 0.0  # partial sums stay small, which keeps digits where floats have single precision
        for x in _floats(logits, at, _PART):
            part += exp(x - top)
        total += part
    return max(0, round((log(total) + (top - _floats(logits, 4 * wanted, 4)[0])) * 1000000))


def _floats(data, at, size):
    return array("f", bytes(data[at : at + size]))
