"""A scorer in this process that scores the rank requests that a worker had. Knows no Kafka."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import msgspec

from encoders.events.types import DEFAULT_WEIGHTS
from ranker.load import load_scorer
from ranker.score import ScoreRequest
from streams.bench.kafka_clients import ReceivedMessage
from streams.bench.timing import seconds
from streams.contracts import RankRequest
from streams.rank.ranking import Ranking, Reading
from streams.settings import RankerSettings

SINGLE_LISTS = 20
WARM_LINES, WARM_CANDIDATES = 20, 100
"""Texts of one request that only fills the cache."""


class ScorerAlone:
    """A scorer without a stream around it.

    Attributes
    ----------
    placement : Placement
        The scorer's device and number format.
    """

    def __init__(self, model: str, settings: RankerSettings) -> None:
        self._scorer = load_scorer(model, settings.device, settings.dtype)
        self._batch_lists = settings.batch_lists
        self.placement = self._scorer.placement

    def warm_up(self, received: Sequence[ReceivedMessage]) -> None:
        """Score every line of a context, or event, and every candidate of these requests once."""
        requests = self._score_requests(received)
        lines = list(dict.fromkeys(line for request in requests for line in request.context.splitlines()))
        events = list(dict.fromkeys(text for request in requests for text in request.events or ()))
        texts = list(dict.fromkeys(text for request in requests for text in request.candidates))
        self._scorer.prepare(texts, events)
        for start in range(0, len(lines), WARM_LINES):
            self._scorer.score([ScoreRequest("\n".join(lines[start : start + WARM_LINES]), texts[:1])])
        for start in range(0, len(texts), WARM_CANDIDATES):
            self._scorer.score([ScoreRequest("\n".join(lines[:1]), texts[start : start + WARM_CANDIDATES])])

    def per_s(self, received: Sequence[ReceivedMessage]) -> float:
        """Score the requests in batches as large as the rank tier's; return lists a second."""
        requests = self._score_requests(received)
        return len(requests) / seconds(self._score_in_batches, requests)

    def one_list_ms(self, received: Sequence[ReceivedMessage]) -> float:
        """Score up to `SINGLE_LISTS` of the requests one by one; return the median milliseconds of one."""
        requests = self._score_requests(received)[:SINGLE_LISTS]
        return median(seconds(self._scorer.score, [request]) * 1e3 for request in requests)

    def _score_in_batches(self, requests: Sequence[ScoreRequest]) -> None:
        for start in range(0, len(requests), self._batch_lists):
            self._scorer.score(requests[start : start + self._batch_lists])

    def _score_requests(self, received: Sequence[ReceivedMessage]) -> list[ScoreRequest]:
        """Decode rank requests, as the rank tier does."""
        decoded = [msgspec.json.decode(message.value, type=RankRequest) for message in received]
        feature_set, reads_events = self._scorer.feature_set, self._scorer.reads_events
        return [
            Ranking.cascaded(request, len(request.candidates), feature_set).score_request(
                reads_events, Reading(DEFAULT_WEIGHTS)
            )
            for request in decoded
        ]
