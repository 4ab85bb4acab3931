"""The options of Kafka clients, and the partition of a key, which is the same as in Kafka's own clients."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest
from aiokafka.errors import SaslAuthenticationFailed
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from streams.kafka import client as kafka_client
from streams.kafka.client import client_options, partition_of
from streams.settings import KafkaSettings, SecuritySettings, SettingsError

# Kafka's own test vectors: clients/src/test/java/org/apache/kafka/common/utils/UtilsTest.java, testMurmur2
JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate, and its key encrypted with `hunter2`."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = f"openssl req -x509 -newkey rsa:2048 -subj /CN=test -passout pass:hunter2 -keyout {key} -out {cert}"
    subprocess.run(command.split(), check=True, capture_output=True)
    return cert, key


@pytest.mark.parametrize(("key", "hashed"), JAVA.items())
def test_the_partition_is_that_of_javas_client(key: bytes, hashed: int) -> None:
    assert partition_of(key, 1000) == (hashed & 0x7FFFFFFF) % 1000


@given(key=st.binary(max_size=64), partitions=st.integers(1, 64))
def test_the_partition_is_that_of_our_producer(key: bytes, partitions: int) -> None:
    everything = list(range(partitions))
    assert partition_of(key, partitions) == DefaultPartitioner()(key, everything, everything)


def test_plaintext_needs_only_addresses() -> None:
    assert client_options(KafkaSettings(bootstrap_servers="a:1, b:2")) == {
        "bootstrap_servers": ["a:1", "b:2"],
        "security_protocol": "PLAINTEXT",
    }


def test_login_over_tls() -> None:
    security = SecuritySettings(protocol="SASL_SSL", sasl_username="shop", sasl_password=SecretStr("hunter2"))
    options = client_options(KafkaSettings(security=security))
    assert isinstance(options["ssl_context"], ssl.SSLContext)
    assert options["ssl_context"].verify_mode == ssl.CERT_REQUIRED
    assert options["sasl_mechanism"] == "SCRAM-SHA-512"
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("shop", "hunter2")


def test_our_certificate_is_loaded(certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    security = SecuritySettings(
        protocol="SSL",
        ssl_cafile=cert,
        ssl_certfile=cert,
        ssl_keyfile=key,
        ssl_key_password=SecretStr("hunter2"),
    )
    assert client_options(KafkaSettings(security=security))["ssl_context"].get_ca_certs()


def test_a_missing_file_names_its_setting(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^AFTERCLICK_KAFKA__SECURITY__SSL_CAFILE: got .*none.pem, expected"):
        client_options(KafkaSettings(security=SecuritySettings(protocol="SSL", ssl_cafile=tmp_path / "none.pem")))


def test_a_file_without_a_certificate_names_its_setting(tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("junk", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"^AFTERCLICK_KAFKA__SECURITY__SSL_CAFILE: .*expected certificates"):
        client_options(KafkaSettings(security=SecuritySettings(protocol="SSL", ssl_cafile=junk)))


@pytest.mark.parametrize("password", [None, SecretStr("wrong-one")])
def test_a_wrong_key_password_prompts_nobody_and_is_not_shown(
    certificate: tuple[Path, Path], password: SecretStr | None
) -> None:
    cert, key = certificate
    security = SecuritySettings(protocol="SSL", ssl_certfile=cert, ssl_keyfile=key, ssl_key_password=password)
    with pytest.raises(SettingsError, match="SSL_KEY_PASSWORD") as caught:
        client_options(KafkaSettings(security=security))
    assert "wrong-one" not in str(caught.value)


@pytest.mark.parametrize(("password", "hint"), [("pw\n", True), (" pw", True), ("pw", False), ("p w", False)])
def test_a_refused_password_with_a_trailing_line_feed_gets_a_hint(password: str, hint: bool) -> None:
    security = SecuritySettings(protocol="SASL_SSL", sasl_username="ann", sasl_password=SecretStr(password))
    said = kafka_client._login_refused(security, SaslAuthenticationFailed())
    assert said.startswith("got a refusal of user 'ann', expected its name and password to be right for SCRAM-SHA-512")
    assert said.endswith("(it has white space at its ends: a line feed from a file?)") == hint
    assert "pw" not in said
