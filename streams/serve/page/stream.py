"""The views of some shoppers, each time that one of them changes: a list arrives, or what is known catches up with it.

Knows no HTTP.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import msgspec
from pydantic import SecretStr

from encoders.errors import AfterclickError
from encoders.interest import Interest
from ranker.recall.catalogue import Catalogue
from streams.contracts import COLD_START_USER, Recommendations
from streams.receive.pseudonym import pseudonym
from streams.serve.live_lists import MISSED, LiveList, LiveLists, Update
from streams.serve.page.shopper import ListView, ShopperView, history, interests, shown_list
from streams.serve.replica import Replica, ReplicaNotReady

logger = logging.getLogger(__name__)

TICK_S = 1.0
"""A stream yields at least this often, so that other messages get their turn."""
CATCH_UP_S, CATCH_UP_TICK_S = 3.0, 0.05
"""How long a view waits for the copy of the state that its list was made from, and how often it looks."""

_decoder = msgspec.json.Decoder(Recommendations)


class ReplicaReader:
    """What a replica knows, or None where it does not know it yet."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    @property
    def complete(self) -> bool:
        """Whether the replica has read all that was in Kafka when the server started."""
        return self._replica.caught_up

    def catalogue(self) -> Catalogue | None:
        """The items; None while the encoder is loading."""
        try:
            return self._replica.catalogue
        except ReplicaNotReady:
            return None

    def interest(self, user: str) -> Interest | None:
        """The user's state; None while the encoder is loading, or if another version wrote the state."""
        try:
            return self._replica.users.get(user).interest
        except AfterclickError:
            return None

    def view(
        self,
        user: str,
        shown: str,
        received: Recommendations | None,
        published_ms: int | None = None,
        *,
        cold: bool = False,
    ) -> ShopperView:
        """Make the view of a shopper.

        Parameters
        ----------
        user, shown : str
            The id as it is stored, and the id that the page asked for.
        received : Recommendations or None
            The user's list, or the cold-start list.
        published_ms : int or None
            When the list was written to its topic; None if it was read from Redis.
        cold : bool
            Whether it is the cold-start list.
        """
        catalogue, state = self.catalogue(), self.interest(user)
        listed: ListView | None = None
        if received is not None:
            named = COLD_START_USER if cold else shown
            types = {} if catalogue is None else self._replica.tier.decay.types
            listed = shown_list(named, received, catalogue, state, types, published_ms)
        if catalogue is None or state is None or not state.version:
            return ShopperView(shown, cold, listed, [], [])
        view = self._replica.tier.requests.shopper(state)
        return ShopperView(shown, cold, listed, history(state, catalogue, view.decay.types), interests(view))


class ShopperStream:
    """Yields the views of some shoppers.

    Parameters
    ----------
    users : sequence of str
        Ids as the page names them.
    live : LiveLists
    reader : ReplicaReader
    read_list : coroutine function
        User id as it is stored -> the list as JSON, or None.
    key : SecretStr or None
        The key of the pseudonyms.
    """

    def __init__(
        self,
        users: Sequence[str],
        live: LiveLists,
        reader: ReplicaReader,
        read_list: Callable[[str], Awaitable[bytes | None]],
        key: SecretStr | None,
    ) -> None:
        self._shown = {pseudonym(user, key): user for user in users}
        self._live = live
        self._reader = reader
        self._read_list = read_list
        self._lists: dict[str, Recommendations | None] = {}
        self._published_ms: dict[str, int | None] = {}
        self._behind: dict[str, float] = {}  # user -> when to stop waiting for the copy of the state

    async def views(self) -> AsyncIterator[list[ShopperView]]:
        """Yield views for ever: first all, then those that have changed; an empty list at least every `TICK_S`."""
        with self._live.watch([*self._shown, COLD_START_USER]) as watcher:
            await self._take(dict.fromkeys([COLD_START_USER, *self._shown], MISSED))
            changed = dict.fromkeys(self._shown)
            complete = self._reader.complete
            while True:
                yield [self._view(user) for user in changed]
                updates = await watcher.fetch(CATCH_UP_TICK_S if self._behind else TICK_S)
                changed = await self._take(updates)
                changed |= dict.fromkeys(self._caught_up())
                if self._reader.complete is not complete:
                    complete = self._reader.complete
                    changed = dict.fromkeys(self._shown)

    async def _take(self, updates: dict[str, Update]) -> dict[str, None]:
        """Store lists; return the users whose views have changed."""
        changed: dict[str, None] = {}
        for user, update in updates.items():
            published_ms = None
            try:
                if isinstance(update, LiveList):
                    received, published_ms = _decoded(update.payload), update.published_ms
                else:
                    received = _decoded(await self._read_list(user))
            except (AfterclickError, msgspec.DecodeError, UnicodeDecodeError) as error:
                logger.warning("the page keeps the list that it has, because it cannot read a newer one: %s", error)
                continue
            if _is_older(received, self._lists.get(user)):
                continue
            self._lists[user], self._published_ms[user] = received, published_ms
            if user == COLD_START_USER:
                changed |= {other: None for other in self._shown if self._lists.get(other) is None}
            else:
                changed[user] = None
                self._behind[user] = time.monotonic() + CATCH_UP_S
        return changed

    def _caught_up(self) -> list[str]:
        """Return the users whose state has come up to their list, and forget those who never did."""
        now, done = time.monotonic(), [user for user in self._behind if self._knows(user)]
        late = [user for user, until in self._behind.items() if until < now]
        for user in {*done, *late}:
            del self._behind[user]
        return done

    def _knows(self, user: str) -> bool:
        state, received = self._reader.interest(user), self._lists.get(user)
        if state is None:
            return False
        return state.version >= received.state_version if received else state.version == 0

    def _view(self, user: str) -> ShopperView:
        own = self._lists.get(user)
        if user in self._behind and self._knows(user):
            del self._behind[user]
        if own is None:
            return self._reader.view(user, self._shown[user], self._lists.get(COLD_START_USER), cold=True)
        return self._reader.view(user, self._shown[user], own, self._published_ms.get(user))


def _decoded(payload: bytes | None) -> Recommendations | None:
    return None if payload is None else _decoder.decode(payload)


def _is_older(received: Recommendations | None, shown: Recommendations | None) -> bool:
    if received is None or shown is None:
        return False
    return (received.as_of, received.state_version) < (shown.as_of, shown.state_version)
