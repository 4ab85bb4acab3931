"""The synchronous client: the asynchronous one on an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from streams.bodies import RerankCandidate, Reranked, RerankEvent
from streams.client.asynchronous import AsyncClient
from streams.client.errors import ClientClosed
from streams.client.messages import Forgotten
from streams.contracts import Recommendations, Sendable

if TYPE_CHECKING:
    from msgspec import UnsetType
    from typing_extensions import Self, Unpack

    from streams.client.fields import ClickFields, ClientArguments, EventFields, PurchaseFields, SearchFields

Result = TypeVar("Result")
_FOREIGN = "got a client of the process that forked this one, expected one of this process; make another"
_CLOSED = "got a closed client, expected one that is open; make another"


class Client:
    """Sends events and items, reads lists, and has candidates ranked: `AsyncClient` for code without asyncio.

    The arguments are those of `AsyncClient`, and the methods are described there. Threads may share one client. A
    process that forks makes its clients after the fork. Use it with `with`, or call `close`.
    """

    def __init__(self, **arguments: Unpack[ClientArguments]) -> None:
        self._client = AsyncClient(**arguments)
        self._process = os.getpid()
        self._is_closed = False
        self._calls: set[asyncio.Task[Any] | None] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="afterclick-client", daemon=True)
        self._thread.start()

    def send(self, *messages: Sendable) -> None:
        """See `AsyncClient.send`."""
        self._run(self._client.send(*messages))

    def click(self, user_id: str, item_id: str, **fields: Unpack[ClickFields]) -> str:
        """See `AsyncClient.click`."""
        return self._run(self._client.click(user_id, item_id, **fields))

    def purchase(self, user_id: str, item_id: str, **fields: Unpack[PurchaseFields]) -> str:
        """See `AsyncClient.purchase`."""
        return self._run(self._client.purchase(user_id, item_id, **fields))

    def event(self, user_id: str, item_id: str, type: str, **fields: Unpack[EventFields]) -> str:
        """See `AsyncClient.event`."""
        return self._run(self._client.event(user_id, item_id, type, **fields))

    def search(self, user_id: str, text: str, **fields: Unpack[SearchFields]) -> str:
        """See `AsyncClient.search`."""
        return self._run(self._client.search(user_id, text, **fields))

    def impression(
        self, user_id: str, list_id: str, item_ids: Sequence[str], propensities: Sequence[float | UnsetType] = ()
    ) -> str:
        """See `AsyncClient.impression`."""
        return self._run(self._client.impression(user_id, list_id, item_ids, propensities))

    def delete_items(self, *item_ids: str) -> None:
        """See `AsyncClient.delete_items`."""
        self._run(self._client.delete_items(*item_ids))

    def forget(self, user_id: str) -> None:
        """See `AsyncClient.forget`."""
        self._run(self._client.forget(user_id))

    def merge(self, from_user_id: str, into_user_id: str) -> None:
        """See `AsyncClient.merge`."""
        self._run(self._client.merge(from_user_id, into_user_id))

    def recommendations(
        self, user_id: str, placement: str | None = None, *, cold_start: bool = True
    ) -> Recommendations | None:
        """See `AsyncClient.recommendations`."""
        return self._run(self._client.recommendations(user_id, placement, cold_start=cold_start))

    def rerank(
        self,
        candidates: Sequence[RerankCandidate | str],
        *,
        user_id: str | None = None,
        history: Sequence[RerankEvent] | None = None,
    ) -> Reranked:
        """See `AsyncClient.rerank`."""
        return self._run(self._client.rerank(candidates, user_id=user_id, history=history))

    def lists(self, *, group: str | None = None, from_beginning: bool = False) -> Iterator[Recommendations | Forgotten]:
        """See `AsyncClient.lists`."""
        lists = self._client.lists(group=group, from_beginning=from_beginning)
        try:
            while True:
                try:
                    yield self._run(lists.__anext__())
                except StopAsyncIteration:
                    return
        finally:
            with suppress(ClientClosed):  # then `close` has ended the iteration
                self._run(lists.aclose())

    def close(self) -> None:
        """See `AsyncClient.close`. Calls of other threads that have not ended by then raise `ClientClosed`."""
        if self._is_closed or os.getpid() != self._process:
            return
        self._is_closed = True
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, call: Coroutine[Any, Any, Result]) -> Result:
        """Run a call in the client's thread, and wait for it.

        Raises
        ------
        ClientClosed
            The client is closed, or another process made it.
        """
        is_foreign = os.getpid() != self._process
        if is_foreign or self._is_closed:
            call.close()
            raise ClientClosed(_FOREIGN if is_foreign else _CLOSED)
        future = asyncio.run_coroutine_threadsafe(self._noted(call), self._loop)
        try:
            return future.result()
        except CancelledError:
            raise ClientClosed(_CLOSED) from None
        except BaseException:  # Ctrl-C
            future.cancel()
            raise

    async def _noted(self, call: Coroutine[Any, Any, Result]) -> Result:
        task = asyncio.current_task()
        self._calls.add(task)
        try:
            return await call
        finally:
            self._calls.discard(task)

    async def _end(self) -> None:
        await self._client.close()
        calls = [task for task in self._calls if task is not None]
        for task in calls:
            task.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await self._loop.shutdown_asyncgens()
