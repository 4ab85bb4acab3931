"""What users chose of lists: whose model is told, and that it counts once."""

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
    """Ranks the last candidate first, and notes what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[ListFeedback] = []
        self.learning = LearningTotals()

    def learn(self, feedback: Sequence[ListFeedback]) -> None:
        self.told.extend(feedback)


def request(user_id: str, number: int, *answers: tuple[str, str]) -> RankRequest:
    plain = msgspec.json.decode(event(user_id, number).message.value, type=RankRequest)
    given = [Feedback(list_id=list_id, item_id=item_id) for list_id, item_id in answers]
    return msgspec.structs.replace(plain, feedback=given)


def test_who_made_the_list_is_told_once_and_only_by_its_user() -> None:
    scorer = Learning()
    tier = RankTier(Settings(), scorer)
    [list_] = tier.rank([request("ann", 0)], NOW)
    shown = [item.item_id for item in list_.items]
    tier.rank([request("bob", 1, ("r0", shown[2]))], NOW)
    tier.rank([request("ann", 2, ("r0", "never shown"), ("unknown", shown[2]))], NOW)
    assert scorer.told == []
    tier.rank([request("ann", 3, ("r0", shown[2]))], NOW)
    tier.rank([request("ann", 4, ("r0", shown[2]))], NOW)
    [told] = scorer.told
    assert (told.list_id, told.chosen) == ("r0", 2)
    assert [f"c{position}" for position in told.shown] == shown
    tier.forget(["ann"])
    tier.rank([request("ann", 5, ("r0", shown[1]))], NOW)
    assert len(scorer.told) == 1


def test_a_model_that_was_replaced_is_told_nothing() -> None:
    first, second = Learning(), Learning()
    tier = RankTier(Settings(), first)
    [list_] = tier.rank([request("ann", 0)], NOW)
    tier.serve(second, 0)
    tier.rank([request("ann", 1, ("r0", list_.items[0].item_id))], NOW)
    assert first.told == second.told == []


def test_a_request_that_is_overtaken_leaves_its_answers_to_the_newer() -> None:
    scorer = Learning()
    tier = RankTier(Settings(), scorer)
    tier.rank([request("ann", 0)], NOW)

    def message(number: int, item_id: str) -> Any:
        one = event("ann", number)
        one.message.value = msgspec.json.encode(request("ann", number, ("r0", item_id)))
        return one

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
    assert [answer.chosen for answer in scorer.told] == [0, 3]


def test_lists_made_without_the_model_teach_it_nothing() -> None:
    scorer = Learning()
    tier = RankTier(Settings(), scorer)
    [list_] = tier.rank_without_model([request("ann", 0)], "overload", NOW)
    assert isinstance(list_, Recommendations)
    tier.rank([request("ann", 1, ("r0", list_.items[0].item_id))], NOW)
    assert scorer.told == []
