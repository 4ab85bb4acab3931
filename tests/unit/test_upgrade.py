"""Stored data outlives the program: a schema that this version cannot read is an error, and the data stays.

Records of states are read in the current schema only. The ids of events changed their meaning in schema 5, so the
events of an older record would count twice. Lists are read in the current schema and in the one before.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import numpy as np
import pytest
import redis
from pydantic import SecretStr

from encoders import interest_record
from encoders.events.entries import Event
from encoders.events.shown_lists import seen_list, written
from encoders.events.types import satisfied
from encoders.interest import Decay, empty, update
from encoders.interest_record import StateUnreadable
from streams import contracts
from streams.contracts import Recommendations
from streams.publish.list_cache import ListCache, ListUnreadable, OutgoingList
from streams.settings import RedisSettings, Settings
from streams.state import user_record
from streams.state.event_memory import seen_of
from streams.state.user_record import Link, UserRecord, decode_record, encode_record
from streams.state.users import Users
from streams.testing.embedded import EmbeddedRedis

NEWEST_MS = 1_790_000_240_500
FIXTURES = Path(__file__).parents[1] / "fixtures"


def stored(schema: int) -> bytes:
    return bytes.fromhex((FIXTURES / f"state-record-{schema}.hex").read_text())


def expected() -> UserRecord:
    """The record that the fixtures were made from."""
    state, seen, random = empty(4), [], np.random.default_rng(3)
    for n in range(5):
        vector = None if n == 4 else random.normal(size=4).astype(np.float32)
        event = Event(
            n % 3 + 1, 1_790_000_000_000 + n * 60_000, "purchase" if n % 2 else "click", dwell=satisfied(5_000)
        )
        state = update(state, event, vector, Decay())
        seen.append(seen_of("u", f"e{n}", event))
    shown = written([seen_list("u", "s", ["hat", "scarf"], NEWEST_MS)])
    link = Link("bob", NEWEST_MS, "moved")
    return UserRecord(state, tuple(seen), 7, newest_ms=NEWEST_MS, context={"device": "phone"}, shown=shown, link=link)


def test_a_record_is_read_as_it_was_written() -> None:
    record, reference = decode_record(stored(user_record.SCHEMA)), expected()
    for name in ("newest_ms", "context", "shown", "link"):
        assert getattr(record, name) == getattr(reference, name)
    assert encode_record(reference) == stored(user_record.SCHEMA)
    assert (record.recent, record.spilt, record.stored) == (reference.recent, reference.spilt, len(reference.recent))
    for name in ("version", "as_of_ms"):
        assert getattr(record.interest, name) == getattr(reference.interest, name)
    for name in ("history", "waiting", "bought", "slots", "responses"):
        np.testing.assert_array_equal(getattr(record.interest, name), getattr(reference.interest, name))
    for name in ("session", "long"):
        np.testing.assert_allclose(getattr(record.interest, name), getattr(reference.interest, name), rtol=1e-3)


@pytest.mark.parametrize("schema", range(1, user_record.SCHEMA))
def test_an_older_record_is_refused_in_one_line_and_stays_as_it_is(schema: int) -> None:
    store = {b"uann": stored(schema)}
    for look in (lambda: Users(store, 4).get("ann"), lambda: list(Users(store, 4).waiting())):
        with pytest.raises(
            StateUnreadable, match=rf"^user record: got schema {schema}, expected 6; .*GROUP_ID to a new name.*$"
        ):
            look()
    assert store == {b"uann": stored(schema)}


def test_a_newer_record_is_refused_in_one_line_and_stays_as_it_is() -> None:
    newer = msgspec.msgpack.encode([user_record.SCHEMA + 1, {"another": "shape"}])
    store = {b"uann": newer}
    for look in (lambda: Users(store, 4).get("ann"), lambda: list(Users(store, 4).waiting())):
        with pytest.raises(StateUnreadable, match=r"^user record: got schema 7, expected 6; .*upgrade this one$"):
            look()
    assert store == {b"uann": newer}
    wire = msgspec.msgpack.decode(interest_record.encode(expected().interest))
    inside = msgspec.msgpack.encode(
        [user_record.SCHEMA, msgspec.msgpack.encode([interest_record.SCHEMA + 1, *wire[1:]]), b"", 0, 0]
    )
    with pytest.raises(StateUnreadable, match=r"^user state: got schema 4, expected 3"):
        decode_record(inside)


def test_a_damaged_record_is_refused() -> None:
    whole = encode_record(expected())
    for damaged in (b"", b"junk", whole[:-1], whole[1:], msgspec.msgpack.encode([])):
        with pytest.raises(StateUnreadable, match=r"restore the changelog|upgrade"):
            decode_record(damaged)


def test_another_encoders_record_is_refused() -> None:
    with pytest.raises(StateUnreadable, match=r"got vectors of 4 numbers, expected 8; another encoder made them"):
        Users({b"uann": stored(user_record.SCHEMA)}, 8).get("ann")


def a_list(as_of: int, **more: object) -> OutgoingList:
    made = Recommendations(
        list_id="l", user_id="ann", as_of=as_of, generated_at=as_of, state_version=1, model="m", trigger=None,
        degraded=None, items=[],
    )  # fmt: skip
    return OutgoingList("ann", msgspec.json.encode(msgspec.structs.replace(made, **more)), as_of, 1)


def test_lists_of_all_schemas_coexist_in_redis() -> None:
    """The newest list wins, whatever its schema. A value that is no list is overwritten. A newer schema is an error."""

    async def write(published: OutgoingList) -> None:
        cache = ListCache(settings)
        await cache.write([published])
        await cache.close()

    with EmbeddedRedis() as server, redis.Redis.from_url(server.url) as plain:
        settings = Settings(redis=RedisSettings(url=SecretStr(server.url)))
        key = f"{settings.key_prefix}ann"
        for junk in (b"5", b'{"as_of": "x"}', b"[1]", b"null", b'{"as_of": 1e300}', b"\xff", b"[" * 5000):
            plain.set(key, junk)
            asyncio.run(write(a_list(10)))
            assert msgspec.json.decode(plain.get(key))["as_of"] == 10, junk
        newer = contracts.LIST_SCHEMA + 1
        plain.set(key, a_list(20, schema=newer).payload or b"")
        asyncio.run(write(a_list(15)))
        with pytest.raises(ListUnreadable, match=rf"got a list of schema {newer}, expected at most .*; upgrade|newer"):
            asyncio.run(ListCache.read_once(settings, "ann"))
        before = msgspec.json.decode(a_list(30).payload or b"")
        del before["schema"]
        plain.set(key, msgspec.json.encode(before))
        assert asyncio.run(ListCache.read_once(settings, "ann")) == msgspec.json.encode(before)
        asyncio.run(write(a_list(31, schema=contracts.LIST_SCHEMA)))
        assert asyncio.run(ListCache.read_once(settings, "ann")) == a_list(31, schema=contracts.LIST_SCHEMA).payload
