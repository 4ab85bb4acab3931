"""Texts cut to what a model can read: the newest events of a context, the beginning of an item's text.

A context holds one event per line in order of time, newest last. Nothing is cut in silence: `Usage` counts it
and the log says it, at most once a minute. Unknown tokens are counted too. Knows no model beyond its longest input.
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
LEAST_ROOM = 8
"""Tokens of a text; a model that reads fewer has a wrong setting."""

logger = logging.getLogger(__name__)
_next_log = 0.0


def fit_contexts(
    contexts: Sequence[str], tokens: PlainTokens, limit: int, usage: Usage, prompt: str = ""
) -> list[list[int]]:
    """Tokenise contexts, each cut to `limit` tokens by dropping whole events, oldest first.

    Only if the newest event alone is too long is its own beginning cut. A prompt before a context is never cut.

    Parameters
    ----------
    contexts : sequence of str
        One event per line, newest last; may be empty.
    limit : int
        Tokens that a context may have.

    Returns
    -------
    list of list of int
        Token ids, at most `limit` of them. They depend on the kept events only.
    """
    with usage.timing("tokenise_seconds"):
        fitted = tokens([prompt + context for context in contexts])
        _count(fitted, tokens, usage)
        for place, ids in enumerate(fitted):
            if len(ids) > limit:
                [before] = tokens([prompt])
                newest, dropped = _newest(contexts[place], tokens, limit - len(before))
                fitted[place] = before + newest
                usage.truncated_contexts += 1
                usage.truncated_context_tokens += len(ids) - len(fitted[place])
                _log_cut(len(ids), len(fitted[place]), dropped)
    return fitted


def newest_events(contexts: Sequence[str], most: int, tokens: PlainTokens, usage: Usage) -> list[list[str]]:
    """Split contexts into their events, each context cut to the `most` newest; blank lines are no events."""
    split = [[line for line in context.split("\n") if line.strip()] for context in contexts]
    for place, events in enumerate(split):
        if len(events) > most:
            with usage.timing("tokenise_seconds"):
                sizes = [len(ids) for ids in tokens(events)]
            usage.truncated_contexts += 1
            usage.truncated_context_tokens += sum(sizes[:-most])
            _log_cut(sum(sizes), sum(sizes[-most:]), len(events) - most)
            split[place] = events[-most:]
    return split


def fit_items(texts: Sequence[str], tokens: Tokens, limit: int, usage: Usage) -> list[list[int]]:
    """Tokenise items' texts, each cut to its first `limit` tokens."""
    with usage.timing("tokenise_seconds"):
        fitted = tokens(texts)
    _count(fitted, tokens, usage)
    usage.truncated_candidates += sum(len(ids) > limit for ids in fitted)
    return [ids[:limit] for ids in fitted]


def room_for_texts(name: str, model: Any, tokenizer: Any, cap: int, framing: int) -> int:
    """Tokens of a row that are left for texts, beside `framing` tokens around them.

    Raises
    ------
    ModelUnsupported
        Next to none.
    """
    longest = longest_input(model, tokenizer, cap)
    if longest - framing < LEAST_ROOM:
        raise ModelUnsupported(
            f"model: got {name!r}, which reads {longest} tokens with {framing} around the texts, expected room for "
            f"{LEAST_ROOM} at least; correct model_max_length in its tokenizer_config.json, or max_seq_length in its "
            "sentence_bert_config.json"
        )
    return longest - framing


def longest_input(model: Any, tokenizer: Any, cap: int) -> int:
    """Tokens that `model` reads at most, special tokens included, and never more than `cap`.

    The smallest of the tokeniser's limit and the positions that the model has, less those before its first.
    """
    limits = [cap, tokenizer.model_max_length]
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if positions and positions > 0:  # DeBERTa writes -1 where there is no limit
        limits.append(positions - first_position(model))
    return int(min(limits))


def first_position(model: Any) -> int:
    """The position of a row's first token: 0, but RoBERTa's kin count on from the padding index."""
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
    """Return the ids of the newest events that fit, and how many older ones were dropped."""
    events = context.rstrip("\n").split("\n")
    sizes = [len(ids) for ids in tokens([event + "\n" for event in events])]
    first, total = len(events) - 1, sizes[-1]
    while first and total + sizes[first - 1] <= limit:
        first -= 1
        total += sizes[first]
    ids = tokens(["\n".join(events[first:])])[0]
    while len(ids) > limit and first < len(events) - 1:  # lines joined can be a token longer than lines apart
        first += 1
        ids = tokens(["\n".join(events[first:])])[0]
    return ids[max(0, len(ids) - limit) :], first


def _log_cut(before: int, after: int, dropped: int) -> None:
    global _next_log
    now = time.monotonic()
    if now >= _next_log:
        _next_log = now + LOG_EVERY_S
        what = f"the {dropped} oldest events dropped" if dropped else "the beginning of its only event dropped"
        logger.warning("context of %d tokens cut to %d: %s (said once a minute at most)", before, after, what)
