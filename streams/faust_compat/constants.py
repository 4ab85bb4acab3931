"""What Faust's consumer and our plain aiokafka consumers have in common."""

from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
)

NO_RIGHT = (TopicAuthorizationFailedError, GroupAuthorizationFailedError, ClusterAuthorizationFailedError)
"""Errors by which Kafka says that our user lacks a right. A retry does not help."""
ISOLATION = "read_committed"
"""The isolation level: messages of an open or aborted transaction are not delivered."""
WAIT_WITHOUT_FLOW_MS = 20
"""How long a broker may hold a fetch that has no messages to return, while no messages flow. Chosen by us: it is short
beside what a rebalance takes, and 50 fetches a second are little."""
