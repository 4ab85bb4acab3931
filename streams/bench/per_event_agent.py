"""The peer of the state tier: a Faust agent as Faust's documentation shows one, with the same state in the same table.

Each event costs one read, one update and one write of the table; Faust writes the changelog. The agent has no dead
letters, no detection of repeated events, no counts and no rank requests. Run it as a process of its own:
`python -m streams.bench.per_event_agent`, with the settings in the environment.
"""

from __future__ import annotations

from typing import Any

import faust
import msgspec
import numpy as np

from encoders.event_time import milliseconds
from encoders.events.entries import Event, item_key
from encoders.interest import Vector, empty, update
from streams.contracts import Click
from streams.kafka.topics import USERS_TABLE, group_id
from streams.settings import load
from streams.state.decays import decay_of
from streams.state.user_record import UserRecord, decode_record, encode_record

DIM = 384


def main() -> None:
    """Work until SIGTERM."""
    settings = load()
    app = faust.App(
        group_id(settings, "state"),
        broker=f"kafka://{settings.kafka.bootstrap_servers}",
        consumer_auto_offset_reset="earliest",
        producer_acks=-1,
        store="memory://",
        datadir=str(settings.tables.data_dir),
        topic_allow_declare=False,
        topic_partitions=settings.kafka.partitions,
        topic_disable_leader=True,
        table_standby_replicas=0,
        web_enabled=False,
    )
    states: Any = app.Table(USERS_TABLE, key_type=bytes, value_type=bytes, partitions=settings.kafka.partitions)
    clicks: Any = app.topic(settings.topic("clicks"), key_type=bytes, value_type=bytes, value_serializer="raw")
    decoder, decay = msgspec.json.Decoder(Click), decay_of(settings)
    vectors: dict[int, Vector] = {}

    @app.agent(clicks)
    async def update_state(stream: Any) -> None:
        async for value in stream:
            click = decoder.decode(value)
            item, user = item_key(click.item_id), b"u" + click.user_id.encode()
            vector = vectors.setdefault(item, np.random.default_rng(item).random(DIM, np.float32))
            stored = states.get(user)
            state = empty(DIM) if stored is None else decode_record(stored).interest
            event = Event(item, milliseconds(click.timestamp), "click")
            states[user] = encode_record(UserRecord(update(state, event, vector, decay)))

    worker = faust.Worker(app, override_logging=False, redirect_stdouts=False, quiet=True)
    worker.spinner = None
    worker.execute_from_commandline()


if __name__ == "__main__":
    main()
