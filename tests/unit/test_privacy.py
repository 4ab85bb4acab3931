"""A forgotten user is erased from memory too, and with a key no user id is stored."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from faust.types import TP
from pydantic import SecretStr

from ranker.recall.candidates import BUILT_IN
from ranker.recall.catalogue import Catalogue
from ranker.score import ScoreRequest
from ranker.scorers.packed.decoder import PackedDecoder
from streams.contracts import COLD_START_USER, Candidate, Click, HistoryEvent, RankRequest
from streams.kafka.client import partition_of
from streams.kafka.outgoing import Outgoing
from streams.rank.tier import RankTier
from streams.rank.worker import RankWorker
from streams.receive.pseudonym import pseudonym
from streams.settings import Settings
from streams.state.decays import counts_of
from streams.state.tier import StateTier
from streams.state.users import Users
from streams.state.worker import StateWorker
from tests import models
from tests.stores import MemoryStore

NOW = 1_790_000_000_000
KEY = SecretStr("a key of 16 letters or more")


def event(topic: str, key: bytes, value: bytes | None, headers: Any = None, partition: int = 0) -> Any:
    message = SimpleNamespace(
        topic=topic, partition=partition, offset=1, key=key, value=value, tp=(topic, partition), headers=headers,
        timestamp=NOW / 1000, timestamp_type=0,
    )  # fmt: skip
    return SimpleNamespace(message=message, ack=lambda: True)


class Out:
    """Stands in for Kafka and Redis: it records the messages."""

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []
        self.store = MemoryStore()

    async def deliver(self, messages: Sequence[Outgoing]) -> list[Any]:
        self.sent += messages
        return [SimpleNamespace(partition=0, offset=0) for _ in messages]

    async def write(self, _: Any, indices: Sequence[Any]) -> None: ...


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> PackedDecoder:
    return PackedDecoder(str(models.decoder(tmp_path_factory.mktemp("decoder"))), "cpu", "float32")


def kept_tokens(scorer: PackedDecoder) -> dict[str, list[list[int]]]:
    """The contexts in the scorer's cache, by user."""
    found: dict[str, list[list[int]]] = {}
    for key, user in scorer._contexts._user_of.items():
        found.setdefault(user, []).append(scorer._contexts[key].ids.tolist())
    return found


def request(user_id: str) -> RankRequest:
    history = [
        HistoryEvent(item_id=f"i{n}", type="click", timestamp=NOW, title=f"What {user_id} saw, number {n}")
        for n in range(10)
    ]
    return RankRequest(
        request_id="r", user_id=user_id, as_of=NOW, history=history, candidates=[Candidate(item_id="c", text="Hat")]
    )


async def ranked(decoder: PackedDecoder, *messages: Any, revoke: bool = False) -> None:
    """Run a rank worker until all of these are answered."""
    out: Any = Out()
    with ThreadPoolExecutor(1) as thread:
        worker = RankWorker(Settings(), RankTier(Settings(), decoder), out, out, thread)
        running = asyncio.create_task(worker.run())
        for message in messages:
            await worker.take(message)
            await worker.acks.drain(30)
        if revoke:
            await worker.on_revoke({TP("rank-requests", 0)})
        running.cancel()
    assert not len(worker.acks)


def test_the_scorers_contexts_of_a_forgotten_user_are_gone(decoder: PackedDecoder) -> None:
    def asked(user_id: str) -> Any:
        return event("rank-requests", user_id.encode(), msgspec.json.encode(request(user_id)))

    asyncio.run(ranked(decoder, asked("ann"), asked("bob")))
    before = kept_tokens(decoder)
    assert set(before) == {"ann", "bob"}
    held = decoder._contexts.currsize
    asyncio.run(ranked(decoder, event("rank-requests", b"ann", None)))
    assert kept_tokens(decoder) == {"bob": before["bob"]}
    assert decoder.usage.context_bytes == decoder._contexts.currsize < held
    assert len(decoder._contexts._key_of_block) == len(before["bob"][0]) // 32, "the user's hashes are gone too"
    asyncio.run(ranked(decoder, revoke=True))
    assert kept_tokens(decoder) == {}, "another worker gets the requests to be forgotten from now on"


def test_the_user_of_a_context_does_not_change_the_score(decoder: PackedDecoder) -> None:
    one, other = (decoder.score([ScoreRequest("Viewed a tent today", ["A hat"], user)])[0] for user in ("x", "y"))
    np.testing.assert_array_equal(one, other)


def state_worker_of(settings: Settings) -> tuple[StateWorker, StateTier, Out]:
    out: Any = Out()
    tier = StateTier(settings, Users(out.store, 4), Catalogue(4), counts_of(settings), BUILT_IN)
    encoder: Any = None
    return StateWorker(settings, tier, encoder, ThreadPoolExecutor(1), out, out.store, "changelog"), tier, out


async def flushed(worker: StateWorker, *messages: Any) -> None:
    await worker.take(messages)
    running = asyncio.create_task(worker.run())
    await worker.acks.drain(10)
    running.cancel()


def test_a_forgotten_user_no_longer_waits_for_an_item() -> None:
    settings = Settings()
    _, tier, _ = state_worker_of(settings)
    tier.accept("ann", [Click(event_id="e", user_id="ann", item_id="unknown", timestamp=NOW)])
    assert any("ann" in users for users in tier._waiting.values())
    tier.forget("ann", NOW)
    assert not any("ann" in users for users in tier._waiting.values())


def test_with_a_key_no_outgoing_message_has_the_user_id() -> None:
    """The click is routed to the partition of its pseudonym, accepted there, and gets no second pseudonym."""
    settings = Settings(pseudonym_key=KEY)
    name = pseudonym("secret-ann", KEY)
    assert name == hmac.new(KEY.get_secret_value().encode(), b"secret-ann", hashlib.sha256).hexdigest()
    home = partition_of(name.encode(), settings.kafka.partitions)
    click = msgspec.json.encode(Click(event_id="e", user_id="secret-ann", item_id="i", timestamp=NOW))
    forget = b'{"user_id": "secret-ann", "timestamp": %d}' % NOW
    for topic, value in (("clicks", click), ("forget", forget)):
        elsewhere, _, its_out = state_worker_of(settings)
        asyncio.run(flushed(elsewhere, event(topic, b"secret-ann", value, partition=(home + 1) % 8)))
        [routed] = its_out.sent
        assert routed.topic == "routed-events"
        assert routed.key == name.encode()
        assert b"secret-ann" not in (routed.value or b"")
        arrived = event("routed-events", routed.key, routed.value, list((routed.headers or {}).items()), home)
        worker, tier, out = state_worker_of(settings)
        asyncio.run(flushed(worker, arrived))
        assert not [sent for sent in out.sent if b"secret-ann" in (sent.key or b"") + (sent.value or b"")]
        keys = {sent.key for sent in out.sent}
        assert keys == {name.encode(), b"u" + name.encode()} if topic == "clicks" else name.encode() in keys
        assert tier.users.get("secret-ann").interest.version == 0
        assert tier.users.get(name).interest.version == (topic == "clicks")
        assert bool(tier.users.forgotten_until(name)) == (topic == "forget")


def test_the_command_looks_up_the_pseudonym(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from streams.cli import app
    from streams.publish.list_cache import ListCache

    asked = []

    async def read_once(_settings: object, user_id: str, _placement: str | None = None) -> None:
        asked.append(user_id)

    monkeypatch.setattr(ListCache, "read_once", read_once)
    monkeypatch.setenv("AFTERCLICK_PSEUDONYM_KEY", KEY.get_secret_value())
    CliRunner().invoke(app, ["recommend", "ann"])
    assert asked == [pseudonym("ann", KEY), COLD_START_USER], "the user's list, then the cold-start list"
