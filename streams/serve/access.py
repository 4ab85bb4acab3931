"""Who may ask for what, and how often: a bearer token for each right, and a limit for each client address.

Without a token a right is open to programs on this machine. Web pages are programs on this machine too, so the `Host`
of such a request must be this machine's: a page whose name was bound to 127.0.0.1 (DNS rebinding) sends its own name.
Knows no route.
"""

from __future__ import annotations

import hmac
import math
from typing import Literal

from starlette.requests import Request

from streams.serve import http_metrics
from streams.serve.problems import Problem
from streams.serve.token_buckets import TokenBuckets
from streams.settings import HttpSettings

Right = Literal["read", "write", "rank"]
_LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")


class Access:
    """Admits requests.

    Parameters
    ----------
    http : HttpSettings
        The tokens and the rate.
    """

    def __init__(self, http: HttpSettings) -> None:
        given = {"read": http.read_token, "write": http.write_token, "rank": http.rank_token}
        self._tokens = {right: token.get_secret_value().encode() for right, token in given.items() if token}
        self._limit = TokenBuckets(http.rate_per_s)
        self._own_names = (*_LOCAL_NAMES, http.host.lower())

    def admit(self, request: Request, right: Right) -> None:
        """Let a request pass, or raise.

        A refused request counts against a limit of its own, so that a stranger behind the same proxy does not use up
        what those with a token may ask.

        Raises
        ------
        Problem
            401: no token, or a wrong one. 403: the token of another right. 421: a `Host` that is not this machine.
            429: too many requests.
        """
        client = request.client.host if request.client else ""
        problem = self._refusal(request, right)
        wait_s = self._limit.wait_s((client, "refused" if problem else right))
        if wait_s:
            http_metrics.refused.labels("rate").inc()
            raise Problem(
                429,
                "rate_limited",
                f"got more requests than this client address may make, expected a pause of {wait_s:.3f} s",
                {"Retry-After": str(math.ceil(wait_s))},
            )
        if problem:
            http_metrics.refused.labels("token" if problem.status != 421 else "host").inc()
            raise problem

    def _refusal(self, request: Request, right: Right) -> Problem | None:
        expected = self._tokens.get(right)
        if expected is None:
            return self._foreign_host(request)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        sent = token.strip().encode("utf-8", "replace")
        if scheme.lower() == "bearer" and hmac.compare_digest(sent, expected):
            return None
        others = [hmac.compare_digest(sent, other) for other in self._tokens.values()]
        if sent and any(others):
            return Problem(403, "forbidden", f"got the token of another right, expected the one to {right}")
        text = f"got {'another' if sent else 'no'} token, expected Authorization: Bearer and the token to {right}"
        return Problem(401, "unauthorized", text, {"WWW-Authenticate": "Bearer"})

    def _foreign_host(self, request: Request) -> Problem | None:
        host = request.headers.get("host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if name.lower() in self._own_names:
            return None
        text = f"got the host {host!r}, expected one of {', '.join(_LOCAL_NAMES)} where no token is set; set the tokens"
        return Problem(421, "misdirected", text)
