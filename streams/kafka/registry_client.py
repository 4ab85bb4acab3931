"""Ask a schema registry for a schema, by the HTTP interface that Confluent has documented.

Confluent's registry, Karapace, Redpanda and Apicurio (under `/apis/ccompat/v7`) have it. Keeps nothing, and does not
wait for a registry that is away. httpx is the client, because our own client has it already, and its time-outs, TLS and
proxies are those of everybody.
"""

from __future__ import annotations

import base64
import binascii
import ssl
from collections.abc import Iterable
from typing import Any, Protocol
from urllib.parse import quote

import httpx
import msgspec

from encoders.errors import AfterclickError
from streams.kafka.tls import ssl_context
from streams.receive.avro import AvroSchema
from streams.receive.protobuf import ProtobufSchema
from streams.receive.schema import SchemaUnusable, Undecodable
from streams.settings import PREFIX, KafkaSettings

ANSWER_TIMEOUT_S = 10.0
"""Chosen by us: a registry answers from its memory, in milliseconds."""
MAX_REFERENCES = 1_000
"""Schemas behind one schema; chosen by us, so that references in a circle end."""
NOT_FOUND = frozenset({40401, 40402, 40403})
"""The registry's own codes: it has no such subject, version, schema. Another 404 is of something else at that URL."""
_SETTING = f"{PREFIX}KAFKA__SCHEMA_REGISTRY_"
_HEADERS = {"Accept": "application/vnd.schemaregistry.v1+json, application/json"}


class RegistryUnavailable(AfterclickError):
    """The registry gives no schemas now; the text says which one, and what to do.

    Attributes
    ----------
    is_refusal : bool
        It refuses our login, or we its certificate. A later attempt does not help by itself.
    """

    def __init__(self, url: str, problem: str, is_refusal: bool = False) -> None:
        super().__init__(f"the schema registry at {url}: {problem}")
        self.is_refusal = is_refusal


class Schema(Protocol):
    """What decodes the messages of one schema."""

    def to_json(self, payload: bytes) -> bytes:
        """Decode a message; raises `Undecodable`."""


class JsonSchema:
    """A schema of JSON: its messages are JSON as they are, and the contract checks them."""

    def to_json(self, payload: bytes) -> bytes:
        """Return the message, which is JSON of any kind."""
        try:
            msgspec.json.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Undecodable(str(error)) from None
        return payload


class _Reference(msgspec.Struct):
    name: str
    subject: str
    version: int


class _Answer(msgspec.Struct):
    schema: str
    schemaType: str = "AVRO"
    references: list[_Reference] | None = None
    id: int | None = None


class _Refusal(msgspec.Struct):
    error_code: int = 0
    message: str = ""


class RegistryClient:
    """Asks one registry.

    Parameters
    ----------
    kafka : KafkaSettings
        The registry's URLs and our login.
    """

    def __init__(self, kafka: KafkaSettings) -> None:
        self._urls = kafka.schema_registries
        self._security = kafka.security
        user_info, token = kafka.schema_registry_user_info, kafka.schema_registry_token
        self._headers = _HEADERS | ({"Authorization": f"Bearer {token.get_secret_value()}"} if token else {})
        self._login: httpx.BasicAuth | None = None
        if user_info:
            name, _, password = user_info.get_secret_value().partition(":")
            self._login = httpx.BasicAuth(name, password)

    @property
    def address(self) -> str:
        """The registry's URLs."""
        return ", ".join(self._urls)

    async def check(self) -> None:
        """Ask for the types of schemas that the registry knows.

        Raises
        ------
        RegistryUnavailable
        """
        async with self._http() as http:
            await self._get(http, "/schemas/types")

    async def schema(self, schema_id: int) -> Schema:
        """Ask for a schema, and for those that it refers to.

        Raises
        ------
        RegistryUnavailable
        SchemaUnusable
            The registry does not have it, or it is none by which we can decode. The text goes on from "the schema …".
        """
        async with self._http() as http:
            answer = await self._answer(http, f"/schemas/ids/{schema_id}", "is not in the registry")
            if answer.schemaType == "JSON":
                return JsonSchema()
            if answer.schemaType == "AVRO":
                return AvroSchema(answer.schema, list((await self._referred(http, answer)).values()))
            if answer.schemaType == "PROTOBUF":
                file, imported = await self._serialised(http, schema_id), await self._referred(http, answer)
                return ProtobufSchema(_decoded(file), {name: _decoded(text) for name, text in imported.items()})
        raise SchemaUnusable(f"has the type {answer.schemaType!r}, expected AVRO, PROTOBUF or JSON")

    async def _referred(self, http: httpx.AsyncClient, answer: _Answer) -> dict[str, str]:
        """Return the schemas behind a schema by their names, each behind those that it refers to itself."""
        found: dict[str, str] = {}
        asked: set[tuple[str, int]] = set()

        async def follow(references: Iterable[_Reference]) -> None:
            for reference in references:
                if (reference.subject, reference.version) in asked:
                    continue
                asked.add((reference.subject, reference.version))
                if len(asked) > MAX_REFERENCES:
                    raise SchemaUnusable(f"refers to more than {MAX_REFERENCES} others")
                path = f"/subjects/{quote(reference.subject, safe='')}/versions/{reference.version}?deleted=true"
                problem = f"refers to version {reference.version} of {reference.subject}, which the registry lacks"
                of = await self._answer(http, path, problem)
                await follow(of.references or ())
                is_file = of.schemaType == "PROTOBUF" and of.id is not None
                found[reference.name] = await self._serialised(http, of.id or 0) if is_file else of.schema

        await follow(answer.references or ())
        return found

    async def _serialised(self, http: httpx.AsyncClient, schema_id: int) -> str:
        """Ask for a Protobuf file as its descriptor, in base64: the text of the file needs Google's compiler."""
        path = f"/schemas/ids/{schema_id}?format=serialized"
        return (await self._answer(http, path, "is not in the registry")).schema

    async def _answer(self, http: httpx.AsyncClient, path: str, unknown: str) -> _Answer:
        content = await self._get(http, path, unknown)
        try:
            return msgspec.json.decode(content, type=_Answer)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RegistryUnavailable(self.address, _no_registry(f"got another answer ({error})")) from None

    async def _get(self, http: httpx.AsyncClient, path: str, unknown: str = "") -> bytes:
        """Ask each URL in turn, until one answers."""
        problem = RegistryUnavailable(self.address, _no_registry("got no URL"))
        for url in self._urls:
            try:
                response = await http.get(url + path)
            except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
                problem = self._not_reached(url, error)
                continue
            if response.is_success:
                return response.content
            problem = self._refused(url, response, unknown)
            if response.status_code < 500 and response.status_code != 429:
                raise problem
        raise problem

    def _refused(self, url: str, response: httpx.Response, unknown: str) -> RegistryUnavailable:
        status, refusal = response.status_code, _refusal(response)
        if status == 404 and refusal.error_code in NOT_FOUND and unknown:
            raise SchemaUnusable(unknown)
        if status in (401, 403):
            ours = "TOKEN" if "Authorization" in self._headers else "USER_INFO"
            given = "our login" if self._login or "Authorization" in self._headers else "no login"
            text = f" ({refusal.message})" if refusal.message else ""
            problem = f"got a refusal of {given}: HTTP {status}{text}, expected the right to read schemas; "
            return RegistryUnavailable(url, f"{problem}correct {_SETTING}{ours}, or grant the right", True)
        if status >= 500 or status == 429:
            text = f": {refusal.message}" if refusal.message else ""
            return RegistryUnavailable(url, f"got HTTP {status}{text}, expected a schema; see to the registry")
        return RegistryUnavailable(url, _no_registry(f"got HTTP {status}"))

    def _not_reached(self, url: str, error: Exception) -> RegistryUnavailable:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
            cause = cause.__cause__ or cause.__context__
        if cause is not None:
            problem = (
                f"got a certificate that is not to be trusted ({cause.verify_message}), expected a valid one for this "
                f"address from {self._security.ssl_cafile or 'an authority that this system knows'}; renew it, or "
                f"correct {PREFIX}KAFKA__SECURITY__SSL_CAFILE"
            )
            return RegistryUnavailable(url, problem, True)
        text = str(error) or type(error).__name__
        return RegistryUnavailable(url, _no_registry(f"got no answer ({text})"))

    def _http(self) -> httpx.AsyncClient:
        is_tls = any(url.startswith("https:") for url in self._urls)
        options: dict[str, Any] = {"verify": ssl_context(self._security) if is_tls else False}
        return httpx.AsyncClient(headers=self._headers, auth=self._login, timeout=ANSWER_TIMEOUT_S, **options)


def _no_registry(problem: str) -> str:
    return f"{problem}, expected a schema registry; check that it runs, then {_SETTING}URL"


def _refusal(response: httpx.Response) -> _Refusal:
    try:
        return msgspec.json.decode(response.content, type=_Refusal)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Refusal()


def _decoded(text: str) -> bytes:
    """Return the bytes of a descriptor. A registry that does not serialise files answers with their text."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise SchemaUnusable(
            "is Protobuf, and the registry gives only its text, which needs a compiler, but no descriptor "
            "(format=serialized); use a registry that does (Confluent's, Redpanda 25.2 or later), or write Avro or JSON"
        ) from None
