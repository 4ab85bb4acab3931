"""Why a worker ends, where a person can mend the reason; and the limit on how long its end may take."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable

import faust

from encoders.errors import AfterclickError

logger = logging.getLogger(__name__)

CRASH_GRACE_S = 2.0


class Ending:
    """Ends the worker for an error that a person can mend. Kafka delivers again what was not acknowledged.

    Attributes
    ----------
    reason : AfterclickError or None
        The first such error.
    """

    reason: AfterclickError | None = None

    def end(self, reason: AfterclickError) -> None:
        """Stop the worker as SIGTERM does, for this reason."""
        if self.reason is None:
            self.reason = reason
            os.kill(os.getpid(), signal.SIGTERM)

    def guarded(self, task: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        """Return the task, wrapped so that an error of it that a person can mend ends the worker."""

        async def run() -> None:
            try:
                await task()
            except AfterclickError as error:
                self.end(error)

        return run


def limit_shutdown(worker: faust.Worker, grace_s: float) -> None:
    """Exit the process, from a thread, if the worker has not stopped `grace_s` seconds after it was asked to.

    After a crash there is nothing to drain, and the limit is `CRASH_GRACE_S`.
    """
    threading.Thread(target=_exit_late, args=(worker, grace_s), name="grace", daemon=True).start()


def _exit_late(worker: faust.Worker, grace_s: float) -> None:
    while not worker.should_stop:
        time.sleep(0.2)
    time.sleep(CRASH_GRACE_S if worker.crashed else grace_s)
    if not worker.crashed:
        logger.error("the worker did not stop in time and is ended; Kafka delivers again what was not acknowledged")
    os._exit(1)
