"""Score requests together that wait at the same time, as the rank tier does: without a timer, so never later for it.

While the model works, requests gather, and what has gathered is the next batch. Knows no HTTP.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

from encoders.errors import AfterclickError
from streams.contracts import RankRequest
from streams.rank.ranking import Ranking
from streams.rank.tier import RankTier

MAX_WAITING = 256
"""Requests that wait for the model; chosen by us: more would wait for a second or longer, even for a fast model."""


class ScorerOverloaded(AfterclickError):
    """More requests wait for the model than it answers within a second or so. A later attempt may succeed."""


@dataclass
class _Lane:
    """What waits for one variant's model, and whether the model works."""

    waiting: deque[tuple[RankRequest, asyncio.Future[Ranking]]] = field(default_factory=deque)
    working: asyncio.Task[None] | None = None


class ScoreBatches:
    """Scores requests.

    Parameters
    ----------
    tier : RankTier
        Has the scorers.
    threads : Executor
        The models work on these, outside the event loop.
    batch_lists : int
        The largest number of requests in one call of a model.

    Attributes
    ----------
    tier : RankTier
        The same.
    """

    def __init__(self, tier: RankTier, threads: Executor, batch_lists: int) -> None:
        self.tier = tier
        self._threads = threads
        self._batch_lists = batch_lists
        self._lanes = [_Lane() for _ in tier.scorers]

    async def score(self, request: RankRequest) -> Ranking:
        """Score all candidates of a request.

        Raises
        ------
        ScorerOverloaded
            `MAX_WAITING` requests wait already.
        Exception
            Whatever the model raises.
        """
        lane = self._lanes[self.tier.variant(request.user_id)]
        if len(lane.waiting) >= MAX_WAITING:
            raise ScorerOverloaded(
                f"rerank: got a request while {MAX_WAITING} wait for the model, expected fewer; try again in a second"
            )
        answer: asyncio.Future[Ranking] = asyncio.get_running_loop().create_future()
        lane.waiting.append((request, answer))
        if lane.working is None:
            lane.working = asyncio.create_task(self._work(lane))
        return await answer

    async def _work(self, lane: _Lane) -> None:
        try:
            while lane.waiting:
                batch = [lane.waiting.popleft() for _ in range(min(self._batch_lists, len(lane.waiting)))]
                await self._score([(request, answer) for request, answer in batch if not answer.done()])
        finally:
            lane.working = None

    async def _score(self, batch: Sequence[tuple[RankRequest, asyncio.Future[Ranking]]]) -> None:
        """Score those whose callers still wait."""
        requests = [request for request, _ in batch]
        if not requests:
            return
        limit = max(len(request.candidates) for request in requests)
        call = asyncio.get_running_loop().run_in_executor(self._threads, self.tier.score, requests, limit)
        try:
            rankings = await call
        except Exception as error:  # noqa: BLE001 whatever a model raises, its callers get it
            for _, answer in batch:
                if not answer.done():
                    answer.set_exception(error)
            return
        for (_, answer), ranking in zip(batch, rankings, strict=True):
            if not answer.done():
                answer.set_result(ranking)
