"""A worker's HTTP: `/metrics` for Prometheus, `/livez` and `/readyz` for whoever runs it. No user's data is there.

Served by threads of their own, over prometheus_client's server of the standard library and not on the event loop: a
probe that shares the loop could not tell of one that is stuck, and would wait behind the events it is to watch over.
Knows nothing of what makes a worker healthy (`health`). Called by `worker`.
"""

from __future__ import annotations

import hmac
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer
from pydantic import SecretStr

from streams.settings import PREFIX, Metrics, SettingsError
from streams.worker.health import Health

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

SLOW_CLIENT_S = 5.0
"""A client that takes longer to ask is cut off, so that it holds no thread; chosen by us."""


class Handler(WSGIRequestHandler):
    """One request. Logs nothing: a probe comes every few seconds."""

    timeout = SLOW_CLIENT_S

    def log_message(self, *_: object) -> None:
        pass


def application(health: Health, token: SecretStr | None) -> WSGIApplication:
    """Answer by path.

    Where there is a bearer token, only a request that has it gets the metrics, and a probe's reasons: a kubelet has
    none, and needs none to learn whether all is well.
    """
    show_metrics: WSGIApplication = make_wsgi_app()
    probes = {"/livez": health.why_not_alive, "/readyz": health.why_not_ready}

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def say(status: str, lines: list[str], **headers: str) -> Iterable[bytes]:
            more = [(name.replace("_", "-"), value) for name, value in headers.items()]
            start_response(status, [("Content-Type", "text/plain; charset=utf-8"), *more])
            return ["".join(f"{line}\n" for line in lines).encode()]

        path, may = environ["PATH_INFO"], _may(environ.get("HTTP_AUTHORIZATION", ""), token)
        if path not in probes and not may:
            return say("401 Unauthorized", ["a bearer token is needed"], WWW_Authenticate="Bearer")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return say("405 Method Not Allowed", ["read only"], Allow="GET, HEAD")
        if path == "/metrics":
            return show_metrics(environ, start_response)
        if path not in probes:
            return say("404 Not Found", ["/metrics", *probes])
        wrong = probes[path]()
        if not wrong:
            notes = health.worth_knowing() if path == "/readyz" and may else []
            return say("200 OK", ["ok", *notes])
        return say("503 Service Unavailable", wrong if may else [f"not {path.strip('/').removesuffix('z')}"])

    return answer


def serve(metrics: Metrics, health: Health) -> ThreadingWSGIServer:
    """Serve from now on, in a thread that ends with the process.

    Raises
    ------
    SettingsError
        The address cannot be had.
    """
    try:
        server = make_server(
            metrics.host, metrics.port, application(health, metrics.token), ThreadingWSGIServer, Handler
        )
    except OSError as error:
        raise SettingsError(
            f"{PREFIX}METRICS__PORT: got {metrics.port} on {metrics.host} ({error.strerror}), expected an address that "
            f"is free; give each worker a port of its own, or 0 for none"
        ) from error
    threading.Thread(target=server.serve_forever, name="probes", daemon=True).start()
    return server


def _may(authorization: str, token: SecretStr | None) -> bool:
    """Compare in constant time: how long it takes tells nothing of the token."""
    if token is None:
        return True
    wanted = f"Bearer {token.get_secret_value()}"
    return hmac.compare_digest(authorization.encode("utf-8", "replace"), wanted.encode())
