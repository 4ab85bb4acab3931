"""The rank worker with slow and failing models, under overload, and when partitions come and go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
from faust.types import TP
from numpy.typing import NDArray

from encoders.models.device import Placement
from encoders.models.usage import Usage
from ranker.score import ScoreRequest
from streams import metrics
from streams.contracts import Candidate, HistoryEvent, RankRequest, Recommendations
from streams.kafka.outgoing import Outgoing
from streams.rank.tier import RankTier
from streams.rank.worker import RankWorker
from streams.settings import RankerSettings, Settings

NOW = 1_790_000_000_000
LIST_S = 0.02
MAX_WAIT_S = 1.0


class Slow:
    """A model that takes `list_s` for each list, one call at a time."""

    name = "slow"
    list_s = LIST_S
    feature_set = None
    reads_events = False
    placement = Placement("cpu", "float32", "a test")

    def __init__(self) -> None:
        self.usage = Usage()
        self._one_at_a_time = Lock()

    def prepare(self, texts: Sequence[str], events: Sequence[str] = ()) -> None:
        pass

    def forget(self, users: Collection[str] | None) -> None:
        pass

    def score(self, requests: Sequence[ScoreRequest]) -> list[NDArray[np.float32]]:
        with self._one_at_a_time:
            time.sleep(self.list_s * len(requests))
        return [np.arange(len(request.candidates), dtype=np.float32) for request in requests]


class Out:
    """Stands for Kafka and Redis: records each user's newest list and when it was published."""

    def __init__(self) -> None:
        self.lists: dict[str, tuple[float, Recommendations]] = {}

    async def deliver(self, messages: Sequence[Outgoing]) -> list[Any]:
        for message in messages:
            list_ = msgspec.json.decode(message.value or b"", type=Recommendations)
            self.lists[list_.user_id] = time.monotonic(), list_
        return []

    async def write(self, published: Sequence[Any], written: Sequence[Any]) -> None:
        pass


def event(user_id: str, offset: int) -> Any:
    request = RankRequest(
        request_id=f"r{offset}",
        user_id=user_id,
        as_of=NOW,
        history=[HistoryEvent(item_id="i", type="click", timestamp=NOW, title="A tent")],
        candidates=[Candidate(item_id=f"c{position}", text=f"Item {position}") for position in range(5)],
    )
    message = SimpleNamespace(
        topic="rank-requests",
        partition=0,
        offset=offset,
        key=user_id.encode(),
        value=msgspec.json.encode(request),
        tp=("rank-requests", 0),
        timestamp=NOW / 1000,
        timestamp_type=0,
        headers=None,
    )
    return SimpleNamespace(message=message, ack=lambda: True)


class Slower(Slow):
    """So slow that a busy machine does the rest of the work in time."""

    list_s = 0.1


async def played(users: int, per_s: float) -> tuple[list[float], list[str | None]]:
    """Send one request for each user. Returns the seconds to each list, and why it is degraded."""
    settings = Settings(ranker=RankerSettings(max_wait_ms=round(MAX_WAIT_S * 1000)))
    out: Any = Out()
    with ThreadPoolExecutor(2) as threads:
        worker = RankWorker(settings, RankTier(settings, Slower()), out, out, threads)
        running = asyncio.create_task(worker.run())
        sent, begin = list[float](), time.monotonic()
        for number in range(users):
            await asyncio.sleep(max(0.0, begin + number / per_s - time.monotonic()))
            sent.append(time.monotonic())
            await worker.take(event(f"u{number}", number))
        done, _ = await asyncio.wait(
            [running, asyncio.create_task(worker.acks.drain(20))], return_when="FIRST_COMPLETED"
        )
        assert running not in done
        running.cancel()
    assert len(worker.acks) == 0
    published = [out.lists[f"u{number}"] for number in range(users)]
    return [at - s for (at, _), s in zip(published, sent, strict=True)], [list_.degraded for _, list_ in published]


def test_at_twice_the_models_capacity_nobody_waits_long() -> None:
    waits, degraded = asyncio.run(played(users=60, per_s=2 / Slower.list_s))
    assert max(waits) < 4 * MAX_WAIT_S
    assert set(degraded) == {None, "overload"}
    assert 0.2 < degraded.count(None) / len(degraded) < 0.8


def test_at_half_of_the_models_capacity_the_model_ranks_every_list() -> None:
    waits, degraded = asyncio.run(played(users=20, per_s=0.5 / Slower.list_s))
    assert set(degraded) == {None}
    assert max(waits) < MAX_WAIT_S


class Troubled(Slow):
    """A model that raises, then hangs, then returns NaN, and then works."""

    def __init__(self) -> None:
        super().__init__()
        self._troubles = ["raise", "hang", "nan"]

    def score(self, requests: Sequence[ScoreRequest]) -> list[NDArray[np.float32]]:
        trouble = self._troubles.pop(0) if self._troubles else ""
        if trouble == "raise":
            raise RuntimeError("no memory left on the device")
        if trouble == "hang":
            time.sleep(0.3)
        scores = super().score(requests)
        return [np.full_like(array, np.nan) for array in scores] if trouble == "nan" else scores


def test_lists_without_the_model_say_why_and_the_model_is_used_again_once_it_works() -> None:
    settings = Settings(ranker=RankerSettings(timeout_ms=100))

    async def played() -> list[str | None]:
        out: Any = Out()
        with ThreadPoolExecutor(1) as thread:
            worker = RankWorker(settings, RankTier(settings, Troubled()), out, out, thread)
            running = asyncio.create_task(worker.run())
            for number in range(5):
                if number == 3:
                    await asyncio.sleep(0.4)  # the hanging call has ended
                await worker.take(event(f"u{number}", number))
                await worker.acks.drain(5)
            running.cancel()
        return [out.lists[f"u{number}"][1].degraded for number in range(5)]

    assert asyncio.run(played()) == ["model-error", "model-timeout", "model-busy", "model-not-finite", None]


class EveryThird(Slow):
    """A model that raises on every third batch."""

    def __init__(self) -> None:
        super().__init__()
        self._batches = 0

    def score(self, requests: Sequence[ScoreRequest]) -> list[NDArray[np.float32]]:
        self._batches += 1
        if self._batches % 3 == 0:
            raise IndexError("index out of range in self")
        return super().score(requests)


def test_a_failed_call_degrades_only_its_own_lists() -> None:
    async def played() -> list[str | None]:
        out: Any = Out()
        with ThreadPoolExecutor(1) as thread:
            worker = RankWorker(Settings(), RankTier(Settings(), EveryThird()), out, out, thread)
            running = asyncio.create_task(worker.run())
            for number in range(9):
                await worker.take(event(f"u{number}", number))
                await worker.acks.drain(5)
            running.cancel()
        return [out.lists[f"u{number}"][1].degraded for number in range(9)]

    assert asyncio.run(played()) == [None, None, "model-error"] * 3


def test_a_nan_score_ranks_last_and_is_counted() -> None:
    class Holes(Slow):
        def score(self, requests: Sequence[ScoreRequest]) -> list[NDArray[np.float32]]:
            scores = super().score(requests)
            for array in scores:
                array[4] = np.nan
            return scores

    before = metrics.scores_not_finite.labels("slow")._value.get()
    request = msgspec.json.decode(event("ann", 0).message.value, type=RankRequest)
    [list_] = RankTier(Settings(), Holes()).rank([request], NOW)
    assert [item.item_id for item in list_.items] == ["c3", "c2", "c1", "c0", "c4"]
    assert list_.degraded is None
    assert metrics.scores_not_finite.labels("slow")._value.get() == before + 1


def event_of(user_id: str, offset: int, version: int) -> Any:
    versioned = event(user_id, offset)
    request = msgspec.json.decode(versioned.message.value, type=RankRequest)
    versioned.message.value = msgspec.json.encode(msgspec.structs.replace(request, state_version=version))
    return versioned


def test_a_list_is_not_published_if_its_partition_was_revoked_meanwhile() -> None:
    async def played() -> None:
        out: Any = Out()
        with ThreadPoolExecutor(1) as thread:
            worker = RankWorker(Settings(), RankTier(Settings(), Slow()), out, out, thread)
            running = asyncio.create_task(worker.run())
            await worker.take(event("ann", 0))
            await asyncio.sleep(LIST_S / 2)  # the model works on it
            await worker.on_revoke({TP("rank-requests", 0)})
            await asyncio.sleep(LIST_S * 3)
            assert out.lists == {}, "the new owner may have published a newer one"
            await worker.take(event("bob", 1))
            await worker.acks.drain(5)
            assert set(out.lists) == {"bob"}
            running.cancel()

    asyncio.run(played())


def test_a_new_partition_is_read_to_its_end_before_its_requests_are_ranked() -> None:
    """The previous owner may have published a user's newer list already: the older one must not follow it."""

    async def played() -> None:
        out: Any = Out()
        with ThreadPoolExecutor(1) as thread:
            worker = RankWorker(Settings(), RankTier(Settings(), Slow()), out, out, thread)
            running = asyncio.create_task(worker.run())
            worker.resume({("rank-requests", 0): 2})
            await worker.take(event_of("ann", 0, 7))
            await asyncio.sleep(LIST_S * 5)
            assert out.lists == {}
            await worker.take(event_of("ann", 1, 8))
            await worker.acks.drain(5)
            assert [list_.state_version for _, list_ in out.lists.values()] == [8]
            running.cancel()

    asyncio.run(played())
