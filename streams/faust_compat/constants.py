"""What every consumer of ours has in common, Faust's and plain ones."""

from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
)

NO_RIGHT = (TopicAuthorizationFailedError, GroupAuthorizationFailedError, ClusterAuthorizationFailedError)
"""Errors by which Kafka says that our user lacks a right: they do not go away by trying again."""
ISOLATION = "read_committed"
"""The isolation level: messages of an open or aborted transaction are not delivered."""
