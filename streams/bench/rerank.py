"""Measure `POST /v1/rerank` one call after the other, beside the model's own time for the same candidates.

The server, the model and its process are the real ones. The catalogue and the users are in memory, as a replica has
them: Kafka takes no part in an answer. Both sides are called in turns, each for a user who has just come back and
looked at another item.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import count
from statistics import median

import uvloop

from encoders.describe import describe_event, describe_item
from encoders.events.types import DEFAULT_WEIGHTS
from encoders.text.vector_store import rounded
from ranker.progress import StageProgress
from ranker.score import Scorer, ScoreRequest
from streams.bench.measurement import Measurement, Target, percentile
from streams.bench.servers import BenchFailed
from streams.bench.timing import seconds
from streams.contracts import Candidate, Click, RankRequest
from streams.datasets.shop import START_MS, SyntheticShop
from streams.kafka.input_producer import InputProducer
from streams.publish.list_reader import ListReader
from streams.rank.ranking import Ranking, Reading
from streams.rank.serving import Serving
from streams.serve.app import Services, started
from streams.serve.events import EventRoom
from streams.serve.lists import ListRoom
from streams.serve.rerank import Reranker
from streams.serve.rerank_room import RerankRoom
from streams.serve.server import make
from streams.settings import Settings
from streams.state.decays import counts_of
from streams.state.sources import catalogue_of, sources_of
from streams.state.tier import StateTier
from streams.state.users import Users
from streams.terminal.progress_bar import track

DAY_MS = 86_400_000
SEED, ITEMS, USERS, EVENTS, CANDIDATES = 7, 1_000, 50, 20, 100
ROUNDS, CALLS = 3, 100
PEER = "the model's process, the same candidates"
TARGET = Target(25, at_most=True)
"""Milliseconds; chosen by us: a page that waits for a rerank does not show it."""


class ShopKnowledge:
    """What a replica knows, of the generated shop."""

    def __init__(self, settings: Settings, serving: Serving, scorer: Scorer) -> None:
        encoder = serving.encoder
        if encoder is None:
            raise TypeError("bench: got models without an encoder, expected one")
        users = Users({}, encoder.dim)
        self.on_forgotten: Callable[[str], object] = lambda _: None
        self.tier = StateTier(
            settings,
            users,
            catalogue_of(settings, encoder.dim),
            counts_of(settings),
            sources_of(settings),
        )
        self.items = SyntheticShop(SEED, ITEMS, shoppers=1).items
        self._text_of = {item.item_id: describe_item(item) for item in self.items}
        vectors = rounded(encoder.encode([describe_item(item) for item in self.items]))
        for item, vector in zip(self.items, vectors, strict=True):
            self.tier.put_item(item, vector, START_MS)
        self._scorer = scorer
        scorer.prepare(list(self._text_of.values()), list(map(describe_event, self.items)))
        self._numbers = count(1)
        for user in range(USERS):
            self.tier.accept(_user(user), [self._click(user, number) for number in range(EVENTS)])

    def look_at_another_item(self, user: int) -> None:
        """Let a user come back the next day, and click on an item."""
        number = next(self._numbers)
        item_id = self.items[number * 17 % ITEMS].item_id
        click = Click(
            event_id=f"new-{number}", user_id=_user(user), item_id=item_id, timestamp=START_MS + DAY_MS + number
        )
        self.tier.accept(_user(user), [click])

    async def wait(self) -> None:
        """Return at once: everything is there."""

    def candidates(self, user: int) -> list[str]:
        """Give the ids of a user's candidates."""
        return [self.items[(user * 37 + number * 7) % ITEMS].item_id for number in range(CANDIDATES)]

    def score_request(self, user: int) -> ScoreRequest:
        """Give what the model reads for these candidates."""
        interest = self.tier.users.get(_user(user)).interest
        candidates = [Candidate(item_id=item_id, text=self._text_of[item_id]) for item_id in self.candidates(user)]
        request = RankRequest(
            request_id="", user_id=_user(user), as_of=interest.as_of_ms, history=[], candidates=candidates
        )
        completed = self.tier.requests.complete(request, interest, {})
        ranking = Ranking.cascaded(completed, CANDIDATES, self._scorer.feature_set)
        return ranking.score_request(self._scorer.reads_events, Reading(DEFAULT_WEIGHTS))

    def _click(self, user: int, number: int) -> Click:
        item = self.items[(user * 13 + number * 29) % ITEMS]
        return Click(
            event_id=f"e{number}", user_id=_user(user), item_id=item.item_id, timestamp=START_MS + number * 60_000
        )


def measure(settings: Settings, stage: StageProgress) -> list[Measurement]:
    """Measure the median and the 99th percentile of sequential calls."""
    serving = Serving(settings.encoder, settings.ranker.model_copy(update={"learn": False}))
    with closing(serving):
        serving.load()
        scorer = serving.scorers[0]
        if scorer is None:
            return []
        knowledge = ShopKnowledge(settings, serving, scorer)
        bodies = [_body(_user(user), knowledge.candidates(user)) for user in range(USERS)]
        with _server(settings, Reranker(settings, serving, knowledge)) as connection:
            for user in range(USERS):
                _post(connection, bodies[user])
            ours: list[list[float]] = []
            peers: list[list[float]] = []
            for _ in track(range(ROUNDS), "Rerank", stage):
                ours.append([])
                peers.append([])
                for call in range(CALLS):
                    user, other = call % USERS, (call + USERS // 2) % USERS
                    knowledge.look_at_another_item(user)
                    ours[-1].append(seconds(_post, connection, bodies[user]) * 1e3)
                    knowledge.look_at_another_item(other)
                    peers[-1].append(seconds(scorer.score, [knowledge.score_request(other)]) * 1e3)
    note = f"{scorer.name}, {CANDIDATES} candidates, {EVENTS} events, {ITEMS:,} items; {CALLS} calls a round, in turns."
    return [
        Measurement("rerank, median", "ms", [*map(median, ours)], PEER, [*map(median, peers)], note=note),
        Measurement("rerank, p99", "ms", _p99(ours), PEER, _p99(peers), TARGET, note),
    ]


@contextmanager
def _server(settings: Settings, reranker: Reranker) -> Iterator[http.client.HTTPConnection]:
    """Run the room alone on a port of loopback, in a thread; give a connection to it."""
    settings = settings.model_copy(update={"http": settings.http.model_copy(update={"rate_per_s": 0})})
    room = RerankRoom(settings, reranker)
    # These two are part of an application, and are not asked.
    others = ListRoom(settings.pseudonym_key, ListReader(settings)), EventRoom(settings, InputProducer(settings))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = make(Services(settings, *others, (room,)))

        async def run() -> None:
            async with started((room,)):
                await server.serve(sockets=[listener])

        thread = threading.Thread(target=uvloop.run, args=(run(),))
        thread.start()
        try:
            with closing(http.client.HTTPConnection(*listener.getsockname()[:2])) as connection:
                yield connection
        finally:
            server.should_exit = True
            thread.join()


def _post(connection: http.client.HTTPConnection, body: bytes) -> None:
    """Ask until the models are warm.

    Raises
    ------
    BenchFailed
        The answer is an error.
    """
    while True:
        connection.request("POST", "/v1/rerank", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        content = response.read()
        if response.status == 200:
            return
        if response.status != 503:
            raise BenchFailed(f"rerank: got {response.status} {content.decode()}, expected 200; see the log")


def _body(user_id: str, candidates: Sequence[str]) -> bytes:
    return json.dumps({"user_id": user_id, "candidates": [{"item_id": item_id} for item_id in candidates]}).encode()


def _p99(rounds: Sequence[Sequence[float]]) -> list[float]:
    return [percentile(times_ms, 99) for times_ms in rounds]


def _user(number: int) -> str:
    return f"user-{number}"
