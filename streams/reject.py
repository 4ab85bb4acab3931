"""What becomes of a message that cannot be accepted: counted, told of, and kept as a dead letter.

Called by both workers; `dead_letters` shows them and sends them back.
"""

from __future__ import annotations

import logging

from streams import metrics
from streams.message_size import outgoing_letter
from streams.outgoing import Outgoing
from streams.receive import BadMessage, Message
from streams.settings import Settings

logger = logging.getLogger(__name__)


def rejected(settings: Settings, message: Message, error: BadMessage) -> Outgoing:
    """Give the dead letter to send. The log says where the message lies and not what it holds: that may be private."""
    metrics.dead_letters.labels(message.topic, error.reason).inc()
    logger.warning("rejected %s/%d/%d: %s", message.topic, message.partition, message.offset, error.reason)
    return outgoing_letter(settings.topic("dead-letters"), message.dead_letter(str(error)))
