"""Token providers for the workers of `test_managed`.

Each call of `token` adds a byte to the file that COUNT_TOKENS names. While a file FAIL is beside it, `token` raises.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.field.managed import USER, unsigned


def token() -> tuple[str, float]:
    """Return a token that is valid for 8 s, and that it may be used for 4 s."""
    counts = Path(os.environ["COUNT_TOKENS"])
    if counts.with_name("FAIL").exists():
        raise OSError("the issuer is away")
    with counts.open("a") as file:
        file.write(".")
    return unsigned(USER, 8), 4


async def over() -> str:
    """Return a token that has expired."""
    return unsigned(USER, -100)


def unreadable() -> str:
    """Return a text that is no token."""
    return "none"


def broken() -> str:
    """Raise an error."""
    raise OSError("no issuer")
