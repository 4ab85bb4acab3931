"""The user's token provider: every form of it, refreshed tokens, never a crash; Amazon's signer with an issuer."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiokafka.errors import KafkaConnectionError

from streams.kafka import token_provider
from streams.kafka.client import client_options
from streams.kafka.token_provider import TokenProvider
from streams.settings import KafkaSettings, SecuritySettings, SettingsError
from tests.unit import tokens

AMAZON = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ROLE_ARN"}


@pytest.fixture(autouse=True)
def _fresh() -> None:
    for left in (tokens.issued, tokens.fail, tokens.answer):
        left.clear()


def provider(name: str) -> TokenProvider:
    return TokenProvider(f"tests.unit.tokens:{name}")


def asked(of: TokenProvider, times: int = 3) -> list[str]:
    return [asyncio.run(of.token()) for _ in range(times)]  # each in a loop of its own, as Faust's threads do


@pytest.mark.parametrize("name", ["plain", "in_a_coroutine", "over"])
def test_a_token_without_a_lifetime_is_used_once(name: str) -> None:
    assert asked(provider(name)) == ["token-0", "token-1", "token-2"]


@pytest.mark.parametrize("name", ["for_seconds", "until_seconds", "until_milliseconds"])
def test_a_token_is_used_again_for_a_minute(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = provider(name)
    assert asked(given) == ["token-0"] * 3
    later = time.time() + token_provider.MAX_USED_S + 1
    monkeypatch.setattr(time, "time", lambda: later)
    assert asked(given) == ["token-1"] * 3


def test_a_token_is_not_used_beyond_its_lifetime() -> None:
    given = provider("soon_over")
    first = asked(given, 1)
    time.sleep(0.06)
    assert asked(given, 1) != first


def test_a_provider_that_raises_is_logged_once_and_called_again(caplog: pytest.LogCaptureFixture) -> None:
    given = provider("plain")
    tokens.fail.append(OSError("the issuer is away"))
    for _ in range(3):
        with pytest.raises(KafkaConnectionError, match=r"tests.unit.tokens:plain: got OSError: the issuer"):
            asyncio.run(given.token())
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    tokens.fail.clear()
    assert asked(given, 2) == ["token-0", "token-1"]
    assert caplog.messages[1:] == ["tests.unit.tokens:plain gives tokens again"]


def test_a_provider_that_never_answers_times_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(token_provider, "PATIENCE_S", 0.05)
    with pytest.raises(KafkaConnectionError, match="got TimeoutError"):
        asyncio.run(provider("never").token())


@pytest.mark.parametrize("answer", [None, "", b"token", 5, ("token",), ("token", "900"), ("token", 1, 2), ("", 900)])
def test_a_result_that_is_no_token_is_an_error_and_is_not_shown(answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    tokens.answer.append(answer)
    with pytest.raises(KafkaConnectionError, match=f"a {type(answer).__name__} where a token"):
        asyncio.run(provider("whatever").token())


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("no.such.module:token", "ModuleNotFoundError: No module named 'no'"),
        ("tests.unit.tokens:none", "AttributeError: "),
        ("tests.unit.tokens", "AttributeError: "),
        ("", "ValueError: Empty module name"),
        ("tests.unit.tokens:not_callable", "which cannot be called"),
    ],
)
def test_a_wrong_path_is_a_settings_error(path: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        TokenProvider(path)
    assert str(caught.value).startswith(f"AFTERCLICK_KAFKA__SECURITY__TOKEN_PROVIDER: got '{path}'")
    assert said in str(caught.value)


def test_all_clients_share_one_provider() -> None:
    security = SecuritySettings(
        protocol="SASL_PLAINTEXT", sasl_mechanism="OAUTHBEARER", token_provider="tests.unit.tokens:plain"
    )
    one, other = (client_options(KafkaSettings(security=security)) for _ in range(2))
    assert one["sasl_oauth_token_provider"] is other["sasl_oauth_token_provider"]
    assert "sasl_plain_username" not in one


class Issuer(BaseHTTPRequestHandler):
    """Gives credentials as the agent of Amazon's containers does, others each time."""

    given = 0

    def do_GET(self) -> None:
        type(self).given += 1
        until = datetime.now(timezone.utc) + timedelta(hours=1)
        answer = {
            "AccessKeyId": f"AKIA{self.given}",
            "SecretAccessKey": "secret",
            "Token": "session",
            "Expiration": f"{until:%Y-%m-%dT%H:%M:%SZ}",
        }
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: object) -> None:
        pass


def test_amazons_signer_with_credentials_of_an_issuer(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in AMAZON:
        monkeypatch.delenv(name, raising=False)
    with HTTPServer(("127.0.0.1", 0), Issuer) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{server.server_port}/role")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        given = provider("amazon")
        first, again = asked(given, 2)
        later = time.time() + token_provider.MAX_USED_S + 1
        monkeypatch.setattr(time, "time", lambda: later)
        (second,) = asked(given, 1)
        server.shutdown()
        thread.join()
    assert first == again
    urls = [urlsplit(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()) for token in (first, second)]
    assert [url.netloc for url in urls] == ["kafka.eu-west-1.amazonaws.com"] * 2
    asked_for = [parse_qs(url.query) for url in urls]
    assert [one["Action"] for one in asked_for] == [["kafka-cluster:Connect"]] * 2
    assert [one["X-Amz-Credential"][0].split("/")[0] for one in asked_for] == ["AKIA1", "AKIA2"]
