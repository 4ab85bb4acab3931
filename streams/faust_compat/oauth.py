"""A fault of aiokafka's login with a token (SASL/OAUTHBEARER)."""

from __future__ import annotations

from aiokafka import conn
from aiokafka.errors import SaslAuthenticationFailed


class NoticesRefusedTokens(conn.OAuthAuthenticator):  # type: ignore[misc]
    """Fault: aiokafka 0.14 takes every answer to its token for a yes.

    A server refuses a token with a text, and then waits for the client (RFC 7628, 3.2.3).
    """

    async def step(self, payload: bytes | None) -> tuple[bytes, bool] | None:
        if self._token_sent and payload:
            raise SaslAuthenticationFailed(payload.decode(errors="replace"))
        step: tuple[bytes, bool] | None = await super().step(payload)
        return step


def install() -> None:
    """From now on every client of this process notices a refused token."""
    conn.OAuthAuthenticator = NoticesRefusedTokens
