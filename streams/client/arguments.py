"""What the calls of a client were given: a part for the address, an id and a time for an event. Knows no transport."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from msgspec import UNSET, UnsetType

from streams.client.errors import MissingArgument
from streams.client.messages import new_id, now_ms

Part = TypeVar("Part")


def given(part: Part | None, argument: str) -> Part:
    """Return the part of the client that an argument made, or say that the argument is missing."""
    if part is None:
        raise MissingArgument(f"got no {argument}, expected it for this call; give it to the client")
    return part


def with_id_and_time(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an event, with a new id and the present time unless they have their own."""
    return {"event_id": new_id(), "timestamp": now_ms(), **fields}


def shown(item_ids: Sequence[str], propensities: Sequence[float | UnsetType]) -> dict[str, Any]:
    """Return the fields of an impression. Propensities that a list does not have are left out."""
    known = [propensity for propensity in propensities if not isinstance(propensity, UnsetType)]
    return {"items": list(item_ids), "propensities": known or UNSET}


@contextmanager
def installed() -> Iterator[None]:
    """Import a library within this context; the error says how to install it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingArgument(
            f"{error.name}: got no such package, expected it for this address; pip install 'afterclick[client]'"
        ) from error
