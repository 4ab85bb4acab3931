"""Texts cut to the length that a model can read: the newest events of a context, the beginning of an item's text.

A context holds one event per line in order of time, newest last. Every cut is counted in `Usage` and logged, at most
once a minute. Unknown tokens are counted too. Knows nothing about a model but its longest input.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

from encoders.models.source import ModelUnsupported
from encoders.models.usage import Usage
from encoders.text.tokens import PlainTokens, Tokens

LOG_EVERY_S = 60.0
MIN_ROOM = 8
"""Tokens of a text; a model that reads fewer has a wrong setting."""

logger = logging.getLogger(__name__)
_next_log = 0.0


def fit_contexts(
    contexts: Sequence[str], tokens: PlainTokens, limit: int, usage: Usage, prompt: str = ""
) -> list[list[int]]:
    """Tokenise contexts, each cut to `limit` tokens by dropping whole events, oldest first.

    If the newest event alone is too long, its own beginning is cut. A prompt before a context is never cut.

    Parameters
    ----------
    contexts : sequence of str
        One event per line, newest last; may be empty.
    tokens : PlainTokens
    limit : int
        Tokens that a context may have.
    usage : Usage
    prompt : str
        Comes before each context and counts towards `limit`.

    Returns
    -------
    list of list of int
        Token ids, at most `limit` of each context. They depend on the remaining events only.
    """
    with usage.timing("tokenise_seconds"):
        fitted = tokens([prompt + context for context in contexts])
        _count(fitted, tokens, usage)
        for index, ids in enumerate(fitted):
            if len(ids) > limit:
                [prompt_ids] = tokens([prompt])
                newest, dropped = _newest(contexts[index], tokens, limit - len(prompt_ids))
                fitted[index] = prompt_ids + newest
                usage.truncated_contexts += 1
                usage.truncated_context_tokens += len(ids) - len(fitted[index])
                _log_cut(len(ids), len(fitted[index]), dropped)
    return fitted


def count_dropped(events: Sequence[str], limit: int, tokens: PlainTokens, usage: Usage) -> None:
    """Count and log that of a user's events, newest last, only the `limit` newest are read."""
    with usage.timing("tokenise_seconds"):
        sizes = [len(ids) for ids in tokens(events)]
    usage.truncated_contexts += 1
    usage.truncated_context_tokens += sum(sizes[:-limit])
    _log_cut(sum(sizes), sum(sizes[-limit:]), len(events) - limit)


def fit_items(texts: Sequence[str], tokens: Tokens, limit: int, usage: Usage) -> list[list[int]]:
    """Tokenise items' texts, each cut to its first `limit` tokens."""
    with usage.timing("tokenise_seconds"):
        fitted = tokens(texts)
    _count(fitted, tokens, usage)
    usage.truncated_candidates += sum(len(ids) > limit for ids in fitted)
    return [ids[:limit] for ids in fitted]


def room_for_texts(name: str, model: Any, tokenizer: Any, cap: int, framing: int) -> int:
    """Return the tokens of a row that are left for texts beside the `framing` tokens around them.

    Raises
    ------
    ModelUnsupported
        Fewer than `MIN_ROOM` are left.
    """
    longest = longest_input(model, tokenizer, cap)
    if longest - framing < MIN_ROOM:
        raise ModelUnsupported(
            f"model: got {name!r}, which reads {longest} tokens with {framing} around the texts, expected room for "
            f"{MIN_ROOM} at least; correct model_max_length in its tokenizer_config.json, or max_seq_length in its "
            "sentence_bert_config.json"
        )
    return longest - framing


def longest_input(model: Any, tokenizer: Any, cap: int) -> int:
    """Return the number of tokens that `model` reads at most, special tokens included, and at most `cap`.

    The smaller of the tokeniser's limit and the model's positions, without the unused ones before its first.
    """
    limits = [cap, tokenizer.model_max_length]
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if positions and positions > 0:  # DeBERTa writes -1 where there is no limit
        limits.append(positions - first_position(model))
    return int(min(limits))


def first_position(model: Any) -> int:
    """Return the position of a row's first token: 0, but models like RoBERTa count from behind the padding index."""
    unused = [
        module.padding_idx + 1
        for name, module in model.named_modules()
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None
    ]
    return max(unused, default=0)


def _count(fitted: Sequence[Sequence[int]], tokens: Tokens, usage: Usage) -> None:
    usage.text_tokens += sum(map(len, fitted))
    unknown = tokens.unknown_id
    if unknown is not None:
        usage.unknown_tokens += sum(ids.count(unknown) for ids in fitted)


def _newest(context: str, tokens: PlainTokens, limit: int) -> tuple[list[int], int]:
    """The ids of the newest events that fit, and the number of older events that were dropped."""
    events = context.rstrip("\n").split("\n")
    sizes = [len(ids) for ids in tokens([event + "\n" for event in events])]
    first, total = len(events) - 1, sizes[-1]
    while first and total + sizes[first - 1] <= limit:
        first -= 1
        total += sizes[first]
    ids = tokens(["\n".join(events[first:])])[0]
    while len(ids) > limit and first < len(events) - 1:  # joined lines can be a token longer than the sum of the lines
        first += 1
        ids = tokens(["\n".join(events[first:])])[0]
    return ids[max(0, len(ids) - limit) :], first


def _log_cut(before: int, after: int, dropped: int) -> None:
    global _next_log
    now = time.monotonic()
    if now >= _next_log:
        _next_log = now + LOG_EVERY_S
        cut = f"the {dropped} oldest events dropped" if dropped else "the beginning of its only event dropped"
        logger.warning("context of %d tokens cut to %d: %s (logged at most once a minute)", before, after, cut)
