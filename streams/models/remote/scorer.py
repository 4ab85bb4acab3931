"""A scorer whose model is on a server, asked by HTTP.

It runs in the worker itself, on an event loop in a thread of its own: nothing is computed here, so nothing holds the
worker up, and no process has to load torch. Several threads may call it at once; their requests share the connections.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Collection, Coroutine, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from encoders.models.device import SERVER, Placement
from encoders.models.usage import Usage
from ranker import version
from ranker.score import NotScored, ScoreRequest, Unscored
from streams.models.remote.connection import RerankConnection
from streams.models.remote.failure import RerankFailure
from streams.settings import RankerSettings

Floats = NDArray[np.float32]
Result = TypeVar("Result")
SHARE_OF_CALL = 0.9
"""Of `ranker.timeout_ms`: after it a list goes out without the model, and the others of the batch do not have to."""


class HttpScorer:
    """The model of a server; see `Scorer` for the contract.

    Parameters
    ----------
    url : str
        The address.
    settings : RankerSettings
        `rerank` and `timeout_ms` are used.
    must_answer : bool
        Whether a server that is away is an error. Otherwise `score` fails until it is back.

    Raises
    ------
    ModelUnsupported
        The server has another contract, or refuses us.
    ModelNotFound
        It must answer, and is away.
    """

    feature_set = None
    reads_events = False

    def __init__(self, url: str, settings: RankerSettings, must_answer: bool = False) -> None:
        host, model = version.name(url), settings.rerank.model
        self.name = f"{host}/{model}" if model else host
        self.placement = Placement(SERVER, "the server's dtype", f"the server at {host} computes it")
        self.usage = Usage()
        self._context_bytes = settings.rerank.context_bytes
        self._limit_s = SHARE_OF_CALL * settings.timeout_ms / 1000
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="afterclick-rerank", daemon=True)
        self._thread.start()
        self._connection = self._run(_connected(url, self.name, settings))
        try:
            self._run(self._connection.check(must_answer))
        except BaseException:
            self.close()
            raise

    @property
    def why_away(self) -> str:
        """Why the server is not asked now, in words; empty if it is."""
        return self._connection.circuit.why_open

    def prepare(self, texts: Sequence[str], events: Sequence[str] = ()) -> None:
        """See `Scorer.prepare`: nothing about an item is computed here."""

    def forget(self, users: Collection[str] | None) -> None:
        """See `Scorer.forget`: nothing of a user is kept here."""

    def score(self, requests: Sequence[ScoreRequest]) -> list[Floats]:
        """See `Scorer.score`."""
        return self._run(self._score(requests))

    def close(self) -> None:
        """Close the connections. Calls in progress fail."""
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _end(self) -> None:
        calls = asyncio.all_tasks() - {asyncio.current_task()}
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await self._connection.close()

    async def _score(self, requests: Sequence[ScoreRequest]) -> list[Floats]:
        """Ask for all requests at once: the connection limits how many are under way."""
        begun_s = time.monotonic()
        answers = await asyncio.gather(
            *(self._list(request, begun_s + self._limit_s) for request in requests), return_exceptions=True
        )
        self.usage.requests += len(requests)
        self.usage.candidates += sum(len(request.candidates) for request in requests)
        self.usage.inference_seconds += time.monotonic() - begun_s
        results: list[Floats | Unscored] = []
        failures: list[RerankFailure] = []
        for answer in answers:
            if isinstance(answer, RerankFailure):
                failures.append(answer)
                results.append("timeout" if answer.outcome == "timeout" else "error")
            elif isinstance(answer, BaseException):
                raise answer
            else:
                results.append(answer)
        if failures:
            raise NotScored(f"the reranker {self.name}: {failures[0]}", results)
        return [result for result in results if not isinstance(result, str)]

    async def _list(self, request: ScoreRequest, until_s: float) -> Floats:
        """The scores of one list, from as many requests as its texts need."""
        if not request.candidates:
            return np.empty(0, np.float32)
        context, step = self._fitted(request.context), self._connection.max_texts
        parts = [request.candidates[begin : begin + step] for begin in range(0, len(request.candidates), step)]
        return np.concatenate(await asyncio.gather(*(self._connection.ask(context, part, until_s) for part in parts)))

    def _fitted(self, context: str) -> str:
        """The newest events that fit; of a single one that is too long the end, as other scorers keep it."""
        whole = context.encode()
        if len(whole) <= self._context_bytes:
            return context
        self.usage.truncated_contexts += 1
        end = whole[-self._context_bytes :]
        _, line_feed, lines = end.partition(b"\n")
        return (lines if line_feed else end).decode(errors="ignore")


async def _connected(url: str, name: str, settings: RankerSettings) -> RerankConnection:
    return RerankConnection(url, name, settings.rerank)
