"""Call Afterclick's HTTP service, with retries where it is busy, restarts or cannot be reached.

Every call can be repeated: an event counts once by its id, and the other calls change nothing or delete.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from streams.bodies import ErrorBody, ErrorText, EventResult, EventResults, Reranked, RerankQuestion
from streams.client.backoff import ATTEMPTS, Backoff
from streams.client.errors import ClientError, MissingArgument, ServiceRefused, ServiceUnavailable
from streams.client.messages import KeyedMessage, sources

BYTES_PER_REQUEST = 1 << 20
"""A quarter of the service's default limit; chosen by us. One larger message goes alone."""
_EVENT_TYPES = {
    "clicks": "click",
    "purchases": "purchase",
    "events": "",
    "searches": "search",
    "preferences": "preference",
    "impressions": "impression",
    "items": "item",
    "knowledge": "triple",
    "merges": "merge",
}
"""By topic; the messages of `events` have types of their own."""
Right = Literal["read", "write", "rank"]
Body = TypeVar("Body")
NO_LIST = "no_list"
_BUSY = frozenset({408, 429, 502, 503, 504})
"""A slow connection; too many requests; a proxy without a server behind it; unavailable; a proxy's time-out."""


class _Results(msgspec.Struct):
    results: list[EventResult] = []


class HttpService:
    """Connects at the first call, and keeps connections open.

    Parameters
    ----------
    url : str
        `http://host:port` or `https://…`, with a path if a proxy puts one before `/v1`.
    tokens : mapping of right to str or None
    options : mapping
        Further arguments of `httpx.AsyncClient`, such as `verify` and `proxy`.
    timeout_s : float
        For each call, with all its attempts.

    Raises
    ------
    MissingArgument
        The URL is none.
    """

    def __init__(
        self, url: str, tokens: Mapping[Right, str | None], options: Mapping[str, Any], timeout_s: float
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise MissingArgument(f"http: got {url!r}, expected http://host:port or https://host; add the scheme")
        self._url = url
        self._headers = {right: {"Authorization": f"Bearer {token}"} for right, token in tokens.items() if token}
        self._timeout_s = timeout_s
        self._client = httpx.AsyncClient(base_url=url, timeout=timeout_s / ATTEMPTS, **options)

    async def send(self, messages: Sequence[KeyedMessage]) -> None:
        """Send events and items, and wait until Kafka has stored them.

        Raises
        ------
        ServiceUnavailable, ServiceRefused
            Some messages may not be stored: `unconfirmed` of the error has them.
        """
        left = list(messages)
        while left:
            chunk = _first(left)
            events = [{"type": _EVENT_TYPES[m.topic], **msgspec.to_builtins(m.source)} for m in chunk]
            try:
                answer = await self._call("write", "POST", "/v1/events", msgspec.json.encode({"events": events}))
                results = self._decoded(answer, EventResults).results
            except ClientError as error:
                error.unconfirmed = sources(left)
                raise
            # The others come again, alone: then the service says with the status why it takes none of them.
            left = [m for m, result in zip(chunk, results, strict=True) if result.error] + left[len(chunk) :]

    async def forget(self, user_id: str) -> None:
        """Have a user erased."""
        await self._call("write", "DELETE", f"/v1/users/{quote(user_id, safe='')}")

    async def read(self, user_id: str, placement: str | None, cold_start: bool) -> bytes | None:
        """Return a user's list; the cold-start list where there is none and the caller wants it; or None."""
        params = {} if placement is None else {"placement": placement}
        params |= {"cold_start": "true"} if cold_start else {}
        answer = await self._call("read", "GET", f"/v1/recommendations/{quote(user_id, safe='')}", params=params)
        return answer.content if answer.is_success else None

    async def rerank(self, question: RerankQuestion) -> Reranked:
        """Have candidates ranked."""
        answer = await self._call("rank", "POST", "/v1/rerank", msgspec.json.encode(question))
        return self._decoded(answer, Reranked)

    def _decoded(self, answer: httpx.Response, type_: type[Body]) -> Body:
        try:
            return msgspec.json.decode(answer.content, type=type_)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ServiceRefused(f"{self._url}: got {error}, expected Afterclick's answer; correct `http`") from None

    async def _call(
        self,
        right: Right,
        method: str,
        path: str,
        body: bytes | None = None,
        params: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Send a request until it is answered, and return the answer: a success, or that there is no list.

        Raises
        ------
        ServiceUnavailable
            No answer within the time limit, or the service was busy until then.
        ServiceRefused
            The service refuses the request or the token.
        """
        backoff = Backoff(self._timeout_s)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        while True:
            asked_s = 0.0
            cause: Exception | None = None
            try:
                answer = await self._client.request(
                    method, path, content=body, params=params, headers=headers | self._headers.get(right, {})
                )
            except httpx.TransportError as away:
                failure, cause = repr(away), away
            else:
                error, reason = _error(answer)
                if answer.is_success or error.code == NO_LIST:
                    return answer
                failure = " ".join(filter(None, (f"status {answer.status_code}", error.code, f"({reason})")))
                if answer.status_code not in _BUSY:
                    advice = f"correct `{right}_token`" if answer.status_code in (401, 403) else "correct the call"
                    raise ServiceRefused(f"{self._url}: {method} {path}: got {failure}, expected success; {advice}")
                asked_s = _retry_after_s(answer)
            if not await backoff.wait(asked_s):
                raise ServiceUnavailable(
                    f"{self._url}: {method} {path}: got {failure}, expected an answer within {self._timeout_s:g} s; "
                    "check that the service runs, then `http`, or raise `timeout_s`"
                ) from cause

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def _first(messages: Sequence[KeyedMessage]) -> list[KeyedMessage]:
    """Return as many of the first messages as fit into a request, at least one.

    Raises
    ------
    MissingArgument
        The service does not take one of them.
    """
    chunk: list[KeyedMessage] = []
    size = 0
    for message in messages:
        if message.topic not in _EVENT_TYPES:
            raise MissingArgument(f"got no kafka=…, expected it for {message.topic}; give it to the client")
        size += len(message.value or b"")
        if chunk and size > BYTES_PER_REQUEST:
            break
        chunk.append(message)
    return chunk


def _error(answer: httpx.Response) -> tuple[ErrorText, str]:
    """Return the service's own error, and its words, with those about the first event if there are any."""
    try:
        error = msgspec.json.decode(answer.content, type=ErrorBody).error
        reasons = msgspec.json.decode(answer.content, type=_Results).results[:1]
    except (msgspec.DecodeError, UnicodeDecodeError):  # a proxy's page
        return ErrorText("", ""), answer.reason_phrase
    return error, "; ".join([error.message, *(result.error for result in reasons if result.error)])


def _retry_after_s(answer: httpx.Response) -> float:
    """The seconds after which the service wants the next attempt; 0 if it names none, or a date."""
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdecimal() else 0.0
