"""Why a server that ranks gave no scores: its status or its silence, named. Opens no connection."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Literal, TypeAlias

import httpx

from streams.settings import PREFIX

SETTINGS = f"{PREFIX}RANKER__RERANK__"
PASSING = frozenset({"timeout", "unreachable", "busy", "failed"})
"""Outcomes of a server that is away, or has too much to do."""
BUSY = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
TOO_MUCH = frozenset({HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.BAD_REQUEST})
"""What servers answer to a request that is too large, and to one of another contract."""
MAX_TOLD = 200
Cause: TypeAlias = Literal["server", "request", "client"]


class RerankFailure(Exception):
    """One request got no scores.

    Attributes
    ----------
    outcome : str
        One of `rerank_metrics.OUTCOMES`.
    cause : {'server', 'request', 'client'}
        What is at fault: other requests fail likewise, this one is wrong, or it was never sent.
    told : str
        What the server said; it may quote the request.
    retry_after_s : float
        How long the server asks to wait.
    """

    def __init__(
        self, outcome: str, problem: str, cause: Cause = "server", told: str = "", retry_after_s: float = 0.0
    ) -> None:
        super().__init__(problem)
        self.outcome, self.cause = outcome, cause
        self.told, self.retry_after_s = told, retry_after_s

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed a little later."""
        return self.cause == "server" and self.outcome in PASSING


def of_response(response: httpx.Response, has_token: bool) -> RerankFailure:
    """Name what is wrong with an answer that is no success."""
    status, told = response.status_code, _told(response)
    got = f"got HTTP {status}"
    if status in BUSY:
        return RerankFailure("busy", f"{got}, expected scores; the server is busy", retry_after_s=_wait(response))
    if status >= 500 or status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY):
        return RerankFailure("failed", f"{got}, expected scores; see the log of the server", told=told)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        ours = "our token" if has_token else "a request without a token"
        return RerankFailure("refused", f"{got} for {ours}, expected the right to rank; correct {SETTINGS}TOKEN")
    if status in TOO_MUCH:
        advice = f"lower {SETTINGS}MAX_TEXTS or {SETTINGS}CONTEXT_BYTES"
        return RerankFailure("refused", f"{got}, expected scores; {advice}", "request", told)
    return RerankFailure("refused", f"{got}, expected scores; correct the address", told=told)


def of_error(error: Exception, limit_s: float) -> RerankFailure:
    """Name an error of the connection."""
    if isinstance(error, httpx.HTTPError | OSError) and not isinstance(error, TimeoutError | httpx.TimeoutException):
        text = str(error) or type(error).__name__
        if "CERTIFICATE_VERIFY_FAILED" in text:
            problem = f"got a certificate that is not to be trusted ({text})"
            return RerankFailure(
                "refused", f"{problem}, expected one of an authority that this system or SSL_CERT_FILE names"
            )
        return RerankFailure("unreachable", f"got no answer ({text}), expected a server that ranks; check the address")
    return RerankFailure("timeout", f"got no answer within {limit_s:.1f} s, expected scores; the server is slow")


def _wait(response: httpx.Response) -> float:
    """The seconds of `Retry-After`; 0 for a date, which nobody sends to a client that waits seconds."""
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else 0.0


def _told(response: httpx.Response) -> str:
    """What the server says of the problem, in one short line."""
    try:
        return " ".join(_words(json.loads(response.content)).split())[:MAX_TOLD]
    except (ValueError, RecursionError):
        return ""


def _words(said: Any) -> str:
    if isinstance(said, Mapping):
        where = f"{'.'.join(map(str, said['loc']))}: " if isinstance(said.get("loc"), list) else ""
        return where + next((_words(said[key]) for key in ("msg", "message", "error", "detail") if said.get(key)), "")
    return "; ".join(map(_words, said)) if isinstance(said, list) else str(said)
