"""What only the bi-encoder does: it keeps the vectors of items, and scores events by their cosines."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ranker.score import ScoreRequest
from ranker.scorers.bi_encoder import MAX_EVENTS, BiEncoder
from ranker.scorers.vector_cache import ENTRY_BYTES, VectorCache, Vectors
from tests import models, references
from tests.references import CANDIDATES, CONTEXT, TOLERANCE, Reference, close

TEXTS = st.sampled_from(
    ("Red tent for two", "Wool hat", "Umbrella", "Coffee maker", "Blue shoes size 42", "Camping stove")
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.encoder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def shared(folder: Path) -> BiEncoder:
    return BiEncoder(str(folder), "cpu", "float32")


@pytest.fixture(scope="module")
def reference(folder: Path) -> Reference:
    return references.bi_encoder(folder)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.lists(TEXTS, min_size=1, max_size=MAX_EVENTS), st.lists(TEXTS, max_size=5)), max_size=4))
def test_it_scores_any_history_as_the_reference_does(
    reference: Reference, shared: BiEncoder, asked: list[tuple[list[str], list[str]]]
) -> None:
    scores = shared.score([ScoreRequest("", candidates, events=events) for events, candidates in asked])
    with torch.inference_mode():
        for (events, candidates), row in zip(asked, scores, strict=True):
            close(row, [reference("\n".join(events), candidate) for candidate in candidates])


def test_it_encodes_nothing_for_items_that_were_prepared(folder: Path) -> None:
    """Whoever the users are: events of one item have one vector."""
    scorer = BiEncoder(str(folder), "cpu", "float32")
    history = ["Wool hat", "Umbrella"]
    scorer.prepare(CANDIDATES, history)
    computed = scorer.usage.candidate_tokens, scorer.usage.context_tokens
    for user, events in (("ann", history), ("bob", history[::-1]), ("eve", history * 3)):
        scorer.score([ScoreRequest("", CANDIDATES, user, events=events)])
    assert (scorer.usage.candidate_tokens, scorer.usage.context_tokens) == computed
    assert (scorer.usage.vector_hits, scorer.usage.vector_misses) == (3 * len(CANDIDATES) + 10, 0)
    scorer.score([ScoreRequest("", ["Another hat"], events=[*history, "Tent"])])
    assert scorer.usage.vector_misses == 2


@pytest.mark.parametrize("query", ["", "query: "])
def test_after_a_restart_no_text_is_encoded_again(tmp_path: Path, query: str) -> None:
    """Items and events, whether a model reads them alike or not; the vectors are the same as before."""
    folder, request = models.encoder(tmp_path / "model"), ScoreRequest("", CANDIDATES, events=["Wool hat", "Umbrella"])
    prompts = {"prompts": {"query": query, "document": ""}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts), encoding="utf-8")
    scores, figures = [], []
    for _ in range(2):
        scorer = BiEncoder(str(folder), "cpu", "float32")
        scorer.keep_vectors(tmp_path / "vectors.sqlite")
        scorer.prepare(CANDIDATES, ["Wool hat"])
        scores.append(scorer.score([request])[0])
        usage = scorer.usage
        figures.append((usage.vectors_read, usage.vectors_computed, usage.candidate_tokens + usage.context_tokens > 0))
    assert figures[0][0] == figures[1][1] == 0
    assert figures[0][1] == figures[1][0] > len(CANDIDATES)
    assert [computes for _, _, computes in figures] == [True, False]
    assert scores[0].tolist() == scores[1].tolist()


def test_without_events_the_lines_of_the_context_are_the_events(shared: BiEncoder) -> None:
    [by_lines, by_events, with_blank_lines, itself, empty, blank] = shared.score(
        [
            ScoreRequest(CONTEXT, CANDIDATES),
            ScoreRequest("Another context", CANDIDATES, events=CONTEXT.splitlines()),
            ScoreRequest(f"\n\n{CONTEXT}\n \n", CANDIDATES),
            ScoreRequest("Umbrella", ["Umbrella"]),
            ScoreRequest("", CANDIDATES),
            ScoreRequest("\n ", CANDIDATES),
        ]
    )
    np.testing.assert_array_equal(by_lines, by_events)
    np.testing.assert_array_equal(by_lines, with_blank_lines)
    close(itself, [1.0])
    np.testing.assert_array_equal([empty, blank], np.zeros((2, len(CANDIDATES))))


def test_an_event_has_a_vector_of_its_own_where_the_model_has_a_prompt_for_queries(tmp_path: Path) -> None:
    models.encoder(tmp_path)
    (tmp_path / "config_sentence_transformers.json").write_text('{"prompts": {"query": "hat: "}}', encoding="utf-8")
    scorer = BiEncoder(str(tmp_path), "cpu", "float32")
    [alike, other] = scorer.score([ScoreRequest("Wool hat", ["hat: Wool hat"]), ScoreRequest("Wool hat", ["Wool hat"])])
    close(alike, [1.0])
    assert other[0] < 1 - TOLERANCE


def test_a_full_cache_keeps_what_was_used_last(folder: Path) -> None:
    computed: list[str] = []

    def compute(texts: list[str]) -> Vectors:
        computed.extend(texts)
        return np.array([[len(text), index] for index, text in enumerate(texts)], np.float32)

    entry = len("n00") + 49 + 2 * 4 + ENTRY_BYTES
    cache = VectorCache(2, 20 * entry)
    names = [f"n{number:02}" for number in range(40)]
    for name in names:
        cache.vectors([names[0], name], compute)
    assert computed == names, "the first is used all the time"
    assert 18 <= len(cache) <= 20
    cache.vectors(names[-15:], compute)
    assert computed == names, "the newest are there"
    cache.vectors(names[1:3], compute)
    assert computed[len(names) :] == names[1:3]
    [long, again] = VectorCache(2, 1).vectors(["x" * 99] * 2, compute)
    assert long.tolist() == again.tolist() == [99, 0], "one that fits in no cache is still computed"
    [first] = BiEncoder(str(folder), "cpu", "float32", cache_bytes=1).score([ScoreRequest(CONTEXT, CANDIDATES)])
    [second] = BiEncoder(str(folder), "cpu", "float32").score([ScoreRequest(CONTEXT, CANDIDATES)])
    close(first, second)
