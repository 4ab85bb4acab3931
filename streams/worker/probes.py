"""A worker's HTTP: `/metrics` for Prometheus, `/livez` and `/readyz` for an orchestrator. It shows no user's data.

The server has threads of its own and does not use the event loop. A probe on the loop could not report a stuck loop,
and would wait behind the events. Knows nothing of what makes a worker healthy (`health`).
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

from streams.settings import PREFIX, MetricsSettings, SettingsError
from streams.worker.health import Health

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

SLOW_CLIENT_S = 5.0
"""A client whose request takes longer is disconnected, so that it holds no thread; chosen by us."""


class Handler(WSGIRequestHandler):
    """Handles one request. Logs nothing, because a probe comes every few seconds."""

    timeout = SLOW_CLIENT_S

    def log_message(self, *_: object) -> None:
        pass


def application(health: Health, token: SecretStr | None) -> WSGIApplication:
    """Return the WSGI application.

    If there is a bearer token, only a request with it gets the metrics and a probe's reasons. A kubelet has no token,
    and needs none to learn whether the worker is well.
    """
    show_metrics: WSGIApplication = make_wsgi_app()
    probes = {"/livez": health.why_not_alive, "/readyz": health.why_not_ready}

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def respond(status: str, lines: list[str], **headers: str) -> Iterable[bytes]:
            more = [(name.replace("_", "-"), value) for name, value in headers.items()]
            start_response(status, [("Content-Type", "text/plain; charset=utf-8"), *more])
            return ["".join(f"{line}\n" for line in lines).encode()]

        path, is_allowed = environ["PATH_INFO"], _is_allowed(environ.get("HTTP_AUTHORIZATION", ""), token)
        if path not in probes and not is_allowed:
            return respond("401 Unauthorized", ["a bearer token is needed"], WWW_Authenticate="Bearer")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return respond("405 Method Not Allowed", ["read only"], Allow="GET, HEAD")
        if path == "/metrics":
            return show_metrics(environ, start_response)
        if path not in probes:
            return respond("404 Not Found", ["/metrics", *probes])
        problems = probes[path]()
        if not problems:
            notes = health.worth_knowing() if path == "/readyz" and is_allowed else []
            return respond("200 OK", ["ok", *notes])
        return respond(
            "503 Service Unavailable", problems if is_allowed else [f"not {path.strip('/').removesuffix('z')}"]
        )

    return answer


def serve(metrics: MetricsSettings, health: Health) -> ThreadingWSGIServer:
    """Start the server, in a thread that ends with the process.

    Raises
    ------
    SettingsError
        The address is in use, or not one of this machine.
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


def _is_allowed(authorization: str, token: SecretStr | None) -> bool:
    """Compare in constant time, so that the time tells nothing about the token."""
    if token is None:
        return True
    expected = f"Bearer {token.get_secret_value()}"
    return hmac.compare_digest(authorization.encode("utf-8", "replace"), expected.encode())
