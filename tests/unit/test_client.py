"""The client without servers: what it imports, what it refuses, how it repeats a call by HTTP."""

from __future__ import annotations

import asyncio
import inspect
import json
import subprocess
import sys
import time
import typing
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import pytest
from aiokafka.errors import (
    KafkaConnectionError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    ProducerClosed,
)

from streams.bodies import RerankQuestion
from streams.client import (
    AsyncClient,
    Click,
    Client,
    ClientClosed,
    Item,
    MessageRefused,
    MissingArgument,
    RankRequest,
    RerankCandidate,
    RerankedItem,
    RerankEvent,
    ServiceRefused,
    ServiceUnavailable,
    backoff,
    fields,
    kafka_sender,
)
from streams.contracts import Purchase
from tests.unit.test_evaluate_extra import run

HTTP = "http://127.0.0.1:8080"
NOW_MS = time.time_ns() // 10**6
MODULES = 230
"""Python itself has about 60, msgspec, asyncio and urllib the rest."""
IMPORTED = """
import json, sys
import streams.client
print(json.dumps(sorted(sys.modules)))
"""
USED = """
import json, sys
from streams.client import Client
Client(kafka="127.0.0.1:1", redis="redis://127.0.0.1:1", http="http://127.0.0.1:1").close()
print(json.dumps(sorted(sys.modules)))
"""

Answer = httpx.Response | Exception


class Service:
    """Answers requests with what it was given, in order, and keeps the requests."""

    def __init__(self, *answers: Answer) -> None:
        self.requests: list[httpx.Request] = []
        self._answers = list(answers)

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def client(self, **arguments: Any) -> Client:
        return Client(http=HTTP, http_options={"transport": httpx.MockTransport(self)}, **arguments)


def answer(status: int = 200, body: object = None, **headers: str) -> httpx.Response:
    return httpx.Response(status, content=msgspec.json.encode(body), headers=headers)


def accepted(count: int = 1) -> httpx.Response:
    return answer(body={"results": [{"accepted": True}] * count})


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between attempts, which take no time."""
    waited: list[float] = []
    sleep = asyncio.sleep

    async def note(delay_s: float) -> None:
        waited.append(delay_s)
        await sleep(0)

    monkeypatch.setattr("streams.client.backoff.asyncio.sleep", note)
    return waited


@pytest.mark.parametrize("script", [IMPORTED, USED])
def test_it_imports_no_model_and_no_stream_processor(script: str) -> None:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    modules = json.loads(done.stdout)
    heavy = {"torch", "faust", "mode", "numpy", "pydantic", "transformers", "typer", "prometheus_client"}
    assert not heavy & {name.split(".")[0] for name in modules}
    if script is IMPORTED:
        assert not {"aiokafka", "redis", "httpx"} & set(modules)
        assert len(modules) < MODULES


def test_the_command_line_without_the_worker_says_what_to_install() -> None:
    ended = run("typer", "from streams.cli import main\nmain()")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        "afterclick: typer: got no such package, expected it for the command line; pip install 'afterclick[worker]'\n"
    )


def test_a_library_that_is_missing_is_named_with_the_extra() -> None:
    ended = run("aiokafka", "from streams.client import Client\nClient(kafka='localhost:9092')")
    assert ended.stderr.splitlines()[-1] == (
        "streams.client.errors.MissingArgument: aiokafka: got no such package, expected it for this address; "
        "pip install 'afterclick[client]'"
    )


def test_the_arguments_have_the_names_and_types_that_they_have_elsewhere() -> None:
    parameters = inspect.signature(AsyncClient.__init__).parameters
    declared = {name: parameter.annotation for name, parameter in parameters.items() if name != "self"}
    assert {name: hint.__forward_arg__ for name, hint in fields.ClientArguments.__annotations__.items()} == declared
    for arguments, struct in ((fields.ClickFields, Click), (fields.PurchaseFields, Purchase)):
        assert {*typing.get_type_hints(arguments), "user_id", "item_id"} == set(struct.__struct_fields__)


def test_both_clients_have_the_same_methods() -> None:
    def methods(kind: type) -> dict[str, list[str]]:
        public = {name: method for name, method in vars(kind).items() if not name.startswith("_")}
        return {name: [str(p) for p in inspect.signature(m).parameters.values()] for name, m in public.items()}

    assert methods(Client) == methods(AsyncClient)


def call_click(client: Client) -> None:
    client.click("u1", "i1")


def call_list(client: Client) -> None:
    client.recommendations("u1")


def call_rerank(client: Client) -> None:
    client.rerank(["i1"], user_id="u1")


def call_lists(client: Client) -> None:
    next(iter(client.lists()))


def call_delete(client: Client) -> None:
    client.delete_items("i1")


def call_request(client: Client) -> None:
    client.send(RankRequest(request_id="r1", user_id="u1", as_of=NOW_MS, history=[], candidates=[]))


@pytest.mark.parametrize(
    ("arguments", "call", "named"),
    [
        ({"redis": "redis://127.0.0.1:1"}, call_click, "kafka=… or http=…"),
        ({"kafka": "127.0.0.1:1"}, call_list, "redis=… or http=…"),
        ({"kafka": "127.0.0.1:1"}, call_rerank, "http=…"),
        ({"http": HTTP}, call_lists, "kafka=…"),
        ({"http": HTTP}, call_delete, "kafka=…"),
        ({"http": HTTP}, call_request, "kafka=…"),
    ],
)
def test_a_missing_address_is_named(arguments: Any, call: Callable[[Client], None], named: str) -> None:
    with Client(**arguments) as client, pytest.raises(MissingArgument, match=f"got no {named}, expected"):
        call(client)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "got no address"),
        ({"http": "127.0.0.1:8080"}, "http: got '127.0.0.1:8080', expected http://host:port"),
        ({"redis": "redis+sentinel://one/master"}, "redis: got a URL that redis-py refuses"),
    ],
)
def test_a_wrong_address_is_refused_at_once(arguments: Any, text: str) -> None:
    with pytest.raises(MissingArgument, match=text):
        Client(**arguments)


def click(**changed: Any) -> Click:
    return Click(**{"event_id": "e1", "user_id": "u1", "item_id": "i1", "timestamp": NOW_MS, **changed})


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (click(item_id=""), r"message 1: clicks: Expected `str` of length >= 1 - at `\$\.item_id`"),
        (click(user_id="*"), "message 1: clicks: user_id: got '*'"),
        (click(timestamp=NOW_MS // 1000), "message 1: clicks: timestamp: got .* are these seconds"),
        (click(user_id="\ud800"), "message 1: clicks: got .*surrogates not allowed"),
        (click(context={"a": object()}), "message 1: clicks: got .*object.* is unsupported"),
        (click(user_id=None), "message 1: clicks: got 'NoneType' object has no attribute 'encode'"),
        (
            Purchase(event_id="e1", user_id="u1", item_id="i1", timestamp=NOW_MS, price=float("nan")),
            "message 1: purchases: price: got nan",
        ),
        (Item(item_id="i1", title=" "), "message 1: items: title: got only blanks"),
        ({"item_id": "i1"}, "message 1: got a dict, expected one of"),
    ],
)
def test_a_wrong_message_is_refused_and_none_is_sent(message: Any, text: str) -> None:
    service = Service(accepted())
    with service.client() as client, pytest.raises(MessageRefused, match=text):
        client.send(click(), message)
    assert service.requests == []


def test_a_call_is_repeated_with_the_same_event_until_it_is_answered(waits: list[float]) -> None:
    service = Service(
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        answer(503),
        answer(429, **{"Retry-After": "3"}),
        accepted(),
    )
    with service.client(write_token="a-write-token") as client:
        event_id = client.click("u1", "i1", text="boots")
    bodies = [json.loads(request.content) for request in service.requests]
    assert [body["events"][0]["event_id"] for body in bodies] == [event_id] * 5
    assert bodies[0]["events"][0] | {"timestamp": 0} == {
        "type": "click", "event_id": event_id, "user_id": "u1", "item_id": "i1", "timestamp": 0, "text": "boots",
    }  # fmt: skip
    assert {request.headers["authorization"] for request in service.requests} == {"Bearer a-write-token"}
    assert waits[3] == 3
    assert [0.5 * 2**n * backoff.FIRST_S <= wait_s <= 2**n * backoff.FIRST_S for n, wait_s in enumerate(waits[:3])]


def test_a_call_ends_at_its_time_limit_and_says_what_may_not_be_stored(waits: list[float]) -> None:
    service = Service(
        answer(503, {"error": {"code": "kafka_away", "message": "got no answer"}}, **{"Retry-After": "60"})
    )
    with (
        service.client() as client,
        pytest.raises(ServiceUnavailable, match=r"503 kafka_away \(got no answer\)") as error,
    ):
        client.send(click())
    assert waits == [], "the service asked for a pause of 60 s, which is longer than the limit"
    assert len(service.requests) == 1
    assert error.value.unconfirmed == (click(),)


@pytest.mark.parametrize(
    ("status", "text"), [(401, "correct `read_token`"), (403, "correct `read_token`"), (400, "correct the call")]
)
def test_a_refusal_is_not_repeated(status: int, text: str) -> None:
    service = Service(answer(status, {"error": {"code": "some_code", "message": "some words"}}))
    with service.client() as client, pytest.raises(ServiceRefused, match=rf"{status} some_code \(some words\).*{text}"):
        client.recommendations("u1")
    assert len(service.requests) == 1


@pytest.mark.parametrize(
    ("page", "text"),
    [
        (httpx.Response(404, text="<html>"), r"got status 404 \(Not Found\), expected success; correct the call"),
        (httpx.Response(200, text="<html>"), "got JSON is malformed.*, expected Afterclick's answer; correct `http`"),
    ],
)
def test_another_service_at_the_address_is_told(page: httpx.Response, text: str) -> None:
    with Service(page).client() as client, pytest.raises(ServiceRefused, match=text) as error:
        client.send(click())
    assert error.value.unconfirmed == (click(),)


def test_events_go_in_requests_of_bounded_size() -> None:
    service = Service(accepted(500), accepted(500), accepted(1), accepted(2), accepted(1))
    with service.client() as client:
        client.send(*(click(event_id=f"e{number}") for number in range(1_001)))
        client.send(*(Item(item_id=f"i{number}", title="Boots", description="x" * 400_000) for number in range(3)))
    assert len(service.requests) == 5


def test_events_that_were_not_stored_are_sent_again_alone() -> None:
    refusal = {"results": [{"error": "clicks: refused"}], "error": {"code": "rejected", "message": "got no event"}}
    service = Service(answer(207, {"results": [{"accepted": True}, {"error": "not stored"}]}), answer(422, refusal))
    left = click(event_id="e2")
    with (
        service.client() as client,
        pytest.raises(ServiceRefused, match=r"422 rejected \(got no event; clicks: refused\)") as error,
    ):
        client.send(click(), left)
    assert error.value.unconfirmed == (left,)
    assert [event["event_id"] for event in json.loads(service.requests[1].content)["events"]] == ["e2"]


def test_an_id_is_quoted_in_a_path() -> None:
    service = Service(answer(404, {"error": {"code": "no_list", "message": "got …"}}), answer(202, {"accepted": True}))
    with service.client() as client:
        assert client.recommendations("a/b?c d", "home") is None
        client.forget("ü")
    asked = [(request.method, str(request.url.raw_path, "ascii")) for request in service.requests]
    assert asked == [
        ("GET", "/v1/recommendations/a%2Fb%3Fc%20d?placement=home&cold_start=true"),
        ("DELETE", "/v1/users/%C3%BC"),
    ]


class Producers:
    """Stands for aiokafka's producer: each producer fails at the messages that the next of `failures` names."""

    def __init__(self, *failures: dict[str, Exception]) -> None:
        self.stored: list[tuple[int, str]] = []
        self.stopped = 0
        self._failures = iter(failures)
        self._made = 0

    def __call__(self, **options: Any) -> FakeProducer:
        assert options["enable_idempotence"]
        self._made += 1
        return FakeProducer(self, self._made, next(self._failures))


class FakeProducer:
    def __init__(self, all_: Producers, number: int, fails: dict[str, Exception]) -> None:
        self._all, self._number, self._fails = all_, number, fails

    async def start(self) -> None:
        if "start" in self._fails:
            raise self._fails["start"]

    async def send(self, topic: str, value: bytes, key: bytes) -> asyncio.Future[None]:
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        event_id = msgspec.json.decode(value, type=Click).event_id
        if (failure := self._fails.get(event_id)) is None:
            self._all.stored.append((self._number, event_id))
            stored.set_result(None)
        elif isinstance(failure, ProducerClosed):
            raise failure
        else:
            stored.set_exception(failure)
        return stored

    async def stop(self) -> None:
        self._all.stopped += 1


EVENTS = [click(event_id=event_id) for event_id in ("e1", "e2", "e3")]


@pytest.mark.parametrize(
    ("failures", "stored"),
    [
        ([{"e2": OutOfOrderSequenceNumber()}, {}], [(1, "e1"), (1, "e3"), (2, "e2")]),
        ([{"e2": ProducerClosed()}, {}], [(1, "e1"), (2, "e2"), (2, "e3")]),
        ([{"start": KafkaConnectionError()}, {}], [(2, "e1"), (2, "e2"), (2, "e3")]),
    ],
)
def test_a_new_producer_sends_what_another_could_not(
    failures: list[dict[str, Exception]], stored: list[tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    producers = Producers(*failures)
    monkeypatch.setattr(kafka_sender, "AIOKafkaProducer", producers)
    with Client(kafka="127.0.0.1:1") as client:
        client.send(*EVENTS)
    assert producers.stored == stored
    assert producers.stopped == 2


def test_what_kafka_refuses_is_not_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    producers = Producers({"e1": OutOfOrderSequenceNumber(), "e2": MessageSizeTooLargeError()})
    monkeypatch.setattr(kafka_sender, "AIOKafkaProducer", producers)
    with Client(kafka="127.0.0.1:1") as client, pytest.raises(ServiceRefused, match="MessageSizeTooLarge") as error:
        client.send(*EVENTS)
    assert error.value.unconfirmed == tuple(EVENTS[:2])


def test_candidates_come_back_in_their_new_order() -> None:
    body = {"items": [{"item_id": "i2", "rank": 1, "score": 0.5}], "model": "m", "degraded": None, "errors": []}
    service = Service(answer(body=body))
    with service.client(rank_token="a-rank-token") as client:
        ranked = client.rerank(["i1", RerankCandidate("i2", text="Tent")], history=[RerankEvent("i3", "purchase")])
    assert ranked.items == [RerankedItem(item_id="i2", rank=1, score=0.5)]
    msgspec.json.decode(service.requests[0].content, type=RerankQuestion)


def test_it_works_in_a_running_loop_and_in_a_thread() -> None:
    service = Service(accepted())

    async def send() -> None:
        transport = {"transport": httpx.MockTransport(service)}
        async with AsyncClient(http=HTTP, http_options=transport) as client:
            await asyncio.gather(client.click("u1", "i1"), client.purchase("u1", "i1", quantity=2))
        with service.client() as blocking:  # for example in a notebook
            blocking.click("u1", "i1")

    asyncio.run(send())
    assert len(service.requests) == 3


def test_a_client_that_is_closed_or_of_another_process_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Service(accepted()).client()
    with monkeypatch.context() as forked:
        forked.setattr("os.getpid", lambda: 1)
        with pytest.raises(ClientClosed, match="of the process that forked this one"):
            client.click("u1", "i1")
    client.close()
    client.close()
    with pytest.raises(ClientClosed, match="a closed client"):
        client.click("u1", "i1")
