"""Kafka away, told once when it goes and once when it is back, from what its client says of it line by line.

aiokafka writes some lines a second from each of its clients for as long as no broker answers, and some when a partition
or a group moves to another broker, which it mends itself within a second. `Quiet` keeps these lines from the log, and
`kafka` says what they come to. What else the client says (no permission, a codec that it has not) goes out as it is.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)

LASTS_S = 2.0
"""What is over sooner is a broker that another takes the place of, or a group that moves; chosen by us."""
APART_S = 60.0
"""Signs further apart are of different outages; longer than aiokafka's patience with one request, 40 s."""
CALM_S = 5.0
"""Without a sign for so long, a Kafka that takes connections is back."""
_SIGN = re.compile(
    r"Connect call failed|Unable (to )?(connect|bootstrap|update metadata|request metadata)|[Cc]oordinator dead"
    r"|(KafkaConnection|KafkaTimeout|RequestTimedOut|NodeNotReady|StaleMetadata|NotLeaderForPartition|LeaderNotAvailable"
    r"|ReplicaNotAvailable|NotEnoughReplicas|GroupCoordinatorNotAvailable|CoordinatorNotAvailable|NotCoordinatorForGroup"
    r"|GroupLoadInProgress|CoordinatorLoadInProgress|NetworkException|NoBrokersAvailable)(Error)?\b"
    r"|coordinator \(node .*\) is either not started or not valid"
)

_MEMBERSHIP = re.compile(r"Heartbeat failed.*(rebalancing|not recognized|not\s+current)|will rejoin$|MembershipLost")
"""A group that moves, or has given up a member: every rebalance has such lines, and what we drop for it we tell."""
_REFUSED = re.compile(r"[Aa]uthori|[Aa]uthenticat|S(ASL|asl)|SSL|certificate|[Cc]odec|TooLarge|[Cc]orrupt")


def is_sign(text: str) -> bool:
    """Whether a line, or an error's `repr`, tells of a broker that is not there or not in charge, and refuses nothing.

    >>> is_sign("Failed fetch messages from 1: NodeNotReadyError: Attempt to send a request to node")
    True
    >>> is_sign("Topic clicks is not authorized for this client")
    False
    """
    return _SIGN.search(text) is not None and _REFUSED.search(text) is None


class Outage:
    """Signs that Kafka is away, and what they come to; to be used from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._first_at = self._last_at = -APART_S
        self._told_at: float | None = None

    @property
    def told(self) -> bool:
        """Whether the log says that Kafka is away."""
        return self._told_at is not None

    def seen(self, sign: str) -> None:
        """Note a sign; the log tells of it once they last."""
        now = self._clock()
        with self._lock:
            if now - self._last_at > APART_S:
                self._first_at = now
            self._last_at = now
            tell = self._told_at is None and now - self._first_at >= LASTS_S
            if tell:
                self._told_at = self._first_at
        if tell:
            logger.warning("Kafka is away (%s); what is to do waits for it, and a line says when it is back", sign)

    def back(self) -> None:
        """Kafka takes connections: the log says that it is back, once its client has no more to complain of."""
        now = self._clock()
        with self._lock:
            if self._told_at is None or now - self._last_at < CALM_S:
                return
            lasted_s, self._told_at = self._last_at - self._told_at, None
            self._first_at = self._last_at = now - APART_S - 1
        logger.warning("Kafka is back, after %.0f s", lasted_s)


kafka = Outage()
"""This process's: it has one Kafka."""


class Quiet(logging.Filter):
    """Take such lines of aiokafka for signs. At level debug they go out, too."""

    def __init__(self, outage: Outage, keep: bool) -> None:
        super().__init__()
        self._outage = outage
        self._keep = keep

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line goes out."""
        if not record.name.startswith("aiokafka") or record.levelno < logging.WARNING or record.exc_info:
            return True
        text = record.getMessage()
        if _MEMBERSHIP.search(text):
            return self._keep
        if not is_sign(text):
            return True
        self._outage.seen(text)
        return self._keep
