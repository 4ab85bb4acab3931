"""A server with either contract of `/rerank`, in this process: a score is the share of a text's words in the query."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal

from typing_extensions import Self

Dialect = Literal["jina", "sglang", "tei"]


def score(query: str, text: str) -> float:
    words = set(text.lower().split())
    return len(words & set(query.lower().split())) / len(words) if words else 0.0


class RerankServer:
    """Answers between `with` and its end, or between `start` and `stop`; then on the same port again.

    Attributes
    ----------
    delay_s : float
        Before each answer.
    statuses : deque of int
        Of the next requests, instead of an answer.
    refused : str
        A request whose query contains this gets HTTP 422; empty for none.
    bodies, headers : list of dict
        Of the requests so far.
    most : int
        How many requests were under way at once.
    """

    def __init__(self, dialect: Dialect = "jina", token: str = "", largest: int = 1_000) -> None:
        self.dialect, self.token, self.largest = dialect, token, largest
        self.delay_s, self.refused = 0.0, ""
        self.statuses: deque[int] = deque()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.most = self._now = 0
        self._lock = threading.Lock()
        self._port = 0

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def start(self) -> None:
        self._server = _Server(("127.0.0.1", self._port), self)
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        """Refuse connections, and cut those that are open."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        for connection in self._server.connections:
            with suppress(OSError):  # the client has closed it
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def answer(self, path: str, headers: dict[str, str], body: dict[str, Any]) -> tuple[int, Any]:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
            self.bodies.append(body)
            self.headers.append(headers)
            status = self.statuses.popleft() if self.statuses else 200
        time.sleep(self.delay_s)
        with self._lock:
            self._now -= 1
        if status != 200:
            return status, {"error": "as the test wants it"}
        if not path.endswith("/rerank"):
            return 404, {"detail": "Not Found"}
        if self.token and headers.get("authorization") != f"Bearer {self.token}":
            return 401, {"detail": "Unauthorized"}
        name = "texts" if self.dialect == "tei" else "documents"
        if name not in body:
            return 422, {"detail": [{"loc": ["body", name], "msg": "Field required", "input": body}]}
        texts = body[name]
        if len(texts) > self.largest:
            return 422, {"error": f"batch size {len(texts)} > maximum allowed batch size {self.largest}"}
        if self.refused and self.refused in body["query"]:
            return 422, {"error": f"must have less than 512 tokens: {body['query']}"}
        return 200, self._scored(body["query"], texts)

    def _scored(self, query: str, texts: list[str]) -> Any:
        scores = sorted(((score(query, text), index) for index, text in enumerate(texts)), reverse=True)
        if self.dialect == "jina":
            return {"model": "m", "results": [{"index": index, "relevance_score": value} for value, index in scores]}
        return [{"index": index, "score": value} for value, index in scores]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], reranker: RerankServer) -> None:
        self.reranker = reranker
        self.connections: list[socket.socket] = []
        super().__init__(address, _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        accepted = super().get_request()
        self.connections.append(accepted[0])
        return accepted

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that was cut is what a test wants."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        status, answer = self.server.reranker.answer(self.path, headers, body)
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass
