"""Texts of a language model follow the list that they are for: checked, counted, and never after a newer list."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any, cast

import msgspec
import pytest
from msgspec import structs

from streams.contracts import Candidate, HistoryEvent, RankRequest, Recommendations, StatedWish, WishClause
from streams.publish.list_cache import OutgoingList
from streams.publish.list_expiry import first_written_ms
from streams.rank import reason_metrics, reason_writer, waiting_texts
from streams.rank.batcher import RankedBatch
from streams.rank.list_publisher import ListPublisher
from streams.rank.list_without import without
from streams.rank.published_lists import IndexedList, ListPlace, Written
from streams.rank.reason_writer import ReasonWriter
from streams.rank.request_queue import PendingRequest
from streams.rank.tier import RankTier
from streams.settings import RankerSettings, ReasonsSettings, Settings
from tests.unit.test_withdrawal import NOW, Installation

TITLES = {"tent-0": "Tent for two", "tent-1": "You bought gold, 90% off", "lamp-0": "Lamp"}
TENT = "You viewed “Tent for two”, so this may interest you"


def request(request_id: str, *viewed: str, user_id: str = "ann", **context: str) -> RankRequest:
    history = [
        HistoryEvent(item_id=item_id, type="view", timestamp=NOW, title=TITLES[item_id], categories=[item_id[:4]])
        for item_id in viewed
    ]
    candidates = [Candidate(item_id=f"tent-{number}", text="Tent", categories=["tent"]) for number in range(5, 9)]
    return RankRequest(
        request_id=request_id, user_id=user_id, as_of=NOW, history=history, candidates=candidates, context=context
    )


class Words(Installation):
    """A worker whose model is a function of the prompts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **reasons: Any) -> None:
        super().__init__(monkeypatch)
        ranker = RankerSettings(model="none")
        settings = Settings(ranker=ranker, reasons=ReasonsSettings(**{"model": "a model", "items": 3, **reasons}))
        self.tier = RankTier(settings, None)
        this = cast(Any, self)
        publisher = ListPublisher(settings, this, this, self.stale, this, this, this)
        self.writer = ReasonWriter(settings, self.tier, publisher, this, self.stale)
        self.prompts: list[str] = []
        self.closed = 0
        self.answer: Callable[[str], str] = lambda prompt: f"{TENT}."
        self.meanwhile: Callable[[], None] = lambda: None
        monkeypatch.setattr(reason_writer, "RETRY_AFTER_S", 0.001)

    def load(self) -> None: ...

    def close(self) -> None:
        self.closed += 1

    def write_prompts(self, prompts: Sequence[str]) -> list[str]:
        self.prompts += prompts
        self.meanwhile()
        return list(map(self.answer, prompts))

    def publishes(self, made: RankRequest | None, user_id: str = "ann") -> Recommendations | None:
        """The worker's list for a request is out; for None the user is forgotten."""
        pending = [PendingRequest(user_id, made)]
        lists = self.tier.rank_without_model([made], "overload", NOW) if made else []
        payload = msgspec.json.encode(lists[0]) if lists else None
        record = self.append(user_id.encode(), payload)
        items = [item.item_id for item in lists[0].items] if lists else None
        written = Written.of(payload, first_written_ms(self.topic[record.offset])) if payload else Written()
        list_ = None if items is None else IndexedList(items, None, written)
        self.stale.note([ListPlace(0, record.offset, user_id.encode())], [list_])
        if payload and lists:
            self.redis[user_id] = OutgoingList(user_id, payload, lists[0].as_of, lists[0].state_version)
        self.writer.note(RankedBatch(pending, lists, []))
        return lists[0] if lists else None

    def word(self, seconds: float = 0.2) -> None:
        class Model:
            load, write, close = self.load, staticmethod(self.write_prompts), self.close

        async def word() -> None:
            running = asyncio.create_task(self.writer.run(cast(Any, Model)))
            await asyncio.sleep(seconds)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

        asyncio.run(word())

    def texts(self, user_id: str = "ann") -> list[str]:
        return [item["reason"]["text"] for item in self.newest(user_id)["items"]]


def count(outcome: str) -> float:
    return reason_metrics.lists.labels(outcome)._value.get()  # type: ignore[no-any-return]


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> Words:
    return Words(monkeypatch)


def test_the_same_list_is_published_again_with_the_texts(words: Words) -> None:
    words.publishes(request("r1", "lamp-0", "tent-0"))
    before = words.newest("ann")
    words.word()
    after = words.newest("ann")
    assert after["reasons_version"] == 1
    assert [item["reason"] for item in after["items"][:3]] == [{"text": TENT, "evidence": ["tent-0"]}] * 3
    assert after["items"][3] == before["items"][3], "beyond the setting"
    for item, old in zip(after["items"], before["items"], strict=True):
        assert {**item, "reason": None} == {**old, "reason": None}
    changed = {"items", "generated_at", "reasons_version"}
    assert {k: v for k, v in after.items() if k not in changed} == {k: v for k, v in before.items() if k not in changed}
    assert json.loads(words.redis["ann"].payload or b"") == after
    assert len(words.prompts) == 1
    assert "Because you viewed “Tent for two”. Category of all: “tent”" in words.prompts[0]
    words.publishes(request("r2", "lamp-0", "tent-0", user_id="bob"), "bob")
    words.word()
    assert words.texts("bob")[0] == TENT
    assert len(words.prompts) == 1, "the same question is asked once"
    assert words.closed == 2


def test_a_newer_list_an_erasure_and_a_lost_partition_win(words: Words) -> None:
    def revoked() -> None:
        words.stale.owned = words.stale.complete = set()

    def fenced() -> None:
        words.lost = True

    rivals: list[Callable[[], Any]] = [
        lambda: words.publishes(request("r2", "lamp-0")),
        lambda: words.publishes(None),
        revoked,
        fenced,
    ]
    for number, rival in enumerate(rivals):
        words.stale.owned, words.stale.complete = {0}, {0}
        before = count("superseded")
        words.publishes(request("r1", "lamp-0", "tent-0"))
        words.meanwhile = rival
        words.writer._answers.clear()
        words.word()
        words.meanwhile = lambda: None
        assert count("superseded") == before + 1, number
        newest = words.newest("ann")
        assert newest is None or "reasons_version" not in newest


def test_a_withdrawal_meanwhile_keeps_the_texts_of_what_is_left(words: Words) -> None:
    words.publishes(request("r1", "tent-0"))
    gone = words.newest("ann")["items"][0]["item_id"]

    def withdraws() -> None:
        list_ = without(words.topic[-1].value, {gone}, NOW)
        assert list_ is not None
        record = words.append(b"ann", list_.payload, words.topic[-1].headers)
        words.stale.note([ListPlace(0, record.offset, b"ann")], [IndexedList(list_.item_ids)])

    words.meanwhile = withdraws
    words.word()
    assert gone not in words.shown("ann")
    assert words.texts()[:2] == [TENT, TENT]


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        ("You bought gold, 90% off", "claim"),
        ('You viewed "You bought gold, 90% off", and it is gold', "claim"),
        ('You viewed "You bought gold, 90% off", which is 90% off', "number"),
        ('You viewed "Nike Air"', "name"),
        ("", "empty"),
    ],
)
def test_what_the_evidence_does_not_support_is_refused_and_counted(words: Words, answer: str, cause: str) -> None:
    words.answer = lambda _: answer
    words.publishes(request("r1", "tent-1"))
    first, unchanged, refused = words.newest("ann"), count("unchanged"), reason_metrics.refused.labels(cause)
    before = refused._value.get()
    words.word()
    assert words.newest("ann") == first, "the template stays"
    assert (count("unchanged"), refused._value.get()) == (unchanged + 1, before + 3)


def test_wishes_are_told_behind_a_text_too(words: Words) -> None:
    made = request("r1", "tent-0")
    clause = WishClause(effect="more", words="waterproof")
    candidates = [structs.replace(candidate, wishes=[0]) for candidate in made.candidates]
    wish = StatedWish(wish_id="w", text="waterproof", clauses=[clause])
    words.publishes(structs.replace(made, wishes=[wish], candidates=candidates))
    assert words.texts()[0] == "Because you viewed Tent for two; you asked for: waterproof"
    words.word()
    assert words.texts()[0] == f"{TENT}; you asked for: waterproof"


def test_texts_are_in_the_users_language(words: Words) -> None:
    words.answer = lambda prompt: 'Sie haben "Tent for two" angesehen.' if "Satz:" in prompt else ""
    words.publishes(request("r1", "tent-0", language="de-AT"))
    words.word()
    assert words.texts()[0] == "Sie haben „Tent for two“ angesehen"


def test_a_model_that_dies_costs_texts_and_nothing_else(words: Words, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_texts, "MAX_WAITING", 2)
    failed, dropped = count("failed"), count("dropped")
    answers = iter([BrokenProcessPool("died")])

    def dies_once() -> None:
        for error in answers:
            raise error

    words.meanwhile = dies_once
    for user_id in ("ann", "bob", "cid"):
        words.publishes(request(user_id, "tent-0", user_id=user_id), user_id)
    assert count("dropped") == dropped + 1
    words.word()
    assert count("failed") == failed + 1
    assert [words.texts(user_id)[0] == TENT for user_id in ("ann", "bob", "cid")] == [False, True, False]


def test_without_a_model_nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    words = Words(monkeypatch, model=None)
    words.publishes(request("r1", "tent-0"))
    assert not words.writer._waiting.any.is_set()
    assert "reasons_version" not in words.newest("ann")
