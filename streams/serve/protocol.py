"""The server's end of a connection: uvicorn's, with limits on what a client may cost before a route sees its request.

- A whole request has to come within `HttpSettings.client_timeout_s`, else 408 (slow-loris).
- Its head may have `MAX_HEAD_BYTES`, else 431.
- There may be `HttpSettings.max_connections`, else 503.

Each of these answers, and that to a malformed request, is a typed error, and ends the connection.

A request that asks for another protocol (`Upgrade: h2c`, as Java's HTTP client sends it) is answered in HTTP/1.1. The
parser would take its body for the other protocol, so it reads such a request a second time, without that header.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

import msgspec
from httptools import HttpRequestParser
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from streams.bodies import ErrorBody, ErrorText
from streams.serve import http_metrics
from streams.settings import HttpSettings

MAX_HEAD_BYTES = 64 << 10
"""Request line and headers; chosen by us: eight times what common servers take."""
LINGER_S = 2.0
"""How long a client that was refused may take to read why; chosen by us."""
STREAM_END_S = 1.0
"""When the server ends, an answer that is still under way after this time is cut off; chosen by us."""


_UPGRADE = re.compile(rb"\r\nupgrade:[^\r\n]*", re.IGNORECASE)


def bounded(http: HttpSettings) -> type[HttpToolsProtocol]:
    """Return the protocol class with these limits; uvicorn makes one instance for each connection."""
    return type("Bounded", (BoundedProtocol,), {"http": http})


class BoundedProtocol(HttpToolsProtocol):
    """One connection; a subclass has the limits."""

    http: HttpSettings
    _deadline: asyncio.TimerHandle | None = None  # of the request that the client is sending
    _stuck: asyncio.TimerHandle | None = None  # of the answer that the client does not read
    _in_head = True
    _reads_again = False
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time of the first request."""
        super().connection_made(transport)
        self._head = bytearray()  # what came of the present request, until its headers are complete
        if len(self.connections) > self.http.max_connections:
            self._refuse(503, "overloaded", "connections", "got one connection too many, expected fewer; try again")
        else:
            self._start_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        self._stop_deadline()
        self._stop_stuck()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; the time of a request begins with its first byte, and blank lines before it count."""
        if self._refused or self.transport.is_closing():
            return
        self._start_deadline()
        if self._in_head:
            self._head += data
        super().data_received(data)
        if self._in_head and len(self._head) > MAX_HEAD_BYTES:
            text = f"got more than {MAX_HEAD_BYTES} bytes before the body, expected less"
            self._refuse(431, "head_too_large", "malformed", text)

    def on_message_begin(self) -> None:
        """Start the time of a request that came together with the one before it."""
        self._start_deadline()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Let the application begin, unless the request is to be read again."""
        if not self.parser.should_upgrade():
            self._in_head = False
            self._head.clear()
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Stop the time of the request."""
        if not self.parser.should_upgrade():
            self._in_head = True
            self._stop_deadline()
            super().on_message_complete()

    def _unsupported_upgrade_warning(self) -> None:
        """Read the request again, without the header that asks for another protocol."""
        if self._reads_again:  # CONNECT asks for a tunnel without that header
            self.send_400_response("")
            return
        head, end, rest = bytes(self._head).partition(b"\r\n\r\n")
        self.parser = HttpRequestParser(self)
        self._reads_again = True
        super().data_received(_UPGRADE.sub(b"", head) + end + rest)
        self._reads_again = False

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        self._refuse(400, "malformed", "malformed", "got no valid HTTP request, expected one")

    def pause_writing(self) -> None:
        """Start the time in which the client has to read."""
        self._stuck = self._stuck or self.loop.call_later(self.http.client_timeout_s, self._abort)
        super().pause_writing()

    def resume_writing(self) -> None:
        """Stop that time."""
        self._stop_stuck()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, even if its client does not read the last answer."""
        super().timeout_keep_alive_handler()
        self.loop.call_later(self.http.client_timeout_s, self._abort)

    def shutdown(self) -> None:
        """End with the server: an answer that streams has no end of its own."""
        super().shutdown()
        self.loop.call_later(STREAM_END_S, self._end_stream)

    def _end_stream(self) -> None:
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self.transport.close()

    def _start_deadline(self) -> None:
        self._deadline = self._deadline or self.loop.call_later(self.http.client_timeout_s, self._too_slow)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _stop_stuck(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def _abort(self) -> None:
        self.transport.abort()

    def _too_slow(self) -> None:
        self._deadline = None
        text = f"got no whole request within {self.http.client_timeout_s:g} s, expected one"
        self._refuse(408, "timeout", "slow", text)

    def _refuse(self, status: int, code: str, reason: str, message: str) -> None:
        """Answer with a typed error unless this request has an answer already, and end the connection."""
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        self._stop_deadline()
        http_metrics.refused.labels(reason).inc()
        if self._in_head or self.cycle is None or not self.cycle.response_started:
            self.transport.write(_response(status, code, message))
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if status == 503:
            self.transport.close()
        else:  # a close at once would reset the connection while the client still sends, and lose the answer
            self.transport.write_eof()
        self.loop.call_later(LINGER_S, self._abort)


def _response(status: int, code: str, message: str) -> bytes:
    body = msgspec.json.encode(ErrorBody(ErrorText(code, message)))
    head: Any = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
    return STATUS_LINE[status] + bytes(head) + body
