"""Token providers of the workers here. The file that COUNT_TOKENS names has their calls; FAIL beside it breaks them."""

from __future__ import annotations

import os
from pathlib import Path

from tests.field.managed import USER, unsigned


def token() -> tuple[str, float]:
    counts = Path(os.environ["COUNT_TOKENS"])
    if counts.with_name("FAIL").exists():
        raise OSError("the issuer is away")
    with counts.open("a") as file:
        file.write(".")
    return unsigned(USER, 8), 4


async def over() -> str:
    return unsigned(USER, -100)


def unreadable() -> str:
    return "none"


def broken() -> str:
    raise OSError("no issuer")
