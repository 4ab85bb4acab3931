"""Count requests and time them, for Prometheus. Knows no route but its template."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streams.serve import http_metrics
from streams.serve.problems import CLIENT_GONE

ROUTE = "afterclick.route"
"""The key of a request's scope under which the template of its path stands, such as `/v1/users/{user}`."""
OTHER = "other"
"""The label of requests that no route took."""


class Observed:
    """ASGI middleware. A streaming answer is timed until its first byte."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    @staticmethod
    def from_zero(operations: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Create the metrics' children, at 0, for every route and every status that an operation documents."""
        for path, operation in operations:
            http_metrics.seconds.labels(label_of(path))
            for status in operation.get("responses", ()):
                http_metrics.requests.labels(label_of(path), status)
        for status in ("404", "405"):
            http_metrics.requests.labels(OTHER, status)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s, status = time.perf_counter(), 0

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                route = label_of(scope.get(ROUTE, OTHER))
                http_metrics.seconds.labels(route).observe(time.perf_counter() - started_s)
            await send(message)

        try:
            await self._app(scope, receive, note)
        except Exception:
            status = status or 500
            raise
        finally:
            http_metrics.requests.labels(label_of(scope.get(ROUTE, OTHER)), str(status or CLIENT_GONE)).inc()


def label_of(path: str) -> str:
    """Write a route as OpenAPI does.

    >>> label_of("/v1/users/{user:id}")
    '/v1/users/{user}'
    """
    head, brace, rest = path.partition("{")
    return path if not brace else f"{head}{{{rest.partition('}')[0].partition(':')[0]}}}{rest.partition('}')[2]}"
