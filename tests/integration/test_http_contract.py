"""Schemathesis calls every route as the OpenAPI document describes it, and worse; every answer has to be described."""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path

import httpx
import msgspec
import redis
from pydantic import SecretStr

from streams.contracts import Reason, Recommendations, RecommendedItem
from streams.settings import HttpSettings, KafkaSettings, RedisSettings, Settings
from tests.client import Client, until
from tests.http_app import serving

TOLERANT = "negative_data_rejection,positive_data_acceptance"
"""Checks that do not hold: what is harmless is taken although no schema allows it, and a time has to be plausible."""
LIST = Recommendations(
    schema=2,
    list_id="l",
    user_id="u1",
    as_of=1,
    generated_at=1,
    state_version=1,
    model="m",
    trigger=None,
    degraded=None,
    items=[RecommendedItem(item_id="i", rank=1, score=0.5, sources=[], reason=Reason(text="popular"))],
)
"""Of the user whom the document gives as an example."""


def check_answers(kafka: str, redis_url: str, folder: Path, *options: str) -> None:
    """Run schemathesis against a server with all limits but the rate; fail with what it says."""
    settings = Settings(
        topic_prefix=f"c{uuid.uuid4().hex[:8]}.",
        kafka=KafkaSettings(bootstrap_servers=kafka, partitions=4),
        redis=RedisSettings(url=SecretStr(redis_url)),
        http=HttpSettings(rate_per_s=0),
    )
    Client(settings)  # creates the topics
    with redis.Redis.from_url(redis_url) as cache, serving(settings) as address:
        cache.set(f"{settings.key_prefix}{LIST.user_id}", msgspec.json.encode(LIST))
        until(lambda: httpx.get(f"{address}/readyz").text == "ok\n", 90)  # a busy machine loads models slowly
        schemathesis = Path(sys.executable).with_name("schemathesis")
        command = [
            str(schemathesis),
            "run",
            *options,
            "--seed=1",
            f"--exclude-checks={TOLERANT}",
            f"{address}/openapi.json",
        ]
        found = subprocess.run(command, capture_output=True, text=True, cwd=folder)
        assert found.returncode == 0, found.stdout + found.stderr
        seen = httpx.get(f"{address}/metrics").text
        assert 'afterclick_http_requests_total{route="/v1/recommendations/{user}",status="200"} 0.0' not in seen


def test_every_answer_is_as_the_document_says(kafka: str, redis_url: str, tmp_path: Path) -> None:
    """The boundary values of every parameter take longer: `tests/field/test_http.py`."""
    check_answers(kafka, redis_url, tmp_path, "--phases=examples,fuzzing", "--max-examples=10")
