"""Tokens for SASL/OAUTHBEARER, from a callable of the user.

Kafka's clients ask for a token whenever they connect, each in its own event loop or thread. A token that comes with its
lifetime is used again for a part of it.
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
"""The part of a token's lifetime in which it is used. Kafka's own clients use the same part: clocks may be wrong."""
PATIENCE_S = 20.0
"""How long the callable may take, in seconds: a connection waits for its token, and aiokafka for the connection."""
MAX_USED_S = 60.0
"""The longest that a token is used, in seconds: a token may be withdrawn without notice. Long enough for clients that
connect together."""
MAX_LIFETIME_S = 10_000_000
"""About four months. A larger number is no lifetime but the time of the token's end."""
_MILLISECONDS = 100_000_000_000
"""A larger Unix time is in milliseconds: in seconds it would be in the year 5138 or later."""


class TokenUnavailable(KafkaConnectionError):  # type: ignore[misc]
    """The provider gave no token. Kafka's clients treat this like a broker that is away: they try again."""


class TokenProvider(AbstractTokenProvider):  # type: ignore[misc]
    """Gives aiokafka its tokens.

    Parameters
    ----------
    path : str
        The callable, as `module:name`. It takes no argument, is plain or async, and returns the token, or the token and
        a number: its lifetime in seconds, or the time of its end in Unix seconds or milliseconds.

    Raises
    ------
    SettingsError
        The callable cannot be imported, or is not callable.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._provide = imported(path, SETTING, EXPECTED)
        if not callable(self._provide):
            raise SettingsError(f"{SETTING}: got {path!r}, which cannot be called, expected {EXPECTED}; correct it")
        self._kept = ("", 0.0)
        self._failed = False

    async def token(self) -> str:
        """Return a token that is valid now.

        Raises
        ------
        TokenUnavailable
            The callable raised, took too long, or returned no token.
        """
        token, until_s = self._kept
        if time.time() < until_s:
            return token
        try:
            token, until_s = _read(await asyncio.wait_for(self._ask(), PATIENCE_S))
        except Exception as error:  # whatever the user's code raises
            reason = f"{self.path}: got {type(error).__name__}: {error}"
            if not self._failed:
                logger.error("no token from %s; the client tries again, with a new token", reason)
            self._failed = True
            raise TokenUnavailable(f"no token from {reason}") from error
        if self._failed:
            logger.warning("%s gives tokens again", self.path)
        self._failed, self._kept = False, (token, until_s)
        return token

    async def _ask(self) -> Any:
        if inspect.iscoroutinefunction(self._provide):
            return await self._provide()
        result = await asyncio.get_running_loop().run_in_executor(None, self._provide)  # it may use the network
        return await result if inspect.isawaitable(result) else result


def _read(result: Any) -> tuple[str, float]:
    """Return the token, and until when to use it (Unix seconds). A token without an end is used once."""
    token, end = result if isinstance(result, (tuple, list)) and len(result) == 2 else (result, 0)
    if not isinstance(token, str) or not token or not isinstance(end, (int, float)):
        raise TypeError(f"a {type(result).__name__} where a token, or a token and a number, was expected")
    now_s = time.time()
    end_s = end / 1000 if end > _MILLISECONDS else end
    lifetime_s = end_s - now_s if end_s > MAX_LIFETIME_S else end_s
    return token, now_s + min(MAX_USED_S, USED_FOR * max(0.0, lifetime_s))
