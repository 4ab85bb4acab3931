"""Kafka with SCRAM and mutual TLS, Redis with TLS and ACLs: right and wrong credentials, no secret in any output."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from confluent_kafka import Producer
from pydantic import SecretStr

from streams.commands.doctor import doctor
from streams.kafka.client import KafkaRefuses, KafkaUnavailable
from streams.kafka.topics import ensure_topics, topic_specs
from streams.publish.list_cache import ListCache
from streams.settings import (
    KafkaSettings,
    MetricsSettings,
    RankerSettings,
    RedisSettings,
    SecuritySettings,
    Settings,
    SettingsError,
    TablesSettings,
)
from streams.testing.embedded import free_port
from streams.testing.worker_process import environment, worker
from tests.client import now_ms, until
from tests.integration import secured
from tests.integration.secured import PASSWORD, REDIS_PASSWORD, USER, Addresses, Certificates

TOKEN = "planted-bearer-token"
KEY_PASSWORD = "planted-key-password"
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
SECRETS = (PASSWORD, REDIS_PASSWORD, TOKEN, KEY_PASSWORD)


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Collect garbage here: aiokafka leaves the socket of a refused login to the garbage collector."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("secured")


@pytest.fixture(scope="module")
def certificates(folder: Path) -> Certificates:
    return Certificates.issue(folder)


@pytest.fixture(scope="module")
def addresses(kafka_home: Path, certificates: Certificates, folder: Path) -> Iterator[Addresses]:
    with secured.kafka(kafka_home, certificates, folder) as found:
        yield found


@pytest.fixture(scope="module")
def redis_port(certificates: Certificates, folder: Path) -> Iterator[int]:
    with secured.redis(certificates, folder, certificates.server) as port:
        yield port


def scram(cafile: Path, password: str = PASSWORD) -> SecuritySettings:
    login = {"sasl_username": USER, "sasl_password": SecretStr(password)}
    return SecuritySettings(protocol="SASL_SSL", ssl_cafile=cafile, ssl_key_password=SecretStr(KEY_PASSWORD), **login)


def cache(port: int, cafile: Path, login: str = f"{USER}:{REDIS_PASSWORD}", scheme: str = "rediss") -> RedisSettings:
    return RedisSettings(url=SecretStr(f"{scheme}://{login}@127.0.0.1:{port}/0?ssl_ca_certs={cafile}"))


def settings_of(folder: Path, kafka: KafkaSettings, cached: RedisSettings) -> Settings:
    return Settings(
        kafka=kafka.model_copy(update={"partitions": 2}),
        redis=cached,
        tables=TablesSettings(data_dir=folder / "data"),
        metrics=MetricsSettings(port=free_port(), token=SecretStr(TOKEN)),
        log_level="debug",
    )


def afterclick(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "streams.cli", *arguments],
        env=environment(settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_kafka_accepts_a_password_or_a_certificate(addresses: Addresses, certificates: Certificates) -> None:
    mutual = SecuritySettings(protocol="SSL", ssl_cafile=certificates.ca, ssl_certfile=certificates.client)
    for address, security in ((addresses.scram, scram(certificates.ca)), (addresses.mutual, mutual)):
        settings = Settings(kafka=KafkaSettings(bootstrap_servers=address, security=security, partitions=2))
        asyncio.run(ensure_topics(settings, topic_specs(settings)))


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("wrong password", r"got a refusal of user 'afterclick', expected .*; correct AFTERCLICK_.*SASL_PASSWORD"),
        (
            "wrong CA",
            r"not to be trusted \(unable to get local issuer certificate\), expected .*; renew it, or correct",
        ),
        ("expired certificate", r"not to be trusted \(certificate has expired\), expected .*; renew it"),
        ("no certificate", r"connection closed by the server, expected .*; check .*SSL_CERTFILE \(none\)"),
        ("a stranger's certificate", r"connection closed by the server, expected .*SSL_CERTFILE \(.*stranger.pem\)"),
        ("an expired certificate of ours", r"connection closed by the server, expected .*SSL_CERTFILE"),
        ("no TLS", r"connection closed by the server, expected an answer to PLAINTEXT; check .*PROTOCOL"),
    ],
)
def test_a_refusal_of_kafka_is_one_line_with_the_reason(
    case: str, said: str, addresses: Addresses, certificates: Certificates
) -> None:
    def mutual(own: Path | None) -> KafkaSettings:
        security = SecuritySettings(protocol="SSL", ssl_cafile=certificates.ca, ssl_certfile=own)
        return KafkaSettings(bootstrap_servers=addresses.mutual, security=security)

    kafka = {
        "wrong password": KafkaSettings(bootstrap_servers=addresses.scram, security=scram(certificates.ca, "wrong")),
        "wrong CA": KafkaSettings(bootstrap_servers=addresses.scram, security=scram(certificates.another_ca)),
        "expired certificate": KafkaSettings(bootstrap_servers=addresses.expired, security=scram(certificates.ca)),
        "no certificate": mutual(None),
        "a stranger's certificate": mutual(certificates.strangers),
        "an expired certificate of ours": mutual(certificates.expired),
        "no TLS": KafkaSettings(bootstrap_servers=addresses.scram),
    }[case]
    settings = Settings(kafka=kafka)
    with pytest.raises(KafkaUnavailable if case == "no TLS" else KafkaRefuses, match=said) as refused:
        asyncio.run(ensure_topics(settings, topic_specs(settings)))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("wrong password", r"got a refusal of the login .*; correct AFTERCLICK_REDIS__URL"),
        ("no permission", r"got no permission .*; correct the user's ACL"),
        ("wrong CA", r"not to be trusted \(self-signed certificate in certificate chain\), expected .*ssl_ca_certs"),
        ("expired certificate", r"not to be trusted \(certificate has expired\), expected .*; renew it"),
    ],
)
def test_a_refusal_of_redis_is_one_line_with_the_reason(
    case: str, said: str, redis_port: int, certificates: Certificates, folder: Path
) -> None:
    with secured.redis(certificates, folder, certificates.expired) as expired_port:
        refused = {
            "wrong password": cache(redis_port, certificates.ca, f"{USER}:wrong"),
            "no permission": cache(redis_port, certificates.ca, f"guest:{REDIS_PASSWORD}"),
            "wrong CA": cache(redis_port, certificates.another_ca),
            "expired certificate": cache(expired_port, certificates.ca),
        }[case]
        with pytest.raises(SettingsError, match=said) as error:
            asyncio.run(checked(refused))
    assert "\n" not in str(error.value)
    assert REDIS_PASSWORD not in str(error.value)


def test_a_redis_with_tls_needs_a_tls_url(redis_port: int, certificates: Certificates) -> None:
    plain = RedisSettings(url=SecretStr(f"redis://{USER}:{REDIS_PASSWORD}@127.0.0.1:{redis_port}/0"))
    with pytest.raises(
        SettingsError, match=r"expected one; in AFTERCLICK_REDIS__URL write rediss:// \(the server has TLS"
    ):
        asyncio.run(checked(plain))
    asyncio.run(checked(cache(redis_port, certificates.ca)))


async def checked(settings: RedisSettings) -> None:
    opened = ListCache(Settings(redis=settings))
    try:
        await opened.check()
    finally:
        await opened.close()


def test_the_commands_end_with_that_line_and_an_exit_status(
    addresses: Addresses, certificates: Certificates, redis_port: int, tmp_path: Path
) -> None:
    right = KafkaSettings(bootstrap_servers=addresses.scram, security=scram(certificates.ca))
    wrong = KafkaSettings(bootstrap_servers=addresses.scram, security=scram(certificates.ca, "wrong"))
    locked_out = settings_of(tmp_path, wrong, cache(redis_port, certificates.ca)).model_copy(
        update={"log_level": "info"}
    )
    ended = afterclick(locked_out, "worker")
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith("afterclick: Kafka at 127.0.0.1")
    assert "Traceback" not in ended.stderr
    no_cache = settings_of(tmp_path, right, cache(redis_port, certificates.ca, f"{USER}:wrong"))
    ended = afterclick(no_cache, "worker", "--role", "rank")
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith("afterclick: Redis: got a refusal of the login")
    checks = {check.name.split()[0]: check for check in asyncio.run(doctor.examine(no_cache))}
    assert (checks["Kafka"].ok, checks["Redis"].ok) == (True, False)
    ended = afterclick(locked_out.model_copy(update={"ranker": RankerSettings(model="none")}), "doctor", "--json")
    assert ended.returncode == 1
    assert not any(check["ok"] for check in json.loads(ended.stdout) if check["name"].startswith("Kafka"))
    found = ended.stdout + ended.stderr + repr(checks)
    assert not [secret for secret in SECRETS if secret in found]


def test_a_worker_runs_with_credentials_and_shows_no_secret_in_log_or_metrics(
    addresses: Addresses, certificates: Certificates, redis_port: int, tmp_path: Path
) -> None:
    """At log level debug, with a secret in every setting that takes one."""
    kafka = KafkaSettings(bootstrap_servers=addresses.scram, security=scram(certificates.ca))
    settings = settings_of(tmp_path, kafka, cache(redis_port, certificates.ca))
    with worker(settings) as running:
        until(lambda: ask(settings, "/readyz", TOKEN).startswith("ok"), 120)
        producer = Producer(
            {
                "bootstrap.servers": addresses.scram,
                "security.protocol": "SASL_SSL",
                "sasl.mechanism": "SCRAM-SHA-512",
                "sasl.username": USER,
                "sasl.password": PASSWORD,
                "ssl.ca.location": str(certificates.ca),
            }
        )
        producer.produce("items", json.dumps({"item_id": "i1", "title": "A tent"}), "i1")
        click = {"event_id": "e1", "user_id": "planted-user", "item_id": "i1", "timestamp": now_ms()}
        producer.produce("clicks", json.dumps(click), "planted-user")
        producer.produce("clicks", b'{"user_id": "planted-user"', "planted-user")
        assert producer.flush(20) == 0
        with redis.Redis.from_url(settings.redis.url.get_secret_value()) as lists:
            until(lambda: lists.get("afterclick:list:planted-user"))
        until(lambda: 'reason="malformed",topic="clicks"} 1.0' in ask(settings, "/metrics", TOKEN))
        told = ask(settings, "/metrics", TOKEN) + ask(settings, "/livez", TOKEN)
        assert ask(settings, "/metrics", "none") == ""
        assert ask(settings, "/livez", "none") == "ok\n"
        assert running.stop() == 0
    log = running.log.read_text()
    assert " DEBUG " in log
    assert not [secret for secret in (*SECRETS, "planted-user") if secret in told]
    assert not [secret for secret in SECRETS if secret in log]


def ask(settings: Settings, path: str, token: str) -> str:
    """Return what the worker answers over HTTP; nothing while it does not answer, or refuses."""
    url = f"http://127.0.0.1:{settings.metrics.port}{path}"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
            text: str = answer.read().decode()
    except OSError:
        return ""
    return text
