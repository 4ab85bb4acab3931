"""Token providers of every kind, as a user's module has them; `issued` is what they gave, `fail` what they raise."""

from __future__ import annotations

import asyncio
import time
from typing import Any

issued: list[str] = []
fail: list[Exception] = []
answer: list[Any] = []
not_callable = "token"


def plain() -> str:
    if fail:
        raise fail[0]
    issued.append(f"token-{len(issued)}")
    return issued[-1]


async def in_a_coroutine() -> str:
    return plain()


class Provider:
    """An object with a method for each form of the end."""

    def for_seconds(self) -> tuple[str, int]:
        return plain(), 900

    def until_seconds(self) -> tuple[str, float]:
        return plain(), time.time() + 900

    def until_milliseconds(self) -> list[Any]:
        return [plain(), int((time.time() + 900) * 1000)]

    async def soon_over(self) -> tuple[str, float]:
        return plain(), 0.05

    def over(self) -> tuple[str, int]:
        return plain(), int(time.time() * 1000) - 1000


for_seconds = Provider().for_seconds
until_seconds = Provider().until_seconds
until_milliseconds = Provider().until_milliseconds
soon_over = Provider().soon_over
over = Provider().over


async def never() -> str:
    await asyncio.sleep(3_600)
    return plain()


def whatever() -> Any:
    return answer[0]


def amazon() -> tuple[str, int]:
    """The one for Amazon MSK; the README has it."""
    from aws_msk_iam_sasl_signer import MSKAuthTokenProvider

    token: tuple[str, int] = MSKAuthTokenProvider.generate_auth_token("eu-west-1")
    return token
