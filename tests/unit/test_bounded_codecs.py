"""Bounded decompression gives the same bytes as aiokafka's own, up to the bound."""

from __future__ import annotations

import random
from typing import Any

import cramjam
import pytest
from aiokafka import codec
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from streams.faust_compat import bounded_codecs

bounded_codecs.install()
CODECS = {"gzip": 1, "lz4": 3, "zstd": 4}
DECODERS = {
    "gzip": bounded_codecs.gzip_decode,
    "lz4": bounded_codecs.lz4_decode,
    "zstd": bounded_codecs.zstd_decode,
}
contents = st.one_of(
    st.binary(max_size=5_000), st.tuples(st.binary(max_size=9), st.integers(0, 40_000)).map(lambda p: p[0] * p[1])
)


@pytest.mark.parametrize("name", CODECS)
@given(content=contents)
def test_the_same_bytes_come_out(name: str, content: bytes) -> None:
    packed = getattr(codec, f"{name}_encode")(content)
    assert DECODERS[name](packed) == content == getattr(codec, f"{name}_decode")(packed)


@pytest.mark.parametrize("name", CODECS)
def test_damaged_data_is_an_error(name: str) -> None:
    packed = bytearray(getattr(codec, f"{name}_encode")(random.Random(1).randbytes(4_000)))
    for broken in (packed[:-20], b"xx" + packed, packed[:40] + bytes(200)):
        with pytest.raises(Exception, match=r".") as raised:
            DECODERS[name](bytes(broken))
        assert not isinstance(raised.value, bounded_codecs.TooLarge)


@pytest.mark.parametrize("name", CODECS)
def test_a_batch_that_fills_the_memory_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By every consumer of this process, whichever way aiokafka decodes."""
    monkeypatch.setattr(bounded_codecs, "MAX_BYTES", 1 << 20)

    def read(size: int) -> list[Any]:
        built = DefaultRecordBatchBuilder(2, CODECS[name], 0, -1, -1, 0, 1 << 30)
        built.append(0, 1_000, None, bytes(size), [])
        return list(DefaultRecordBatch(memoryview(bytes(built.build()))))

    assert len(read((1 << 20) - 100)[0].value) == (1 << 20) - 100
    with pytest.raises(bounded_codecs.TooLarge, match=f"a batch in {name} with over 1 MiB of records"):
        read(1 << 20)


def test_several_members_of_gzip_are_one_stream() -> None:
    packed = bytes(cramjam.gzip.compress(b"one")) + bytes(cramjam.gzip.compress(b"two"))
    assert bounded_codecs.gzip_decode(packed) == b"onetwo" == codec.gzip_decode(packed)
