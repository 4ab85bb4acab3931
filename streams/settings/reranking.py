"""Settings of a reranker that a server has: how it is asked. Opens no connection."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import SecretStr, field_validator

from streams.settings.group import SettingsGroup, setting, split_commas


class RerankSettings(SettingsGroup):
    """How the server is asked where `ranker.model` or `ranker.challenger` is an address."""

    api: Literal["jina", "tei"] = setting(
        "jina",
        "The contract of its `/rerank`. `jina`: `model`, `query` and `documents`, as Jina, Cohere, vLLM, SGLang and "
        "infinity have it. `tei`: `query` and `texts`, as Text Embeddings Inference has it.",
    )
    model: str | None = setting(
        None, "The name of the model, for a server that has several. Unset: the server's own choice.", unit="text"
    )
    token: SecretStr | None = setting(None, "The bearer token that the server requires.", unit="secret text")
    hosts: tuple[str, ...] = setting(
        (),
        "The servers that the `base` of a model's folder may name, such as `gpu-1:8080`. A folder that names another "
        "one is refused, because the server gets the users' histories and the token.",
        unit="names with commas",
    )
    max_requests: int = setting(
        32,
        "How many requests a worker has under way at once. Servers queue more than they compute; lower it where a "
        "server limits the rate.",
        unit="requests",
        ge=1,
        le=1_024,
    )
    max_texts: int | None = setting(
        None,
        "How many candidates one request has; a list with more is split. Unset: 32 with `tei`, its server's own limit, "
        "and 1000 with `jina`.",
        unit="texts",
        ge=1,
    )
    timeout_ms: int = setting(
        3_000,
        "The longest wait for one answer. The request is then sent again, at most twice, if `ranker.timeout_ms` leaves "
        "time.",
        unit="ms",
        ge=1,
    )
    context_bytes: int = setting(
        1_200,
        "The longest history that is sent, in UTF-8; older events are left out. The default fits a model of 512 "
        "tokens, which servers would cut at the newest events. Raise it for a model that reads more.",
        unit="bytes",
        ge=100,
    )

    _split = field_validator("hosts", mode="before")(split_commas)

    @field_validator("token")
    @classmethod
    def _one_word(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch("[!-~]+", value.get_secret_value()):
            raise ValueError("ASCII without white space (a line feed from a file?)")
        return value
