"""The script with which a list is stored unless a newer one is there, against the plain rule, in a real Redis."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from streams.publish.list_cache import ListCache, OutgoingList, WriteOutcome
from streams.settings import RedisSettings, Settings

VERSIONS = st.tuples(st.integers(0, 3) | st.just(1_790_000_000_000), st.integers(0, 3))
HOSTILE = '"as_of":9999999999999,"state_version":9'
TEXTS = st.text(max_size=20) | st.sampled_from([HOSTILE, HOSTILE.replace('"', '\\"'), "\\" + HOSTILE])


@pytest.fixture(scope="module")
def settings(redis_url: str) -> Settings:
    return Settings(topic_prefix="script.", redis=RedisSettings(url=SecretStr(redis_url)))


@pytest.fixture(scope="module")
def stored(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url) as connection:
        yield connection


@given(
    old=VERSIONS,
    new=VERSIONS,
    user=TEXTS,
    title=TEXTS,
    spaced=st.booleans(),
    longer=st.just(0) | st.integers(900, 1100),  # the version lies before, on and behind the end of what is read first
)
def test_the_newest_list_wins(
    settings: Settings,
    stored: Any,
    old: tuple[int, int],
    new: tuple[int, int],
    user: str,
    title: str,
    spaced: bool,
    longer: int,
) -> None:
    list_id = user + "x" * longer
    fields = {
        "list_id": list_id,
        "as_of": old[0],
        "state_version": old[1],
        "items": [{"title": title}],
        "later": HOSTILE,
    }
    there = json.dumps(fields, separators=(", ", ": ") if spaced else (",", ":")).encode()
    key = settings.key_prefix + "u"
    stored.set(key, there)
    assert _write(settings, OutgoingList("u", b"new", *new)) == [WriteOutcome.STORED]
    assert stored.get(key) == (there if old > new else b"new")


@pytest.mark.parametrize("damaged", [b"", b"[]", b"\xff", b'{"as_of":"5","state_version":1}', b'{"as_of":9}'])
def test_what_is_no_list_is_replaced(settings: Settings, stored: Any, damaged: bytes) -> None:
    stored.set(settings.key_prefix + "u", damaged)
    _write(settings, OutgoingList("u", b"new", 1, 1))
    assert stored.get(settings.key_prefix + "u") == b"new"


def _write(settings: Settings, list_: OutgoingList) -> list[WriteOutcome]:
    async def written() -> list[WriteOutcome]:
        cache = ListCache(settings)
        try:
            return await cache.write([list_])
        finally:
            await cache.close()

    return asyncio.run(written())
