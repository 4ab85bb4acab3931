"""A generated shop that is open: an embedded Kafka and Redis, a real worker, and the shop's items in its catalogue.

Knows the worker by its environment, its topics and its metrics, as every team that runs one does.
"""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from pydantic import SecretStr

from streams.commands.demo.screen import Screen
from streams.contracts import Click
from streams.datasets.shop import SyntheticShop
from streams.settings import KafkaSettings, MetricsSettings, RedisSettings, Settings, TablesSettings
from streams.testing import worker_process
from streams.testing.embedded import PARTITIONS, EmbeddedKafka, EmbeddedRedis, free_port
from streams.testing.worker_process import COMMAND, WorkerProcess

if TYPE_CHECKING:
    from confluent_kafka import Producer

TIERS = 2  # of a worker with the role "all"
READY_TIMEOUT_S, CATALOGUE_TIMEOUT_S, SETTLE_TIMEOUT_S, STOP_TIMEOUT_S = 60.0, 90.0, 45.0, 5.0
QUIET_LOG = {"log_level": 2}  # librdkafka would log that it lost the embedded cluster at the end


class DemoFailed(Exception):
    """The demo cannot go on; the message says why."""


class OpenShop(NamedTuple):
    """What an open shop consists of.

    Attributes
    ----------
    settings : Settings
        The worker's.
    worker : WorkerProcess
    producer : confluent_kafka.Producer
    """

    settings: Settings
    worker: WorkerProcess
    producer: Producer


def open_shop(
    running: ExitStack,
    screen: Screen,
    shop: SyntheticShop,
    options: Sequence[str] = (),
    adapt: Callable[[Settings], Settings] = lambda settings: settings,
    ready_timeout_s: float = READY_TIMEOUT_S,
) -> OpenShop:
    """Start the servers and the worker, and wait until the worker has encoded the shop's items.

    Parameters
    ----------
    running : ExitStack
        Ends what was started.
    screen : Screen
        Shows the progress.
    shop : SyntheticShop
        Its items are sent.
    options : sequence of str
        Of the command `afterclick worker`.
    adapt : callable
        Changes the default settings.
    ready_timeout_s : float
        How long the start of the worker may take, in seconds.

    Raises
    ------
    streams.testing.worker_process.WorkerFailed
        The worker ended, or did not get ready in time.
    streams.testing.embedded.EmbeddedUnavailable
        A package for the embedded servers is missing.
    """
    kafka = running.enter_context(EmbeddedKafka()).bootstrap_servers
    from confluent_kafka import Producer  # optional: EmbeddedKafka has reported it if it is missing

    redis_url = running.enter_context(EmbeddedRedis()).url
    folder = running.enter_context(tempfile.TemporaryDirectory(prefix="afterclick-"))
    settings = adapt(_settings(kafka, redis_url, Path(folder)))
    worker = running.enter_context(worker_process.worker(settings, command=(*COMMAND, *options)))
    with screen.bar("Starting a worker", TIERS) as advance:
        worker.wait_ready(ready_timeout_s, advance)
    producer = Producer({"bootstrap.servers": kafka, "partitioner": "murmur2_random", "linger.ms": 0, **QUIET_LOG})
    for item in shop.items:
        producer.produce("items", key=item.item_id, value=msgspec.json.encode(item))
    producer.flush(CATALOGUE_TIMEOUT_S)
    with screen.bar(f"Encoding {len(shop.items):,} items", len(shop.items)) as advance:
        worker.wait("afterclick_catalogue_items", len(shop.items), CATALOGUE_TIMEOUT_S, advance)
    return OpenShop(settings, worker, producer)


def interleaved(events: Sequence[Click]) -> list[Click]:
    """Spread the events of each shopper evenly over the demo, in their own order: all shoppers shop side by side.

    Days pass in seconds in the demo. At the shop's own rhythm a visit would be over before its first list is published.

    >>> visits = [Click(event_id=e, user_id=e[0], item_id="mug", timestamp=0) for e in ("a1", "a2", "a3", "b1", "b2")]
    >>> [event.event_id for event in interleaved(visits)]
    ['a1', 'b1', 'a2', 'a3', 'b2']
    """
    events_of: dict[str, list[Click]] = {}
    for event in events:
        events_of.setdefault(event.user_id, []).append(event)
    timed = [
        ((position + number * 0.618 % 1) / len(own), event)  # the golden section keeps the shoppers apart
        for number, own in enumerate(events_of.values())
        for position, event in enumerate(own)
    ]
    return [event for _, event in sorted(timed, key=lambda one: one[0])]


def _settings(kafka: str, redis_url: str, folder: Path) -> Settings:
    """Return the default settings, whatever the environment says, so that the demo is the same for everybody."""
    return Settings.model_construct(
        kafka=KafkaSettings(
            bootstrap_servers=kafka,
            partitions=PARTITIONS,
            create_topics=False,
            fetch_wait_ms=10,  # the embedded cluster does not end a wait when data arrives
        ),
        redis=RedisSettings(url=SecretStr(redis_url)),
        tables=TablesSettings(data_dir=folder / "data"),
        metrics=MetricsSettings(port=free_port()),
        grace_s=STOP_TIMEOUT_S,
    )


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end the demo as Ctrl-C does, so that no process of the demo is left behind."""
    signals = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = [signal.signal(number, signal.default_int_handler) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
