"""The asynchronous client: which call goes to Kafka, to Redis or to the HTTP service.

Knows no protocol. The modules that do are imported when they are used, with the libraries below them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Any

from streams.bodies import RerankCandidate, Reranked, RerankEvent, RerankQuestion
from streams.client.arguments import given, installed, shown, with_id_and_time
from streams.client.errors import ClientError, MissingArgument
from streams.client.messages import (
    Forgotten,
    KeyedMessage,
    decode_list,
    deletion,
    keyed,
    now_ms,
    sources,
)
from streams.contracts import (
    Click,
    Forget,
    Impression,
    Purchase,
    Recommendations,
    Search,
    Sendable,
    UserEvent,
    UserMerge,
)

if TYPE_CHECKING:
    from msgspec import UnsetType
    from redis.asyncio import Redis, RedisCluster
    from typing_extensions import Self, Unpack

    from streams.client.fields import ClickFields, EventFields, PurchaseFields, SearchFields
    from streams.client.http_service import HttpService, Right
    from streams.client.kafka_sender import KafkaSender
    from streams.client.redis_lists import RedisLists

MESSAGES_AT_ONCE = 500
"""The time limit is for so many; half of what one request by HTTP may bring."""
TIMEOUT_S = 10.0
"""A broker's restart or the election of a leader is over by then; chosen by us."""


class AsyncClient:
    """Sends events and items, reads lists, and has candidates ranked.

    Give the addresses of what the calls need: sending uses Kafka, or HTTP without Kafka; reading a list uses Redis, or
    HTTP without Redis; `lists` needs Kafka; `rerank` needs HTTP. Nothing is connected before the first call. Use it
    with `async with`, or call `close`.

    Parameters
    ----------
    kafka : str, optional
        `host:port`; several are separated by commas.
    redis : str, redis.asyncio.Redis or redis.asyncio.RedisCluster, optional
        A URL, or a client of redis-py, which a cluster and sentinels need.
    http : str, optional
        The URL of the HTTP service, such as `http://127.0.0.1:8080`.
    read_token, write_token, rank_token : str, optional
        The service's bearer token for each right.
    topic_prefix : str
        The workers' `AFTERCLICK_TOPIC_PREFIX`.
    key_prefix : str, optional
        The workers' `AFTERCLICK_REDIS__KEY_PREFIX`, if it is set.
    placements : sequence of str
        The workers' `AFTERCLICK_RANKER__PLACEMENTS`, if they are set and lists come from Redis or Kafka.
    timeout_s : float
        For each call, with all its attempts. Retries wait longer each time, at least as long as the service asks for.
    kafka_options, http_options : mapping, optional
        Further arguments of aiokafka's clients (`security_protocol`, `ssl_context`, …) and of `httpx.AsyncClient`
        (`verify`, `proxy`, …).

    Raises
    ------
    MissingArgument
        There is no address, one of them is malformed, or a package is not installed.
    """

    def __init__(
        self,
        *,
        kafka: str | None = None,
        redis: str | Redis | RedisCluster | None = None,
        http: str | None = None,
        read_token: str | None = None,
        write_token: str | None = None,
        rank_token: str | None = None,
        topic_prefix: str = "",
        key_prefix: str | None = None,
        placements: Sequence[str] = (),
        timeout_s: float = TIMEOUT_S,
        kafka_options: Mapping[str, Any] | None = None,
        http_options: Mapping[str, Any] | None = None,
    ) -> None:
        if not (kafka or redis or http):
            raise MissingArgument("got no address, expected kafka=…, redis=… or http=…; give what your calls need")
        self._list_topic = f"{topic_prefix}recommendations"
        self._placements = placements
        self._timeout_s = timeout_s
        self._kafka_options = kafka_options or {}
        self._sender: KafkaSender | None = None
        self._cache: RedisLists | None = None
        self._service: HttpService | None = None
        with installed():
            if kafka:
                from streams.client.kafka_sender import KafkaSender

                self._sender = KafkaSender(kafka, self._kafka_options, topic_prefix, timeout_s)
            if redis:
                from streams.client.redis_lists import RedisLists

                default_prefix = f"afterclick:list:{topic_prefix}{topic_prefix and ':'}"
                prefix = default_prefix if key_prefix is None else key_prefix
                self._cache = RedisLists(redis, prefix, placements, timeout_s)
            if http:
                from streams.client.http_service import HttpService

                tokens: dict[Right, str | None] = {"read": read_token, "write": write_token, "rank": rank_token}
                self._service = HttpService(http, tokens, http_options or {}, timeout_s)

    async def send(self, *messages: Sendable) -> None:
        """Send messages, and wait until Kafka has stored all of them. Sent again, each counts once.

        Raises
        ------
        MessageRefused
            A message is against its contract; none was sent.
        ServiceUnavailable, ServiceRefused
            Some messages may not be stored: `unconfirmed` of the error has them.
        """
        several = len(messages) > 1
        await self._send([keyed(message, index if several else None) for index, message in enumerate(messages)])

    async def click(self, user_id: str, item_id: str, **fields: Unpack[ClickFields]) -> str:
        """Send a click, now and with a new id unless the fields say otherwise. Return its id. See `send`."""
        event = Click(user_id=user_id, item_id=item_id, **with_id_and_time(fields))
        await self.send(event)
        return event.event_id

    async def purchase(self, user_id: str, item_id: str, **fields: Unpack[PurchaseFields]) -> str:
        """Send a purchase; see `click`."""
        event = Purchase(user_id=user_id, item_id=item_id, **with_id_and_time(fields))
        await self.send(event)
        return event.event_id

    async def event(self, user_id: str, item_id: str, type: str, **fields: Unpack[EventFields]) -> str:
        """Send an event of another type: cart, like, dislike, rating, return, or one of yours; see `click`."""
        event = UserEvent(user_id=user_id, item_id=item_id, type=type, **with_id_and_time(fields))
        await self.send(event)
        return event.event_id

    async def search(self, user_id: str, text: str, **fields: Unpack[SearchFields]) -> str:
        """Send what a user searched for; see `click`."""
        event = Search(user_id=user_id, text=text, **with_id_and_time(fields))
        await self.send(event)
        return event.event_id

    async def impression(
        self, user_id: str, list_id: str, item_ids: Sequence[str], propensities: Sequence[float | UnsetType] = ()
    ) -> str:
        """Send which items of a list were shown now, and the `propensity` of each if it has one; see `click`."""
        event = Impression(user_id=user_id, list_id=list_id, **with_id_and_time(shown(item_ids, propensities)))
        await self.send(event)
        return event.event_id

    async def delete_items(self, *item_ids: str) -> None:
        """Delete items. Needs Kafka. See `send`."""
        await given(self._sender, "kafka=…").send([deletion(item_id) for item_id in item_ids])

    async def forget(self, user_id: str) -> None:
        """Have a user erased everywhere. See `send`."""
        message = keyed(Forget(user_id=user_id, timestamp=now_ms()))
        if self._sender is None and self._service is not None:
            await self._service.forget(user_id)
        else:
            await self._send([message])

    async def merge(self, from_user_id: str, into_user_id: str) -> None:
        """Have a visitor, who is the user `into_user_id` as is known now, be that user from now on. See `send`."""
        await self.send(UserMerge(from_user_id=from_user_id, into_user_id=into_user_id, timestamp=now_ms()))

    async def recommendations(
        self, user_id: str, placement: str | None = None, *, cold_start: bool = True
    ) -> Recommendations | None:
        """Read a user's newest list.

        Parameters
        ----------
        user_id : str
            From Redis the user's pseudonym, if the workers keep users under pseudonyms.
        placement : str, optional
            The place in the shop that the list is for, such as `home`.
        cold_start : bool
            Whether a user without a list gets the cold-start list, whose `user_id` is `*`.

        Returns
        -------
        Recommendations or None
            None: there is no list.

        Raises
        ------
        ServiceUnavailable, ServiceRefused
        """
        part: RedisLists | HttpService = self._cache or given(self._service, "redis=… or http=…")
        stored = await part.read(user_id, placement, cold_start)
        return None if stored is None else decode_list(stored, f"the list of {user_id!r}")

    async def lists(
        self, *, group: str | None = None, from_beginning: bool = False
    ) -> AsyncGenerator[Recommendations | Forgotten, None]:
        """Iterate over all lists as the workers write them, without an end. Needs Kafka.

        Parameters
        ----------
        group : str, optional
            A consumer group: Kafka keeps how far it has read, and divides the partitions among its members. A list
            counts as read when the next one is asked for, so after a crash the latest come again.
        from_beginning : bool
            Whether to begin with the lists that are there already, where the group has read none.

        Yields
        ------
        Recommendations or Forgotten
            A user's new list; or a list that has to be deleted.
        """
        servers = given(self._sender, "kafka=…").servers
        from streams.client.kafka_lists import ListTopic

        topic = ListTopic(servers, self._kafka_options, self._list_topic, self._placements, self._timeout_s)
        async with aclosing(topic.read(group, from_beginning)) as lists:
            async for list_ in lists:
                yield list_

    async def rerank(
        self,
        candidates: Sequence[RerankCandidate | str],
        *,
        user_id: str | None = None,
        history: Sequence[RerankEvent] | None = None,
    ) -> Reranked:
        """Have candidates of your own ranked now. Needs HTTP.

        Parameters
        ----------
        candidates : sequence of RerankCandidate or str
            A text is the id of an item of the catalogue. A `RerankCandidate` may bring its own text.
        user_id : str, optional
            The user whose history the workers know.
        history : sequence of RerankEvent, optional
            Instead of `user_id`: what a user did, newest last.
        placement : str, optional
            The place in the shop that the candidates are for.

        Returns
        -------
        list of RankedItem
            Best first.

        Raises
        ------
        ServiceUnavailable, ServiceRefused
        """
        service = given(self._service, "http=…")
        asked = [RerankCandidate(each) if isinstance(each, str) else each for each in candidates]
        return await service.rerank(RerankQuestion(asked, user_id, None if history is None else list(history)))

    async def close(self) -> None:
        """Wait for messages that are on their way, at most for the time limit, and close all connections."""
        for part in (self._sender, self._cache, self._service):
            if part is not None:
                await part.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _send(self, messages: Sequence[KeyedMessage]) -> None:
        part: KafkaSender | HttpService = self._sender or given(self._service, "kafka=… or http=…")
        for end in range(MESSAGES_AT_ONCE, len(messages) + MESSAGES_AT_ONCE, MESSAGES_AT_ONCE):
            try:
                await part.send(messages[end - MESSAGES_AT_ONCE : end])
            except ClientError as error:
                error.unconfirmed += sources(messages[end:])
                raise
