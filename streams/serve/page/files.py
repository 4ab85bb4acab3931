"""The page's own files, and the headers that forbid a browser everything that the page does not need.

The page loads nothing from elsewhere. It writes texts as text nodes, and the policy forbids scripts and styles in the
document, so a title such as `<script>` is shown and never run.
"""

from __future__ import annotations

from importlib.resources import files

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from streams.serve.problems import Problem

INDEX = "index.html"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


class PageFiles:
    """The files of the folder `static`, read once."""

    def __init__(self) -> None:
        folder = files("streams.serve.page") / "static"
        self._files = {entry.name: entry.read_bytes() for entry in folder.iterdir() if _suffix(entry.name) in TYPES}

    async def index(self, request: Request) -> Response:
        """Answer with the page."""
        return self._response(INDEX)

    async def file(self, request: Request) -> Response:
        """Answer with one file.

        Raises
        ------
        Problem
            404: there is no such file.
        """
        name = request.path_params["name"]
        if name not in self._files:
            raise Problem(404, "not_found", f"got {name!r}, expected a file of the page; open /page/")
        return self._response(name)

    async def redirect(self, request: Request) -> Response:
        """Lead to the page. Its address ends with a slash, because its links are relative."""
        return RedirectResponse("/page/", 307, HEADERS)

    def _response(self, name: str) -> Response:
        return Response(self._files[name], 200, {**HEADERS, "Content-Type": TYPES[_suffix(name)]})


def _suffix(name: str) -> str:
    return name[name.rfind(".") :]
