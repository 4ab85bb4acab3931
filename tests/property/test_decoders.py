"""Every decoder of external input, on any input: it accepts the input, or rejects it with its documented error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.models.source import ModelUnsupported
from ranker.scorers import template, template_choice
from tests import models
from tests.fuzz.decoders import DECODERS, NOW_MS, good

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
TIMES = st.integers(NOW_MS - 10**9, NOW_MS) | st.just("2026-03-01T12:00:00+02:00") | st.integers()
FUZZ_RUNS = 20_000


@pytest.mark.parametrize("name", DECODERS)
def test_good_input_is_accepted(name: str) -> None:
    for data in good()[name]:
        assert DECODERS[name](data)


@pytest.mark.parametrize("name", DECODERS)
def test_any_bytes(name: str) -> None:
    decode = DECODERS[name]

    @given(st.binary(max_size=300))
    def any_bytes(data: bytes) -> None:
        decode(data)

    any_bytes()


@pytest.mark.parametrize("name", [name for name in DECODERS if name not in ("state record", "item counts")])
def test_a_good_message_with_another_value_in_one_field(name: str) -> None:
    [data] = good()[name]
    fields: dict[str, Any] = json.loads(data)

    @given(st.sampled_from(sorted(fields)), ANY_JSON | TIMES)
    @settings(deadline=None)
    def changed(field: str, value: Any) -> None:
        try:
            encoded = json.dumps(fields | {field: value}).encode()
        except UnicodeEncodeError:
            return
        DECODERS[name](encoded)

    changed()


@given(st.data())
@settings(deadline=None)
def test_a_stored_record_with_another_value_in_one_position(data: st.DataObject) -> None:
    for name in ("state record", "item counts"):
        key, newline, value = (
            good()[name][0].rpartition(b"\n") if name == "item counts" else (b"", b"", good()[name][0])
        )
        parts = msgspec.msgpack.decode(value)
        position = data.draw(st.integers(0, len(parts) - 1))
        parts[position] = data.draw(
            st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary() | st.lists(st.integers(0, 9))
        )
        DECODERS[name](key + newline + msgspec.msgpack.encode(parts))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"[" * 500_000, id="arrays"),
        pytest.param(b'{"a":' * 150_000, id="objects"),
        pytest.param(b'{"unknown":' + b"[" * 500_000 + b"]" * 500_000 + b"}", id="in an unknown field"),
        pytest.param(b'{"title":"' + b"x" * 10_000_000 + b'"}', id="a title of 10 MB"),
        pytest.param(b"\x91" * 500_000, id="msgpack arrays"),
        pytest.param(b"\xdd\xff\xff\xff\xff", id="msgpack array of 4 billion"),
        pytest.param(
            b"0:1\n\x93\xcb" + b"\0" * 8 + b"\xcb" + b"\0" * 8 + b"\xdf\xff\xff\xff\xff", id="a map of 4 billion"
        ),
        pytest.param(
            b'{"event_id":"e","user_id":"u","item_id":"i","list_id":"l","items":[],"title":"t","timestamp":'
            + b"9" * 400
            + b"}",
            id="a time of 400 digits",
        ),
        pytest.param(
            b'{"request_id":"r","user_id":"u","as_of":1790000000000,"history":[],"candidates":[],"arrived_at":-'
            + b"9" * 400
            + b"}",
            id="an arrival of 400 digits",
        ),
        pytest.param(b'{"timestamp": ' + b"9" * 100_000 + b"}", id="a number of 100,000 digits"),
    ],
)
@pytest.mark.parametrize("name", DECODERS)
def test_bombs_are_rejected(name: str, data: bytes) -> None:
    assert not DECODERS[name](data)


@cache
def tokenizer() -> Any:
    return models.byte_level()


@given(
    st.dictionaries(st.sampled_from(["prefix", "middle", "suffix", "yes", "no", "else"]), st.text() | ANY_JSON)
    | ANY_JSON
    | st.binary()
)
@settings(deadline=None)
def test_afterclick_json_is_a_template_or_is_rejected(value: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        Path(folder, template.FILE).write_bytes(raw)
        with suppress(ModelUnsupported):
            for choice in template_choice.choices(Path(folder), tokenizer()):
                template.tokenised(choice.template, Path(folder), tokenizer())


@pytest.mark.skipif(sys.version_info < (3, 11), reason="atheris has no wheel for it")
def test_guided_by_coverage(tmp_path: Path) -> None:
    """The short form of `make fuzz`."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.run", str(FUZZ_RUNS)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"{FUZZ_RUNS} inputs in" in done.stdout
