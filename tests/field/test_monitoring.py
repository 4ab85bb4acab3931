"""A real Prometheus, with the configuration, rules and alerts that we ship, scrapes a real worker that has traffic."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from streams.kafka.client import partition_of
from streams.settings import HttpSettings, KafkaSettings, MetricsSettings, RedisSettings, Settings, TablesSettings
from streams.testing.embedded import PARTITIONS, EmbeddedKafka, EmbeddedRedis, free_port
from streams.testing.worker_process import WorkerProcess, worker
from tests.client import ITEMS, Client, now_ms, until, version
from tests.monitoring import PROMETHEUS, dashboard_expressions, rule_expressions, rules, selectors

SCRAPE_S = 1
EMPTY = {"Lag B", "Rejected messages A", "Wasted and saved work B"}
"""Targets of the dashboard that show nothing on a good day: no transaction is left open, nothing is rejected, and the
default model has no contexts to keep."""


class Prometheus:
    """A running Prometheus, asked by its HTTP API."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1/"
        self._http = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(self, path: str, **parameters: str) -> Any:
        url = f"{self._url}{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with self._http.open(url, timeout=10) as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            pytest.fail(f"{parameters}: {error.read().decode()}")

    def query(self, expression: str) -> list[dict[str, Any]]:
        result: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return result

    def value(self, expression: str) -> float | None:
        """The value of the only series; None if there is none."""
        series = self.query(expression)
        assert len(series) <= 1, series
        return float(series[0]["value"][1]) if series else None

    def is_up(self) -> bool:
        try:
            with self._http.open(self._url.replace("/api/v1/", "/-/ready"), timeout=10):
                return True
        except OSError:
            return False

    def alerts(self) -> set[tuple[str, str]]:
        """The alerts that are pending or firing: name and state."""
        return {(alert["labels"]["alertname"], alert["state"]) for alert in self.ask("alerts")["alerts"]}


@contextmanager
def prometheus(targets: list[str], folder: Path) -> Iterator[Prometheus]:
    """Run a Prometheus with our configuration, on other targets and at a faster pace."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("no Prometheus: needs Debian's package prometheus, or another Prometheus on PATH")
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] = {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"}
    config["rule_files"] = [str(PROMETHEUS / name) for name in config["rule_files"]]
    (job,) = config["scrape_configs"]
    del job["dns_sd_configs"]
    job["static_configs"] = [{"targets": targets}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    port = free_port()
    command = [program, "--config.file", str(folder / "prometheus.yml"), "--storage.tsdb.path", str(folder / "tsdb")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
    try:
        running = Prometheus(port)
        until(running.is_up)
        yield running
    finally:
        process.terminate()
        process.wait(10)


def settings_of(kafka: EmbeddedKafka, redis: EmbeddedRedis, folder: Path) -> Settings:
    return Settings(
        topic_prefix="shop.",
        kafka=KafkaSettings(bootstrap_servers=kafka.bootstrap_servers, partitions=PARTITIONS, create_topics=False),
        redis=RedisSettings.model_validate({"url": redis.url}),
        tables=TablesSettings(data_dir=folder / "data"),
        metrics=MetricsSettings(port=free_port()),
        http=HttpSettings(port=free_port(), rerank=False),
    )


def good_traffic(client: Client, running: WorkerProcess) -> None:
    """What a shop sends on a good day: all is accepted, and a user clicks on what the list showed."""
    client.items()
    until(lambda: running.total("afterclick_catalogue_items") == len(ITEMS))
    for number in (0, 5, 10):
        for user in ("ann", "ben", "cleo"):
            client.click(user, f"item-{number}")
    client.flush()
    until(lambda: version(client, "ann", 3))
    cached = client.cached("ann")
    list_id, item_id = cached["list_id"], cached["items"][1]["item_id"]
    client.produce(
        "impressions",
        "ann",
        {"event_id": "i", "user_id": "ann", "list_id": list_id, "items": [item_id], "timestamp": now_ms()},
    )
    client.click("ann", item_id, list_id=list_id)
    client.click("ben", "item-15", topic="purchases", price="9.5", quantity=1, currency="EUR")  # a price as text
    client.click("dan", "item-20", partition=(partition_of(b"dan", PARTITIONS) + 1) % PARTITIONS)
    repeated = client.click("cleo", "item-25")
    client.click("cleo", "item-25", event_id=repeated)
    upstream = {
        "request_id": "r",
        "user_id": "eve",
        "as_of": now_ms(),
        "history": [],
        "candidates": [{"item_id": "item-7", "text": "Reading lamp"}],
    }
    client.produce("rank-requests", "eve", upstream | {"a_field_of_their_own": 1})
    client.produce("forget", "cleo", {"user_id": "cleo", "timestamp": now_ms()})
    client.flush()
    until(lambda: version(client, "ann", 4) and version(client, "ben", 4) and version(client, "dan", 1))
    until(lambda: client.cached("eve"))
    until(lambda: running.total("afterclick_feedback_total") == 1)


def bad_traffic(client: Client, running: WorkerProcess) -> None:
    """A message that is rejected, on every topic that may reject one."""
    for topic in ("clicks", "purchases", "impressions", "items", "forget", "rank-requests"):
        client.produce(topic, "key", b"{not json")
        client.produce(topic, "key", b"[]")
    client.produce("items", "unknown", None)
    client.flush()
    until(lambda: running.total("afterclick_dead_letters_total") == 12)


def http(settings: Settings, path: str, body: bytes | None = None) -> bytes:
    """Send a request to the HTTP process that runs beside the worker."""
    url = f"http://127.0.0.1:{settings.http.port}{path}"
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
        content: bytes = answer.read()
    return content


def shown(running: WorkerProcess, settings: Settings) -> list[Metric]:
    """What both processes show."""
    texts = running.get("/metrics")[1], http(settings, "/metrics").decode()
    return [family for text in texts for family in text_string_to_metric_families(text)]


def counted(families: list[Metric]) -> set[str]:
    """Every series of our counters and histograms: name and labels."""
    return {
        f"{sample.name}{sorted(sample.labels.items())}"
        for family in families
        if family.type in ("counter", "histogram") and family.name.startswith("afterclick_")
        for sample in family.samples
    }


def test_prometheus_watches_a_worker_through_good_and_bad_days(tmp_path: Path) -> None:
    with ExitStack() as servers:
        kafka_away = ExitStack()
        servers.enter_context(kafka_away)
        settings = settings_of(
            kafka_away.enter_context(EmbeddedKafka()), servers.enter_context(EmbeddedRedis()), tmp_path
        )
        running = servers.enter_context(worker(settings))
        watch = servers.enter_context(
            prometheus([f"127.0.0.1:{port}" for port in (settings.metrics.port, settings.http.port)], tmp_path)
        )
        running.wait_ready()
        client = Client(settings)
        until(lambda: watch.value("sum(up)") == 2)
        until(lambda: watch.query("afterclick_lists_degraded_total"))
        at_start = counted(shown(running, settings))
        good_traffic(client, running)
        http(settings, "/v1/recommendations/ann")
        event = {"type": "click", "event_id": "h", "user_id": "ann", "item_id": "item-3", "timestamp": now_ms()}
        http(settings, "/v1/events", json.dumps({"events": [event, {"type": "click"}]}).encode())
        check_recorded_and_shown(watch)
        assert {alert for alert in watch.alerts() if alert[1] == "firing"} == set()
        bad_traffic(client, running)
        families = shown(running, settings)
        assert counted(families) - at_start == set(), "counters and histograms that were not there at 0"
        check_every_name(families)
        until(lambda: ("AfterclickDeadLetters", "firing") in watch.alerts())
        assert {name for name, state in watch.alerts() if state == "firing"} == {"AfterclickDeadLetters"}
        letters = "job_topic_reason:afterclick_dead_letters:increase_10m > 0"
        until(lambda: len(watch.query(letters)) == 12)
        del client
        kafka_away.close()
        until(lambda: watch.value("max(afterclick_kafka_away)") == 1, 60)
        until(lambda: ("AfterclickKafkaAway", "pending") in watch.alerts())
        running.kill()
        until(lambda: ("AfterclickDown", "pending") in watch.alerts())


def check_recorded_and_shown(watch: Prometheus) -> None:
    """Each recording rule has values, and so has each panel."""
    until(lambda: all(watch.query(rule["record"]) for rule in rules("rules.yml")))
    missing = {expression for expression in dashboard_expressions() if expression.where not in EMPTY}

    def is_complete() -> bool:
        missing.difference_update([expression for expression in missing if watch.query(expression.text)])
        return not missing

    try:
        until(is_complete, 20)
    except AssertionError:
        pytest.fail(f"panels without a value: {sorted(expression.where for expression in missing)}")
    for expression in (*dashboard_expressions(), *rule_expressions()):
        watch.query(expression.text)
    assert watch.value('afterclick_build_info{model=~"default@.*"}') == 1
    share = watch.value("job_model:afterclick_shown_items:coverage")
    assert share is not None
    assert 20 / len(ITEMS) <= share <= 1


def check_every_name(families: list[Metric]) -> None:
    """Each metric that an alert, a rule or a panel names is there, with its labels; twins of counters are not."""
    labels: dict[str, set[str]] = {}
    for sample in (sample for family in families for sample in family.samples):
        labels.setdefault(sample.name, set()).update(sample.labels)
    assert not [name for name in labels if name.endswith("_created")]
    missing = {
        f"{expression.where}: {metric}"
        for expression in (*rule_expressions(), *dashboard_expressions())
        for metric, matched in selectors(expression.text)
        if ":" not in metric and not (metric in labels and matched.keys() <= labels[metric] | {"job", "instance"})
    }
    assert missing == set()
