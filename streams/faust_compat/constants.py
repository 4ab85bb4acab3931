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
