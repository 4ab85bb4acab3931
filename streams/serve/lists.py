"""`GET /v1/recommendations/{user}`: a user's list from Redis.

The stored bytes pass through as they are, unless a part of the items is asked for. Knows not how lists are made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from urllib.parse import urlencode

from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response

from streams.client.redis_lists import is_empty
from streams.contracts import COLD_START_USER, Recommendations
from streams.publish.list_cache import ListUnreadable
from streams.publish.list_reader import ListReader
from streams.publish.redis_refusal import CacheUnavailable
from streams.receive.pseudonym import pseudonym
from streams.serve.openapi import GUARDED, USER, json_of, operation, parameter
from streams.serve.pages import part_of
from streams.serve.problems import JSON, Problem
from streams.serve.requests import Parameters, id_of
from streams.serve.rooms import Endpoint
from streams.settings import SettingsError

PREFIX = "/v1/recommendations/"
MAX_POSITION = 10_000
"""The largest `limit` and `offset`; chosen by us: longer than any list."""
RETRY_AFTER_S = "1"


class ListRoom:
    """Reads lists.

    Parameters
    ----------
    pseudonym_key : SecretStr or None
        Says under which ids users are kept.
    reader : ListReader
        Reads from Redis.
    domains : sequence of str
        The catalogues of which there are lists.
    """

    def __init__(self, pseudonym_key: SecretStr | None, reader: ListReader, domains: Sequence[str] = ()) -> None:
        self._key = pseudonym_key
        self._reader = reader
        self._domains = domains

    def endpoints(self) -> Sequence[Endpoint]:
        """Return the one route."""
        text = {"type": "string"}
        position = {"type": "integer", "minimum": 0, "maximum": MAX_POSITION}
        described = operation(
            "A user's list: the newest that a worker has made.",
            {
                "200": (
                    "The list, as in the topic `recommendations`. A header `Link` with rel=next names the next page.",
                    json_of(Recommendations),
                ),
                "304": ("The list is still the one that If-None-Match names.", {}),
            },
            {*GUARDED, "400", "404", "503"},
            parameters=[
                USER,
                parameter("limit", "The most items to return.", {**position, "minimum": 1}),
                parameter("placement", "The placement of the list, such as `cart`; none: the usual list.", text),
                parameter("domain", "The list of one catalogue alone, such as `films`: of its placement.", text),
                parameter("offset", "How many items to leave out at the top.", position),
                parameter("seen", "Of the page before, as its Link header names the next one: no item repeats.", text),
                parameter(
                    "cold_start",
                    "Whether a user with no list or an empty one gets the cold-start list, whose user_id is '*'.",
                    {"type": "boolean", "default": False},
                ),
                parameter("If-None-Match", "The ETag of the list that the client has.", text, where="header"),
            ],
        )
        return [Endpoint("GET", PREFIX + "{user:id}", self._get, "read", described)]

    def why_not_ready(self) -> list[str]:
        """Return why Redis cannot be read; nothing if it can."""
        return [f"Redis: {self._reader.away}"] if self._reader.away else []

    async def start(self) -> None:
        """Look whether Redis lets us read.

        Raises
        ------
        SettingsError
            Redis refuses us, and waiting does not help.
        """
        await self._reader.start()

    async def stop(self) -> None:
        """Close all connections."""
        await self._reader.close()

    async def read(self, user_id: str, placement: str | None = None) -> bytes | None:
        """Return a user's list as it is stored, or None.

        Parameters
        ----------
        user_id : str
            As the shop knows the user; `*` for the cold-start list.
        placement : str, optional
            Where the list is shown.

        Raises
        ------
        Problem
            503: Redis is away. 500: what it has is no list. 400: the placement is not declared.
        """
        stored_id = user_id if user_id == COLD_START_USER else pseudonym(user_id, self._key)
        try:
            return await self._reader.read(stored_id, placement)
        except SettingsError as error:
            raise Problem(400, "invalid_query", str(error)) from None
        except CacheUnavailable:
            text = "got no answer from Redis, expected the list; try again"
            raise Problem(503, "redis_unavailable", text, {"Retry-After": RETRY_AFTER_S}) from None
        except ListUnreadable as error:
            raise Problem(500, "list_unreadable", str(error)) from None

    async def _get(self, request: Request) -> Response:
        user_id = id_of(request, PREFIX)
        query = Parameters(request, ("limit", "offset", "cold_start", "placement", "domain", "seen"))
        limit, offset = query.integer("limit", 1, MAX_POSITION), query.integer("offset", 0, MAX_POSITION) or 0
        cold_start = query.boolean("cold_start")
        placement, domain = query.text("placement"), query.text("domain")
        if domain and domain not in self._domains:
            declared = ", ".join(self._domains) or "AFTERCLICK_CANDIDATES__DOMAINS, which is unset"
            raise Problem(400, "invalid_query", f"domain: got {domain!r}, expected one of {declared}")
        if domain and placement not in (None, domain):
            text = f"got placement {placement!r} and domain {domain!r}, expected one of them: a domain is a placement"
            raise Problem(400, "invalid_query", text)
        stored = await self.read(user_id, domain or placement)
        if cold_start and (stored is None or is_empty(stored)):
            of_domain = domain or (placement if placement in self._domains else None)
            stored = await self.read(COLD_START_USER, of_domain) or stored
        if stored is None:
            raise Problem(
                404,
                "no_list",
                "got a user without a list, expected one with an accepted event; for the cold-start list add "
                "?cold_start=true",
            )
        seen = query.text("seen") or ""
        if limit is None and not offset and not seen:
            return _tagged(request, stored)
        part = part_of(stored, limit, offset, seen)
        return _tagged(request, part.content, _next(request, limit, part.seen))


def _next(request: Request, limit: int | None, seen: str) -> dict[str, str]:
    """The header that names the next page; none where no item is left."""
    if not seen:
        return {}
    kept = {name: value for name in ("placement", "domain", "cold_start") if (value := request.query_params.get(name))}
    query = urlencode({"limit": limit, **kept, "seen": seen})
    return {"Link": f'<{request.scope["raw_path"].decode()}?{query}>; rel="next"'}


def _tagged(request: Request, content: bytes, more: Mapping[str, str] = MappingProxyType({})) -> Response:
    tag = f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache", **more}
    known = [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]
    if tag in known or known == ["*"]:
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=JSON)
