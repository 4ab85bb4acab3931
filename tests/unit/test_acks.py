"""Messages are acknowledged in the order of offsets, so a commit never passes a message in flight."""

from __future__ import annotations

import random

from streams.kafka.acks import InOrder


class Event:
    def __init__(self, offset: int, log: list[int]) -> None:
        self.offset = offset
        self.log = log

    def ack(self) -> bool:
        self.log.append(self.offset)
        return True


def test_any_order_of_completion_is_acknowledged_in_order() -> None:
    order = random.Random(3)
    for _ in range(50):
        log: list[int] = []
        acks = InOrder()
        events = [Event(offset, log) for offset in range(20)]
        for event in events:
            acks.take("partition", event)
        waiting = list(events)
        order.shuffle(waiting)
        finished: set[int] = set()
        for event in waiting:
            acks.done([event])
            finished.add(event.offset)
            contiguous = next((offset for offset in range(20) if offset not in finished), 20)
            assert log == list(range(contiguous))
        assert len(acks) == 0


def test_a_message_of_several_effects_is_acknowledged_with_the_last_of_them() -> None:
    log: list[int] = []
    acks = InOrder()
    one, two = (Event(offset, log) for offset in range(2))
    for event in (one, two):
        acks.take("partition", event)
    acks.expect(one, 3)
    acks.done([one, two])
    acks.done([one])
    assert log == []
    acks.done([one])
    assert (log, len(acks)) == ([0, 1], 0)
    acks.expect(one, 2)  # it is nobody's any more
    acks.done([one])
    assert log == [0, 1]


def test_a_dropped_partition_acknowledges_nothing_more() -> None:
    log: list[int] = []
    acks = InOrder()
    events = [Event(offset, log) for offset in range(3)]
    for event in events:
        acks.take("ours", event)
    acks.drop({"ours", "never seen"})
    acks.done(events)
    assert (log, len(acks)) == ([], 0)
    again = Event(0, log)
    acks.take("ours", again)
    assert log == []
    acks.done([again])
    assert log == [0]


def test_partitions_do_not_wait_for_each_other() -> None:
    first: list[int] = []
    second: list[int] = []
    acks = InOrder()
    held = Event(0, first)
    acks.take(0, held)
    free = Event(0, second)
    acks.take(1, free)
    acks.done([free])
    assert (first, second, len(acks)) == ([], [0], 1)
