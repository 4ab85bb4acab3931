"""What an orchestrator and Prometheus ask: `/livez`, `/readyz`, `/metrics`; and `/openapi.json` for people.

They are on the port of the lists: there is one event loop, and a probe that waits for it shows that it is stuck.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from streams.serve.openapi import document, operation
from streams.serve.problems import Problem, json_response
from streams.serve.rooms import Endpoint, Room
from streams.settings import MetricsSettings

_TEXT = {"text/plain": {"schema": {"type": "string"}}}


class Status:
    """Tells how the other rooms are.

    Parameters
    ----------
    metrics : MetricsSettings
        Its token is needed for `/metrics`, and for the reasons of `/readyz`.
    lists, events : Room
        While one of them is away, the process is ready for the other.
    more : sequence of Room
        While one of these is away, the process is not ready.
    """

    def __init__(self, metrics: MetricsSettings, lists: Room, events: Room, more: Sequence[Room]) -> None:
        self._token = metrics.token
        self._lists, self._events, self._more = lists, events, more
        self._document: bytes = b""

    def endpoints(self) -> list[Endpoint]:
        """Return `/livez`, `/readyz`, `/metrics` and `/openapi.json`."""
        live = operation("Whether the process answers.", {"200": ("It does.", _TEXT)})
        ready = operation(
            "Whether it can answer for its users: 503 while it can neither read lists nor send events, or while a "
            "room is not caught up. What is away alone is named.",
            {"200": ("It can.", _TEXT), "503": ("It cannot.", _TEXT)},
        )
        shown = operation("Metrics for Prometheus.", {"200": ("Prometheus' text format.", _TEXT)}, {"401"})
        described = operation("This document.", {"200": ("OpenAPI 3.1.", {"application/json": {"schema": {}}})})
        own = [
            Endpoint("GET", "/livez", self._live, None, live),
            Endpoint("GET", "/readyz", self._ready, None, ready),
            Endpoint("GET", "/metrics", self._metrics, None, shown),
            Endpoint("GET", "/openapi.json", self._openapi, None, described),
        ]
        rooms = (self._lists, self._events, *self._more)
        self._document = document([*(endpoint for room in rooms for endpoint in room.endpoints()), *own])
        return own

    async def _live(self, _: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _ready(self, request: Request) -> Response:
        lists, events = self._lists.why_not_ready(), self._events.why_not_ready()
        more = [line for room in self._more for line in room.why_not_ready()]
        is_ready = not more and not (lists and events)
        reasons = [*lists, *events, *more] if self._may_see(request) else []
        lines = ["ok" if is_ready else "not ready", *reasons]
        return PlainTextResponse("".join(f"{line}\n" for line in lines), 200 if is_ready else 503)

    async def _metrics(self, request: Request) -> Response:
        if not self._may_see(request):
            text = "expected Authorization: Bearer and the token of the metrics"
            raise Problem(401, "unauthorized", text, {"WWW-Authenticate": "Bearer"})
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    async def _openapi(self, _: Request) -> Response:
        return json_response(self._document)

    def _may_see(self, request: Request) -> bool:
        if self._token is None:
            return True
        sent: Any = request.headers.get("authorization", "")
        expected = f"Bearer {self._token.get_secret_value()}"
        return hmac.compare_digest(sent.encode("utf-8", "replace"), expected.encode())
