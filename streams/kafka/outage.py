"""Log once that a service is away, and once that it is back, instead of every line that its clients log meanwhile.

Each client of aiokafka logs some lines a second while no broker answers. It also logs some when a partition or a group
moves to another broker, which is over within a second. `Quiet` keeps these lines out of the log, and `kafka` sums them
up. Every other line of the client (a missing right, an unknown codec) is logged as it is.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone

logger = logging.getLogger(__name__)

LASTS_S = 2.0
"""A shorter outage is a broker that is replaced, or a group that moves; chosen by us."""
APART_S = 60.0
"""Signs that are further apart belong to different outages. Longer than aiokafka's time-out of a request, 40 s."""
CALM_S = 5.0
"""Kafka is back when it takes connections and there was no sign for this long."""
REMIND_S = 300.0
"""Seconds between two lines about one outage; chosen by us."""
CLIENTS = ("aiokafka", "faust", "mode", "streams.faust_compat")
"""The loggers whose lines may be signs."""
_SIGN = re.compile(
    r"Connect call failed|Unable (to )?(connect|bootstrap|update metadata|request metadata)|[Cc]oordinator dead"
    r"|(KafkaConnection|KafkaTimeout|RequestTimedOut|NodeNotReady|StaleMetadata|NotLeaderForPartition|LeaderNotAvailable"
    r"|ReplicaNotAvailable|NotEnoughReplicas|GroupCoordinatorNotAvailable|CoordinatorNotAvailable|NotCoordinatorForGroup"
    r"|GroupLoadInProgress|CoordinatorLoadInProgress|NetworkException|NoBrokersAvailable)(Error)?\b"
    r"|coordinator \(node .*\) is either not started or not valid"
)

_MEMBERSHIP = re.compile(r"Heartbeat failed.*(rebalancing|not recognized|not\s+current)|will rejoin$|MembershipLost")
"""A group that moves, or has removed a member. Every rebalance has such lines, and we log ourselves what we drop."""
_REFUSED = re.compile(r"[Aa]uthori|[Aa]uthenticat|S(ASL|asl)|SSL|certificate|[Cc]odec|TooLarge|[Cc]orrupt")


def is_sign(text: str) -> bool:
    """Return whether a line, or an error's `repr`, says that a broker is away or not in charge, and is no refusal.

    >>> is_sign("Failed fetch messages from 1: NodeNotReadyError: Attempt to send a request to node")
    True
    >>> is_sign("Topic clicks is not authorized for this client")
    False
    """
    return _SIGN.search(text) is not None and _REFUSED.search(text) is None


class Outage:
    """Signs that a service is away, summed up in one line at the start and one at the end. Usable from any thread.

    Parameters
    ----------
    service : str
        Its name in the log.
    consequence : str
        What happens meanwhile, for the log.
    clock : callable
        Monotonic time, in seconds.
    """

    def __init__(self, service: str, consequence: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._service = service
        self._consequence = consequence
        self._clock = clock
        self._lock = threading.Lock()
        self._first_at = self._last_at = -APART_S
        self._since: float | None = None
        self._line_at = 0.0

    @property
    def is_logged(self) -> bool:
        """Whether the latest log line says that the service is away."""
        return self._since is not None

    def seen(self, sign: str, lasts_s: float = LASTS_S) -> None:
        """Note a sign. Once the signs have lasted for `lasts_s`, log that the service is away; later remind of it."""
        now = self._clock()
        with self._lock:
            if now - self._last_at > APART_S:
                self._first_at = now
            self._last_at = now
            is_new = self._since is None and now - self._first_at >= lasts_s
            is_due = self._since is not None and now - self._line_at >= REMIND_S
            if is_new:
                self._since = self._first_at
            if is_new or is_due:
                self._line_at = now
            away_s = now - (now if self._since is None else self._since)
        since = datetime.fromtimestamp(time.time() - away_s, timezone.utc).strftime("%H:%M:%S UTC")
        if is_new:
            logger.warning("%s is away since %s (%s); %s", self._service, since, sign, self._consequence)
        elif is_due:
            logger.warning("%s is still away, since %s (%d minutes)", self._service, since, away_s // 60)

    def back(self, calm_s: float = CALM_S) -> None:
        """Note that the service works. Once there was no sign for `calm_s`, log that it is back."""
        now = self._clock()
        with self._lock:
            if self._since is None or now - self._last_at < calm_s:
                return
            lasted_s, self._since = (self._last_at if calm_s else now) - self._since, None
            self._first_at = self._last_at = now - APART_S - 1
        logger.warning("%s is back after %.0f s", self._service, lasted_s)


kafka = Outage("Kafka", "work waits for it")
"""The outage of this process's Kafka."""


class Quiet(logging.Filter):
    """Take such lines of Kafka's clients out of the log, as signs. At level debug they are logged too."""

    def __init__(self, outage: Outage, keep: bool) -> None:
        super().__init__()
        self._outage = outage
        self._keep = keep

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the line is logged."""
        if not record.name.startswith(CLIENTS) or record.levelno < logging.WARNING or record.exc_info:
            return True
        text = record.getMessage()
        if _MEMBERSHIP.search(text):
            return self._keep
        if not is_sign(text):
            return True
        self._outage.seen(text)
        return self._keep
