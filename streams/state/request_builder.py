"""Step 3 in memory: recall candidates for a user, and build the rank request. Knows no Kafka and no Faust."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from encoders.interest import TYPES, Decay, Interest
from ranker import features
from ranker.load import has_fusion
from ranker.recall.candidates import RecalledCandidate, Source, UserView, recall
from ranker.recall.catalogue import Catalogue
from ranker.recall.counts import Counts
from streams.contracts import Candidate, Features, Feedback, HistoryEvent, RankRequest, Trigger
from streams.settings import Settings

HISTORY_STEP = 10
"""Number of events by which the beginning of a long history moves at a time. Chosen by us: at most a fifth of it."""


class RequestBuilder:
    """Recalls candidates, and builds requests from them.

    Parameters
    ----------
    settings : Settings
        How many candidates a request has, and the models that decide whether it has features.
    catalogue : Catalogue
        The items.
    counts : Counts
        Co-visits and trends.
    sources : sequence of Source
        Where candidates come from.
    decay : Decay
        Settings of the interest state.
    """

    def __init__(
        self, settings: Settings, catalogue: Catalogue, counts: Counts, sources: Sequence[Source], decay: Decay
    ) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._counts = counts
        self._sources = sources
        self._decay = decay
        self.look_at_models()

    def look_at_models(self) -> None:
        """Find out whether the models need features. A folder may hold another model than when this last looked."""
        ranker = self._settings.ranker
        fused = has_fusion(ranker.model) or (ranker.challenger is not None and has_fusion(ranker.challenger))
        self._with_features = fused or self._settings.candidates.features == "always"

    def shopper(self, interest: Interest) -> UserView:
        """Give what the sources may look at: the user's interest beside the catalogue and the counts."""
        return UserView(interest, self._catalogue, self._counts, self._decay)

    def recall(self, shopper: UserView, excluded: Sequence[int] = ()) -> list[RecalledCandidate]:
        """Recall the user's candidates, best first.

        Parameters
        ----------
        shopper : UserView
            The user.
        excluded : sequence of int
            Keys of items that may not be candidates, beside those that `recall` excludes by itself.
        """
        limits = self._settings.candidates
        return recall(shopper, self._sources, limits.limit, limits.repeat_purchases, excluded)

    def build(
        self,
        user_id: str,
        shopper: UserView,
        candidates: Sequence[RecalledCandidate],
        trigger: Trigger | None = None,
        arrived_ms: int | None = None,
        feedback: Sequence[Feedback] = (),
    ) -> RankRequest:
        """Build the request to rank these candidates for the user.

        Parameters
        ----------
        user_id : str
            The user.
        shopper : UserView
            The same user, as given to `recall`.
        candidates : sequence of RecalledCandidate
            In any order.
        trigger : Trigger, optional
            The event that caused the request.
        arrived_ms : int, optional
            When that event's record was written.
        feedback : sequence of Feedback
            The items that the user chose from lists since the last request.
        """
        interest = shopper.state
        return RankRequest(
            request_id=uuid.uuid4().hex,
            user_id=user_id,
            as_of=interest.as_of_ms,
            history=self._history(interest),
            candidates=[self._candidate(merged) for merged in candidates],
            features=_features(shopper, candidates) if self._with_features else None,
            feedback=list(feedback),
            state_version=interest.version,
            trigger=trigger,
            arrived_at=arrived_ms,
        )

    def _history(self, interest: Interest) -> list[HistoryEvent]:
        """Give the newest events about items of the catalogue, oldest first.

        Of a full history the oldest few events are omitted, so that it begins with the same event for `HISTORY_STEP`
        events in a row. A decoder reuses its work on a history as long as the beginning does not move.
        """
        is_full = interest.version > len(interest.history)
        omitted = -interest.version % HISTORY_STEP if is_full else 0
        newest = interest.history[omitted:].tolist()
        entries = ((self._catalogue.get(key), time_ms, type_) for time_ms, key, type_ in newest)
        return [
            HistoryEvent(
                item_id=item.item_id,
                type=TYPES[type_],
                timestamp=time_ms,
                title=item.title,
                brand=item.brand,
                categories=list(item.categories),
                price=item.price,
                currency=item.currency,
            )
            for item, time_ms, type_ in entries
            if item is not None
        ]

    def _candidate(self, merged: RecalledCandidate) -> Candidate:
        item = self._catalogue.at(merged.row)
        because = None if merged.because is None else self._catalogue.get(merged.because)
        return Candidate(
            item_id=item.item_id,
            text=item.text,
            sources=list(merged.ranks),
            categories=list(item.categories),
            retrieval_score=merged.retrieval_score,
            because=because.item_id if because else None,
        )


def _features(shopper: UserView, candidates: Sequence[RecalledCandidate]) -> Features:
    return Features(schema=features.SCHEMA, values=features.features(shopper, candidates).tobytes())
