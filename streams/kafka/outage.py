"""Log once that Kafka is away, and once that it is back, instead of every line that its client logs meanwhile.

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

logger = logging.getLogger(__name__)

LASTS_S = 2.0
"""A shorter outage is a broker that is replaced, or a group that moves; chosen by us."""
APART_S = 60.0
"""Signs that are further apart belong to different outages. Longer than aiokafka's time-out of a request, 40 s."""
CALM_S = 5.0
"""Kafka is back when it takes connections and there was no sign for this long."""
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
    """Signs that Kafka is away, summed up. Can be used from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._first_at = self._last_at = -APART_S
        self._logged_at: float | None = None

    @property
    def is_logged(self) -> bool:
        """Whether the latest log line says that Kafka is away."""
        return self._logged_at is not None

    def seen(self, sign: str) -> None:
        """Note a sign. Once the signs have lasted for `LASTS_S`, log that Kafka is away."""
        now = self._clock()
        with self._lock:
            if now - self._last_at > APART_S:
                self._first_at = now
            self._last_at = now
            is_new = self._logged_at is None and now - self._first_at >= LASTS_S
            if is_new:
                self._logged_at = self._first_at
        if is_new:
            logger.warning("Kafka is away (%s); work waits for it, and a line will say when it is back", sign)

    def back(self) -> None:
        """Note that Kafka takes connections. Once there was no sign for `CALM_S`, log that Kafka is back."""
        now = self._clock()
        with self._lock:
            if self._logged_at is None or now - self._last_at < CALM_S:
                return
            lasted_s, self._logged_at = self._last_at - self._logged_at, None
            self._first_at = self._last_at = now - APART_S - 1
        logger.warning("Kafka is back, after %.0f s", lasted_s)


kafka = Outage()
"""The outage of this process's Kafka."""


class Quiet(logging.Filter):
    """Take such lines of aiokafka out of the log, as signs. At level debug they are logged too."""

    def __init__(self, outage: Outage, keep: bool) -> None:
        super().__init__()
        self._outage = outage
        self._keep = keep

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the line is logged."""
        if not record.name.startswith("aiokafka") or record.levelno < logging.WARNING or record.exc_info:
            return True
        text = record.getMessage()
        if _MEMBERSHIP.search(text):
            return self._keep
        if not is_sign(text):
            return True
        self._outage.seen(text)
        return self._keep
