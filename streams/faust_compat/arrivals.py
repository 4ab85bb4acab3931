"""Faust's stream of events, in batches."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from faust.types import EventT


async def arrivals(stream: Any) -> AsyncIterator[list[EventT[Any]]]:
    """Yield every event that has arrived for an agent, as soon as there is one. The agent acknowledges the events.

    Fault: Faust's own iteration gives every other task a turn before each event, so an agent gets only one event while
    another task works; and `Stream.take` acknowledges a batch even where its body raises. Like Faust's iteration, this
    one leaves out the events that were fetched before the last rebalance.
    """
    app, queue = stream.app, stream.channel.queue
    while True:
        try:
            events = [await queue.get()]
        except StopAsyncIteration:  # how Faust ends a stream
            return
        while not queue.empty():
            events.append(queue.get_nowait())
        if app.flow_control.is_active():
            yield [event for event in events if event.message.generation_id == app.consumer_generation_id]
