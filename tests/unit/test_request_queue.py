"""Which requests wait, which one of a user counts, and which of them a batch gets."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import pytest

from streams.contracts import RankRequest
from streams.rank import catch_up, request_queue
from streams.rank.catch_up import CatchUp
from streams.rank.request_queue import RequestQueue
from tests.unit.test_rank_worker import event
from tests.unit.test_recent_lists import request


def queue_of(*users: str, max_wait_s: float = 60) -> RequestQueue:
    """Users whose name begins with 'b' are of variant 1."""
    queue = RequestQueue(max_wait_s, lambda user_id: int(user_id.startswith("b")))
    for offset, user_id in enumerate(users):
        put(queue, user_id, offset)
    return queue


def put(queue: RequestQueue, user_id: str, offset: int, wish: RankRequest | None = None, *, later: bool = False) -> Any:
    """A request of the user, as it came from Kafka."""
    of_kafka = event(user_id, offset)
    queue.put(user_id, wish or msgspec.json.decode(of_kafka.message.value, type=RankRequest), of_kafka, later=later)
    return of_kafka


def test_the_newest_request_of_a_user_answers_all_and_keeps_the_place_in_the_queue() -> None:
    queue = queue_of("ann", "cid")
    newest = put(queue, "ann", 2)
    pending = queue.take_batch(0, 9)
    assert [(one.user_id, one.request and one.request.request_id) for one in pending] == [("ann", "r2"), ("cid", "r1")]
    assert [of_kafka.message.offset for of_kafka in pending[0].events] == [0, 2]
    assert pending[0].events[-1] is newest
    assert len(queue) == 0


def test_feedback_of_a_replaced_request_is_kept_unless_the_user_is_forgotten() -> None:
    queue = queue_of()
    put(queue, "ann", 0, request("ann", 0, ("l1", "i1")))
    put(queue, "ann", 1, request("ann", 1, ("l2", "i2")))
    [pending] = queue.take_batch(0, 9)
    assert pending.request is not None
    assert [given.item_id for given in pending.request.feedback] == ["i1", "i2"]
    put(queue, "ann", 2, request("ann", 2, ("l1", "i1")))
    queue.put("ann", None, event("ann", 3))
    [pending] = queue.take_batch(0, 9)
    assert pending.request is None
    assert len(pending.events) == 2


def test_a_batch_is_of_one_variants_users_and_of_those_who_wait_longest() -> None:
    queue = queue_of("bob", "ann", "ben", "bea", "cid")
    assert queue.next_variant() == 1
    assert [pending.user_id for pending in queue.take_batch(1, 2)] == ["bob", "ben"]
    assert queue.next_variant() == 0
    assert [pending.user_id for pending in queue.take_batch(0, 9)] == ["ann", "cid"]
    assert [pending.user_id for pending in queue.take_batch(1, 9)] == ["bea"]
    assert queue.next_variant() == 0


def test_only_overdue_requests_go_without_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_queue, "MAX_OVERDUE", 2)
    queue = queue_of("ann", "bob", "cid", max_wait_s=0.5)
    assert queue.take_overdue() == []
    time.sleep(0.6)
    put(queue, "new", 4)
    put(queue, "cid", 5)
    assert [pending.user_id for pending in queue.take_overdue()] == ["ann", "bob"], "of whatever variant"
    assert [pending.user_id for pending in queue.take_overdue()] == ["cid"], "who has waited, not their newest request"
    assert len(queue) == 1


def users_of(pending: list[Any]) -> list[str]:
    return [one.user_id for one in pending]


def test_requests_that_nobody_waits_for_come_last_and_get_the_model_unless_the_worker_is_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(request_queue, "MAX_HURRIED", 2)
    queue = queue_of(max_wait_s=0.5)
    for offset, user_id in enumerate(("ann", "cid", "dan", "eve", "fay")):
        put(queue, user_id, offset, later=True)
    put(queue, "new", 5)
    put(queue, "ann", 6)
    assert users_of(queue.take_batch(0, 1)) == ["new"]
    time.sleep(0.6)
    assert users_of(queue.take_overdue()) == ["ann"], "she waits since her click"
    queue.hurry()
    assert len(queue) == 4
    queue.put("dan", None, event("dan", 7))
    assert users_of(queue.take_overdue()) == ["cid"], "no list of who is to be forgotten"
    put(queue, "dan", 8, later=True)
    assert users_of(queue.take_batch(0, 9)) == ["dan", "dan"], "forgotten, then back"
    assert users_of(queue.take_batch(0, 9)) == ["eve", "fay"]


def test_requests_of_revoked_partitions_are_dropped() -> None:
    queue = queue_of("ann", "bob")
    elsewhere = event("bob", 2)
    elsewhere.message.tp = ("rank-requests", 1)
    queue.put("bob", None, elsewhere)
    queue.drop({("rank-requests", 1)})
    assert [pending.user_id for pending in queue.take_batch(0, 9)] == ["ann"]
    assert queue.take_batch(1, 9) == []


def test_catching_up_ends_when_all_partitions_are_read_or_the_worker_is_full() -> None:
    reading, complete = CatchUp(), []
    reading.begin({0: 2, 1: 1})
    for partition, offset in ((0, 1), (1, 0)):
        reading.note(partition, offset, is_full=False)
        complete.append(reading.complete)
    reading.begin({0: 9})
    complete.append(reading.complete)
    reading.note(0, 3, is_full=True)
    assert [*complete, reading.complete] == [False, True, False, True]


def test_catching_up_does_not_wait_for_what_retention_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catch_up, "CATCH_UP_S", 0.05)

    async def played() -> None:
        reading = CatchUp()
        reading.begin({0: 9})
        waiting = asyncio.create_task(reading.wait())
        await asyncio.sleep(0.02)
        assert not waiting.done()
        await asyncio.wait_for(waiting, 20)
        assert reading.complete

    asyncio.run(played())
