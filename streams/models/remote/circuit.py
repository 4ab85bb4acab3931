"""A circuit breaker: after some failures in a row nobody asks a server, except for one probe at a time.

While the circuit is open, callers fail at once. In the background a probe asks the server from time to time, and closes
the circuit when it is answered; so no caller ever waits for a probe. Knows no HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)

FAILURES = 3
"""In a row, each after its retries, until the circuit opens; chosen by us."""
PAUSES_S = 1.0, 15.0
"""The first and the longest pause before a probe. Each probe that fails doubles the pause."""


class Circuit:
    """The circuit of one server. For one event loop.

    Parameters
    ----------
    server : str
        Its name in the log.
    probe : callable
        Asks the server once; raises if it does not answer.
    show : callable
        Is told whether the circuit is open when that changes.

    Attributes
    ----------
    why_open : str
        What the server did last while the circuit is open; empty while it is closed.
    """

    def __init__(self, server: str, probe: Callable[[], Awaitable[object]], show: Callable[[bool], object]) -> None:
        self.why_open = ""
        self._server, self._probe, self._show = server, probe, show
        self._failures = 0
        self._pause_s = PAUSES_S[0]
        self._probing: asyncio.Task[None] | None = None

    def succeeded(self) -> None:
        """Note that a caller got an answer."""
        self._failures = 0
        self._pause_s = PAUSES_S[0]

    def failed(self, problem: str) -> None:
        """Note that a caller got no answer, after its retries."""
        self._failures += 1
        if self._failures >= FAILURES:
            self.open(problem)

    def open(self, problem: str) -> None:
        """Open the circuit, unless it is open."""
        if self.why_open:
            return
        self.why_open = problem
        logger.warning("%s: %s; lists go out without the model until it answers", self._server, problem)
        self._show(True)
        self._probing = asyncio.create_task(self._until_answered())

    async def close(self) -> None:
        """End the probes."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)

    async def _until_answered(self) -> None:
        opened_s = time.monotonic()
        while self.why_open:
            await asyncio.sleep(self._pause_s)
            self._pause_s = min(2 * self._pause_s, PAUSES_S[1])
            try:
                await self._probe()
            except Exception as error:  # noqa: BLE001 whatever a probe raises, the next one is due
                self.why_open = str(error) or repr(error)
            else:
                self.why_open, self._failures = "", 0
        self._show(False)
        logger.warning("%s answers again after %.0f s", self._server, time.monotonic() - opened_s)
