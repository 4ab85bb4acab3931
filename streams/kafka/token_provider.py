"""Tokens for SASL/OAUTHBEARER, from a callable of the user's own.

Kafka's clients ask for a token whenever they connect, each in its own event loop or thread. A token that came with its
lifetime is used again for a while. Knows no Kafka but that.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from typing import Any

from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaConnectionError

from streams.settings import PREFIX, SettingsError
from streams.settings.import_path import imported

logger = logging.getLogger(__name__)

SETTING = f"{PREFIX}KAFKA__SECURITY__TOKEN_PROVIDER"
EXPECTED = "module:callable that gives a token, or a token and its lifetime or end"
USED_FOR = 0.8
"""Of its lifetime, as Kafka's own clients do: a clock may be wrong, and a connection takes a moment."""
PATIENCE_S = 20.0
"""A connection waits for its token, and aiokafka for the connection."""
MOST_S = 60.0
"""No longer than that: a token that was withdrawn is refused, and nobody tells us. It serves clients that connect
together."""
LONGEST_S = 10_000_000
"""A lifetime is less, about four months; a larger number is the time of its end."""
_MILLISECONDS = 100_000_000_000
"""A time of day beyond this is in milliseconds: as seconds it is the year 5138."""


class TokenUnavailable(KafkaConnectionError):  # type: ignore[misc]
    """The provider gave no token. To Kafka's clients it is like a broker that is away: they try again."""


class TokenProvider(AbstractTokenProvider):  # type: ignore[misc]
    """What aiokafka asks for a token.

    Parameters
    ----------
    path : of the callable: `module:name`. It takes nothing, is plain or async, and returns the token, or the token and
        a number: its lifetime in seconds, or the time of its end in Unix seconds or milliseconds.

    Raises
    ------
    SettingsError
        It cannot be imported, or called.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._provide = imported(path, SETTING, EXPECTED)
        if not callable(self._provide):
            raise SettingsError(f"{SETTING}: got {path!r}, which cannot be called, expected {EXPECTED}; correct it")
        self._kept = ("", 0.0)
        self._failed = False

    async def token(self) -> str:
        """Give a token that is valid now.

        Raises
        ------
        TokenUnavailable
            The provider raised, or what it returned is none.
        """
        token, until_s = self._kept
        if time.time() < until_s:
            return token
        try:
            token, until_s = _read(await asyncio.wait_for(self._ask(), PATIENCE_S))
        except Exception as error:  # whatever the user's code raises
            what = f"{self.path}: got {type(error).__name__}: {error}"
            if not self._failed:
                logger.error("no token from %s; Kafka is tried again, with a new one", what)
            self._failed = True
            raise TokenUnavailable(f"no token from {what}") from error
        if self._failed:
            logger.warning("%s gives tokens again", self.path)
        self._failed, self._kept = False, (token, until_s)
        return token

    async def _ask(self) -> Any:
        if inspect.iscoroutinefunction(self._provide):
            return await self._provide()
        given = await asyncio.get_running_loop().run_in_executor(None, self._provide)  # it may ask over the network
        return await given if inspect.isawaitable(given) else given


def _read(given: Any) -> tuple[str, float]:
    """A token, and until when to use it; one without an end is used once."""
    token, end = given if isinstance(given, (tuple, list)) and len(given) == 2 else (given, 0)
    if not isinstance(token, str) or not token or not isinstance(end, (int, float)):
        raise TypeError(f"a {type(given).__name__} where a token, or a token and a number, was expected")
    now_s = time.time()
    end_s = end / 1000 if end > _MILLISECONDS else end
    lifetime_s = end_s - now_s if end_s > LONGEST_S else end_s
    return token, now_s + min(MOST_S, USED_FOR * max(0.0, lifetime_s))
