"""Files: one reader for every format, refusals by name, and a count of what is left out."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from streams.datasets.field_options import FieldOptions
from streams.datasets.file_messages import FileMessages, profile_files, topic_files
from streams.datasets.messages import InputError
from streams.settings import Settings, SettingsError

MS = 1_700_000_000_000
RECORDS: dict[str, list[dict[str, Any]]] = {
    "items": [
        {"item_id": "i1", "title": "Lamp, large\nand bright", "price": 9.5, "categories": ["Home", "Light"]},
        {"item_id": "i2", "title": 'A "mug"', "attributes": {"colour": "blue"}, "available": False},
    ],
    "clicks": [
        {"event_id": f"c{n}", "user_id": "ü1", "item_id": f"i{n}", "timestamp": MS + n, "dwell_ms": 5} for n in (1, 2)
    ],
    "purchases": [
        {"event_id": "p1", "user_id": "u1", "item_id": "i1", "timestamp": "2023-11-14T22:13:20Z", "quantity": 2.0},
    ],
    "impressions": [{"event_id": "s1", "user_id": "u1", "list_id": "l", "items": ["i1", "i2"], "timestamp": MS}],
    "forget": [{"user_id": "u1", "timestamp": MS}],
}


def as_csv(records: list[dict[str, Any]], delimiter: str = ",") -> bytes:
    names = list(dict.fromkeys(name for record in records for name in record))
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(names)
    for record in records:
        cells = [record.get(name, "") for name in names]
        writer.writerow([json.dumps(cell) if isinstance(cell, (list, dict)) else cell for cell in cells])
    return text.getvalue().encode()


def as_lines(records: list[dict[str, Any]]) -> bytes:
    return b"\n\n".join(map(msgspec.json.encode, records)) + b"\n"


FORMATS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "JSON lines": as_lines,
    "JSON lines with CRLF": lambda records: as_lines(records).replace(b"\n", b"\r\n"),
    "array": lambda records: json.dumps(records).encode(),
    "pretty array": lambda records: json.dumps(records, indent=2, ensure_ascii=False).encode(),
    "CSV": as_csv,
    "CSV with semicolons": lambda records: as_csv(records, ";"),
    "CSV with tabs": lambda records: as_csv(records, "\t"),
}
WRAPPED: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "BOM": lambda content: b"\xef\xbb\xbf" + content,
    "gzip": gzip.compress,
    "gzip and BOM": lambda content: gzip.compress(b"\xef\xbb\xbf" + content),
}


def write(folder: Path, content: bytes | str, name: str = "data.bin") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def decoded(files: FileMessages) -> list[tuple[str, bytes, Any, int | None]]:
    return [
        (message.topic, message.key, msgspec.json.decode(message.value or b"null"), message.time_ms)
        for message in files.messages()
    ]


@pytest.mark.parametrize("topic", RECORDS)
@pytest.mark.parametrize("wrapped", WRAPPED)
def test_every_format_gives_the_same_messages(tmp_path: Path, topic: str, wrapped: str) -> None:
    records = RECORDS[topic]
    given: dict[str, Any] = {}
    for name, form in FORMATS.items():
        files = topic_files({topic: write(tmp_path, WRAPPED[wrapped](form(records)))})
        given[name] = decoded(files)
        assert (files.account.rows, files.account.left_out) == (len(records), {})
        done, size = files.progress(0)
        assert done == size > 0
    for name, messages in given.items():
        assert [key for _, key, _, _ in messages] == [key for _, key, _, _ in given["array"]], name
        assert [time_ms for *_, time_ms in messages] == [time_ms for *_, time_ms in given["array"]], name
        for (_, _, got, _), sent in zip(messages, records, strict=True):
            lenient = {**sent, **got}  # what has a default may be left out
            assert {name: str(value) for name, value in lenient.items() if name != "timestamp"} == {
                name: str(value) for name, value in sent.items() if name != "timestamp"
            }, name


def test_json_of_the_contracts_shape_stays_byte_for_byte(tmp_path: Path) -> None:
    line = b'{ "user_id": 5,"item_id":"i","timestamp":1700000000000,"event_id":"e", "more": [1.50] }'
    for content in (line + b"\n", b"[\n" + line + b"]"):
        [message] = topic_files({"clicks": write(tmp_path, content)}).messages()
        assert (message.value, message.key) == (line, b"5")


def test_a_file_without_event_ids_names_each_event_by_file_and_line(tmp_path: Path) -> None:
    row = "u1,i1,2023-11-14T22:13:20Z"
    path = write(tmp_path, f'user_id,item_id,timestamp,text\n{row},"two\nlines"\n\n{row},\n', "old clicks.csv")
    assert [value["event_id"] for _, _, value, _ in decoded(topic_files({"clicks": path}))] == [
        "old clicks.csv/2",
        "old clicks.csv/5",
    ]
    fields = {"user_id": "u1", "item_id": "i1", "timestamp": MS, "event_id": None}
    path = write(tmp_path, json.dumps(fields), "a" * 200 + ".jsonl")
    [(_, _, value, _)] = decoded(topic_files({"clicks": path}))
    assert value["event_id"] == "a" * 54 + ".jsonl/1"


def test_items_come_first_and_events_are_merged_by_time(tmp_path: Path) -> None:
    def click(number: int, at: object) -> str:
        return json.dumps({"event_id": f"e{number}", "user_id": "u", "item_id": "i", "timestamp": at})

    clicks = write(tmp_path, "\n".join([click(1, MS + 1), "oops", click(2, MS + 4000)]), "clicks")
    bought = write(tmp_path, "\n".join([click(3, "2023-11-14T22:13:22Z"), click(4, MS + 3000)]), "purchases")
    items = write(tmp_path, '{"item_id": "i", "title": "Lamp"}', "items")
    files = topic_files({"clicks": clicks, "purchases": bought, "items": items})
    for _ in range(2):  # the same when it is read again
        messages = decoded(files)
        assert [value.get("event_id") for _, _, value, _ in messages] == [None, "e1", "e3", "e4", "e2"]
        assert (files.account.rows, files.account.left_out) == (6, {"no JSON": 1})
        assert files.account.first["no JSON"].startswith(f"{clicks} line 2: clicks: JSON is malformed")


def test_a_topic_may_have_many_files(tmp_path: Path) -> None:
    """They are merged by time as the files of several topics are, and a column is meant in each file that has it."""
    rows = [[(f"e{day}{number}", MS + 86_400_000 * day + number) for number in range(3)] for day in range(3)]
    paths = [
        write(
            tmp_path, "event_id,customer,item_id,timestamp\n" + "\n".join(f"{e},u,i,{ms}" for e, ms in day), f"{n}.csv"
        )
        for n, day in enumerate(rows)
    ]
    messages = decoded(topic_files({"clicks": paths[::-1]}, FieldOptions(("user_id=customer",))))
    assert [value["event_id"] for _, _, value, _ in messages] == [event_id for day in rows for event_id, _ in day]


GOOD = "u1,i1,2023-11-14T22:13:20Z,"
BAD_ROWS = {
    "user_id missing": ",i1,2023-11-14T22:13:20Z,",
    "another number of cells than the header": "u1,i1",
    "timestamp: Invalid RFC3339 encoded datetime": "u1,i1,yesterday,",
    "not UTF-8, perhaps Windows-1252": "u1,i1,2023-11-14T22:13:20Z,caf\udce9",
    "no row of a CSV": 'u1,i1,2023-11-14T22:13:20Z,"' + "x" * ((1 << 20) + 1),
    "timestamp before 1990": "u1,i1,1700000000,",
}


def test_bad_rows_are_left_out_and_counted_by_cause_with_the_first_line(tmp_path: Path) -> None:
    rows = ["user_id,item_id,timestamp,text", *[GOOD] * 10]
    rows += [row for bad in BAD_ROWS.values() for row in (bad, GOOD)] + [BAD_ROWS["user_id missing"], "NULL,i1,,", GOOD]
    path = write(tmp_path, "\n".join(rows).encode(errors="surrogateescape"))
    files = topic_files({"clicks": path})
    assert len(list(files.messages())) == 10 + len(BAD_ROWS) + 1
    assert files.account.left_out == {**dict.fromkeys(BAD_ROWS, 1), "user_id missing": 3}
    assert files.account.first["user_id missing"].startswith(f"{path} line 12: clicks: Object missing required field")
    assert files.account.rows == len(rows) - 1


@pytest.mark.parametrize("form", ["lines", "array", "csv"])
def test_a_damaged_file_gives_what_lies_before_the_damage(tmp_path: Path, form: str) -> None:
    clicks = [{**RECORDS["clicks"][0], "event_id": os.urandom(8).hex()} for _ in range(3_000)]
    content = {"lines": as_lines(clicks), "array": json.dumps(clicks).encode(), "csv": as_csv(clicks)}[form]
    files = topic_files({"clicks": write(tmp_path, gzip.compress(content)[:-5_000])})
    assert 1_000 < len(list(files.messages())) < 3_000
    damage = "the file is damaged from here on"
    assert files.account.left_out[damage] == 1
    assert "write the file anew" in files.account.first[damage]


def test_a_broken_array_and_too_long_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = json.dumps(RECORDS["clicks"][0])
    files = topic_files({"clicks": write(tmp_path, f"[{good},\n{good}\n{good}]")})
    assert len(list(files.messages())) == 1
    assert "line 3: got '{', expected ',' or ']'" in files.account.first["the file is damaged from here on"]
    monkeypatch.setattr("streams.datasets.input_file.LONGEST_LINE", 200)
    files = topic_files({"clicks": write(tmp_path, f"{good}\n{'x' * 900}\n{good}\n")})
    assert len(list(files.messages())) == 2
    assert files.account.left_out == {"line too long": 1}


CSV_ROWS = "Customer;SKU;At\n" + "c1;s1;2023-11-14 22:13:20\n" * 5


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"PK\x03\x04..xl/workbook.xml", "got an Excel workbook (.xlsx), expected JSON lines"),
        (b"PK\x03\x04..data.csv", "got a ZIP archive"),
        (b"PAR1\x15\x04", "got a Parquet file"),
        (b"SQLite format 3\0.", "got an SQLite database"),
        (b"\x28\xb5\x2f\xfd.", "got Zstandard"),
        (b"<!DOCTYPE html>", "got XML or HTML"),
        (b"\xff\xfeu\0s\0", "got UTF-16"),
        ("user_id,".encode("utf-16-le"), "got UTF-16"),
        (b"\x93NUMPY\x01\0v\0", "got a binary file"),
        (gzip.compress(gzip.compress(b"{}", mtime=0), mtime=0), "got gzip within gzip"),
        (gzip.compress(random.Random(1).randbytes(5_000), mtime=0)[:-20], "data.bin"),
        (b"id,name,id\n", "got the column 'id' twice"),
        (CSV_ROWS, "fields Customer, SKU, At), so nothing of the file was used; say where the fields are: "
                   "--fields user_id=…,item_id=…,timestamp=…"),
        ('[{"userId": 1, "sku": "s"}]', "a JSON array with the fields userId, sku)"),
        ('{"user_id": "u", "item_id": "i", "timestamp": 1700000000}', "say the unit of times: --time-unit s"),
        ('{\n "user_id": "u"\n}\n', "line 1: clicks: "),
        ("{'user_id': 'u'}\n", "the text of a Python object"),
        (b"hello", "read as CSV with the fields hello"),
    ],
)  # fmt: skip
def test_a_file_that_is_none_of_ours_is_refused_in_one_line(tmp_path: Path, content: bytes, expected: str) -> None:
    path = write(tmp_path, content)
    if content == b"hello":
        path = write(tmp_path, "hello\nworld\n")
    with pytest.raises(InputError) as caught:
        topic_files({"clicks": path})
    assert expected in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, expected in {"none": "No such file", ".": "Is a directory", "pipe": "got a pipe"}.items():
        with pytest.raises(InputError, match=expected):
            topic_files({"clicks": tmp_path / name})
    with pytest.raises(InputError, match="expected at least one of --items, --clicks"):
        topic_files({"items": None, "clicks": None})


def test_an_empty_file_gives_nothing(tmp_path: Path) -> None:
    for content in (b"", b"\n \n", b"[]", b"user_id,item_id,timestamp\n", gzip.compress(b"")):
        files = topic_files({"clicks": write(tmp_path, content)})
        assert (list(files.messages()), files.account.rows, files.account.first) == ([], 0, {})


def test_more_bad_than_good_first_lines_are_refused_and_later_ones_counted(tmp_path: Path) -> None:
    good, bad = json.dumps(RECORDS["clicks"][0]) + "\n", "{}\n"
    with pytest.raises(InputError, match=r"line 3: .*; 60 of the first 100 records are bad"):
        topic_files({"clicks": write(tmp_path, (good * 2 + bad * 3) * 40)})
    files = topic_files({"clicks": write(tmp_path, good * 100 + bad * 900)})
    assert len(list(files.messages())) == 100
    assert files.account.left_out.total() == 900


def test_fields_on_the_command_line_describe_files_of_another_shape(tmp_path: Path) -> None:
    head = "No;Customer;Item (SKU);At;Price incl. tax;Status;item.id\n"
    rows = ["7;c1;s1;1700000000;9.50;paid;x", "8;c2;s2;1700000001;;open;x"]
    orders = write(tmp_path, head + "\n".join(rows), "orders.csv")
    items = write(tmp_path, "item_id,name,price\ns1,Lamp,9\n", "items.csv")
    options = FieldOptions(
        ("event_id=No,user_id=Customer,item_id=Item (SKU),timestamp=At", "price=Price incl. tax", "items.title=name"),
        "s",
        ("Status=paid",),
    )
    files = topic_files({"items": items, "purchases": orders}, options._replace(where=()))
    assert [value for _, _, value, _ in decoded(files)] == [
        {"item_id": "s1", "title": "Lamp", "price": 9.0},  # the column named for it is one of the other file
        {"event_id": "7", "user_id": "c1", "item_id": "s1", "timestamp": MS, "price": 9.5},
        {"event_id": "8", "user_id": "c2", "item_id": "s2", "timestamp": MS + 1000},
    ]
    files = topic_files({"purchases": orders}, options._replace(fields=options.fields[:2]))
    [(_, key, value, time_ms)] = decoded(files)
    assert (key, value["event_id"], value["price"], time_ms, files.account.others) == (b"c1", "7", 9.5, MS, 1)


def test_one_export_of_a_spreadsheet_is_catalogue_and_purchases(tmp_path: Path) -> None:
    head = "Order;Customer;SKU;Article;Quantity;Price;At;Status\r\n"
    rows = [
        f'7;c1;0{n};"Lamp; large\nand bright";2;{price};2024-03-01 14:22:07;{status}\r\n'
        for n, (price, status) in enumerate(
            [("59,90", "sent"), ("1.234,50", "sent"), ("1.234", "sent"), ("1,5", "open")]
        )
    ]
    orders = write(tmp_path, gzip.compress(("\ufeff" + head + "".join(rows)).encode()), "orders.csv.gz")
    options = FieldOptions(
        ("user_id=Customer,item_id=SKU,title=Article,quantity=Quantity,price=Price,purchases.timestamp=At",),
        where=("Status=sent",),
    )
    paths, zone = {"items": orders, "purchases": orders}, ZoneInfo("Europe/Berlin")
    with pytest.raises(InputError, match=r"decimal comma \(59,90\), say --decimal-comma"):
        topic_files(paths, options, zone=zone)
    files = topic_files(paths, options._replace(decimal_comma=True), zone=zone)
    prices, sent = [59.9, 1234.5, 1234.0], decoded(files)
    assert [(topic, value["item_id"], value["price"]) for topic, _, value, _ in sent] == [
        (topic, f"0{n}", price) for topic in ("items", "purchases") for n, price in enumerate(prices)
    ]
    assert {(value["title"], value.get("timestamp")) for _, _, value, _ in sent[:3]} == {
        ("Lamp; large\nand bright", None)
    }
    assert {(value["quantity"], time_ms) for *_, value, time_ms in sent[3:]} == {(2, 1_709_299_327_000)}
    assert (files.account.others, files.account.left_out) == (2, {})
    assert files.account.first_other == f"{orders} line 8: got 'open' at Status, expected sent"


def test_an_item_is_sent_again_only_if_it_changed(tmp_path: Path) -> None:
    prices = [5, 5, 6, 5, 5]
    items = write(tmp_path, "item_id,title,price\n" + "".join(f"a,Lamp,{price}\nb,Mug,3\n" for price in prices))
    files = topic_files({"items": items})
    for _ in range(2):  # the same when it is read again
        sent = [(value["item_id"], value["price"]) for _, _, value, _ in decoded(files)]
        assert sent == [("a", 5.0), ("b", 3.0), ("a", 6.0), ("a", 5.0)]
        assert (files.account.rows, files.account.superseded_items) == (10, 6)


def test_of_a_file_of_orders_the_last_row_of_an_item_is_sent(tmp_path: Path) -> None:
    lines = "".join(f"a,Lamp,{price},u{price},{MS + price}\nb,Mug,3,u{price},{MS + price}\n" for price in (5, 6, 7))
    orders = write(tmp_path, "item_id,title,price,user_id,purchases_ms\n" + lines)
    options = FieldOptions(("purchases.timestamp=purchases_ms",))
    files = topic_files({"items": orders, "purchases": orders}, options)
    sent = decoded(files)
    items = [(value["item_id"], value["price"]) for topic, _, value, _ in sent if topic == "items"]
    assert items == [("a", 7.0), ("b", 3.0)]
    assert [topic for topic, *_ in sent] == ["items"] * 2 + ["purchases"] * 6
    assert (files.account.rows, files.account.superseded_items) == (12, 4)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (FieldOptions(("user_id",)), "--fields: got 'user_id', expected NAME=VALUE"),
        (FieldOptions(("user_id=Custmer",)), "--fields: got the column 'Custmer', expected one that a file has: "),
        (FieldOptions(("userid=Customer",)), "--fields: got 'userid', expected FIELD=COLUMN for clicks, with a field"),
        (FieldOptions(("items.title=SKU",)), "--fields: got 'items.title'"),
        (
            FieldOptions(("title=SKU",)),
            "--fields: got 'title', a field of items, but no file of them; expected their file ",
        ),
        (FieldOptions((), "minutes"), "--time-unit: got 'minutes', expected one of s, ms"),
        (FieldOptions((), None, ("Kind=view",)), "--where: got the column 'Kind'"),
        (
            FieldOptions(("user_id=Customer,item_id=SKU,timestamp=At",)),
            "so nothing of the file was used; set AFTERCLICK_TIME_ZONE, to Europe/Berlin for example",
        ),
        (
            FieldOptions((), None, ("SKU=nothing",)),
            "line 2: got 's1' at SKU, expected nothing; got no record for clicks",
        ),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, options: FieldOptions, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        topic_files({"clicks": write(tmp_path, CSV_ROWS)}, options)
    assert expected in str(caught.value)


def test_a_table_of_the_settings_describes_a_file_and_the_contracts_own_shape_is_still_read(tmp_path: Path) -> None:
    fields = {"user_id": "Customer", "item_id": "SKU", "timestamp": "At"}
    settings = Settings.model_validate({"topics": {"clicks": [{"name": "shop", "fields": fields}]}})
    berlin = ZoneInfo("Europe/Berlin")
    files = topic_files({"clicks": write(tmp_path, CSV_ROWS)}, topics=settings.topics, zone=berlin)
    assert [time_ms for *_, time_ms in decoded(files)] == [MS - 3_600_000] * 5
    files = topic_files({"clicks": write(tmp_path, as_lines(RECORDS["clicks"]))}, topics=settings.topics)
    assert len(decoded(files)) == 2


CHANGES = [
    {"op": op, "before": row if op == "d" else None, "after": None if op == "d" else row, "source": {"ts_ms": MS}}
    for op, row in (("c", {"sku": "s1", "name": "Lamp"}), ("u", {"sku": "s1", "name": "Lamp 2"}), ("d", {"sku": "s1"}))
]


def test_a_profile_takes_what_a_table_of_the_settings_adds_to_it(tmp_path: Path) -> None:
    path = write(tmp_path, as_lines(CHANGES))
    with pytest.raises(SettingsError, match="item_id"):
        profile_files("debezium", [path])
    table = {"name": "shop.products", "profile": "debezium", "fields": {"item_id": "sku", "title": "name"}}
    topics = Settings.model_validate({"topics": {"items": [table]}}).topics
    messages = list(profile_files("debezium", [path, path], topics).messages())
    titles = [message.value and msgspec.json.decode(message.value)["title"] for message in messages]
    assert titles == ["Lamp", "Lamp 2", None] * 2  # the last one deletes the item
    assert {(message.topic, message.key) for message in messages} == {("items", b"s1")}


def test_what_is_no_profile_or_no_file_of_it_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, as_lines(RECORDS["clicks"]))
    with pytest.raises(InputError, match="import: got the profile 'segmnt', expected one of debezium, "):
        profile_files("segmnt", [path])
    with pytest.raises(InputError, match=r"got no record for clicks or .*; correct the profile \(got segment\)"):
        profile_files("segment", [path])
