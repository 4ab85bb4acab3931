"""The schemas of messages in Confluent's wire format: each is asked for once, then kept, for it never changes.

A registry that is away rejects nothing: whoever needs a schema of it waits, and asks again. What it does not know is
rejected, and asked for again only after a while. JSON in that format needs no registry.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import msgspec

from streams import metrics
from streams.kafka.registry_client import RegistryClient, RegistryUnavailable, Schema
from streams.receive import confluent
from streams.receive.confluent import Framed, framed
from streams.receive.message import BadMessage, Message
from streams.receive.schema import SchemaUnusable, Undecodable
from streams.settings import KafkaSettings

logger = logging.getLogger(__name__)

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 10.0
"""Waits before a registry that is away is asked again; chosen by us: a restart takes some seconds."""
UNUSABLE_KEPT_S = 10.0
"""After this time a schema that could not be used is asked for again: a follower of a registry lags behind it."""
MAX_UNUSABLE = 10_000
"""Unusable schemas that are kept, so that a producer that writes at random takes no memory without bound."""


class _Unusable(NamedTuple):
    problem: str
    until_s: float


class SchemaRegistry:
    """All schemas that this process has needed. Used from one event loop.

    Parameters
    ----------
    kafka : KafkaSettings
        The registry's URLs and our login. Without a URL no schema can be had.
    client : RegistryClient, optional
        Asks for schemas.

    Attributes
    ----------
    on_learnt : list of callable
        Each is called when the registry has answered for a schema that `wants` named.
    """

    def __init__(self, kafka: KafkaSettings, client: RegistryClient | None = None) -> None:
        self.on_learnt: list[Callable[[], None]] = []
        self._client = client or (RegistryClient(kafka) if kafka.schema_registries else None)
        self._schemas: dict[int, Schema | _Unusable] = {}
        self._wanted: set[int] = set()
        self._is_wanted = asyncio.Event()
        self._asking = asyncio.Lock()
        self._failing: dict[int, str] = {}  # ids of schemas that were asked for in vain -> why
        self._failing_since_s = 0.0

    @property
    def why_away(self) -> str:
        """Why records wait for the registry, in words; "" if none waits. Any thread may ask."""
        for problem in list(self._failing.values()):
            return f"{problem}; records that need it wait, and none is lost"
        return ""

    def missing(self, key: bytes | None, value: bytes | None) -> set[int]:
        """Return the ids of the schemas that `plain` needs for a record and that have to be asked for."""
        if self._client is None or not (framed(value) or value is None):
            return set()
        return {part.schema_id for part in _parts(key, value) if self._is_missing(part.schema_id) and not part.is_json}

    def wants(self, ids: Collection[int]) -> None:
        """Have `run` ask for schemas."""
        if not self._wanted.issuperset(ids):
            self._wanted.update(ids)
            self._is_wanted.set()

    async def run(self) -> None:
        """Ask for the schemas that are wanted, for ever."""
        wait_s = FIRST_WAIT_S
        while True:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._is_wanted.wait(), wait_s if self._wanted else None)
            self._is_wanted.clear()
            asked = set(self._wanted)
            answered = asked - await self.ask(asked)
            self._wanted -= answered
            if answered:
                for tell in self.on_learnt:
                    tell()
            wait_s = min(2 * wait_s, LONGEST_WAIT_S) if self._wanted else FIRST_WAIT_S

    async def learn(self, ids: Collection[int]) -> None:
        """Ask for schemas until the registry has answered for each."""
        wait_s = FIRST_WAIT_S
        while ids := await self.ask(ids):
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    async def ask(self, ids: Iterable[int]) -> set[int]:
        """Ask for each schema once; return the ids for which the registry gave no answer."""
        left: set[int] = set()
        async with self._asking:
            missing = [schema_id for schema_id in sorted(ids) if self._is_missing(schema_id)]
            for position, schema_id in enumerate(missing):
                try:
                    self._keep(schema_id, await self._ask(schema_id))
                except RegistryUnavailable as error:
                    self._note_failure(schema_id, str(error))
                    left.add(schema_id)
                    if not error.is_refusal:  # a right to one schema may be missing, an address that is away has none
                        return left.union(missing[position:])
        return left

    def plain(self, message: Message, coerced: list[str]) -> Message:
        """Return the message with its key and value in plain JSON, or as they are in any other format.

        Parameters
        ----------
        message : Message
            A record. What `missing` named for it was asked for.
        coerced : list of str
            Receives "confluent" if the value was in Confluent's wire format.

        Raises
        ------
        BadMessage
            The value cannot be decoded.
        """
        parts = _parts(message.key, message.value)
        if not parts:
            return message
        key, value = message.key, message.value
        if value_part := framed(value):
            value = self._decode(message.topic, value_part)
            coerced.append("confluent")
        if key_part := _framed_key(key):
            try:
                key = _key_text(self._decode(message.topic, key_part, is_key=True))
            except BadMessage:
                if value is None:
                    raise
                # else the key stays as it is: a message that needs it is rejected for it (`decode`)
        return replace(message, key=key, value=value)

    async def _ask(self, schema_id: int) -> Schema | _Unusable:
        if self._client is None:
            raise TypeError("a schema registry without a URL was asked")
        try:
            return await self._client.schema(schema_id)
        except SchemaUnusable as error:
            return _Unusable(str(error), time.monotonic() + UNUSABLE_KEPT_S)

    def _keep(self, schema_id: int, schema: Schema | _Unusable) -> None:
        unusable = [known for known, of in self._schemas.items() if isinstance(of, _Unusable)]
        for known in unusable[: max(0, len(unusable) - MAX_UNUSABLE)]:
            del self._schemas[known]
        self._schemas[schema_id] = schema
        if self._failing.pop(schema_id, None) is not None and not self._failing:
            metrics.schema_registry_away.set(0)
            logger.warning("the schema registry is back, after %.0f s", time.monotonic() - self._failing_since_s)

    def _note_failure(self, schema_id: int, problem: str) -> None:
        if not self._failing:
            metrics.schema_registry_away.set(1)
            self._failing_since_s = time.monotonic()
            logger.warning("%s; records that need it wait, and a line will say when it is back", problem)
        self._failing[schema_id] = problem

    def _is_missing(self, schema_id: int) -> bool:
        schema = self._schemas.get(schema_id)
        return schema is None or (isinstance(schema, _Unusable) and schema.until_s < time.monotonic())

    def _decode(self, topic: str, part: Framed, is_key: bool = False) -> bytes:
        if part.is_json or (is_key and part.is_json_text and self._client is None):
            return part.payload
        if self._client is None:
            raise BadMessage("schema", f"{topic}: got {confluent.refused(part)}", confluent.name_of(part))
        schema = self._schemas.get(part.schema_id)
        if schema is None:
            text = f"{topic}: got {confluent.name_of(part)}; {self._client.address} did not give that schema"
            raise BadMessage("schema", text, "schema not to be had")
        if isinstance(schema, _Unusable):
            problem = f"the schema {part.schema_id} at {self._client.address} {schema.problem}"
            text = f"{topic}: got {confluent.name_of(part)}; {problem}; correct that, then retry the dead letter"
            raise BadMessage("schema", text, f"schema {part.schema_id} unusable")
        try:
            return schema.to_json(part.payload)
        except Undecodable as error:
            text = (
                f"{topic}: got {confluent.name_of(part)}, which is not as that schema says ({error}), expected bytes "
                "that were written with it; correct the producer"
            )
            raise BadMessage("schema", text, f"not as schema {part.schema_id} says") from None


@lru_cache
def registry_of(kafka: KafkaSettings) -> SchemaRegistry:
    """Return the one registry of all readers of this process, which then share its schemas."""
    return SchemaRegistry(kafka)


def _parts(key: bytes | None, value: bytes | None) -> list[Framed]:
    """Return what of a record is in Confluent's wire format. The key of a value in another format stays as it is."""
    of_value = framed(value)
    of_key = _framed_key(key) if of_value or value is None else None
    return [part for part in (of_value, of_key) if part is not None]


def _framed_key(key: bytes | None) -> Framed | None:
    """Split a key; a number in 8 bytes, which begins with zeros too, is none: no registry gives the id 0."""
    part = framed(key)
    return part if part and part.schema_id else None


def _key_text(key: bytes) -> bytes:
    """Return a key that is one value as its text, as a plain serialiser writes it; an object stays JSON."""
    value = msgspec.json.decode(key)
    return key if isinstance(value, (dict, list)) or value is None else str(value).encode()
