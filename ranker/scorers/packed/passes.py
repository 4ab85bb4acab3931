"""Score requests of a decoder as token ids, divided among forward passes of bounded size. Knows no model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ranker.scorers.packed.layout import KeysValues


@dataclass(eq=False)
class DecoderRequest:
    """One score request as token ids, and its results.

    Attributes
    ----------
    context : list of int
        The tokens that all candidates share.
    candidates : list of list of int
        Each candidate's own tokens.
    scores : (len(candidates),) float32
        Filled by the forward passes.
    cached : int
        The number of context tokens whose keys and values are in `layers` already.
    layers : list of KeysValues
        By layer, the keys and values of the context's first `cached` tokens.
    remaining : list of int
        Indices of the candidates that did not fit into the pass with the context.
    user : str
        The user of the request.
    """

    context: list[int]
    candidates: list[list[int]]
    scores: NDArray[np.float32]
    cached: int = 0
    layers: list[KeysValues] = field(default_factory=list)
    remaining: list[int] = field(default_factory=list)
    user: str = ""


class CandidateGroup(NamedTuple):
    """Some candidates of a request, by index."""

    request: DecoderRequest
    indices: list[int]


def first_passes(requests: Sequence[DecoderRequest], pass_tokens: int, cores: int) -> Iterator[list[CandidateGroup]]:
    """Yield passes that hold each request's context with as many candidates as fit; about equal work for each core."""
    tokens = [len(request.context) - request.cached + sum(map(len, request.candidates)) for request in requests]
    budget = min(pass_tokens, -(-sum(tokens) // cores))
    groups: list[CandidateGroup] = []
    held = 0
    for request, size in zip(requests, tokens, strict=True):
        if groups and held + min(size, pass_tokens) > budget:
            yield groups
            groups, held = [], 0
        room = pass_tokens - (len(request.context) - request.cached)
        indices = next(_split(request, range(len(request.candidates)), room))
        request.remaining = list(range(len(indices), len(request.candidates)))
        groups.append(CandidateGroup(request, indices))
        held += min(size, pass_tokens)
    if groups:
        yield groups


def remaining_passes(requests: Sequence[DecoderRequest], pass_tokens: int) -> Iterator[list[CandidateGroup]]:
    """Yield passes for the candidates that `first_passes` left; the contexts must have been computed."""
    for request in requests:
        yield from ([CandidateGroup(request, indices)] for indices in _split(request, request.remaining, pass_tokens))


def _split(request: DecoderRequest, indices: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Consecutive candidates of at most `budget` tokens in sum, at least one at a time."""
    group: list[int] = []
    tokens = 0
    for index in indices:
        if group and tokens + len(request.candidates[index]) > budget:
            yield group
            group, tokens = [], 0
        group.append(index)
        tokens += len(request.candidates[index])
    if group:
        yield group
