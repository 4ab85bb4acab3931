"""A worker whose reranker is on a server that is away, killed and frozen on the way: no list is lost, and none lies.

The server is one of ours. `RERANK_SERVER` in the environment adds a real one: its command line with `{model}`, a
folder, and `{port}`. For infinity (`pip install 'infinity-emb[server,torch]'`, in an environment of its own):

    infinity_emb v2 --model-id {model} --port {port} --host 127.0.0.1 --engine torch --device cpu --no-bettertransformer
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import httpx
import pytest

from streams.settings import RankerSettings, RerankSettings, Settings
from streams.testing.embedded import free_port
from streams.testing.worker_process import WorkerProcess, worker
from tests import models
from tests.client import ITEMS, Client, until
from tests.reranker import RerankServer

COMMAND = os.environ.get("RERANK_SERVER", "")
START_S = 120.0
FROZEN_S = 60.0
PATIENCE_S = 90.0
"""Probes and second attempts pause for up to 30 s."""


class Served(Protocol):
    """A server that a test starts, kills and freezes."""

    host: str

    def start(self) -> None: ...
    def kill(self) -> None: ...
    def freeze(self) -> None: ...
    def thaw(self) -> None: ...


class Ours:
    """`RerankServer`; frozen, it takes requests and does not answer."""

    def __init__(self) -> None:
        self._server = RerankServer()
        self._server.start()
        self._server.stop()
        self.host = self._server.host

    def start(self) -> None:
        self._server.start()

    def kill(self) -> None:
        self._server.stop()

    def freeze(self) -> None:
        self._server.delay_s = FROZEN_S

    def thaw(self) -> None:
        self._server.delay_s = 0.0


class Real:
    """The server of `RERANK_SERVER`, with a tiny random classifier."""

    def __init__(self, folder: Path) -> None:
        models.classifier(folder)
        config = folder / "tokenizer_config.json"
        older = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": models.BERT_POSITIONS}
        config.write_text(json.dumps(json.loads(config.read_text(encoding="utf-8")) | older), encoding="utf-8")
        port = free_port()
        self.host = f"127.0.0.1:{port}"
        self._command = shlex.split(COMMAND.format(model=folder, port=port))
        self._log = folder.parent / "server.log"

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        body = {"query": "Wool hat", "documents": ["Wool hat"]}
        until_s = time.monotonic() + START_S
        while time.monotonic() < until_s:
            with suppress(httpx.HTTPError):
                if httpx.post(f"http://{self.host}/rerank", json=body, timeout=5, trust_env=False).is_success:
                    return
            time.sleep(0.2)
        raise AssertionError(self._log.read_text(encoding="utf-8", errors="replace")[-2_000:])

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)


@pytest.fixture(params=["ours", *(["real"] if COMMAND else [])])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Served:
    return Ours() if request.param == "ours" else Real(tmp_path / "reranker")


def ranked_again(client: Client, user_id: str, model: str) -> bool:
    list_ = client.cached(user_id)
    return list_["model"] == model and list_["degraded"] is None


def degraded(client: Client, user_id: str, item_id: str) -> str:
    """Click, and wait for the first list that knows it: why it went out without the model."""
    before = len([value for key, value in client.consume("recommendations") if key == user_id])
    client.click(user_id, item_id)
    client.flush()
    lists = until(lambda: [value for key, value in client.consume("recommendations") if key == user_id][before:])
    return str(lists[0]["degraded"])


def test_lists_survive_a_server_that_is_away_killed_and_frozen(settings: Settings, server: Served) -> None:
    rerank = RerankSettings(timeout_ms=500, context_bytes=200)
    ranker = RankerSettings(model=f"http://{server.host}", timeout_ms=1_500, rerank=rerank)
    settings = settings.model_copy(update={"ranker": ranker})
    client = Client(settings)
    with worker(settings, "all") as running:
        running.wait_ready()
        assert server.host in running.get("/readyz")[1], "a person is told that the server is away"
        client.items()
        until(lambda: running.total("afterclick_catalogue_items") == len(ITEMS))
        assert degraded(client, "ann", "item-0") == "model-error"
        server.start()
        try:
            until(lambda: ranked_again(client, "ann", server.host), PATIENCE_S)
            server.kill()
            assert degraded(client, "ann", "item-5") == "model-error"
            server.start()
            until(lambda: ranked_again(client, "ann", server.host), PATIENCE_S)
            server.freeze()
            assert degraded(client, "bob", "item-1") == "model-timeout"
            server.thaw()
            until(lambda: all(ranked_again(client, user_id, server.host) for user_id in ("ann", "bob")), PATIENCE_S)
            check_metrics(running, server.host)
        finally:
            server.thaw()
            server.kill()
        assert running.stop() == 0


def check_metrics(running: WorkerProcess, model: str) -> None:
    for outcome in ("answered", "unreachable", "timeout"):
        assert running.total("afterclick_rerank_requests_total", model=model, outcome=outcome) > 0, outcome
    assert running.total("afterclick_rerank_circuit_open", model=model) == 0
    assert running.total("afterclick_rerank_seconds_count", model=model) > 0
    assert running.total("afterclick_lists_degraded_total", model=model, reason="model-error") > 0
    assert running.total("afterclick_lists_ranked_again_total") >= 2
