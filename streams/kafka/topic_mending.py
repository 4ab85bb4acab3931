"""What a worker does at its start about topics that Kafka created by itself, with one partition and its own defaults.

A broker with `auto.create.topics.enable`, as Kafka comes, creates a topic when somebody first writes or reads it. If
that was before the first worker, an internal topic has too few partitions, and the topic `items` is not compacted.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress

from aiokafka.errors import IncompatibleBrokerVersion

from streams.kafka import client as kafka_client
from streams.kafka import topic_changes
from streams.kafka.topics import TopicError, TopicSpec, partitions_by_topic, problems_of
from streams.settings import Settings

logger = logging.getLogger(__name__)

EVENTS = ("clicks", "purchases", "events", "searches", "preferences", "impressions")
"""The inputs of which each worker of the state tier reads its own partitions."""


async def mend(settings: Settings, needed: Sequence[TopicSpec]) -> None:
    """Make those topics as they must be, if the settings let workers create topics; log each change.

    What cannot be changed without a loss stays as it is: `ensure_topics` says what is wrong with it.

    Raises
    ------
    streams.kafka.client.KafkaUnavailable
        Kafka does not answer.
    """
    async with kafka_client.admin(settings.kafka) as admin:
        present = await partitions_by_topic(admin)
        there = [spec for spec in needed if spec.name in present]
        problems = await problems_of(admin, there, present)
        if problems and settings.kafka.create_topics:
            with suppress(TopicError, kafka_client.KafkaRefuses, IncompatibleBrokerVersion):  # who may not, leaves it
                for made in await topic_changes.mend(admin, settings, [s for s in there if s.name in problems]):
                    logger.warning("topic %s was created by Kafka itself: %s is now %s, it was %s", made.topic,
                                   made.what, made.expected, made.got)  # fmt: skip
    _log_narrow_inputs(settings, present)


def _log_narrow_inputs(settings: Settings, present: Mapping[str, int]) -> None:
    for name in map(settings.topic, EVENTS):
        if present.get(name) == 1 < settings.kafka.partitions:
            logger.info(
                "topic %s has one partition: one worker at a time reads it; if that is too slow: kafka-topics.sh "
                "--bootstrap-server %s --alter --topic %s --partitions %d",
                name,
                settings.kafka.bootstrap_servers,
                name,
                settings.kafka.partitions,
            )
