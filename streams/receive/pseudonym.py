"""Users under pseudonyms: every user id is replaced as a message is received, before anything of it is stored.

A pseudonym is HMAC-SHA256 of the id (RFC 2104) under a key of the shop's: the same for every event of a user, and
of use only to who has the key. Called by the state worker and the command line.
"""

from __future__ import annotations

import hmac

import msgspec
from pydantic import SecretStr

from streams.contracts import Click, Forget, Impression


def pseudonym(user_id: str, key: SecretStr | None) -> str:
    """Give the name under which a user is kept: 64 hexadecimal digits; without a key, the id itself.

    >>> pseudonym("u1", SecretStr("a key of 16 letters or more"))[:16]
    'e7d25963c82f9f7c'
    >>> pseudonym("u1", None)
    'u1'
    """
    if key is None:
        return user_id
    return hmac.digest(key.get_secret_value().encode(), user_id.encode(), "sha256").hex()


def under_pseudonym(message: Click | Impression | Forget, key: SecretStr | None) -> Click | Impression | Forget:
    """Put the pseudonym in the place of the message's user id."""
    if key is None:
        return message
    return msgspec.structs.replace(message, user_id=pseudonym(message.user_id, key))
