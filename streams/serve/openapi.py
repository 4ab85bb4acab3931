"""The OpenAPI document, composed from the operations that the endpoints declare and the schemas of their types.

Knows no route of its own.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import msgspec

from streams.bodies import ErrorBody
from streams.serve.observed import label_of
from streams.serve.problems import JSON

if TYPE_CHECKING:
    from streams.serve.rooms import Endpoint

_REF = "#/components/schemas/{name}"
ERRORS = {
    "400": "The path, the query or the body is not as described.",
    "401": "No token, or a wrong one.",
    "403": "The token of another right.",
    "404": "There is no such thing.",
    "408": "The request took too long.",
    "413": "The body is too large.",
    "415": "The body is not JSON.",
    "421": "Another host than this machine, where no token is set.",
    "422": "Nothing was accepted.",
    "429": "Too many requests; Retry-After says when to come back.",
    "500": "An error of ours.",
    "503": "Redis or Kafka is away; Retry-After says when to come back.",
}
GUARDED = ("401", "403", "408", "421", "429", "500")
"""What every endpoint behind a right may answer."""
_TYPES: dict[str, Any] = {}


def ref(type_: Any) -> dict[str, Any]:
    """Return a reference to the schema of a struct, which the document then contains."""
    _TYPES[type_.__name__] = type_
    return {"$ref": _REF.format(name=type_.__name__)}


def operation(
    summary: str,
    answers: Mapping[str, tuple[str, Mapping[str, Any]]],
    errors: Collection[str] = (),
    *,
    parameters: Iterable[dict[str, Any]] = (),
    body: Any = None,
) -> dict[str, Any]:
    """Compose an operation.

    Parameters
    ----------
    summary : str
        What it does.
    answers : mapping of str to (str, mapping)
        Status -> description, and content by media type.
    errors : collection of str
        The statuses of its typed errors.
    parameters : iterable of dict
        See `parameter`.
    body : type, optional
        The struct that the body is.
    """
    failures = {status: {"description": ERRORS[status], "content": json_of(ErrorBody)} for status in sorted(errors)}
    composed: dict[str, Any] = {
        "summary": summary,
        "parameters": list(parameters),
        "responses": {
            **{status: {"description": text, "content": content} for status, (text, content) in answers.items()},
            **failures,
        },
    }
    if body is not None:
        composed["requestBody"] = {"required": True, "content": json_of(body)}
    return composed


def json_of(type_: Any) -> dict[str, Any]:
    """Return a JSON content of this struct."""
    return {JSON: {"schema": ref(type_)}}


def parameter(name: str, text: str, schema: dict[str, Any], *, where: str = "query") -> dict[str, Any]:
    """Compose a parameter. One in the path is required."""
    return {"name": name, "in": where, "description": text, "required": where == "path", "schema": schema}


USER = parameter(
    "user", "The user's id, percent-encoded.", {"type": "string", "minLength": 1, "examples": ["u1"]}, where="path"
)


def document(endpoints: Collection[Endpoint]) -> bytes:
    """Compose the document, as JSON."""
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        if endpoint.operation is None:
            continue
        described = dict(endpoint.operation)
        if endpoint.right is not None:
            described["security"] = [{endpoint.right: []}, {}]
        template = label_of(endpoint.path)
        name = re.sub(r"\W+", "_", template).strip("_")
        described["operationId"] = f"{endpoint.method.lower()}_{name}"
        paths.setdefault(template, {})[endpoint.method.lower()] = described
    _, schemas = msgspec.json.schema_components(list(_TYPES.values()), ref_template=_REF)
    rights = {endpoint.right for endpoint in endpoints if endpoint.right}
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Afterclick",
                "version": version("afterclick"),
                "description": "Every click re-ranks the list.",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "paths": paths,
            "components": {
                "schemas": schemas,
                "securitySchemes": {
                    right: {"type": "http", "scheme": "bearer", "description": f"The token to {right}."}
                    for right in sorted(rights)
                },
            },
        }
    )
