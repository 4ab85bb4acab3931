"""The two contracts of `/rerank`: the body of a request, and the scores in an answer. Knows no connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

Api: TypeAlias = Literal["jina", "tei"]
OTHER: dict[Api, Api] = {"jina": "tei", "tei": "jina"}
OWNERS: dict[Api, str] = {"jina": "Jina, Cohere, vLLM, SGLang and infinity", "tei": "Text Embeddings Inference"}
MAX_TEXTS: dict[Api, int] = {"jina": 1_000, "tei": 32}
"""Texts of one request: Cohere recommends at most 1,000; 32 is the default of TEI's `--max-client-batch-size`."""


LARGEST = float(np.finfo(np.float32).max)
Score = Annotated[float, msgspec.Meta(ge=-LARGEST, le=LARGEST)]


class _Scored(msgspec.Struct):
    index: int
    score: Score


class _Relevant(msgspec.Struct):
    index: int
    relevance_score: Score


class _Results(msgspec.Struct):
    results: list[_Relevant]


def body(api: Api, model: str | None, query: str, texts: Sequence[str]) -> bytes:
    """Write the body of a request.

    TEI is asked for logits, because probabilities near 1 are equal in float32, and to cut what is too long at the
    beginning, where the oldest events are. The other contract has no such fields, and Cohere refuses unknown ones.
    """
    if api == "tei":
        fields = {"query": query, "texts": texts, "raw_scores": True, "truncate": True, "truncation_direction": "Left"}
        return msgspec.json.encode(fields)
    return msgspec.json.encode(({"model": model} if model else {}) | {"query": query, "documents": texts})


def scores(api: Api, content: bytes, count: int) -> NDArray[np.float32]:
    """Read the scores of `count` texts, in the order of the texts, from an answer. SGLang answers as TEI does.

    Raises
    ------
    ValueError
        It is no answer of this contract, or lacks a text.
    """
    found: list[_Scored] | list[_Relevant]
    try:
        if api == "tei":
            found = msgspec.json.decode(content, type=list[_Scored])
        else:
            answer = msgspec.json.decode(content, type=_Results | list[_Scored])
            found = answer.results if isinstance(answer, _Results) else answer
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from None
    if sorted(one.index for one in found) != list(range(count)):
        raise ValueError(f"{len(found)} scores for {count} texts")
    scores = np.empty(count, np.float32)
    for one in found:
        scores[one.index] = one.relevance_score if isinstance(one, _Relevant) else one.score
    return scores
