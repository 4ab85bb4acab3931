"""Commands packed in C are those that redis-py packs in Python, on random arguments."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import DataError

from streams.publish.redis_packing import PackingConnection, PackingSocketConnection, PackingSSLConnection

ARGUMENTS = st.lists(
    st.one_of(
        st.text(st.characters(exclude_categories=["Cs"])),
        st.binary(max_size=20_000),
        st.binary(max_size=40).map(bytearray),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False),
    ),
    max_size=8,
)


@pytest.mark.parametrize(
    ("packing", "plain"),
    [
        (PackingConnection, Connection),
        (PackingSSLConnection, SSLConnection),
        (PackingSocketConnection, UnixDomainSocketConnection),
    ],
)
@given(name=st.sampled_from(["GET", "CONFIG GET", "EVAL"]), arguments=ARGUMENTS)
def test_the_bytes_are_those_of_redis_py(
    packing: type[Connection], plain: type[Connection], name: str, arguments: list[str | bytes | int | float]
) -> None:
    commands: list[tuple[str | bytes | int | float, ...]] = [(name, *arguments), ("PING",)]
    assert b"".join(packing().pack_commands(commands)) == b"".join(plain().pack_commands(commands))


def test_what_cannot_be_sent_is_named_as_redis_py_does() -> None:
    with pytest.raises(DataError):
        PackingConnection().pack_command("GET", object())
