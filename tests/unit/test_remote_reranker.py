"""A reranker on a server: both contracts, what is sent, every way to fail, and what becomes of the lists."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import generate_latest
from pydantic import SecretStr, ValidationError

from encoders.models.source import ModelNotFound, ModelUnsupported
from ranker.features import NAMES
from ranker.load import load_scorer
from ranker.score import NotScored, ScoreRequest
from streams.commands.doctor import doctor
from streams.models.client import Models
from streams.models.remote import circuit, connection, contracts, rerank_metrics
from streams.models.remote.scorer import HttpScorer
from streams.models.remote.servers import RerankServers
from streams.rank.tier import RankTier
from streams.settings import RankerSettings, RerankSettings, Settings
from tests.reranker import Dialect, RerankServer, score
from tests.unit.test_fusion import folder, head
from tests.unit.test_serving import NOW, request

TEXTS = ["Blue shoes size 42", "Wool hat", "Red tent for two", "Coffee maker", "Wool socks", "", "Hat of wool"]
CONTEXT = "Viewed Wool hat today"
PATIENCE_S = 20.0


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuit, "PAUSES_S", (0.02, 0.1))
    monkeypatch.setattr(connection, "FIRST_WAIT_S", 0.01)


@pytest.fixture
def server() -> Iterator[RerankServer]:
    with RerankServer() as running:
        yield running


def settings_of(server: RerankServer, timeout_ms: int = 10_000, **rerank: Any) -> RankerSettings:
    rerank = {"api": "tei" if server.dialect == "tei" else "jina"} | rerank
    return RankerSettings(model=server.url, timeout_ms=timeout_ms, rerank=RerankSettings(**rerank))


def outcome(name: str, of: str) -> float:
    return float(rerank_metrics.requests.labels(name, of)._value.get())


@pytest.mark.parametrize("dialect", ["jina", "sglang", "tei"])
def test_scores_are_the_servers_whatever_it_speaks_and_however_they_are_split(dialect: Dialect) -> None:
    contexts = [CONTEXT, "Bought Coffee maker", "Viewed Red tent for two"] * 4
    with RerankServer(dialect, token="s3cret", largest=3) as server:
        server.delay_s = 0.01
        settings = settings_of(server, token=SecretStr("s3cret"), model="some/model", max_texts=3, max_requests=5)
        with closing(HttpScorer(server.url, settings)) as scorer:
            got = scorer.score([*(ScoreRequest(context, TEXTS) for context in contexts), ScoreRequest("Hat", [])])
            assert scorer.score([]) == []
    for context, scores in zip(contexts, got, strict=False):
        assert scores.tolist() == pytest.approx([score(context, text) for text in TEXTS])
    assert len(got) == len(contexts) + 1
    assert scorer.name == f"{server.host}/some/model"
    assert 2 <= server.most <= 5
    assert {body.get("model") for body in server.bodies} == {None if dialect == "tei" else "some/model"}
    assert "s3cret" not in generate_latest().decode() + repr(settings)


@pytest.mark.parametrize(("dialect", "api", "right"), [("jina", "tei", "jina"), ("tei", "jina", "tei")])
def test_a_server_with_the_other_contract_is_named(dialect: Dialect, api: str, right: str) -> None:
    with RerankServer(dialect) as server, pytest.raises(ModelUnsupported, match=f"RERANK__API to {right}"):
        HttpScorer(server.url, settings_of(server, api=api))


def test_a_server_that_will_never_rank_is_refused_with_what_to_do(server: RerankServer) -> None:
    for path, token, expected in (
        ("", None, "a request without a token.*RERANK__TOKEN"),
        ("", SecretStr("wr0ng"), "for our token.*RERANK__TOKEN"),
        ("/v3/rank", SecretStr("right"), None),
        ("/v3/rerank", SecretStr("right"), None),
    ):
        server.token = "right"
        settings = settings_of(server, token=token)
        if expected:
            with pytest.raises(ModelUnsupported, match=expected) as refused:
                HttpScorer(server.url + path, settings)
            assert "wr0ng" not in str(refused.value)
        else:
            HttpScorer(server.url + path, settings).close()
    server.largest = 8
    with pytest.raises(ModelUnsupported, match=r"lower .*MAX_TEXTS.*batch size 32 > maximum allowed batch size 8"):
        HttpScorer(server.url, settings)
    server.statuses.extend([404])
    with pytest.raises(ModelUnsupported, match=r"HTTP 404.*correct the address"):
        HttpScorer(server.url, settings)


def test_a_history_that_is_too_long_keeps_its_newest_events(server: RerankServer) -> None:
    with closing(HttpScorer(server.url, settings_of(server, context_bytes=100))) as scorer:
        events = [f"Viewed Wólléñ hat {number} of a shop" for number in range(9)]
        scorer.score([ScoreRequest("\n".join(events), TEXTS), ScoreRequest("€" * 90, TEXTS)])
        sent = {body["query"] for body in server.bodies[1:]}
    assert sent == {"\n".join(events[-3:]), "€" * 33}
    assert scorer.usage.truncated_contexts == 2


def test_a_request_that_the_server_refuses_costs_one_list(
    server: RerankServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.refused = "secret taste"
    with closing(HttpScorer(server.url, settings_of(server))) as scorer:
        for _ in range(circuit.FAILURES):
            with pytest.raises(NotScored) as failed:
                scorer.score([ScoreRequest("Viewed a secret taste", TEXTS), ScoreRequest(CONTEXT, TEXTS)])
            assert failed.value.results[0] == "error"
            assert len(failed.value.results[1]) == len(TEXTS)
        assert scorer.why_away == ""
    assert "HTTP 422" in caplog.text
    assert "CONTEXT_BYTES" in caplog.text
    assert "secret taste" not in caplog.text, "the server's answer quotes the user"


def test_a_server_that_fails_for_a_moment_is_asked_again(server: RerankServer) -> None:
    with closing(HttpScorer(server.url, settings_of(server))) as scorer:
        server.statuses.extend([503, 500])
        [scores] = scorer.score([ScoreRequest(CONTEXT, TEXTS)])
        assert scores.argmax() == 1
        assert (outcome(scorer.name, "busy"), outcome(scorer.name, "failed")) == (1, 1)
        server.statuses.extend([429] * connection.TRIES)
        with pytest.raises(NotScored, match="HTTP 429"):
            scorer.score([ScoreRequest(CONTEXT, TEXTS)])
        assert scorer.why_away == ""


def test_lists_of_a_dead_server_go_out_at_once_until_it_is_back(caplog: pytest.LogCaptureFixture) -> None:
    with RerankServer() as server, closing(Models(None, settings_of(server))) as models:
        models.load()
        tier = RankTier(Settings(ranker=settings_of(server)), models.scorer)
        tier.warm_up()
        [ranked] = tier.rank([request()], NOW)
        assert (ranked.degraded, ranked.model) == (None, server.host)
        server.stop()
        lists = [list_ for _ in range(circuit.FAILURES + 1) for list_ in tier.rank([request()], NOW)]
        assert {list_.degraded for list_ in lists} == {"model-error"}
        assert rerank_metrics.circuit_open.labels(server.host)._value.get() == 1
        [why] = models.servers.away()
        assert server.host in why
        sent = outcome(server.host, "not-sent")
        tier.rank([request(f"u{number}") for number in range(100)], NOW)
        assert outcome(server.host, "not-sent") == sent + 100
        server.start()
        until_s = time.monotonic() + PATIENCE_S
        while models.servers.away() and time.monotonic() < until_s:
            time.sleep(0.01)
        [ranked] = tier.rank([request()], NOW)
        assert ranked.degraded is None
        assert rerank_metrics.circuit_open.labels(server.host)._value.get() == 0
    lines = [record.getMessage() for record in caplog.records if record.name == circuit.__name__]
    assert ["lists go out without" in line for line in lines] == [True, False], "one line when it is away, one after"
    assert "give its server the template" in caplog.text, "ours ranks too few of the evident pairs right"


def test_a_slow_server_times_out_within_the_call(server: RerankServer) -> None:
    settings = settings_of(server, timeout_ms=400)
    with closing(HttpScorer(server.url, settings)) as scorer:
        tier = RankTier(Settings(ranker=settings), scorer)
        server.delay_s = 3.0
        begun_s = time.monotonic()
        lists = tier.rank([request(f"u{number}") for number in range(5)], NOW)
        assert time.monotonic() - begun_s < server.delay_s, "its answer was not awaited"
        assert {list_.degraded for list_ in lists} == {"model-timeout"}
        assert scorer.why_away, "five in a row"


def test_a_worker_starts_while_its_server_is_away_and_a_command_does_not() -> None:
    server = RerankServer()
    with server:
        pass
    settings = settings_of(server)
    with closing(Models(None, settings)) as models:
        models.load()
        tier = RankTier(Settings(ranker=settings), models.scorer)
        tier.warm_up()
        [list_] = tier.rank([request()], NOW)
        assert list_.degraded == "model-error"
        with server:
            until_s = time.monotonic() + PATIENCE_S
            while tier.rank([request()], NOW)[0].degraded and time.monotonic() < until_s:
                time.sleep(0.01)
            assert tier.rank([request()], NOW)[0].degraded is None
            assert doctor._ranker(settings, settings.model).ok
    found = doctor._ranker(settings, settings.model)
    assert (found.ok, "got no answer" in found.found) == (False, True)
    servers = RerankServers(settings, must_answer=True)
    with closing(servers), pytest.raises(ModelNotFound, match="got no answer"):
        load_scorer(settings.model, connect=servers)


def test_a_server_can_be_the_base_of_a_fusion_head_if_the_settings_name_it(
    server: RerankServer, tmp_path: Path
) -> None:
    fused = folder(tmp_path / "shop", server.url)
    named = RankerSettings(model=str(fused), rerank=RerankSettings(hosts=(server.host,)))
    with (
        closing(RerankServers(RankerSettings(model=str(fused)))) as servers,
        pytest.raises(ModelUnsupported, match="HOSTS"),
    ):
        load_scorer(str(fused), connect=servers)
    assert not server.bodies, "nothing was sent there"
    with closing(Models(None, named)) as models:
        models.load()
        assert models.scorer is not None
        assert models.scorer.name.startswith("shop@")
        features = np.random.default_rng(1).normal(size=(len(TEXTS), len(NAMES))).astype(np.float16)
        asked = [ScoreRequest(CONTEXT, TEXTS, features=features), ScoreRequest("Viewed the other", TEXTS)]
        [scores, without] = models.scorer.score(asked)
        plain = np.array([score(CONTEXT, text) for text in TEXTS], np.float32)
        np.testing.assert_allclose(scores, head(1)(plain, features), rtol=1e-5)
        server.refused = "the other"
        with pytest.raises(NotScored) as failed:
            models.scorer.score(asked)
        np.testing.assert_array_equal(failed.value.results[0], scores)
        assert failed.value.results[1] == "error"
        assert len(without) == len(TEXTS)


def test_where_a_model_must_be_loaded_an_address_is_refused() -> None:
    with pytest.raises(ModelUnsupported, match="expected a model that is loaded here"):
        load_scorer("https://rerank.example.com")


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({"model": "https://me:hunter2@host/rerank"}, "ranker.rerank.token"),
        ({"challenger": "https://host/rerank?key=hunter2"}, "without \\? and #"),
        ({"model": "ftp://host"}, "http://host:port or https://host"),
        ({"rerank": {"token": "hunter2\n"}}, "ASCII without white space"),
    ],
)
def test_wrong_settings_are_refused_without_a_secret(setting: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected) as refused:
        RankerSettings(**setting)
    assert "hunter2" not in str(refused.value)


ANSWERS = st.recursive(
    st.none() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["results", "index", "score", "relevance_score"]), inner, max_size=3)
    ),
)


@example([{"index": 1, "score": 1e300}, {"index": 0, "score": -3}], "tei")
@example([{"index": 1, "score": 0.5}, {"index": 1, "score": -3}], "jina")
@given(ANSWERS, st.sampled_from(["jina", "tei"]))
def test_any_other_answer_is_an_error_and_never_a_wrong_score(answer: object, api: contracts.Api) -> None:
    content = json.dumps(answer).encode()
    try:
        found = contracts.scores(api, content, 2)
    except ValueError:
        return
    assert np.isfinite(found).all()
    rows = answer["results"] if isinstance(answer, dict) else answer
    assert isinstance(rows, list)
    assert sorted(row["index"] for row in rows) == [0, 1]
