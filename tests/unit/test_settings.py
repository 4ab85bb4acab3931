"""Settings: the defaults work, the environment wins over TOML, and each wrong setting is one line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from streams import settings
from streams.settings import SettingsError, load
from streams.testing.worker_process import environment


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith(settings.PREFIX):
            monkeypatch.delenv(name)


def wrong(monkeypatch: pytest.MonkeyPatch, config: Path | None = None, **environment: str) -> list[str]:
    """Load with this environment, expect an error, and return its lines."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        settings.load(config)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return str(caught.value).splitlines()


def toml(folder: Path, text: str) -> Path:
    path = folder / "shop.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_need_nothing() -> None:
    loaded = settings.load()
    assert loaded.kafka.bootstrap_servers == "127.0.0.1:9092"
    assert loaded.topic("clicks") == "clicks"


def test_environment_reaches_every_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERCLICK_TOPIC_PREFIX", "shop.")
    monkeypatch.setenv("AFTERCLICK_KAFKA__PARTITIONS", "4")
    monkeypatch.setenv("AFTERCLICK_KAFKA__SECURITY__SSL_CAFILE", "/etc/ca.pem")
    monkeypatch.setenv("AFTERCLICK_REDIS__URL", "rediss://:hunter2@cache:6380/1")
    loaded = settings.load()
    assert loaded.topic("clicks") == "shop.clicks"
    assert loaded.kafka.partitions == 4
    assert loaded.kafka.replication_factor == 1
    assert loaded.kafka.security.ssl_cafile == Path("/etc/ca.pem")
    assert loaded.redis.url.get_secret_value() == "rediss://:hunter2@cache:6380/1"


@pytest.mark.parametrize(
    ("given", "servers"),
    [
        ("kafka:9092,", [("kafka", 9092)]),
        (" a:1 ,, b.c-d_e:65535\n", [("a", 1), ("b.c-d_e", 65535)]),
        ("[::1]:9092", [("::1", 9092)]),
        ("[fe80::1%eth0]:9,127.0.0.1:8", [("fe80::1%eth0", 9), ("127.0.0.1", 8)]),
    ],
)
def test_addresses_are_read_once_for_every_client(
    monkeypatch: pytest.MonkeyPatch, given: str, servers: list[tuple[str, int]]
) -> None:
    monkeypatch.setenv("AFTERCLICK_KAFKA__BOOTSTRAP_SERVERS", given)
    kafka = settings.load().kafka
    assert list(kafka.servers) == servers
    assert [host.strip("[]") for host, _, _ in (a.rpartition(":") for a in kafka.bootstrap_servers.split(","))] == [
        host for host, _ in servers
    ]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("kafka", "host:port, such as kafka:9092, not 'kafka'"),
        ("kafka:", "host:port"),
        (":9092", "host:port"),
        (" , ", "host:port"),
        ("127.0.0.1:99999", "a port from 1 to 65535, not the '99999'"),
        ("kafka:0", "a port from 1 to 65535"),
        ("kafka:9092x", "a port from 1 to 65535"),
        ("kafka:٩٠٩٢", "a port from 1 to 65535"),
        ("kafka:-1", "a port from 1 to 65535"),
        ("http://kafka:9092", "without a scheme"),
        ("PLAINTEXT://kafka:9092", "without a scheme"),
        ("a:1;b:2", "separate servers with commas"),
        ("a:1 b:2", "separate servers with commas"),
        ("::1:9092", "put an IPv6 address in brackets"),
        ("user@kafka:9092", "a host name or an address"),
        ("kafka:9092/path", "a port from 1 to 65535"),
    ],
)
def test_an_address_that_clients_would_read_differently_is_refused(
    monkeypatch: pytest.MonkeyPatch, given: str, said: str
) -> None:
    (line,) = wrong(monkeypatch, AFTERCLICK_KAFKA__BOOTSTRAP_SERVERS=given)
    assert line.startswith("AFTERCLICK_KAFKA__BOOTSTRAP_SERVERS: got ")
    assert said in line


def test_a_list_is_written_with_commas(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AFTERCLICK_CANDIDATES__SOURCES", "nearest, shop.sources:Editors")
    assert settings.load().candidates.sources == ("nearest", "shop.sources:Editors")
    monkeypatch.delenv("AFTERCLICK_CANDIDATES__SOURCES")
    config = toml(tmp_path, "[candidates]\nsources = ['newest']\n")
    assert settings.load(config).candidates.sources == ("newest",)


def test_settings_given_as_variables_are_the_same_again(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = settings.Settings(
        topic_prefix="shop.",
        kafka=settings.KafkaSettings(partitions=3, create_topics=False, instance_id="w1"),
        redis=settings.RedisSettings(url=SecretStr("redis://:hunter2@cache")),
    )
    for name, value in environment(changed).items():
        monkeypatch.setenv(name, value)
    assert settings.load() == changed


def test_environment_wins_over_toml(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AFTERCLICK_KAFKA__PARTITIONS", "4")
    config = toml(tmp_path, "topic_prefix = 'shop.'\n[kafka]\npartitions = 6\nreplication_factor = 3\n")
    loaded = settings.load(config)
    assert (loaded.kafka.partitions, loaded.kafka.replication_factor) == (4, 3)
    assert loaded.topic_prefix == "shop."
    assert settings.load().topic_prefix == "", "the file of one call is forgotten by the next"


def test_a_wrong_value_says_what_got_expected_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    assert wrong(monkeypatch, AFTERCLICK_RANKER__BATCH_LISTS="-5") == [
        "AFTERCLICK_RANKER__BATCH_LISTS: got '-5', expected greater than or equal to 1; correct it, or unset it for 32"
    ]


def test_each_wrong_value_has_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = wrong(
        monkeypatch,
        AFTERCLICK_KAFKA__PARTITIONS="many",
        AFTERCLICK_METRICS__PORT="70000",
        AFTERCLICK_LOG_LEVEL="loud",
    )
    assert [line.split(":")[0] for line in lines] == [
        "AFTERCLICK_KAFKA__PARTITIONS",
        "AFTERCLICK_METRICS__PORT",
        "AFTERCLICK_LOG_LEVEL",
    ]


def test_checks_over_two_fields_name_the_field(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = wrong(monkeypatch, AFTERCLICK_KAFKA__SESSION_TIMEOUT_S="3")
    assert line.startswith("AFTERCLICK_KAFKA__HEARTBEAT_S: got 2.0, expected at most a third of session_timeout_s")


def test_a_login_needs_name_and_password(monkeypatch: pytest.MonkeyPatch) -> None:
    assert wrong(monkeypatch, AFTERCLICK_KAFKA__SECURITY__PROTOCOL="SASL_SSL") == [
        f"AFTERCLICK_KAFKA__SECURITY__{name}: got nothing, "
        "expected a value, because a login with SCRAM-SHA-512 over SASL_SSL needs it; set it"
        for name in ("SASL_USERNAME", "SASL_PASSWORD")
    ]


def test_a_token_provider_takes_the_place_of_name_and_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERCLICK_KAFKA__SECURITY__PROTOCOL", "sasl_ssl")
    (line,) = wrong(monkeypatch, AFTERCLICK_KAFKA__SECURITY__SASL_MECHANISM="oauthbearer")
    assert line.startswith("AFTERCLICK_KAFKA__SECURITY__TOKEN_PROVIDER: got nothing, expected module:callable")
    monkeypatch.setenv("AFTERCLICK_KAFKA__SECURITY__TOKEN_PROVIDER", "shop.tokens:token")
    security = settings.load().kafka.security
    assert (security.protocol, security.sasl_mechanism, security.sasl_username) == ("SASL_SSL", "OAUTHBEARER", None)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("AWS_MSK_IAM", "expected OAUTHBEARER, with AFTERCLICK_KAFKA__SECURITY__TOKEN_PROVIDER; "),
        ("GSSAPI", "got 'GSSAPI', expected 'PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512' or 'OAUTHBEARER'; "),
    ],
)
def test_an_unknown_mechanism_is_refused_with_the_known_ones(
    monkeypatch: pytest.MonkeyPatch, given: str, said: str
) -> None:
    (line,) = wrong(monkeypatch, AFTERCLICK_KAFKA__SECURITY__SASL_MECHANISM=given)
    assert said in line


def test_minus_one_is_the_replication_of_the_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERCLICK_KAFKA__REPLICATION_FACTOR", "-1")
    assert settings.load().kafka.replication_factor == -1
    for value in ("0", "-2"):
        (line,) = wrong(monkeypatch, AFTERCLICK_KAFKA__REPLICATION_FACTOR=value)
        assert f"got '{value}', expected 1 or more, or -1 for the broker's default" in line


SERVICE_LINKS = {
    "PORT": "tcp://10.0.0.1:9464",
    "SERVICE_HOST": "10.0.0.1",
    "SERVICE_PORT": "9464",
    "SERVICE_PORT_METRICS": "9464",
    "SERVICE_PORT_HTTP_2": "9464",
    "PORT_9464_TCP": "tcp://10.0.0.1:9464",
    "PORT_9464_TCP_ADDR": "10.0.0.1",
    "PORT_9464_TCP_PORT": "9464",
    "PORT_9464_TCP_PROTO": "tcp",
    "PORT_53_UDP": "udp://10.0.0.1:53",
    "PORT_7_SCTP_PROTO": "sctp",
    "NAME": "/shop/afterclick",
    "ENV_PATH": "/usr/bin",
    "ENV_AFTERCLICK_KAFKA__PARTITIONS": "4",
}


@pytest.mark.parametrize("service", ["", "RANK_", "KAFKA_", "METRICS_", "KAFKA__X_", "_RANK_", "SERVICE_HOST_"])
def test_variables_that_an_orchestrator_makes_for_services_are_no_settings(
    monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    for name, value in SERVICE_LINKS.items():
        monkeypatch.setenv(f"AFTERCLICK_{service}{name}", value)
    monkeypatch.setenv("AFTERCLICK_KAFKA__PARTITIONS", "3")
    assert settings.load().kafka.partitions == 3
    assert len(settings.service_links()) == len(SERVICE_LINKS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AFTERCLICK_METRICS_PORT", "9464"),
        ("AFTERCLICK_PORT", "9464"),
        ("AFTERCLICK_NAME", "shop"),
        ("AFTERCLICK_SERVICE", "x"),
        ("AFTERCLICK_KAFKA_SERVICE_HOSTS", "x"),
        ("AFTERCLICK_", "x"),
    ],
)
def test_a_typo_that_resembles_a_service_link_still_stops(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    (line,) = wrong(monkeypatch, None, **{name: value})
    assert line.startswith(f"{name}: got a setting that does not exist")


def test_a_setting_is_never_taken_for_a_service_link(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = wrong(monkeypatch, AFTERCLICK_METRICS__PORT="tcp://10.0.0.1:9464")
    assert line.startswith("AFTERCLICK_METRICS__PORT: got 'tcp://10.0.0.1:9464', expected a valid integer")


@pytest.mark.parametrize(
    ("name", "otherwise"),
    [
        ("KAFKA__PARTITIONS", "unset it for 8"),
        ("KAFKA__INSTANCE_ID", "unset it for None"),
        ("METRICS__TOKEN", "set it, or unset it"),
        ("REDIS__URL", "set it, or unset it"),
        ("KAFKA__SECURITY__SSL_CAFILE", "unset it for None"),
    ],
)
@pytest.mark.parametrize("value", ["", " ", "\n"])
def test_an_empty_value_of_a_template_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, otherwise: str, value: str
) -> None:
    lines = wrong(monkeypatch, None, **{f"AFTERCLICK_{name}": value})
    assert lines == [f"AFTERCLICK_{name}: got an empty value, expected one; {otherwise}"]


def test_an_empty_prefix_is_a_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERCLICK_TOPIC_PREFIX", "")
    assert settings.load().topic("clicks") == "clicks"


def test_the_line_feed_of_a_file_is_removed_from_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "LOG_LEVEL": "INFO",
        "TOPIC_PREFIX": "shop.",
        "KAFKA__PARTITIONS": "4",
        "KAFKA__CREATE_TOPICS": "false",
        "KAFKA__SECURITY__PROTOCOL": "SSL",
        "KAFKA__SECURITY__SSL_CAFILE": "/etc/ca.pem",
        "METRICS__TOKEN": "a-token-of-some-length",
        "KAFKA__SECURITY__SASL_PASSWORD": "pw",
    }.items():
        monkeypatch.setenv(f"AFTERCLICK_{name}", f"{value}\n")
    loaded = settings.load()
    assert (loaded.log_level, loaded.topic_prefix, loaded.kafka.partitions) == ("info", "shop.", 4)
    assert (loaded.kafka.create_topics, loaded.kafka.security.protocol) == (False, "SSL")
    assert loaded.kafka.security.ssl_cafile == Path("/etc/ca.pem")
    assert loaded.metrics.token == SecretStr("a-token-of-some-length"), "Prometheus reads its file like this"
    assert loaded.kafka.security.sasl_password == SecretStr("pw\n"), "a password may end so; the refusal says it"


def test_a_key_with_white_space_at_its_ends_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = wrong(monkeypatch, AFTERCLICK_PSEUDONYM_KEY="a-key-of-some-length\n")
    assert line.startswith("AFTERCLICK_PSEUDONYM_KEY: got a value not shown, expected no white space at its ends")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("AFTERCLICK_REDIS_URL", "AFTERCLICK_REDIS__URL"),
        ("AFTERCLICK_KAFKA__BOOTSTRAP_SERVER", "AFTERCLICK_KAFKA__BOOTSTRAP_SERVERS"),
        ("AFTERCLICK_METRICS", "AFTERCLICK_METRICS__HOST"),
        ("afterclick_topic_prefx", "AFTERCLICK_TOPIC_PREFIX"),
    ],
)
def test_an_unknown_variable_is_an_error_with_a_suggestion(
    monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    monkeypatch.setenv(name, "s3cret")
    (line,) = wrong(monkeypatch)
    assert line.startswith(f"{name.upper()}: got a setting that does not exist")
    assert meant in line
    assert "s3cret" not in line


def test_problems_of_the_file_name_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = toml(tmp_path, "[kafka]\npartitons = 3\nreplication_factor = 0\n")
    lines = wrong(monkeypatch, config)
    assert all(line.startswith(f"{config}: kafka.") for line in lines), "as the file spells them"
    assert "kafka.partitions; rename" in "".join(lines)
    assert len(lines) == 2


def test_invalid_toml_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (line,) = wrong(monkeypatch, toml(tmp_path, "kafka = ["))
    assert "expected TOML" in line
    (line,) = wrong(monkeypatch, tmp_path / "none.toml")
    assert line.startswith("--config: got")


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = wrong(monkeypatch, AFTERCLICK_REDIS__URL="http://:hunter2@cache")
    assert "hunter2" not in line
    assert "redis://" in line
    monkeypatch.setenv("AFTERCLICK_REDIS__URL", "redis://:hunter2@cache")
    assert "hunter2" not in repr(settings.load())
    with pytest.raises(ValueError, match="redis") as caught:
        settings.RedisSettings(url=SecretStr("http://:hunter2@cache"))
    assert "hunter2" not in str(caught.value)


def test_a_zone_is_an_iana_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERCLICK_TIME_ZONE", "Europe/Berlin")
    assert str(load().zone) == "Europe/Berlin"
    monkeypatch.delenv("AFTERCLICK_TIME_ZONE")
    assert load().zone is None
    for wrong in ("Berlin", "../../etc/passwd", "+01:00"):
        monkeypatch.setenv("AFTERCLICK_TIME_ZONE", wrong)
        with pytest.raises(SettingsError, match=r"^AFTERCLICK_TIME_ZONE: got .*IANA"):
            load()
