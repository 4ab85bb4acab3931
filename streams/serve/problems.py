"""Every failure of a request as a typed error: a status, and `{"error": {"code", "message"}}`.

Knows no route.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from streams.bodies import ErrorBody, ErrorText

JSON = "application/json"
CLIENT_GONE = 499
"""The status that is counted where the client went away before its answer; nginx's."""


class Problem(Exception):
    """A request fails; the client gets a typed error.

    Parameters
    ----------
    status : int
        Of HTTP.
    code : str
        A fixed word, such as `no_list`.
    message : str
        What; got; expected; what to do.
    headers : mapping, optional
        Further headers of the answer.
    """

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers

    def response(self) -> Response:
        """Return the answer."""
        return json_response(ErrorBody(ErrorText(self.code, str(self))), self.status, self.headers)


def json_response(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Encode a body, and return the answer; bytes are JSON already."""
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return Response(content, status, headers, JSON)


async def on_problem(request: Request, error: Exception) -> Response:
    """Answer a `Problem`."""
    assert isinstance(error, Problem)
    return error.response()


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Answer what Starlette refuses itself: a path or a method that does not exist."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        text = f"got {request.url.path!r}, expected a path of /openapi.json"
        return Problem(404, "not_found", text).response()
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        text = f"got {request.method}, expected {allowed or 'another method'}; see /openapi.json"
        return Problem(405, "method_not_allowed", text, error.headers).response()
    return Problem(error.status_code, "refused", str(error.detail), error.headers).response()


async def on_disconnect(request: Request, error: Exception) -> Response:
    """End a request whose client went away; nobody reads this answer."""
    return Response(status_code=CLIENT_GONE)


async def on_bug(request: Request, error: Exception) -> Response:
    """Answer a bug. Starlette raises the error again, and the server logs it."""
    return Problem(500, "internal", "got an error of ours, expected none; the server's log has it").response()
