"""Users' feedback on lists: which model learns from it, and that it counts once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from ranker.score import LearningTotals, ListFeedback
from streams.contracts import Feedback, RankRequest, Recommendations
from streams.rank.tier import RankTier
from streams.rank.worker import RankWorker
from streams.settings import Settings
from tests.unit.test_rank_worker import NOW, Out, Slow, event


class Learning(Slow):
    """Ranks the last candidate first, and records its feedback."""

    def __init__(self) -> None:
        super().__init__()
        self.received: list[ListFeedback] = []
        self.learning = LearningTotals()

    def learn(self, feedback: Sequence[ListFeedback]) -> None:
        self.received.extend(feedback)


def request(user_id: str, number: int, *chosen: tuple[str, str]) -> RankRequest:
    """A request whose feedback has these list ids and item ids."""
    plain = msgspec.json.decode(event(user_id, number).message.value, type=RankRequest)
    given = [Feedback(list_id=list_id, item_id=item_id) for list_id, item_id in chosen]
    return msgspec.structs.replace(plain, feedback=given)


def test_feedback_reaches_the_lists_scorer_once_and_only_from_its_user() -> None:
    scorer = Learning()
    tier = RankTier(Settings(), scorer)
    [list_] = tier.rank([request("ann", 0)], NOW)
    shown = [item.item_id for item in list_.items]
    tier.rank([request("bob", 1, ("r0", shown[2]))], NOW)
    tier.rank([request("ann", 2, ("r0", "never shown"), ("unknown", shown[2]))], NOW)
    assert scorer.received == []
    tier.rank([request("ann", 3, ("r0", shown[2]))], NOW)
    tier.rank([request("ann", 4, ("r0", shown[2]))], NOW)
    [feedback] = scorer.received
    assert (feedback.list_id, feedback.chosen) == ("r0", 2)
    assert [f"c{position}" for position in feedback.shown] == shown
    tier.forget(["ann"])
    tier.rank([request("ann", 5, ("r0", shown[1]))], NOW)
    assert len(scorer.received) == 1


def test_a_replaced_model_receives_no_feedback() -> None:
    first, second = Learning(), Learning()
    tier = RankTier(Settings(), first)
    [list_] = tier.rank([request("ann", 0)], NOW)
    tier.serve(second, 0)
    tier.rank([request("ann", 1, ("r0", list_.items[0].item_id))], NOW)
    assert first.received == second.received == []


def test_a_replaced_request_leaves_its_feedback_to_the_newer_one() -> None:
    scorer = Learning()
    tier = RankTier(Settings(), scorer)
    tier.rank([request("ann", 0)], NOW)

    def message(number: int, item_id: str) -> Any:
        of_kafka = event("ann", number)
        of_kafka.message.value = msgspec.json.encode(request("ann", number, ("r0", item_id)))
        return of_kafka

    async def played() -> None:
        out: Any = Out()
        with ThreadPoolExecutor(1) as thread:
            worker = RankWorker(Settings(), tier, out, out, thread)
            for number, item_id in ((1, "c4"), (2, "c1"), (3, "c4")):
                await worker.take(message(number, item_id))
            running = asyncio.create_task(worker.run())
            await worker.acks.drain(5)
            running.cancel()
            assert [list_.list_id for _, list_ in out.lists.values()] == ["r3"]

    asyncio.run(played())
    assert [feedback.chosen for feedback in scorer.received] == [0, 3]


def test_a_model_learns_nothing_from_lists_made_without_it() -> None:
    scorer = Learning()
    tier = RankTier(Settings(), scorer)
    [list_] = tier.rank_without_model([request("ann", 0)], "overload", NOW)
    assert isinstance(list_, Recommendations)
    tier.rank([request("ann", 1, ("r0", list_.items[0].item_id))], NOW)
    assert scorer.received == []
