"""The shop of recordings is as it says, and logs, models and features read what tells there."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import numpy as np

from encoders.text.encoder import TextEncoder
from encoders.text.sentiment import LEAST_BAD, english
from ranker.evaluation.interactions import Interaction, Interactions
from ranker.evaluation.log_order import ordered
from ranker.evaluation.protocols import next_basket
from ranker.train import context_choices
from ranker.train.context_choices import choices_before, codes_of
from streams.contracts import Click, Item, Search, UserEvent
from streams.datasets.audio_shop import BAD, BAND, BEGINS, GOOD, audio_shop
from streams.datasets.event_log import read_dataset
from streams.offline.query_group_builder import QueryGroupBuilder
from streams.settings import EncoderSettings, RankerSettings, Settings
from tests import models

SEED = Path("3")


def genre_of(item: Item) -> str:
    return item.title.rsplit(" ", 1)[0]


def test_users_follow_a_length_the_time_of_day_and_their_own_reviews() -> None:
    items, messages = audio_shop(3)
    by_id = {item.item_id: item for item in items}
    rank_of = {
        item.item_id: rank / len(items)
        for rank, item in enumerate(sorted(items, key=lambda one: one.attributes["minutes"]))
    }
    lengths, heard, bad = defaultdict[str, list[float]](list), defaultdict[str, set[str]](set), set[tuple[str, str]]()
    for topic, message in messages:
        time_of_day = message.context["time_of_day"]
        assert topic == {Search: "searches", Click: "clicks", UserEvent: "events"}[type(message)]
        if isinstance(message, Search):
            assert not any(word in message.text for item in items for word in item.title.lower().split())
            continue
        item = by_id[message.item_id]
        if isinstance(message, UserEvent):
            bad |= {(message.user_id, genre_of(item))} if message.text in BAD else set()
            continue
        assert (message.user_id, genre_of(item)) not in bad, "a genre that was found bad is left alone"
        heard[time_of_day].add(genre_of(item))
        lengths[message.user_id].append(rank_of[item.item_id])
    assert not heard["morning"] & heard["evening"]
    assert set(heard) == set(BEGINS)
    assert all(max(of_user) - min(of_user) <= 2 * BAND + 0.01 for of_user in lengths.values())
    assert bad


def test_titles_do_not_tell_lengths_and_seeds_vary() -> None:
    items, of_genre = audio_shop(3)[0], defaultdict[str, list[float]](list)
    for item in items:
        of_genre[genre_of(item)].append(np.log(item.attributes["minutes"]))
    lengths = [item.attributes["minutes"] for item in items]
    assert np.std([np.mean(of_one) for of_one in of_genre.values()]) < 0.25 * np.std(np.log(lengths))
    assert abs(np.corrcoef([int(item.title.rsplit(" ", 1)[1]) for item in items], lengths)[0, 1]) < 0.2
    assert audio_shop(3) == audio_shop(3)
    assert audio_shop(3) != audio_shop(4)


def test_reviews_count_where_they_are_judged() -> None:
    judge = english()
    assert sum(judge(text) <= LEAST_BAD for text in BAD) >= 0.9 * len(BAD)
    assert not any(judge(text) <= LEAST_BAD for text in GOOD)
    plain, judged = read_dataset("audio-shop", SEED), read_dataset("audio-shop", SEED, sentiment=judge)
    unheard = [sign for sign in judged.events.signs if sign.event and sign.event.type == "complete"]  # type: ignore[attr-defined]
    assert unheard
    assert all(sign.event.strength < 0 for sign in unheard if sign.event)
    assert len(plain.events) - len(judged.events) == len(unheard)
    cases = [next_basket(ordered(log.events, 1)).cases for log in (plain, judged)]
    assert [case.targets for case in cases[0]] == [case.targets for case in cases[1]]


def test_training_reads_searches_and_the_context_as_serving_does(tmp_path: Path) -> None:
    encoder = EncoderSettings(model=str(models.encoder(tmp_path / "encoder")), device="cpu", dtype="float32")
    settings = Settings(encoder=encoder, ranker=RankerSettings(device="cpu"))
    log = read_dataset("audio-shop", SEED)
    in_order = ordered(log.events, 1)
    builder = QueryGroupBuilder(settings, TextEncoder(encoder.model, "cpu", "float32"), log.items)
    cases = next_basket(in_order).cases[:3]
    groups = builder.build(in_order, cases, float("inf"), lambda *_: None).groups
    for text, case in zip(groups.contexts, cases, strict=True):
        *_, search, now = text.splitlines()
        assert re.fullmatch(r'Searched "[a-z ]+" just now', search)
        assert now == f"Now: time of day {'morning' if case.as_of_ms % 86_400_000 < 43_200_000 else 'evening'}"
    drawn = "\n".join(request.context for request in groups.synthetic_requests(20, 5, 1))
    assert "Viewed" in drawn
    assert "Searched" not in drawn
    assert "Now: " not in drawn


def test_what_is_chosen_in_a_context_is_learnt_from_the_events_before() -> None:
    few = context_choices.MIN_EVENTS - 1
    log = Interactions.of(Interaction("ann", f"i{step % 2}", step, "click") for step in range(4 * few + 8))
    log.contexts = {
        ("ann", step): {"device": "phone" if step % 2 else "desktop", "page": "rare" if step < few else "home"}
        for step in range(len(log) - 4)
    } | {("ann", len(log) - 1): {"device": "phone"}}
    vectors = np.array([[1, 0], [0, 1]], np.float32)
    codes = {key: codes_of(log, key) for key in ("device", "page", "nothing")}
    assert sorted(codes["device"].values) == ["desktop", "phone"]
    assert not codes["nothing"].values
    chosen = choices_before(len(log), log, codes, vectors)
    assert set(chosen["page"]) == {"home"}, "of a rare value nothing is learnt"
    assert chosen["device"]["phone"].round(1).tolist() == [-0.5, 0.5]
    assert chosen["device"]["desktop"].round(1).tolist() == [0.5, -0.5]
    assert choices_before(few, log, codes, vectors) == {"device": {}, "page": {}}, "nothing that came later is known"
    assert choices_before(len(log), log, {}, vectors) == {}
