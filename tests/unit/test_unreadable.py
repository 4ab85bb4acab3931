"""A batch that cannot be read gives one record, at its last offset, and the batches after it are read as usual."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import consumer, fetcher
from aiokafka.errors import CorruptRecordException, RecordTooLargeError
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from streams.faust_compat import unreadable
from streams.receive.decode import receive
from streams.receive.message import BadMessage, Message, Unreadable
from tests.field.segments import unknown_codec, wrong_checksum

AiokafkaFetcher = unreadable.PassesOversizedBatches.__base__
PART = TopicPartition("clicks", 0)
Damage = Callable[[bytearray], None]


def batch(first: int, values: list[bytes], damage: Damage | None) -> bytes:
    built = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 1 << 20)
    for number, value in enumerate(values):
        built.append(number, 1_000, None, value, [])
    made = bytearray(built.build())
    made[0:8] = first.to_bytes(8, "big")
    if damage:
        damage(made)
    return bytes(made)


def read(log: bytes, position: int) -> Iterator[Any]:
    return unreadable.PassesUnreadableBatches(
        PART, MemoryRecords(log), None, position, None, None, True, fetcher.READ_COMMITTED
    )


batches = st.lists(
    st.tuples(st.integers(1, 4), st.sampled_from([None, wrong_checksum, unknown_codec])), min_size=1, max_size=6
)


@given(batches, st.integers(0, 3))
def test_whole_batches_are_read_and_damaged_ones_are_passed(made: list[tuple[int, Damage | None]], begin: int) -> None:
    """Over any sequence of batches, from a position within the first one on; fetched again until the end."""
    log, first, spans = b"", 0, []
    for count, damage in made:
        log += batch(first, [str(first + number).encode() for number in range(count)], damage)
        spans.append((range(first, first + count), damage))
        first += count
    position = min(begin, made[0][0] - 1)
    given: list[Any] = []
    while position < first:
        records = read(log[_begin_of(made, position) :], position)
        given += list(records)
        assert records.next_fetch_offset > position  # type: ignore[attr-defined]
        position = records.next_fetch_offset  # type: ignore[attr-defined]
    whole = {offset for offsets, damage in spans if damage is None for offset in offsets}
    begin = min(begin, made[0][0] - 1)
    assert {r.offset for r in given if not isinstance(r.value, Unreadable)} == {o for o in whole if o >= begin}
    assert [r.offset for r in given] == sorted({r.offset for r in given}), "each once, in order"
    assert all(r.value == str(r.offset).encode() for r in given if not isinstance(r.value, Unreadable))
    stand_ins = {r.offset for r in given if isinstance(r.value, Unreadable)}
    for offsets, damage in spans:
        if damage is not None:
            assert stand_ins & set(offsets), "no batch goes in silence"
        if damage is unknown_codec:
            assert stand_ins & set(offsets) == {offsets[-1]}, "its header can be trusted"


def _begin_of(made: list[tuple[int, Damage | None]], position: int) -> int:
    """Where the batch begins that a broker answers with."""
    first = size = 0
    for count, _ in made:
        if position < first + count:
            break
        size += len(batch(first, [str(first + number).encode() for number in range(count)], None))
        first += count
    return size


def test_an_unreadable_batch_is_a_bad_message_whose_dead_letter_gives_its_offset() -> None:
    (record,) = read(batch(7, [b"a", b"b", b"c"], unknown_codec), 7)
    message = Message("clicks", 0, record.offset, record.key, record.value)
    with pytest.raises(BadMessage, match=r"got a batch at offset 7 to 9 that cannot be read .*codec") as refused:
        receive(message, 0)
    assert refused.value.reason == "unreadable"
    letter = message.dead_letter(str(refused.value))
    assert (letter.topic, letter.partition, letter.offset, letter.payload) == ("clicks", 0, 9, None)


def test_every_consumer_of_this_process_passes_unreadable_batches() -> None:
    assert fetcher.PartitionRecords is unreadable.PassesUnreadableBatches
    assert consumer.Fetcher is unreadable.Fetcher


def test_a_lost_connection_is_no_unreadable_batch() -> None:
    """A fetch does not pass an error of the connection."""

    async def run() -> bool:
        class Client:
            async def send(self, *_: object) -> None:
                raise fetcher.Errors.KafkaConnectionError("away")

        made: Any = object.__new__(unreadable.Fetcher)
        made._client = unreadable._CorruptionNotes(Client())
        made._records, made._retry_backoff, made._preferred_read_replica = {}, 0.0, {}
        request: Any = type("Request", (), {"topics": []})()
        return bool(await made._proc_fetch_request(None, 0, request)) or bool(made._records)

    assert asyncio.run(run()) is False


def fetcher_of(kind: type) -> Any:
    """Make a fetcher that has nothing, at offset 7 of one partition."""
    made: Any = object.__new__(kind)
    state = SimpleNamespace(position=7, has_valid_position=True, moved_to=[])
    state.consumed_to = state.moved_to.append
    assignment = SimpleNamespace(active=True, state_value=lambda _: state)
    made._subscriptions = SimpleNamespace(subscription=SimpleNamespace(assignment=assignment))
    made._records, made._prefetch_backoff = {}, 0.0
    return made, assignment, state


@pytest.mark.parametrize(("kind", "mended"), [(unreadable.PassesOversizedBatches, True), (AiokafkaFetcher, False)])
def test_a_batch_larger_than_a_fetch_is_passed(kind: type, mended: bool) -> None:
    made, _, _ = fetcher_of(kind)
    made._set_error(PART, RecordTooLargeError("too large"))
    if mended:
        (record,) = made._records[PART]._partition_records
        assert (record.offset, isinstance(record.value, Unreadable)) == (7, True)
    else:
        assert isinstance(made._records[PART], fetcher.FetchError)


@pytest.mark.parametrize(("kind", "mended"), [(unreadable.Fetcher, True), (AiokafkaFetcher, False)])
def test_an_offset_that_the_broker_cannot_read_is_passed(kind: type, mended: bool) -> None:
    async def run() -> tuple[bool, list[int], Any]:
        class Client:
            async def send(self, *_: object) -> Any:
                return SimpleNamespace(
                    API_VERSION=4, topics=[("clicks", [(0, CorruptRecordException.errno, 9, 9, [], b"")])]
                )

        made, assignment, state = fetcher_of(kind)
        made._client = unreadable._CorruptionNotes(Client()) if mended else Client()
        request = FetchRequest(1, 1, 1, 0, [("clicks", [(0, 7, 1 << 20)])])
        made._client_rack, made._preferred_read_replica = None, {}
        return await made._proc_fetch_request(assignment, 0, request), state.moved_to, made._records

    has_records, moved_to, records = asyncio.run(run())
    assert (has_records, moved_to) == ((True, [8]) if mended else (False, []))
    assert [record.offset for record in records[PART]._partition_records] == [7] if mended else not records
