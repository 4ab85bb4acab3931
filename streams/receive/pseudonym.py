"""Pseudonyms: a worker replaces every user id when it receives a message, before it stores anything.

A pseudonym is the HMAC-SHA256 of the user id (RFC 2104) under a secret key of the operator. It is the same for every
event of a user. Only the holder of the key can compute the pseudonym of a known id. Knows neither Kafka nor settings.
"""

from __future__ import annotations

import hmac

import msgspec
from pydantic import SecretStr

from streams.contracts import Click, Forget, Impression, Preference, Search, UserMerge

Pseudonymous = Click | Search | Preference | Impression | Forget | UserMerge


def pseudonym(user_id: str, key: SecretStr | None) -> str:
    """Give the id under which a user is stored: 64 hexadecimal digits, or without a key the user id itself.

    >>> pseudonym("u1", SecretStr("a key of 16 letters or more"))[:16]
    'e7d25963c82f9f7c'
    >>> pseudonym("u1", None)
    'u1'
    """
    if key is None:
        return user_id
    return hmac.digest(key.get_secret_value().encode(), user_id.encode(), "sha256").hex()


def under_pseudonym(message: Pseudonymous, key: SecretStr | None) -> Pseudonymous:
    """Replace the message's user ids by their pseudonyms. Without a key the message stays as it is."""
    if key is None:
        return message
    if isinstance(message, UserMerge):
        ids = (pseudonym(message.from_user_id, key), pseudonym(message.into_user_id, key))
        return msgspec.structs.replace(message, from_user_id=ids[0], into_user_id=ids[1])
    return msgspec.structs.replace(message, user_id=pseudonym(message.user_id, key))
