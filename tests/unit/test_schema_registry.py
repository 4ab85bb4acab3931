"""Messages in Confluent's wire format, through the reader of records: what is decoded, and each text of a refusal."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trustme
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from pydantic import SecretStr

from streams.commands.doctor import doctor
from streams.contracts import Click, Item
from streams.kafka import schema_registry
from streams.kafka.acks import InOrder
from streams.kafka.record_reader import RecordReader
from streams.kafka.registry_client import RegistryClient, RegistryUnavailable
from streams.kafka.schema_registry import SchemaRegistry
from streams.receive.message import BadMessage, Message, Tombstone
from streams.settings import KafkaSettings, SecuritySettings, Settings, SettingsError, load
from streams.state.intake import Intake
from streams.testing.embedded import free_port
from streams.worker import startup
from tests.schema_registry import Registry, avro, framed, protobuf, serve

NOW_MS = 1_790_000_000_000
CLICK: dict[str, Any] = {"event_id": "e1", "user_id": "u1", "item_id": "i1", "timestamp": NOW_MS}
CLICK_SCHEMA = {
    "type": "record",
    "name": "Click",
    "fields": [
        *({"name": name, "type": "string"} for name in ("event_id", "user_id", "item_id")),
        {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "position", "type": ["null", "int"], "default": None},
    ],
}
ITEM_SCHEMA = {
    "type": "record",
    "name": "Item",
    "fields": [
        *({"name": name, "type": "string"} for name in ("item_id", "title")),
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "available", "type": "boolean"},
    ],
}
ITEM = {"item_id": "i1", "title": "Hat", "price": 19.99, "available": False}


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def url(registry: Registry) -> Iterator[str]:
    schema_registry.registry_of.cache_clear()
    with serve(registry) as address:
        yield address


def record(value: bytes | None, topic: str = "clicks", key: bytes | None = b"u1") -> Any:
    return SimpleNamespace(
        topic=topic, partition=0, offset=7, key=key, value=value, headers=(), timestamp=NOW_MS, timestamp_type=0
    )


def read(url: str | None, *records: Any, **more: Any) -> list[Any]:
    """What each record gives: its message, or why it is rejected."""
    reader = RecordReader(Settings(kafka=KafkaSettings(schema_registry_url=url, **more)))
    asyncio.run(asyncio.wait_for(reader.prepare(records), 5))
    given: list[Any] = []
    for one in records:
        try:
            given += [received.decoded for received in reader.read(one)]
        except BadMessage as error:
            given.append(error)
    return given


def refused(value: bytes, url: str | None = None, **more: Any) -> BadMessage:
    (error,) = read(url, record(value), **more)
    assert isinstance(error, BadMessage)
    assert len(error.cause) < 90
    assert "e1" not in error.cause
    return error


def shop_file(*imports: str) -> descriptor_pb2.FileDescriptorProto:
    """A file with two messages, as `protoc` describes it; the second is a click, with a nested message."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="shop.proto", package="shop", syntax="proto3", dependency=imports)
    file.message_type.add(name="Other")
    click = file.message_type.add(name="Click")
    for number, (name, kind) in enumerate(
        (
            ("event_id", field.TYPE_STRING),
            ("user_id", field.TYPE_STRING),
            ("item_id", field.TYPE_STRING),
            ("timestamp", field.TYPE_INT64),
            ("session_id", field.TYPE_STRING),
        ),
        start=1,
    ):
        click.field.add(name=name, number=number, type=kind, label=field.LABEL_OPTIONAL)
    return file


def message(file: Any, name: str, *imported: Any, **fields: Any) -> Any:
    pool = descriptor_pool.DescriptorPool()
    for one in (*imported, file):
        pool.Add(one)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))(**fields)


def test_json_schema_needs_no_registry() -> None:
    value = framed(7, json.dumps(CLICK).encode())
    reader = RecordReader(Settings())
    (received,) = reader.read(record(value))
    assert isinstance(received.decoded, Click)
    assert received.coerced == ["confluent"]
    assert reader.whole(record(value)).value == value, "a dead letter would have the record as it was"
    (item,) = read(None, record(framed(9, json.dumps(ITEM).encode()), "items", framed(8, b'"i1"')))
    assert isinstance(item, Item)


def test_avro_keys_and_values(registry: Registry, url: str) -> None:
    click, item, text = registry.add(CLICK_SCHEMA), registry.add(ITEM_SCHEMA), registry.add("string")
    sold_out = ITEM | {"price": Decimal("19.99")}
    given = read(
        url,
        record(avro(click, CLICK_SCHEMA, CLICK)),
        record(avro(item, ITEM_SCHEMA, sold_out), "items", avro(text, "string", "i1")),
        record(None, "items", avro(text, "string", "i1")),
        record(avro(click, CLICK_SCHEMA, CLICK), key=(5).to_bytes(8, "big")),
    )
    assert given[0] == given[3]
    assert given[0].user_id == "u1"
    assert given[0].timestamp.timestamp() * 1000 == NOW_MS
    assert (given[1].title, given[1].price, given[1].available) == ("Hat", 19.99, False)
    assert given[2] == Tombstone("i1")
    assert len(registry.asked) == 3, "each schema is asked for once"


def test_schemas_that_refer_to_others(registry: Registry, url: str) -> None:
    name = {"type": "record", "name": "com.shop.Name", "fields": [{"name": "text", "type": "string"}]}
    item = {
        "type": "record",
        "name": "com.shop.Item",
        "fields": [
            {"name": "item_id", "type": "string"},
            {"name": "title", "type": "string"},
            {"name": "attributes", "type": {"type": "map", "values": "com.shop.Name"}},
        ],
    }
    registry.add(name, subject="a/b name")
    avro_id = registry.add(item, refers_to={"com.shop.Name": "a/b name"})
    common = descriptor_pb2.FileDescriptorProto(name="any", package="shop", syntax="proto3")
    common.message_type.add(name="Common")
    registry.add(common, "PROTOBUF", subject="common")
    file = shop_file("shop/common.proto", "confluent/meta.proto", "google/protobuf/timestamp.proto")
    proto_id = registry.add(file, "PROTOBUF", refers_to={"shop/common.proto": "common"})
    value = {"item_id": "i1", "title": "Hat", "attributes": {"colour": {"text": "red"}}}
    click = message(shop_file(), "shop.Click", **CLICK)
    given = read(url, record(avro(avro_id, item, value, name), "items", b"i1"), record(protobuf(proto_id, click, (1,))))
    assert given[0].title == "Hat"
    assert (given[1].user_id, given[1].session_id) == ("u1", None)


@pytest.mark.parametrize(
    ("more", "authorization"),
    [
        ({"schema_registry_user_info": SecretStr("key:p:w/+")}, b"Basic " + base64.b64encode(b"key:p:w/+")),
        ({"schema_registry_token": SecretStr("t0ken")}, b"Bearer t0ken"),
    ],
)
def test_a_login_is_shown(registry: Registry, url: str, more: dict[str, Any], authorization: bytes) -> None:
    registry.authorization = authorization.decode()
    schema_id = registry.add(CLICK_SCHEMA)
    (given,) = read(url, record(avro(schema_id, CLICK_SCHEMA, CLICK)), **more)
    assert isinstance(given, Click)


def test_several_addresses_are_tried_in_turn(registry: Registry, url: str) -> None:
    schema_id = registry.add(CLICK_SCHEMA)
    (given,) = read(f"http://127.0.0.1:{free_port()}, {url}/", record(avro(schema_id, CLICK_SCHEMA, CLICK)))
    assert isinstance(given, Click)


def test_what_is_refused_without_a_registry() -> None:
    error = refused(framed(7, b"\x04e1"))
    assert error.reason == "schema"
    assert str(error) == (
        "clicks: got Confluent wire format, schema id 7, Avro or Protobuf after it; set "
        "AFTERCLICK_KAFKA__SCHEMA_REGISTRY_URL to your schema registry's address and pip install "
        "'afterclick[registry]', or write plain JSON: use a plain JSON serialiser, or with Kafka Connect set "
        "value.converter=org.apache.kafka.connect.json.JsonConverter and value.converter.schemas.enable=false"
    )
    assert "schema id 7, broken JSON after it" in str(refused(framed(7, b'{"event_id": "e1"')))
    (tombstone,) = read(None, record(None, "items", framed(7, b"\x04i1")))
    assert "Avro or Protobuf" in str(tombstone)
    (item,) = read(None, record(framed(7, json.dumps(ITEM).encode()), "items", framed(7, b"\x04i1")))
    assert item.reason == "key"
    (glue,) = read(None, record(b"\x03\0" + b"0123456789abcdef\x04e1"))
    assert "AWS Glue" in str(glue)


def test_what_is_refused_by_its_schema(registry: Registry, url: str) -> None:
    click, nothing = registry.add(CLICK_SCHEMA), registry.add({"type": "array", "items": "null"})
    broken, odd = registry.add({"type": "recor"}), registry.add({}, "THRIFT")
    alone = registry.add(CLICK_SCHEMA, refers_to={"com.shop.Name": "gone"})
    text = registry.add({"type": "string"}, "JSON")
    files = [registry.add(shop_file(), "PROTOBUF")]
    good = avro(click, CLICK_SCHEMA, CLICK)
    at = f"at {url}"
    for value, words in (
        (framed(9, b"\x04e1"), f"the schema 9 {at} is not in the registry; correct that, then retry the dead letter"),
        (framed(nothing, b"\xfe\xff\xff\xff\x0f"), "has an array of members that take no bytes"),
        (framed(broken, b"\x04"), f"the schema {broken} {at} is no Avro schema (UnknownType: "),
        (framed(odd, b"\x04"), "has the type 'THRIFT', expected AVRO, PROTOBUF or JSON"),
        (framed(alone, b"\x04"), "refers to version 1 of gone, which the registry lacks"),
        (framed(text, b"{oops"), "not as that schema says"),
        (good[:9], "not as that schema says (EOFError"),
        (good + b"\0", "(1 bytes are left behind the record), expected bytes that were written with it"),
        (framed(files[0], b"\x02\x08"), "lead to no message of the file"),
        (framed(files[0], b"\x02\x02\xff\xff"), "not as that schema says (shop.Click: DecodeError"),
    ):
        error = refused(value, url)
        assert words in str(error)
        assert error.reason == "schema"


def test_protobuf_of_a_registry_that_gives_its_text_alone(registry: Registry, url: str) -> None:
    registry.serialises = False
    schema_id = registry.add(shop_file(), "PROTOBUF")
    assert "gives only its text, which needs a compiler" in str(refused(framed(schema_id, b"\0"), url))


@pytest.mark.parametrize(("package", "kind"), [("fastavro", "Avro"), ("google.protobuf", "Protobuf")])
def test_without_the_extra(
    registry: Registry, url: str, package: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema_id = registry.add(CLICK_SCHEMA) if kind == "Avro" else registry.add(shop_file(), "PROTOBUF")
    monkeypatch.setitem(sys.modules, package, None)
    text = str(refused(framed(schema_id, b"\x04e1"), url))
    (check,) = asyncio.run(doctor._schema_registry(Settings(kafka=KafkaSettings(schema_registry_url=url))))
    assert not check.ok
    assert check.advice == f"pip install 'afterclick[registry]', for {package} is not installed"
    assert f"is {kind}, and the package {package} that decodes it is not installed" in text
    assert "pip install 'afterclick[registry]'" in text


def test_who_needs_a_registry_that_is_away_waits_and_says_so_once(
    registry: Registry, url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(schema_registry, "FIRST_WAIT_S", 0.01)
    schemas = SchemaRegistry(KafkaSettings(schema_registry_url=url))
    known, forbidden = registry.add(CLICK_SCHEMA), registry.add(ITEM_SCHEMA)
    value = avro(known, CLICK_SCHEMA, CLICK)

    async def follow() -> None:
        registry.status = 503
        running, waiting = asyncio.create_task(schemas.run()), asyncio.create_task(schemas.learn({known}))
        learnt = asyncio.Event()
        schemas.on_learnt.append(learnt.set)
        schemas.wants({known, forbidden})
        while len(registry.asked) < 6:  # noqa: ASYNC110  the server is in a thread
            await asyncio.sleep(0.01)
        assert "HTTP 503: Error in the backend data store, expected a schema" in schemas.why_away
        assert schemas.missing(None, value) == {known}
        registry.status = 200
        await asyncio.wait_for(asyncio.gather(waiting, learnt.wait()), 5)
        assert schemas.missing(None, value) == set()
        assert schemas.why_away == ""
        running.cancel()

    asyncio.run(follow())
    assert [line.split(",")[0] for line in caplog.messages if "registry" in line] == [
        f"the schema registry at {url}: got HTTP 503: Error in the backend data store",
        "the schema registry is back",
    ]
    plain = schemas.plain(Message("clicks", 0, 0, None, value), [])
    assert json.loads(plain.value or b"")["user_id"] == "u1"


def test_a_schema_that_is_not_there_is_asked_for_again_after_a_while(
    registry: Registry, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    schemas = SchemaRegistry(KafkaSettings(schema_registry_url=url))
    value = framed(100_000, avro(1, CLICK_SCHEMA, CLICK)[5:])
    asyncio.run(schemas.ask({100_000}))
    assert schemas.missing(None, value) == set()
    monkeypatch.setattr("streams.kafka.schema_registry.time.monotonic", lambda: 1e9)
    registry.add(CLICK_SCHEMA)
    assert schemas.missing(None, value) == {100_000}
    asyncio.run(schemas.ask({100_000}))
    assert schemas.plain(Message("clicks", 0, 0, None, value), [])


def test_a_refused_login_and_a_wrong_address_have_a_line(registry: Registry, url: str) -> None:
    def why(address: str = url, **more: Any) -> RegistryUnavailable:
        with pytest.raises(RegistryUnavailable) as caught:
            asyncio.run(RegistryClient(KafkaSettings(schema_registry_url=address, **more)).check())
        assert "hunter2" not in str(caught.value)
        return caught.value

    registry.authorization = "Basic nobody"
    wrong = why(schema_registry_user_info=SecretStr("key:hunter2"))
    assert wrong.is_refusal
    assert str(wrong) == (
        f"the schema registry at {url}: got a refusal of our login: HTTP 401 (Unauthorized), expected the right to "
        "read schemas; correct AFTERCLICK_KAFKA__SCHEMA_REGISTRY_USER_INFO, or grant the right"
    )
    assert "a refusal of no login" in str(why())
    assert "correct AFTERCLICK_KAFKA__SCHEMA_REGISTRY_TOKEN" in str(why(schema_registry_token=SecretStr("hunter2")))
    registry.authorization = ""
    assert "got HTTP 404, expected a schema registry; check that it runs" in str(why(url + "/wrong"))
    nobody = why(f"http://127.0.0.1:{free_port()}")
    assert "got no answer (" in str(nobody)
    assert not nobody.is_refusal


def test_a_refusal_stops_the_start_and_a_registry_that_is_away_does_not(
    registry: Registry, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(kafka=KafkaSettings(schema_registry_url=url))
    asyncio.run(startup._check_schema_registry(settings))
    registry.status = 503
    asyncio.run(startup._check_schema_registry(settings))
    assert "records that need a schema wait for it" in caplog.text
    registry.authorization = "Basic nobody"
    with pytest.raises(RegistryUnavailable, match="HTTP 401"):
        asyncio.run(startup._check_schema_registry(settings))


def test_tls_has_the_certificates_of_the_connection_to_kafka(registry: Registry, tmp_path: Path) -> None:
    ours, another = trustme.CA(), trustme.CA()
    for name, authority in (("ours", ours), ("another", another)):
        authority.cert_pem.write_to_path(str(tmp_path / name))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ours.issue_cert("127.0.0.1").configure_cert(tls)

    def check(authority: str) -> None:
        security = SecuritySettings(ssl_cafile=tmp_path / authority)
        asyncio.run(RegistryClient(KafkaSettings(schema_registry_url=url, security=security)).check())

    with serve(registry, tls=tls) as url:
        check("ours")
        with pytest.raises(RegistryUnavailable, match="correct AFTERCLICK_KAFKA__SECURITY__SSL_CAFILE") as caught:
            check("another")
    assert caught.value.is_refusal


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"schema_registry_url": "registry:8081"}, "http://host:port"),
        ({"schema_registry_url": "https://key:hunter2@registry"}, "a URL without a login"),
        ({"schema_registry_url": "https://registry?x=1"}, "without ? and #"),
        ({"schema_registry_user_info": "hunter2"}, "user:password"),
        ({"schema_registry_token": "hunter2\n"}, "white space"),
        ({"schema_registry_user_info": "a:hunter2", "schema_registry_token": "hunter2"}, "one login"),
    ],
)
def test_wrong_settings(given: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in given.items():
        monkeypatch.setenv(f"AFTERCLICK_KAFKA__{name.upper()}", value)
    with pytest.raises(SettingsError) as caught:
        load()
    assert expected in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_an_event_that_is_not_ready_holds_up_its_own_partition_alone() -> None:
    intake = Intake(InOrder())
    events = [
        SimpleNamespace(message=SimpleNamespace(tp=partition), name=name) for partition, name in ("ax", "ay", "bz")
    ]

    def batch(*ready: str) -> list[str]:
        return [event.name for event in intake.next_batch(lambda event: event.name in ready)]  # type: ignore[attr-defined]

    asyncio.run(intake.take(events))  # type: ignore[arg-type]
    assert batch("y", "z") == ["z"]
    assert not intake.has_more
    assert batch("x", "y") == ["x", "y"]
