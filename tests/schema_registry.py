"""A schema registry in memory, behind a real HTTP server on loopback: the part of Confluent's documented interface that
readers of messages use. And what its serialisers write.
"""

from __future__ import annotations

import base64
import io
import json
import re
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import fastavro
from google.protobuf import descriptor_pb2

CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"


def framed(schema_id: int, payload: bytes) -> bytes:
    """What every serialiser of Confluent's writes."""
    return b"\0" + schema_id.to_bytes(4, "big") + payload


def avro(schema_id: int, schema: Any, value: Any, *named: Any) -> bytes:
    """What its serialiser of Avro writes; `named` are the schemas that this one refers to."""
    known: dict[str, Any] = {}
    for other in named:
        fastavro.parse_schema(other, named_schemas=known)
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema, named_schemas=known), value)
    return framed(schema_id, stream.getvalue())


def protobuf(schema_id: int, message: Any, indexes: Sequence[int] = (0,)) -> bytes:
    """What its serialiser of Protobuf writes."""
    path = b"\0" if list(indexes) == [0] else b"".join(map(zigzag, (len(indexes), *indexes)))
    return framed(schema_id, path + message.SerializeToString())


def zigzag(number: int) -> bytes:
    number, encoded = (number << 1) ^ (number >> 63), b""
    while number > 0x7F:
        encoded += bytes([number & 0x7F | 0x80])
        number >>= 7
    return encoded + bytes([number])


@dataclass
class Registry:
    """The schemas, and how the server answers.

    Attributes
    ----------
    asked : list of str
        The paths of all requests that were let in.
    status : int
        If not 200, the answer to every request.
    authorization : str
        If not empty, the header that a request needs.
    serialises : bool
        Whether Protobuf files are given as descriptors too.
    """

    by_id: dict[int, dict[str, Any]] = field(default_factory=dict)
    by_subject: dict[str, list[int]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    status: int = 200
    authorization: str = ""
    serialises: bool = True

    def add(self, schema: Any, kind: str = "AVRO", subject: str = "", refers_to: dict[str, str] | None = None) -> int:
        """Register a schema; `refers_to` are the names of references and their subjects."""
        schema_id = 100_000 + len(self.by_id)
        references = [{"name": name, "subject": of, "version": 1} for name, of in (refers_to or {}).items()]
        text = base64.b64encode(schema.SerializeToString()).decode() if kind == "PROTOBUF" else json.dumps(schema)
        entry: dict[str, Any] = {"schema": text} | ({} if kind == "AVRO" else {"schemaType": kind})
        self.by_id[schema_id] = entry | ({"references": references} if references else {})
        self.by_subject.setdefault(subject or f"s{schema_id}", []).append(schema_id)
        return schema_id

    def answer(self, path: str, authorization: str) -> tuple[int, Any]:
        """Return the status and the body."""
        if self.authorization and authorization != self.authorization:
            return 401, {"error_code": 401, "message": "Unauthorized"}
        self.asked.append(path)
        if self.status != 200:
            return self.status, {"error_code": 50001, "message": "Error in the backend data store"}
        url = urlsplit(path)
        if url.path == "/schemas/types":
            return 200, ["JSON", "PROTOBUF", "AVRO"]
        if by_id := re.fullmatch(r"/schemas/ids/(\d+)", url.path):
            return self._schema(int(by_id[1]), parse_qs(url.query).get("format") == ["serialized"])
        if version := re.fullmatch(r"/subjects/([^/]+)/versions/(\d+)", url.path):
            ids = self.by_subject.get(unquote(version[1]))
            if ids is None:
                return 404, {"error_code": 40401, "message": "Subject not found."}
            schema_id = ids[int(version[2]) - 1]
            return 200, self._schema(schema_id, False)[1] | {"id": schema_id, "subject": unquote(version[1])}
        return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}

    def _schema(self, schema_id: int, serialised: bool) -> tuple[int, dict[str, Any]]:
        entry = self.by_id.get(schema_id)
        if entry is None:
            return 404, {"error_code": 40403, "message": "Schema not found"}
        if entry.get("schemaType") == "PROTOBUF" and not (serialised and self.serialises):
            file = descriptor_pb2.FileDescriptorProto.FromString(base64.b64decode(entry["schema"]))
            return 200, entry | {"schema": f'syntax = "proto3"; package {file.package}; …'}
        return 200, entry


@contextmanager
def serve(registry: Registry, port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Run the server; give its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = registry.answer(self.path, self.headers.get("Authorization", ""))
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
