"""Each fault of Faust's consumer, twice: mended, and as it is without the class that mends it.

Where a case "without" fails, Faust has mended the fault itself, and our class can go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError, TopicAuthorizationFailedError
from aiokafka.protocol.group import HeartbeatRequest
from faust.transport.drivers import aiokafka
from faust.types import TP

from streams.faust_compat import committing, fetching, progress, restoring, seeking
from streams.faust_compat import consumer as ours
from streams.faust_compat import consumer_thread as threads
from streams.faust_compat.app import App
from streams.faust_compat.constants import WAIT_WITHOUT_FLOW_MS
from streams.faust_compat.consumer import Consumer
from streams.faust_compat.progress import Progress
from streams.faust_compat.transport import FencedProducer

CLICKS = TP("clicks", 0)
STATES = TP("states", 0)
NOBODY: Any = lambda *_: None  # noqa: E731


def without(fault: type, instead: type | None = None) -> type:
    """Return our consumer without the class that mends a fault."""
    bases = [instead if base is fault else base for base in Consumer.__bases__]
    assert bases != list(Consumer.__bases__)
    return type("Without", tuple(base for base in bases if base), {"partition_counts": Consumer.partition_counts})


def both(fault: type, instead: type | None = None) -> pytest.MarkDecorator:
    """Run a test with our consumer and with the one that has the fault."""
    kinds = [pytest.param(Consumer, True, id="mended"), pytest.param(without(fault, instead), False, id="without")]
    return pytest.mark.parametrize(("kind", "mended"), kinds)


@pytest.fixture(autouse=True)
def closed_loops(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close the event loops of the threads that Faust makes, and that no test starts."""
    loops: list[asyncio.AbstractEventLoop] = []

    def new_loop() -> asyncio.AbstractEventLoop:
        loops.append(asyncio.events.new_event_loop())
        return loops[-1]

    monkeypatch.setattr(asyncio, "new_event_loop", new_loop)
    yield
    for loop in loops:
        loop.close()


class Thread:
    """A consumer thread that answers as it is told, and notes what it is asked."""

    def __init__(self, **answers: Any) -> None:
        self.asked: list[tuple[str, Any]] = []
        self._answers: dict[str, Any] = {"assignment": {CLICKS, STATES}, "log_ranges": {}}
        self._answers |= answers

    def assignment(self) -> Any:
        return self._answers["assignment"]

    def read_progress(self, tp: TP) -> Any:
        return self._answers["read_progress"]

    def set_fetch_wait(self, wait_ms: int) -> None:
        self.asked.append(("set_fetch_wait", wait_ms))

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: Any) -> Any:
            self.asked.append((name, arguments))
            answer = self._answers.get(name, {})
            if isinstance(answer, Exception):
                raise answer
            return await answer(*arguments) if callable(answer) else answer

        return call


def consumer_of(kind: type, thread: Any = None) -> Any:
    """Make a consumer of an app with a table, with a thread that needs no Kafka."""
    app = App("tests", fetch_wait_ms=100, broker="kafka://127.0.0.1:1", store="memory://")
    app.Table("states", changelog_topic=app.topic("states", key_type=bytes, value_type=bytes))
    app.tables.changelog_topics.add("states")
    callbacks = {"on_partitions_revoked": NOBODY, "on_partitions_assigned": NOBODY}
    consumer: Any = kind(app.kafka, NOBODY, **callbacks)
    consumer._thread = thread or Thread()
    return consumer


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(coroutine)


def records(*offsets: int) -> list[Any]:
    return [SimpleNamespace(offset=offset, value=b"", key=b"") for offset in offsets]


@both(fetching.CopiesActivePartitions)
def test_a_fetch_asks_for_the_partitions_that_were_active_when_it_began(kind: type, mended: bool) -> None:
    async def test() -> set[TP]:
        async def getmany(partitions: set[TP], _: float) -> dict[TP, Any]:
            active.clear()  # a restore begins
            asked.update(partitions)
            return {}

        active, asked = {CLICKS}, set[TP]()
        await consumer_of(kind, Thread(getmany=getmany))._getmany(active, 1.0)
        return asked

    assert (run(test()) == {CLICKS}) is mended


@both(fetching.CopiesActivePartitions)
def test_no_active_partition_does_not_mean_all_partitions(kind: type, mended: bool) -> None:
    async def test() -> list[Any]:
        thread = Thread()
        await consumer_of(kind, thread)._getmany(set(), 1.0)
        return thread.asked

    assert (run(test()) == []) is mended


@pytest.mark.parametrize("seek", [lambda c: c.seek_to_committed(), lambda c: c.seek_wait({CLICKS: 3})])
@both(fetching.FetchesBeforeSeeks)
def test_a_seek_waits_for_a_fetch_that_is_under_way(
    kind: type, mended: bool, seek: Callable[[Consumer], Awaitable[Any]]
) -> None:
    """Otherwise the fetch takes the first messages after the seek, over a rebalance, and Faust drops them."""
    log: list[str] = []

    async def test() -> None:
        answered = asyncio.Event()

        async def getmany(*_: object) -> dict[TP, list[object]]:
            log.append("asked")
            await answered.wait()
            log.append("answered")
            return {}

        async def sought(*_: object) -> dict[TP, int]:
            log.append("sought")
            return {CLICKS: 3}

        thread = Thread(getmany=getmany, seek_to_committed=sought, seek_wait=sought, log_ranges={CLICKS: (3, 3)})
        consumer = consumer_of(kind, thread)
        fetch = asyncio.create_task(consumer._getmany({CLICKS}, 1.0))
        await asyncio.sleep(0)
        seeking = asyncio.ensure_future(seek(consumer))
        await asyncio.sleep(0.01)
        answered.set()
        await asyncio.gather(fetch, seeking)

    run(test())
    assert (log == ["asked", "answered", "sought"]) is mended


def test_a_fetch_that_waited_for_a_rebalances_seek_is_not_made() -> None:
    """Its partitions are those of before the rebalance, and Faust would drop their messages."""

    async def test() -> Any:
        thread = Thread()
        consumer = consumer_of(Consumer, thread)
        async with consumer._fetch_or_seek:
            fetch = asyncio.create_task(consumer._getmany({CLICKS}, 1.0))
            await asyncio.sleep(0)
            consumer.app.consumer_generation_id += 1
        return await fetch, thread.asked

    assert run(test()) == ({}, [])


@both(fetching.FetchesBeforeSeeks)
def test_a_fetch_over_a_rebalance_gives_nothing(kind: type, mended: bool) -> None:
    async def test() -> Any:
        async def getmany(*_: object) -> dict[TP, Any]:
            consumer.app.consumer_generation_id += 1
            return {CLICKS: records(0)}

        consumer = consumer_of(kind, Thread(getmany=getmany))
        return await consumer._getmany({CLICKS}, 1.0)

    assert (run(test()) == {}) is mended


@both(ours.ReportsGroupErrors)
def test_a_fetch_that_kafka_refuses_is_reported(kind: type, mended: bool) -> None:
    refused: list[KafkaError] = []

    async def test() -> Any:
        consumer = consumer_of(kind, Thread(getmany=TopicAuthorizationFailedError()))
        consumer.transport.on_refusal = refused.append
        return await consumer._getmany({CLICKS}, 1.0)

    if mended:
        assert run(test()) == {}
        assert len(refused) == 1
    else:
        with pytest.raises(TopicAuthorizationFailedError):
            run(test())


@both(ours.ReportsGroupErrors)
def test_an_error_of_the_groups_coordinator_is_reported(
    kind: type, mended: bool, caplog: pytest.LogCaptureFixture
) -> None:
    refused: list[KafkaError] = []

    async def test() -> None:
        consumer = consumer_of(kind)
        consumer.transport.on_refusal = refused.append
        for error in (TopicAuthorizationFailedError(), IllegalStateError("moved"), IllegalStateError("moved")):
            consumer._on_group_error(error)

    if mended:
        run(test())
        assert len(refused) == 1
        assert len(caplog.records) == 1, "aiokafka repeats it"
    else:
        with pytest.raises(AttributeError):
            run(test())


@both(fetching.IdlesBriefly)
def test_a_consumer_without_active_partitions_looks_again_soon(kind: type, mended: bool) -> None:
    slept: list[float] = []

    async def test() -> None:
        async def sleep(seconds: float) -> None:
            slept.append(seconds)

        consumer = consumer_of(kind)
        consumer.sleep = sleep
        assert not (await consumer._wait_next_records(1.0))[0]

    run(test())
    assert (sum(slept) < 0.1) is mended


@both(seeking.ResumesWithFlow)
def test_sources_are_resumed_only_with_the_flow(kind: type, mended: bool) -> None:
    async def test() -> list[set[TP]]:
        consumer = consumer_of(kind)
        consumer.stop_flow()
        consumer.pause_partitions({CLICKS, STATES})
        consumer.resume_partitions({CLICKS, STATES})
        before = set(consumer._get_active_partitions())
        consumer.resume_flow()
        return [before, set(consumer._get_active_partitions())]

    assert run(test()) == [{STATES} if mended else {CLICKS, STATES}, {CLICKS, STATES}]


@both(seeking.AsksBetweenFetches)
def test_a_fetch_holds_no_question_up_until_the_flow_is_resumed(kind: type, mended: bool) -> None:
    async def test() -> list[Any]:
        consumer = consumer_of(kind)
        consumer.stop_flow()
        consumer.app.in_recovery = True
        consumer.resume_flow()  # to restore the tables
        consumer.app.in_recovery = False
        consumer.resume_flow()
        return [wait_ms for name, wait_ms in consumer._thread.asked if name == "set_fetch_wait"]

    assert run(test()) == ([WAIT_WITHOUT_FLOW_MS, 100] if mended else [])


@pytest.mark.parametrize(
    ("committed", "begin", "end", "start", "goes_back"),
    [
        (None, 0, 10, 0, True),
        (0, 0, 10, 0, True),
        (5, 0, 10, 5, False),
        (5, 7, 10, 7, True),  # retention
        (50, 0, 10, 0, True),  # the topic was created again
    ],
)
@both(seeking.SeeksEveryPartition)
def test_a_partition_starts_at_its_committed_offset_or_at_its_beginning(
    kind: type, mended: bool, committed: int | None, begin: int, end: int, start: int, goes_back: bool
) -> None:
    async def test() -> tuple[Any, bool]:
        thread = Thread(seek_to_committed={CLICKS: committed}, log_ranges={CLICKS: (begin, end)})
        offsets = await consumer_of(kind, thread).seek_to_committed()
        return offsets[CLICKS], "seek_to_beginning" in [name for name, _ in thread.asked]

    assert run(test()) == ((start, goes_back) if mended else (committed, False))


@both(committing.CommitsAcknowledged)
def test_holes_between_offsets_do_not_hold_a_commit_up(kind: type, mended: bool) -> None:
    async def test() -> tuple[int | None, int]:
        consumer = consumer_of(kind)
        consumer._acked[CLICKS] += [3, 90, 1_000_000]
        await consumer._add_gap(CLICKS, 2_000_000, 3_000_000)
        return consumer._new_offset(CLICKS), len(consumer._gap.get(CLICKS, ()))

    assert run(test()) == ((1_000_001, 0) if mended else (4, 1))


@both(committing.RetriesCommits)
def test_offsets_whose_commit_failed_are_in_the_next_commit(kind: type, mended: bool) -> None:
    async def test() -> list[int]:
        consumer = consumer_of(kind, Thread(commit=False))
        consumer.app.producer = SimpleNamespace(flush=Thread().flush)
        assert await consumer._commit_offsets({CLICKS: 8}) is False
        return list(consumer._acked.get(CLICKS, ()))

    assert run(test()) == ([7] if mended else [])


def with_recovery(consumer: Any, in_recovery: bool, active: Mapping[TP, int]) -> Any:
    recovery = SimpleNamespace(active_tps=set(active), active_offsets=dict(active))
    tables = SimpleNamespace(changelog_topics={"states"}, recovery=recovery)
    consumer.app = SimpleNamespace(consumer_generation_id=1, in_recovery=in_recovery, tables=tables)
    return consumer


@pytest.mark.parametrize(
    ("in_recovery", "active", "restored", "given"),
    [(True, {STATES: 3}, [4, 5], [5]), (False, {STATES: 3}, [], []), (True, {}, [], [])],
)
@both(restoring.RestoresBatches)
def test_a_changelog_is_taken_only_by_the_restore_that_reads_it(
    kind: type, mended: bool, in_recovery: bool, active: Mapping[TP, int], restored: list[int], given: list[int]
) -> None:
    """Faust keeps what it reads past a restore's end, and writes it at the next one's start."""
    taken: list[int] = []

    async def test() -> dict[TP, Any]:
        consumer = consumer_of(kind, Thread(getmany={STATES: records(2, 3, 4, 5)}))
        consumer.transport.restore = lambda _, batch: taken.extend(r.offset for r in batch)
        result: dict[TP, Any] = await with_recovery(consumer, in_recovery, active)._getmany({STATES}, 1.0)
        return result

    offsets = [record.offset for record in run(test()).get(STATES, [])]
    assert (taken, offsets) == ((restored, given) if mended else ([], [2, 3, 4, 5]))


@both(progress.ReadsRecreatedTopics, progress.TracksProgress)
def test_messages_of_a_topic_that_was_created_again_are_not_dropped(kind: type, mended: bool) -> None:
    async def test() -> bool:
        fetched = iter([{CLICKS: records(99)}, {CLICKS: records(0)}])

        async def getmany(*_: object) -> Any:
            return next(fetched)

        consumer = consumer_of(kind, Thread(getmany=getmany))
        consumer._read_offset[CLICKS] = 99
        for _ in range(2):
            await consumer._getmany({CLICKS}, 1.0)
        return CLICKS not in consumer._read_offset

    assert run(test()) is mended


def test_a_partition_is_done_when_all_that_was_delivered_is_committed() -> None:
    async def test() -> list[Any]:
        thread = Thread(
            getmany={CLICKS: records(3, 4)}, commit=True, read_progress=Progress(7, 9, 8), seek_to_committed={CLICKS: 3}
        )
        consumer = consumer_of(Consumer, thread)
        consumer.app.producer = SimpleNamespace(flush=Thread().flush)
        seen = [consumer.progress()]
        await consumer.seek_to_committed()
        await consumer._getmany({CLICKS}, 1.0)
        seen.append(consumer.progress())
        await consumer._commit_offsets({CLICKS: 5})
        return [*seen, consumer.progress()]

    assert run(test()) == [{CLICKS: None}, {CLICKS: Progress(3, 9, 8)}, {CLICKS: Progress(7, 9, 8)}]


# The consumer's thread


def thread_without(fault: type) -> type:
    bases = tuple(base for base in threads.ConsumerThread.__bases__ if base is not fault)
    assert bases != threads.ConsumerThread.__bases__
    return type("Without", bases, {})


def both_threads(fault: type) -> pytest.MarkDecorator:
    kinds = [pytest.param(threads.ConsumerThread, True, id="mended"), pytest.param(thread_without(fault), False)]
    return pytest.mark.parametrize(("kind", "mended"), kinds)


def thread_of(kind: type) -> Any:
    consumer = consumer_of(Consumer)
    return kind(consumer, loop=consumer.loop, beacon=consumer.beacon)


@both_threads(threads.SetsFetchOptions)
def test_a_fetch_waits_as_set_and_reads_what_is_committed(kind: type, mended: bool) -> None:
    async def test() -> tuple[int, str]:
        thread = thread_of(kind)
        consumer = thread._create_worker_consumer(thread.transport)
        await consumer.stop()
        return consumer._fetch_max_wait_ms, consumer._isolation_level

    assert run(test()) == ((WAIT_WITHOUT_FLOW_MS, "read_committed") if mended else (1500, "read_uncommitted"))


def test_how_long_a_fetch_waits_can_be_changed() -> None:
    async def test() -> None:
        thread = thread_of(threads.ConsumerThread)
        fetcher = SimpleNamespace(_fetch_max_wait_ms=WAIT_WITHOUT_FLOW_MS)
        thread._consumer = SimpleNamespace(_fetcher=fetcher)
        thread.set_fetch_wait(100)
        assert fetcher._fetch_max_wait_ms == 100

    run(test())


@pytest.mark.parametrize("error", [IllegalStateError("not assigned"), CommitFailedError("a new member"), KafkaError()])
@both_threads(threads.SurvivesFailedCommits)
def test_a_commit_that_fails_does_not_end_the_worker(kind: type, mended: bool, error: KafkaError) -> None:
    crashes: list[BaseException] = []

    async def test() -> bool:
        async def commit(_: object) -> None:
            raise error

        async def crash(reason: BaseException) -> None:
            crashes.append(reason)

        thread = thread_of(kind)
        thread._consumer, thread.crash = SimpleNamespace(commit=commit, assignment=lambda: {CLICKS}), crash
        committed: bool = await thread._commit({CLICKS: 3})
        return committed

    assert run(test()) is False
    assert (crashes == []) is mended


@pytest.mark.parametrize("is_known", [True, False], ids=["known to have no leader", "deleted a moment ago"])
def test_a_partition_without_a_leader_keeps_no_worker_of_the_thread(
    monkeypatch: pytest.MonkeyPatch, is_known: bool
) -> None:
    """aiokafka asks for its leader again and again."""
    monkeypatch.setattr(threads, "ANSWER_S", 0.05)
    asked, ended = list[Any](), list[Any]()

    async def offsets(partitions: list[Any]) -> dict[Any, int]:
        asked.append(partitions)
        try:
            await asyncio.sleep(60 if TopicPartition(*STATES) in partitions else 0)
        finally:
            ended.append(partitions)
        return dict.fromkeys(partitions, 3)

    async def test() -> Any:
        thread = thread_of(threads.ConsumerThread)
        cluster = SimpleNamespace(leader_for_partition=lambda tp: None if tp.topic == "states" and is_known else 1)
        client = SimpleNamespace(cluster=cluster)
        thread._consumer = SimpleNamespace(_client=client, beginning_offsets=offsets, end_offsets=offsets)
        thread.call_thread = lambda question, *arguments: question(*arguments)
        return await thread.log_ranges([CLICKS, STATES])

    if is_known:
        assert run(test()) == {CLICKS: (3, 3)}
    else:
        with pytest.raises(asyncio.TimeoutError):
            run(test())
    assert len(asked) == len(ended) == 2, "neither question goes on"


@pytest.mark.parametrize("answers", [[asyncio.TimeoutError(), {CLICKS: (0, 10)}], [{CLICKS: (0, 10)}]])
def test_a_partition_without_a_leader_is_not_sought(answers: list[Any]) -> None:
    """A seek would wait for its leader, and all others with it."""
    left = iter(answers)

    async def log_ranges(*_: object) -> Any:
        if isinstance(answer := next(left), Exception):
            raise answer
        return answer

    async def test() -> Any:
        thread = Thread(seek_to_committed={CLICKS: None, TP("deleted", 0): None}, log_ranges=log_ranges)
        await consumer_of(Consumer, thread).seek_to_committed()
        return [[TP(*tp) for tp in arguments] for name, arguments in thread.asked if name == "seek_to_beginning"]

    assert run(test()) == [[CLICKS]]


@both_threads(threads.IgnoresSilentStreams)
def test_faust_does_not_judge_whether_a_stream_hangs(kind: type, mended: bool) -> None:
    async def test() -> bool:
        judged = list[Any]()

        def judge(*arguments: Any) -> bool:
            judged.append(arguments)
            return True

        thread = thread_of(kind)
        thread._verify_aiokafka_event_path = judge
        thread.verify_event_path(0.0, CLICKS)
        return not judged

    assert run(test()) is mended


def test_a_thread_that_starts_keeps_the_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    async def started(_: object) -> None:
        pass

    async def send(_: object) -> Any:
        return SimpleNamespace(error_code=0)

    async def test() -> tuple[float, float]:
        thread = thread_of(threads.ConsumerThread)
        coordinator: Any = SimpleNamespace(_send_req=send, reset_generation=lambda: None)
        thread._consumer = SimpleNamespace(_coordinator=coordinator)
        before = thread.transport.fence.silent_s()
        await thread.on_start()
        await coordinator._send_req(HeartbeatRequest("group", 1, "me"))
        return before, thread.transport.fence.silent_s()

    monkeypatch.setattr(aiokafka.AIOKafkaConsumerThread, "on_start", started)
    before, after = run(test())
    assert before == float("inf")
    assert after < 60


def test_the_app_uses_the_mended_classes() -> None:
    async def test() -> tuple[Any, Any, Any]:
        consumer = consumer_of(Consumer)
        transport = consumer.app.transport
        return transport.Consumer, transport.Producer, consumer._new_consumer_thread()

    consumer, producer, thread = run(test())
    assert (consumer, producer) == (Consumer, FencedProducer)
    assert isinstance(thread, threads.ConsumerThread)
