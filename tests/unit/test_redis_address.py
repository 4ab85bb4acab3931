"""The URL of Redis: what is dialled is what is shown, what is ambiguous is refused, and no refusal holds a secret."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError
from redis.exceptions import AuthenticationError, ConnectionError, ResponseError

from streams import settings
from streams.publish.redis_refusal import LASTING, explain, reason_of
from streams.settings import RedisSettings, Settings, SettingsError
from streams.settings.redis_address import Address, AddressError, parse


@pytest.mark.parametrize(
    ("url", "dialled", "login"),
    [
        ("redis://cache", "redis://cache:6379/0", {}),
        ("REDIS://cache:6380/", "redis://cache:6380/0", {}),
        ("redis://cache:6379/12", "redis://cache:6379/12", {}),
        ("redis://cache?db=3", "redis://cache:6379/3", {}),
        ("redis://[::1]:6380/1", "redis://[::1]:6380/1", {}),
        ("redis://my_cache.shop.svc.cluster.local.", "redis://my_cache.shop.svc.cluster.local.:6379/0", {}),
        ("redis://:hunter2@cache", "redis://cache:6379/0", {"password": "hunter2"}),
        ("redis://app:p@ss@cache", "redis://cache:6379/0", {"username": "app", "password": "p@ss"}),
        ("redis://app:p%ss:[x]@cache", "redis://cache:6379/0", {"username": "app", "password": "p%ss:[x]"}),
        ("redis://app:%2F%23%3F%40%3B@cache", "redis://cache:6379/0", {"username": "app", "password": "/#?@;"}),
        ("redis://cache?password=hunter2", "redis://cache:6379/0", {"password": "hunter2"}),
        ("rediss://cache?ssl_cert_reqs=none&protocol=2", "rediss://cache:6379/0", {}),
        ("redis://one,two:1", "redis://one:6379,two:1/0", {}),
        ("unix:///run/redis.sock?db=2", "unix:///run/redis.sock database 2", {}),
        ("unix://:hunter2@/run/redis.sock", "unix:///run/redis.sock database 0", {"password": "hunter2"}),
        ("redis+sentinel://a,b:1/lists", "redis+sentinel://a:26379,b:1/lists/0", {}),
        ("rediss+sentinel://:hunter2@a/lists/3", "rediss+sentinel://a:26379/lists/3", {"password": "hunter2"}),
    ],
)
def test_what_is_dialled_is_shown_and_the_login_is_not(url: str, dialled: str, login: dict[str, str]) -> None:
    address = parse(url)
    assert str(address) == dialled
    assert {name: value for name, value in address.options.items() if name in ("username", "password")} == login
    assert "hunter2" not in f"{address} {address!r}"


def test_sentinels_have_a_login_of_their_own() -> None:
    address = parse("redis+sentinel://app:one@a:1,b:2/lists?sentinel_username=s&sentinel_password=two")
    assert address.hosts == (("a", 1), ("b", 2))
    assert (address.master, dict(address.sentinel_login)) == ("lists", {"username": "s", "password": "two"})
    assert set(address.secrets) == {"one", "two"}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://:SECRET9", "a host before the port"),
        ("redis://app:SECRET9/cache:6379", "a port from 1 to 65535"),
        ("redis://SECRET9:127.0.0.1:6379", "a port from 1 to 65535"),
        ("redis://:12#SECRET9@cache:6379/0", "%23"),
        ("redis://:9/SECRET9+c=@cache:6379/0", "%2F"),
        ("redis://:9?SECRET9@cache:6379/0", "%3F"),
        ("redis://:9;SECRET9@cache:6379/0", "%3B"),
        ("redis://app:77#SECRET9@cache:6379", "%23"),
        ("redis://SECRET9@cache", "a colon before the password"),
        ("redis://app:@cache", "a password between ':' and '@'"),
        ("redis://:@cache", "a password between ':' and '@'"),
        ("redis://cache/SECRET9", "a number for the database"),
        ("redis://cache/-1", "a number for the database"),
        ("redis://cache/0/1", "a number for the database"),
        ("redis://cache/1?db=2", "the database in one place"),
        ("redis://cache?db=one", "option db"),
        ("redis://cache?SECRET9=bar", "no options but"),
        ("redis://cache?SECRET9", "options as name=value"),
        ("redis://cache?db=1&db=1", "once"),
        ("redis://:a@cache?password=SECRET9", "the login in one place"),
        ("redis://cache?password=SECRET9+c", "%2B"),
        ("redis://cache?username=app", "a password with the user"),
        ("redis://cache?ssl_ca_certs=/ca.pem", "rediss://"),
        ("rediss://cache?ssl_cert_reqs=CERT_NONE", "ssl_cert_reqs"),
        ("redis://cache?socket_timeout=1", "AFTERCLICK_REDIS__TIMEOUT_MS"),
        ("redis://cache:0", "a port from 1 to 65535"),
        ("redis://cache:65536", "a port from 1 to 65535"),
        ("redis://cache:99999999999999999999", "a port from 1 to 65535"),
        ("redis://cache:", "a port from 1 to 65535"),
        ("redis://", "a host before the port"),
        ("redis:///0", "a host before the port"),
        ("redis://::1", "a host before the port"),
        ("redis://[::1]x:1", "between ']' and the port"),
        ("redis://one,two/1", "database 0 of a cluster"),
        ("redis://one,", "a host before the port"),
        ("redis://one; redis://two", "no white space"),
        ("redis://:SECRET9@cache\n", "no white space"),
        (" redis://:SECRET9@cache", "no white space"),
        ("redis+sentinel://a:26379", "the master's name"),
        ("redis+sentinel://a:26379/lists/x", "a number for the database"),
        ("unix://run/redis.sock", "unix:///path"),
        ("http://:SECRET9@cache", "redis://user:password@host:6379/0"),
        ("cache:6379", "redis://user:password@host:6379/0"),
        ('"redis://:SECRET9@cache"', "redis://user:password@host:6379/0"),
    ],
)
def test_what_is_ambiguous_is_refused_without_a_secret(
    url: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AddressError) as refused:
        parse(url)
    assert expected in str(refused.value)
    monkeypatch.setenv("AFTERCLICK_REDIS__URL", url)
    with pytest.raises(SettingsError) as caught:
        settings.load()
    (line,) = str(caught.value).splitlines()
    assert line.startswith("AFTERCLICK_REDIS__URL: got a value not shown, expected ")
    assert expected in line
    with pytest.raises(ValidationError) as invalid:
        RedisSettings(url=SecretStr(url))
    assert "SECRET9" not in f"{line} {refused.value!r} {invalid.value}"


@given(st.text(max_size=30), st.sampled_from(["redis://", "rediss://", "redis+sentinel://", "unix://", "redis://:"]))
def test_no_url_is_a_traceback(rest: str, scheme: str) -> None:
    try:
        address = parse(scheme + rest)
    except AddressError:
        return
    assert isinstance(address, Address)
    assert all(1 <= port <= 65_535 for _, port in address.hosts)


@given(st.text(min_size=1, max_size=20).filter(str.isprintable))
def test_any_password_goes_in_escaped(password: str) -> None:
    from urllib.parse import quote

    address = parse(f"redis://app:{quote(password, safe='')}@cache:6379/0")
    assert address.options["password"] == password
    assert str(address) == "redis://cache:6379/0"


def test_servers_and_redis_py_repeat_no_secret() -> None:
    address = parse("redis://app:hunter2@cache:6379/0")
    for error in (
        ResponseError("unknown command `HELLO`, with args beginning with: `3` `AUTH` `app` `hunter2` "),
        ResponseError("unknown command 'AUTH', with args beginning with: 'hunter2'"),
        AuthenticationError("no such login: hunter2"),
        ConnectionError("Error -2 connecting to hunter2:6379.\nName or service not known."),
    ):
        line = explain(error, address).text
        assert "hunter2" not in line
        assert "\n" not in line


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Error running script (call to f_0): @user_script:9: @user_script: 9: -OOM command not allowed", "full"),
        ("Error running script (call to f_0): @user_script:9: -READONLY You can't write", "read-only"),
        ("@user_script: 3: Unknown Redis command called from Lua script", "command"),
        ("The user executing the script can't run this command or subcommand script: 0", "permission"),
        ("ERR something else", "refused"),
    ],
)
def test_an_error_inside_a_script_of_redis_6_has_its_reason(text: str, reason: str) -> None:
    assert reason_of(ResponseError(text)) == reason
    assert explain(ResponseError(text), parse("redis://cache")).lasting == (reason in LASTING)


def test_the_key_prefix_follows_the_topic_prefix() -> None:
    assert Settings().key_prefix == "afterclick:list:"
    assert Settings(topic_prefix="shop.").key_prefix == "afterclick:list:shop.:"
    assert Settings(topic_prefix="shop.", redis=RedisSettings(key_prefix="mine:")).key_prefix == "mine:"
