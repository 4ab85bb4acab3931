"""A read-only copy of what the state workers know: the catalogue, the items' counts and the users' records.

It follows the compacted topics `items`, `item-counts` and the changelog of the users, as a standby replica does. So the
HTTP server answers from its own memory and disk, and never asks a worker. Writes to no topic.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Set
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, cast

from rocksdict import Options, Rdict, WriteBatch, WriteOptions

from encoders.errors import AfterclickError
from encoders.text import vector_store
from encoders.text.vector_store import StoredEncoder
from ranker.recall.catalogue import Catalogue
from ranker.recall.counts import Counts
from streams.kafka import client as kafka_client
from streams.kafka import outage
from streams.kafka.compacted_reader import Follower, Records
from streams.kafka.record_reader import RecordReader
from streams.kafka.topics import changelog_name, partitions_by_topic
from streams.models.child_models import ChildEncoder
from streams.receive.triples import TOPIC as TRIPLES
from streams.settings import KafkaSettings, Settings
from streams.state.catalogue_feed import CatalogueFeed
from streams.state.decays import counts_of
from streams.state.item_counts import COUNTS, put_counts
from streams.state.kept_wishes import is_wishes
from streams.state.knowledge_feed import KnowledgeFeed
from streams.state.sources import catalogue_of, sources_of
from streams.state.tier import StateTier
from streams.state.users import Users, is_record, user_of

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0


class EncoderSource(Protocol):
    """What loads the encoder: a `Serving` or a `Models`."""

    @property
    def encoder(self) -> ChildEncoder | None:
        """The items' encoder; None before `load`."""

    def load(self) -> None:
        """Wait until the models are loaded."""


class ReplicaNotReady(AfterclickError):
    """The copy is not complete yet. A later attempt may succeed."""


class Replica:
    """The copy, filled in the background.

    Parameters
    ----------
    settings : Settings
        Of the server: the same Kafka, group id, topic prefix and encoder as the workers'.
    models : EncoderSource
        Loads the encoder of the items' texts.

    Attributes
    ----------
    error : Exception or None
        Why following has ended: a model that cannot be loaded, or a Kafka that refuses us. The server has to end then.
    on_forgotten : callable
        Is told the id of each user who was forgotten.
    """

    def __init__(self, settings: Settings, models: EncoderSource) -> None:
        self.error: Exception | None = None
        self.on_forgotten: Callable[[str], object] = _ignore
        self._settings = settings
        self._models = models
        self._tier: StateTier | None = None
        self._follower: Follower | None = None
        self._loaded = asyncio.Event()
        self._following: asyncio.Task[None] | None = None

    @property
    def caught_up(self) -> bool:
        """Whether the copy has all that was in Kafka when the server started."""
        return self._follower is not None and self._follower.caught_up.is_set()

    @property
    def tier(self) -> StateTier:
        """Steps 2 and 3 over the copy; only its reading methods may be called.

        Raises
        ------
        ReplicaNotReady
            The encoder is still loading.
        """
        if self._tier is None:
            raise ReplicaNotReady(
                "replica: got a question while the encoder is loading, expected it after that; try again in a second"
            )
        return self._tier

    @property
    def catalogue(self) -> Catalogue:
        """The items; raises `ReplicaNotReady`."""
        return self.tier.catalogue

    @property
    def counts(self) -> Counts:
        """Co-visits and trends of all workers; raises `ReplicaNotReady`."""
        return self.tier.counts

    @property
    def users(self) -> Users:
        """The users' records, to be read only; raises `ReplicaNotReady`."""
        return self.tier.users

    async def wait(self) -> None:
        """Wait until the copy has caught up."""
        await self._loaded.wait()
        if self._follower is not None:
            await self._follower.caught_up.wait()

    async def start(self) -> None:
        """Begin to load the encoder, then to follow the topics, in the background."""
        self._following = asyncio.create_task(self._follow(), name="replica")

    async def stop(self) -> None:
        """Stop following, and delete the copy."""
        if self._following is not None:
            self._following.cancel()
            with suppress(asyncio.CancelledError):
                await self._following

    async def _follow(self) -> None:
        thread = ThreadPoolExecutor(1, "encode")
        try:
            with tempfile.TemporaryDirectory(prefix="afterclick-replica-") as folder:
                await self._follow_in(Path(folder), thread)
        except AfterclickError as error:
            self.error = error
            logger.error("%s", error)
        except Exception as error:
            self.error = error
            logger.exception("the replica ends")
        finally:
            thread.shutdown(wait=False, cancel_futures=True)

    async def _follow_in(self, folder: Path, thread: Executor) -> None:
        settings = self._settings
        await asyncio.get_running_loop().run_in_executor(thread, self._models.load)
        encoder = self._models.encoder
        if encoder is None:
            raise TypeError("replica: got models without an encoder, expected one")
        store = UserStore(folder)
        users = Users(store, encoder.dim)
        catalogue = catalogue_of(settings, encoder.dim)
        tier = StateTier(settings, users, catalogue, counts_of(settings), sources_of(settings))
        stored = StoredEncoder(encoder, encoder.identity, settings.tables.data_dir / vector_store.FILE)
        reader = RecordReader(settings)
        feed = CatalogueFeed(tier, stored, thread, reader, refresh=_ignore)

        async def put_users(records: Records) -> None:
            for user_id, is_forgotten in store.apply(records).items():
                users.drop(user_id)
                if is_forgotten:
                    self.on_forgotten(user_id)

        async def put_item_counts(records: Records) -> None:
            put_counts(tier.counts, tier.dates, records)

        handlers = {
            settings.topic("items"): feed.put,
            settings.topic(TRIPLES): KnowledgeFeed(tier.catalogue.knowledge, reader).put,
            settings.topic(COUNTS): put_item_counts,
            changelog_name(settings): put_users,
        }
        self._tier, self._follower = tier, Follower(settings.kafka, handlers)
        self._loaded.set()
        try:
            await _existing(settings.kafka, handlers.keys())
            await self._follower.run()
        finally:
            stored.close()
            store.close()


async def _existing(kafka: KafkaSettings, names: Set[str]) -> None:
    """Wait until the topics exist: the first worker creates them."""
    missing: Set[str] = set()
    while True:
        before = missing
        try:
            async with kafka_client.admin(kafka) as admin:
                missing = names - (await partitions_by_topic(admin)).keys()
        except kafka_client.KafkaUnavailable as error:
            outage.kafka.seen(str(error), lasts_s=0)
        else:
            if not missing:
                return
            if missing != before:
                logger.warning("the topics %s do not exist; waiting for the first worker", ", ".join(sorted(missing)))
        await asyncio.sleep(LOOK_EVERY_S)


class UserStore(Mapping[bytes, bytes]):
    """The users' records by key, in a RocksDB that nobody opens again, so memory is bounded for any number of users.

    Parameters
    ----------
    folder : Path
        An empty folder.
    """

    def __init__(self, folder: Path) -> None:
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        self._database = Rdict(str(folder), options)
        self._unlogged = WriteOptions()
        cast(Any, self._unlogged).disable_wal = True  # a restart reads the changelog again

    def apply(self, records: Records) -> dict[str, bool]:
        """Write the records and the wishes of users among these. Other keys serve the state workers alone.

        Returns
        -------
        dict of str to bool
            The id of each user whose record has changed, and whether it was erased.
        """
        latest = {
            record.key: record.value
            for record in records
            if record.key and (is_record(record.key) or is_wishes(record.key))
        }
        batch = WriteBatch(raw_mode=True)
        for key, value in latest.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        self._database.write(batch, self._unlogged)
        return {user_of(key): value is None for key, value in latest.items() if is_record(key)}

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def __getitem__(self, key: bytes) -> bytes:
        return cast(bytes, self._database[key])

    def __iter__(self) -> Iterator[bytes]:
        return cast(Iterator[bytes], self._database.keys())

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _ignore(_: object) -> None:
    """Do nothing. No user waits for an item here: the state worker that holds the user writes the new record."""
