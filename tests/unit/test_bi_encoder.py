"""What only the bi-encoder does: it keeps the vectors of events and items, and scores by cosines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ranker.score import ScoreRequest
from ranker.scorers.bi_encoder import BiEncoder
from tests import models, references
from tests.references import CANDIDATES, CONTEXT, TOLERANCE, close


def test_it_computes_a_known_candidate_once(tmp_path: Path) -> None:
    scorer = BiEncoder(str(models.encoder(tmp_path)), "cpu", "float32")
    [first] = scorer.score([ScoreRequest(CONTEXT, CANDIDATES)])
    tokens = scorer.usage.candidate_tokens
    [second] = scorer.score([ScoreRequest(CONTEXT, CANDIDATES)])
    assert scorer.usage.candidate_tokens == tokens
    np.testing.assert_array_equal(first, second)
    tiny = BiEncoder(str(tmp_path), "cpu", "float32", cache_bytes=1)
    close(tiny.score([ScoreRequest(CONTEXT, CANDIDATES)])[0], first)


def test_it_computes_a_known_event_once(tmp_path: Path) -> None:
    scorer = BiEncoder(str(models.encoder(tmp_path)), "cpu", "float32")
    usage = scorer.usage
    [first] = scorer.score([ScoreRequest(CONTEXT, CANDIDATES)])
    computed = usage.context_tokens
    assert usage.context_tokens_reused == 0
    [second, longer] = scorer.score(
        [ScoreRequest(CONTEXT, CANDIDATES), ScoreRequest(CONTEXT + "\nClicked tent", CANDIDATES)]
    )
    assert usage.context_tokens_reused == 2 * computed
    assert 0 < usage.context_tokens - computed < computed, "the new line alone"
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - longer).max() > TOLERANCE


def test_it_counts_a_line_twice_in_one_batch_as_reused(tmp_path: Path) -> None:
    scorer = BiEncoder(str(models.encoder(tmp_path)), "cpu", "float32")
    [twice, _] = scorer.score([ScoreRequest("Clicked tent\nClicked tent", CANDIDATES), ScoreRequest("Unread", [])])
    assert scorer.usage.context_tokens_reused == scorer.usage.context_tokens > 0
    close(twice, scorer.score([ScoreRequest("Clicked tent", CANDIDATES)])[0])


@torch.inference_mode()
def test_it_scores_one_event_by_its_cosine(tmp_path: Path) -> None:
    folder = models.encoder(tmp_path)
    scorer = BiEncoder(str(folder), "cpu", "float32")
    [alone, with_blank_lines, itself, empty, blank] = scorer.score(
        [
            ScoreRequest("Red tent for two", CANDIDATES),
            ScoreRequest("\n\nRed tent for two\n \n", CANDIDATES),
            ScoreRequest("Umbrella", ["Umbrella"]),
            ScoreRequest("", CANDIDATES),
            ScoreRequest("\n ", CANDIDATES),
        ]
    )
    reference = references.bi_encoder(folder)
    close(alone, [reference("Red tent for two", candidate) for candidate in CANDIDATES])
    np.testing.assert_array_equal(alone, with_blank_lines)
    close(itself, [1.0])
    np.testing.assert_array_equal([empty, blank], np.zeros((2, len(CANDIDATES))))


def test_it_keeps_a_text_as_event_and_as_item_apart(tmp_path: Path) -> None:
    folder = str(models.encoder(tmp_path))
    long = "red tent" + " hat" * 200 + " stove"  # as an item it loses its end, as an event its beginning
    scorer = BiEncoder(folder, "cpu", "float32")
    scorer.score([ScoreRequest(CONTEXT, [long])])
    [scores] = scorer.score([ScoreRequest(long, CANDIDATES)])
    [fresh] = BiEncoder(folder, "cpu", "float32").score([ScoreRequest(long, CANDIDATES)])
    close(scores, fresh)
