"""The connection to a server that ranks: one pool, retries with back-off, and a circuit breaker.

Knows queries and texts, no lists. For one event loop.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

import httpx
import numpy as np
from numpy.typing import NDArray

from encoders.models.source import ModelNotFound, ModelUnsupported
from ranker.scorers.known_pairs import REQUESTS
from streams.models.remote import contracts, failure, rerank_metrics
from streams.models.remote.circuit import Circuit
from streams.models.remote.contracts import MAX_TEXTS, OTHER, OWNERS, Api
from streams.models.remote.failure import SETTINGS, RerankFailure
from streams.settings import RerankSettings

logger = logging.getLogger(__name__)

Floats = NDArray[np.float32]
TRIES = 3
"""Of one request; chosen by us."""
FIRST_WAIT_S = 0.1
"""Before the second try, doubled before the third; drawn from its upper half, so that workers do not come at once."""
CHECK_TEXTS = 32
"""Texts of the first request, so that a server that takes fewer says so at the start."""


class RerankConnection:
    """Asks one server.

    Parameters
    ----------
    url : str
        The address; `/rerank` is appended to a path that does not end so.
    name : str
        The model's name in metrics and the log.
    settings : RerankSettings

    Attributes
    ----------
    max_texts : int
        How many texts one request may have.
    circuit : Circuit
    """

    def __init__(self, url: str, name: str, settings: RerankSettings) -> None:
        self._url = url if urlsplit(url).path.rstrip("/").endswith("/rerank") else f"{url.rstrip('/')}/rerank"
        self._name, self._settings = name, settings
        self.max_texts = settings.max_texts or MAX_TEXTS[settings.api]
        self._room = asyncio.Semaphore(settings.max_requests)
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if settings.token is not None:
            headers["Authorization"] = f"Bearer {settings.token.get_secret_value()}"
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=settings.max_requests)
        # The authorities of the operating system; SSL_CERT_FILE names others. `_once` limits the time.
        trusted = ssl.create_default_context() if url.startswith("https:") else False
        self._http = httpx.AsyncClient(headers=headers, timeout=None, limits=limits, verify=trusted)
        rerank_metrics.from_zero(name)
        self.circuit = Circuit(f"the reranker {name}", self._probe, rerank_metrics.circuit_open.labels(name).set)

    async def check(self, must_answer: bool) -> None:
        """Ask for the first time. Opens the circuit if the server is away and need not answer.

        Raises
        ------
        ModelNotFound
            It must answer, and is away.
        ModelUnsupported
            The server has another contract, or refuses us: a later attempt would not help.
        """
        try:
            await self._ask_pair(self._settings.api, min(self.max_texts, CHECK_TEXTS))
        except RerankFailure as first:
            if first.may_pass and must_answer:
                raise ModelNotFound(f"model: {self._url}: {first}") from None
            if first.may_pass:
                self.circuit.open(str(first))
                return
            other = OTHER[self._settings.api]
            if (first.cause == "request" or first.outcome == "unreadable") and await self._has(other):
                raise ModelUnsupported(
                    f"model: got at {self._url} a server with the contract of {OWNERS[other]}, expected that of "
                    f"{OWNERS[self._settings.api]}; set {SETTINGS}API to {other}"
                ) from None
            told = f" (it says: {first.told})" if first.told else ""
            raise ModelUnsupported(f"model: {self._url}: {first}{told}") from None

    async def ask(self, query: str, texts: Sequence[str], until_s: float) -> Floats:
        """Ask for the scores of at most `max_texts` texts, until the monotonic time `until_s`.

        Raises
        ------
        RerankFailure
        """
        body = contracts.body(self._settings.api, self._settings.model, query, texts)
        wait_s = FIRST_WAIT_S
        for tries_left in reversed(range(TRIES)):
            try:
                scores = await self._in_turn(body, len(texts), until_s)
            except RerankFailure as error:
                pause_s = max(error.retry_after_s, wait_s * random.uniform(0.5, 1.0))
                wait_s *= 2
                if tries_left and error.may_pass and time.monotonic() + pause_s < until_s:
                    await asyncio.sleep(pause_s)
                    continue
                if error.cause == "request":
                    logger.warning("the reranker %s: %s; the list keeps the order of retrieval", self._name, error)
                elif error.cause == "server":
                    self.circuit.failed(str(error))
                raise
            self.circuit.succeeded()
            return scores
        raise AssertionError("the last try returns or raises")

    async def close(self) -> None:
        """Close the connections. Their metrics disappear."""
        await self.circuit.close()
        await self._http.aclose()
        rerank_metrics.drop(self._name)

    async def _in_turn(self, body: bytes, count: int, until_s: float) -> Floats:
        """Send a request when there is room for it."""
        self._fail_if_open()  # without a wait for requests that a dead server holds
        try:
            await asyncio.wait_for(self._room.acquire(), until_s - time.monotonic())
        except asyncio.TimeoutError:
            rerank_metrics.requests.labels(self._name, "not-sent").inc()
            raise RerankFailure("timeout", "got no time for a request behind others", "client") from None
        try:
            self._fail_if_open()
            left_s = until_s - time.monotonic()
            return await self._once(self._settings.api, body, count, min(left_s, self._settings.timeout_ms / 1000))
        finally:
            self._room.release()

    def _fail_if_open(self) -> None:
        if self.circuit.why_open:
            rerank_metrics.requests.labels(self._name, "not-sent").inc()
            raise RerankFailure("not-sent", self.circuit.why_open, "client")

    async def _once(self, api: Api, body: bytes, count: int, limit_s: float) -> Floats:
        """Send one request, and count what becomes of it."""
        begun_s = time.monotonic()
        try:
            scores = await self._scores(api, body, count, limit_s)
        except RerankFailure as error:
            rerank_metrics.requests.labels(self._name, error.outcome).inc()
            raise
        rerank_metrics.requests.labels(self._name, "answered").inc()
        rerank_metrics.seconds.labels(self._name).observe(time.monotonic() - begun_s)
        return scores

    async def _scores(self, api: Api, body: bytes, count: int, limit_s: float) -> Floats:
        try:
            response = await asyncio.wait_for(self._http.post(self._url, content=body), limit_s)
        except (httpx.HTTPError, OSError, asyncio.TimeoutError) as error:
            raise failure.of_error(error, limit_s) from error
        if not response.is_success:
            raise failure.of_response(response, self._settings.token is not None)
        try:
            return contracts.scores(api, response.content, count)
        except ValueError as error:
            problem = f"got an answer that cannot be read ({error}), expected scores by the contract of {OWNERS[api]}"
            raise RerankFailure("unreadable", f"{problem}; check {SETTINGS}API") from None

    async def _ask_pair(self, api: Api, count: int) -> None:
        pair = REQUESTS[0]
        texts = [pair.candidates[index % len(pair.candidates)] for index in range(count)]
        body = contracts.body(api, self._settings.model, pair.context, texts)
        await self._once(api, body, count, self._settings.timeout_ms / 1000)

    async def _has(self, api: Api) -> bool:
        try:
            await self._ask_pair(api, 2)
        except RerankFailure:
            return False
        return True

    async def _probe(self) -> None:
        await self._ask_pair(self._settings.api, 2)
