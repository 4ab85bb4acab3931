"""A worker's probes are right: while it starts, when it is stuck, when it is behind."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr, ValidationError

from streams.kafka.client import why_away
from streams.settings import HealthSettings, KafkaSettings, MetricsSettings, SettingsError
from streams.testing.embedded import EmbeddedKafka, free_port
from streams.worker import health, probes
from streams.worker.health import Workload

LIMITS = HealthSettings(stuck_s=5, max_lag=10)
TOKEN = "a-token-of-some-length"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Monotonic time as the health sees it; the test moves it."""
    now = [1000.0]
    monkeypatch.setattr(health, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def ready(limits: HealthSettings = LIMITS) -> health.Health:
    """A worker of one tier that is up and has nothing to do."""
    found = health.Health(limits, ("state",))
    found.models_loaded = lambda: True
    found.set_ready("state", True)
    found.note("state", Workload())
    return found


@contextmanager
def served(judged: health.Health, token: str | None = None) -> Iterator[Callable[..., tuple[int, str]]]:
    """Ask a server; status and text."""
    metrics = MetricsSettings(port=free_port(), token=token and SecretStr(token))
    server = probes.serve(metrics, judged)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(path: str, authorization: str | None = None, method: str = "GET") -> tuple[int, str]:
        request = urllib.request.Request(f"http://127.0.0.1:{metrics.port}{path}", method=method)
        if authorization:
            request.add_header("Authorization", authorization)
        try:
            with opener.open(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    try:
        yield ask
    finally:
        server.shutdown()
        server.server_close()


def test_a_starting_worker_is_alive_and_not_ready() -> None:
    starting = health.Health(LIMITS, ("state", "rank"))
    with served(starting) as ask:
        assert ask("/livez") == (200, "ok\n")
        assert ask("/readyz") == (503, "models: not loaded\nstate: not caught up\nrank: not caught up\n")
    assert REGISTRY.get_sample_value("afterclick_kafka_away", {"tier": "rank"}) == 0
    starting.away = "no server answers"
    assert REGISTRY.get_sample_value("afterclick_kafka_away", {"tier": "rank"}) == 1


def test_a_worker_is_ready_until_a_problem_comes(clock: list[float]) -> None:
    judged = ready()
    with served(judged) as ask:
        assert ask("/readyz") == (200, "ok\n")
        judged.note("state", Workload({"p0": 5}, lag=10))
        assert ask("/readyz")[0] == 200
        judged.note("state", Workload({"p0": 5}, lag=11))
        assert ask("/readyz") == (503, "state: 11 messages behind, more than 10\n")
        assert ask("/livez")[0] == 200
        judged.note("state", Workload({"p0": 16}))
        judged.set_ready("state", False)
        assert ask("/readyz") == (503, "state: not caught up\n")
        judged.set_ready("state", True)
        judged.models_loaded = lambda: False
        assert ask("/readyz") == (503, "models: not loaded\n")


def test_a_worker_whose_offsets_do_not_move_is_not_alive_unless_it_is_idle(clock: list[float]) -> None:
    judged = ready()

    def after(seconds: int, done: int, **work: Any) -> list[str]:
        for _ in range(seconds):
            clock[0] += 1
            judged.note("state", Workload({"p0": done}, **work))
        return judged.why_not_alive()

    assert after(60, 7) == []
    assert after(5, 7, lag=3) == []
    assert after(1, 7, lag=3) == ["state: no message was done for 6 s, with 3 to do"]
    assert after(1, 8, lag=2) == []
    assert after(60, 8, lag=2, away="no server answers") == [], "Kafka is away: a restart would not help"
    assert after(60, 8, lag=2, held=2) == [], "they are a transaction's, which only its producer can end"
    assert after(6, 8, lag=3, held=2) == ["state: no message was done for 6 s, with 1 to do"]
    assert after(60, 9, silent=1) != [], "nobody knows what lies in a partition without a leader's answer"
    assert after(60, 10, mute_s=9.0) != [], "Kafka answers others: a restart may mend that"
    judged.set_ready("state", False)
    assert after(60, 10, lag=2) == [], "tables are being restored"


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (Workload(away="no server of kafka:9092 answers"), "Kafka: no server of kafka:9092 answers"),
        (Workload(mute_s=9.4), "state: the consumer group's coordinator has not answered for 9 s"),
        (Workload(silent=2), "state: 2 partitions without an answer from their leader"),
        (
            Workload(lag=12, held=12),
            "state: 12 messages behind, more than 10, 12 of them held by the open transaction of a producer",
        ),
    ],
)
def test_the_probe_gives_the_reason_and_the_metric_agrees(work: Workload, said: str) -> None:
    judged = ready()
    assert REGISTRY.get_sample_value("afterclick_worker_ready", {"tier": "state"}) == 1
    judged.note("state", work)
    assert judged.why_not_ready() == [said]
    assert REGISTRY.get_sample_value("afterclick_worker_ready", {"tier": "state"}) == 0
    assert REGISTRY.get_sample_value("afterclick_kafka_away", {"tier": "state"}) == bool(work.away)


def test_a_stuck_loop_is_reported_while_it_is_stuck() -> None:
    """A real loop, blocked; the answer comes from the server's thread."""
    stuck_s = 2.0
    judged = ready(LIMITS.model_copy(update={"stuck_s": stuck_s}))
    turned_enough, answered = threading.Event(), threading.Event()

    async def turn() -> None:
        while not turned_enough.is_set():
            judged.note("state", Workload())
            await asyncio.sleep(0.1)
        answered.wait(60)

    loop = threading.Thread(target=lambda: asyncio.run(turn()))
    with served(judged) as ask:
        loop.start()
        time.sleep(1.2 * stuck_s)
        assert ask("/livez") == (200, "ok\n")
        turned_enough.set()
        time.sleep(0.1 + 1.2 * stuck_s)
        status, text = ask("/livez")
        answered.set()
        loop.join()
    assert (status, text.split(" has ")[0]) == (503, "state: the event loop")


WRONG_TOKENS = (None, "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", "Bearer \xff")


def test_metrics_and_all_other_paths_need_the_token() -> None:
    with served(ready(), TOKEN) as ask:
        for path in ("/metrics", "/", "/livez/", "/readyzz"):
            for wrong in WRONG_TOKENS:
                assert ask(path, wrong) == (401, "a bearer token is needed\n")
        assert "afterclick_worker_ready" in ask("/metrics", f"Bearer {TOKEN}")[1]
    with pytest.raises(ValidationError):
        MetricsSettings(token=SecretStr("short"))


def test_probes_answer_without_a_token_but_give_no_reason(clock: list[float]) -> None:
    judged = ready()
    with served(judged, TOKEN) as ask:
        for wrong in WRONG_TOKENS:
            assert ask("/livez", wrong) == ask("/readyz?verbose", wrong) == (200, "ok\n")
            assert ask("/livez", wrong, method="POST")[0] == 405
        clock[0] += 60
        for wrong in WRONG_TOKENS:
            assert ask("/livez", wrong) == (503, "not live\n")
            assert ask("/readyz", wrong) == (503, "not ready\n")
        assert ask("/readyz", f"Bearer {TOKEN}") == (503, "state: the event loop has not turned for 60 s\n")


def test_other_paths_and_methods_do_nothing() -> None:
    with served(ready()) as ask:
        assert ask("/table/users")[0] == 404
        assert ask("/metrics", method="POST")[0] == 405


def test_a_silent_client_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes.Handler, "timeout", 0.2)
    metrics = MetricsSettings(port=free_port())
    server = probes.serve(metrics, ready())
    with socket.create_connection(("127.0.0.1", metrics.port), timeout=10) as silent:
        assert silent.recv(1) == b""
    server.shutdown()
    server.server_close()


def test_an_address_in_use_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        metrics = MetricsSettings(port=taken.getsockname()[1])
        with pytest.raises(SettingsError, match=r"^AFTERCLICK_METRICS__PORT: got .*; give each worker a port"):
            probes.serve(metrics, ready())


def test_the_default_address_is_loopback() -> None:
    assert MetricsSettings().host == "127.0.0.1"


def test_kafka_is_available_once_a_server_answers_and_not_where_one_only_listens() -> None:
    with EmbeddedKafka() as there:
        some = KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}, {there.bootstrap_servers}")
        assert asyncio.run(why_away(some)) == ""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        here = f"127.0.0.1:{mute.getsockname()[1]}"
        assert asyncio.run(why_away(KafkaSettings(bootstrap_servers=here))) == f"no server of {here} answers"
    assert asyncio.run(why_away(KafkaSettings(bootstrap_servers=here))) == f"no server of {here} answers"
