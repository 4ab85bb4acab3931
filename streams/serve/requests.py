"""Read a request: the id in its path, its query, and its body. Everything that is not as expected is a `Problem`.

Knows no route.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeVar
from urllib.parse import unquote_to_bytes

import msgspec
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request

from streams.contracts import MAX_ID_BYTES
from streams.serve import http_metrics
from streams.serve.problems import JSON, Problem

Body = TypeVar("Body")
_TRUE, _FALSE = ("true", "1"), ("false", "0")


class IdConvertor(Convertor[str]):
    """The rest of a path, whatever is in it: an id may have slashes and line feeds."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        """Return the text as it is."""
        return value

    def to_string(self, value: str) -> str:
        """Return the text as it is."""
        return value


register_url_convertor("id", IdConvertor())


def id_of(request: Request, prefix: str) -> str:
    """Read the id that is the rest of the path, percent-encoded.

    Parameters
    ----------
    prefix : str
        What stands before it in the path.

    Raises
    ------
    Problem
        400: no UTF-8, or not 1 to 256 bytes of it. The path as the server decodes it would hide a wrong byte.
    """
    raw = unquote_to_bytes(request.scope["raw_path"])[len(prefix) :]
    try:
        id_ = raw.decode()
    except UnicodeDecodeError:
        raise Problem(400, "invalid_id", f"got the id {raw!r}, expected percent-encoded UTF-8") from None
    if not 0 < len(raw) <= MAX_ID_BYTES:
        raise Problem(400, "invalid_id", f"got an id of {len(raw)} bytes, expected 1 to {MAX_ID_BYTES} bytes of UTF-8")
    return id_


class Parameters:
    """The query of a request.

    Parameters
    ----------
    allowed : collection of str
        The parameters that the route knows.

    Raises
    ------
    Problem
        400: another parameter, or one of them twice.
    """

    def __init__(self, request: Request, allowed: Collection[str]) -> None:
        pairs = request.query_params.multi_items()
        self._values = dict(pairs)
        if unknown := sorted(self._values.keys() - set(allowed)):
            text = f"got the parameter {unknown[0]!r}, expected {', '.join(allowed) or 'none'}"
            raise Problem(400, "invalid_query", text)
        if len(self._values) < len(pairs):
            raise Problem(400, "invalid_query", "got a parameter twice, expected each once")

    def text(self, name: str) -> str | None:
        """Return a parameter, or None."""
        return self._values.get(name)

    def integer(self, name: str, least: int, most: int) -> int | None:
        """Return an integer within its bounds, or None.

        Raises
        ------
        Problem
            400
        """
        value = self._values.get(name)
        if value is None:
            return None
        if value.isascii() and value.isdigit() and len(value) <= 10 and least <= int(value) <= most:
            return int(value)
        raise Problem(400, "invalid_query", f"{name}: got {value[:40]!r}, expected an integer from {least} to {most}")

    def boolean(self, name: str) -> bool:
        """Return a boolean; false where it is not given.

        Raises
        ------
        Problem
            400
        """
        value = self._values.get(name, "false").lower()
        if value not in (*_TRUE, *_FALSE):
            raise Problem(400, "invalid_query", f"{name}: got {value[:40]!r}, expected true or false")
        return value in _TRUE


async def read_json(request: Request, type_: type[Body], max_bytes: int) -> Body:
    """Read and decode a JSON body. Fields that the type does not have are ignored.

    Raises
    ------
    Problem
        400: no JSON of this type. 413: too large. 415: the content type is another. It has to be JSON's, because a
        browser sends any other across origins without asking.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        got = request.headers.get("content-type", "none")
        raise Problem(415, "unsupported_media_type", f"got the Content-Type {got[:80]!r}, expected {JSON}")
    body = await _read(request, max_bytes)
    try:
        body.decode()  # msgspec does not look into what it skips
        return msgspec.json.decode(body, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, "invalid_body", f"{error}; expected a body as /openapi.json describes it") from None


async def _read(request: Request, max_bytes: int) -> bytes:
    declared = request.headers.get("content-length", "")
    body = bytearray()
    if not declared.isdigit() or int(declared) <= max_bytes:
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_bytes:
                break
        else:
            return bytes(body)
    http_metrics.refused.labels("body").inc()
    got = declared if declared.isdigit() else f"more than {max_bytes}"
    raise Problem(413, "body_too_large", f"got {got} bytes, expected at most {max_bytes}; send less at once")
