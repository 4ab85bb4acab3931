"""What becomes of a message that cannot be accepted: counted, told of, and kept whole as a dead letter.

Called by both workers; `dead_letters` shows them and sends them back.
"""

from __future__ import annotations

import logging

import msgspec

from streams import metrics
from streams.outbox import Outgoing
from streams.receive import BadMessage, Message
from streams.settings import Settings

logger = logging.getLogger(__name__)


def rejected(settings: Settings, message: Message, error: BadMessage) -> Outgoing:
    """Give the dead letter to send. The log says where the message lies and not what it holds: that may be private."""
    metrics.dead_letters.labels(message.topic, error.reason).inc()
    logger.warning("rejected %s/%d/%d: %s", message.topic, message.partition, message.offset, error.reason)
    letter = msgspec.json.encode(message.dead_letter(str(error)))
    return Outgoing(settings.topic("dead-letters"), message.key, letter)
