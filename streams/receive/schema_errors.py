"""The rejection of a message that a schema refuses, from msgspec's error. Knows no schema."""

from __future__ import annotations

import re

from streams.receive.message import BadMessage


def invalid(topic: str, error: Exception) -> BadMessage:
    """The rejection: its text is for the producer, its cause the same for all such messages."""
    advice = "set AFTERCLICK_TIME_ZONE to the zone of such times, or " if "timezone component" in str(error) else ""
    return BadMessage(
        "invalid", f"{topic}: {error}; {advice}see `afterclick schema {topic}` for what is expected", _cause(str(error))
    )


def _cause(error: str) -> str:
    """Shorten msgspec's error text, and drop what depends on the message.

    >>> _cause("Object missing required field `title`")
    'title missing'
    >>> _cause("Expected `str`, got `int` - at `$.candidates[3].item_id`")
    'candidates[].item_id: Expected str, got int'
    """
    problem, _, json_path = error.replace("`", "").partition(" - at $")
    path = re.sub(r"\[[^\]]*\]", "[]", json_path).removeprefix(".")
    missing = problem.removeprefix("Object missing required field ")
    if missing != problem:
        return f"{path}.{missing} missing" if path else f"{missing} missing"
    return f"{path}: {problem}" if path else problem
