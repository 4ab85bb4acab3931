"""Every report at 80 columns, in a pipe and on a wide terminal: each figure, name and id is whole."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console, RenderableType

from ranker.evaluation.baselines.methods import METHODS
from ranker.evaluation.judge import COLD_NDCG, USER_GROUPS, Estimate
from streams.bench.measurement import Measurement, Target
from streams.bench.measurement import table as bench_table
from streams.commands import dead_letter_commands, recommend, topics, train
from streams.commands.compression_report import Evaluated
from streams.commands.compression_report import table as compression_table
from streams.commands.dead_letter_filter import LetterGroups, StoredDeadLetter
from streams.commands.demo.screen import View, verdict
from streams.commands.doctor.check import Check
from streams.commands.doctor.doctor import render
from streams.commands.evaluation_report import COLUMNS, System, tables
from streams.commands.plan import assumptions, rows, write
from streams.contracts import DeadLetter
from streams.datasets.shop import SyntheticShop
from streams.kafka.topic_changes import TopicDifference
from streams.settings import Settings
from streams.sizing.costs import DEFAULTS
from streams.sizing.plan import Load, plan
from streams.terminal.report import SENTENCE, Field, Report, show

Rendered = tuple[Sequence[RenderableType], list[str]]
"""Reports, and the words that have to be whole in them."""


def evaluation() -> Rendered:
    generator = np.random.default_rng(1)
    groups = {f"ndcg_at_10_users_{group}_events" for group in USER_GROUPS} | {COLD_NDCG}
    systems = {}
    for name in ("afterclick", "afterclick-no-model", *METHODS):
        values = {measure: generator.random() for measure in (*COLUMNS, *groups)}
        values["distinct_items"] = float(generator.integers(100, 20_000))
        measures = {measure: Estimate(float(v), float(v) * 0.9, float(v) * 1.1) for measure, v in values.items()}
        settings = {"half_life_days": 12.5, "shrink": 1_000, "neighbours": 200, "learning_rate": 0.00123}
        systems[name] = System(measures, 12_345.6, settings, "best of 8 on the validation part, NDCG@10 0.0831", 12.3)
    whole, by_history, notes = tables("next-basket: 2,494 users", systems, dict.fromkeys(groups, 1_234), 2_468)
    words = [*systems, "12.3", "12,345.6", "0.00123,", "(1,234,", "50%)", *COLUMNS.values()]
    words += [word for cells, _ in (*whole.rows, *by_history.rows) for word in " ".join(cells).split()]
    return (whole, by_history, notes), words


def doctor() -> Rendered:
    checks = [
        Check("Kafka at kafka-0.kafka.shop.svc.cluster.local:9092", True, "brokers: 3, cluster lkc-9xk2p"),
        Check(
            "topic a-long-prefix-of-a-team.recommendations",
            False,
            "partitions: 12, and max.message.bytes is 1,048,588",
            "set AFTERCLICK_KAFKA__REPLICATION_FACTOR (now 3) or AFTERCLICK_CANDIDATES__CO_VISIT_HALF_LIFE_DAYS lower",
        ),
        Check("messages of clicks", True, "newest 10,000: 1,234 rejected; causes: timestamp 1,000 times"),
    ]
    words = [word for check in checks for word in f"{check.name} {check.found} {check.advice}".split()]
    return (render(checks),), words


def bench() -> Rendered:
    target = Target(0.9, at_most=False, of="ratio")
    measured = [
        Measurement("lists of 100 candidates by the packed scorer", "lists/s", [123.4, 1_234_567, 99.9]),
        Measurement("useful FLOPs over the matmul rate", "TFLOP/s", [1.234], "matmul of bfloat16", [1.5], target, "x"),
    ]
    words = ["123", "lists/s", "99.9..1,234,567", "1.23", "TFLOP/s", "1.23..1.23", "0.823", "no"]
    return (bench_table("scorer", measured),), words


def a_plan() -> Rendered:
    load = Load(100_000_000, 20_000, 1_000_000, 100)
    output = io.StringIO()
    write(load, DEFAULTS, [], Console(file=output, width=10_000), as_json=False)
    needs = plan(load, DEFAULTS)
    words = [*(word for row in rows(load, needs) for word in " ".join(row).split())]
    report = Report((Field("what"), Field("needed", wrap=SENTENCE)), caption="\n".join(assumptions(load, DEFAULTS, [])))
    for row in rows(load, needs):
        report.add(*row)
    assert set(words) <= set(output.getvalue().split())
    return (report,), words


def all_topics() -> Rendered:
    settings = Settings.model_construct(topic_prefix="a-long-prefix-of-a-team.")
    described = topics.described(settings)
    report = topics.topics_table(described)
    words = [row["topic"] for row in described]
    words += [f"{key}={value}" for row in described for key, value in row["config"].items()]
    return (report,), words


def differences() -> Rendered:
    one = TopicDifference("a-long-prefix-of-a-team.recommendations", "max.message.bytes", "1048588", "8388608", "")
    report = topics.differences_table([one], [one])
    assert report is not None
    return (report,), [one.topic, one.what, one.got, one.expected]


def letters() -> Rendered:
    letter = DeadLetter(
        topic="rank-requests",
        partition=11,
        offset=123_456_789,
        error="clicks: timestamp: got 1795000000, expected milliseconds since the epoch; AFTERCLICK_TIME_ZONE",
        payload=b'{"event_id":"5bfab0dc-6f54-4f0a-9a53-7f4b27a5b0de","user_id":"u-1234567"}',
        key=b"u-1234567",
        cause="timestamp too early",
    )
    stored = StoredDeadLetter(7, 9_876_543, 1_795_000_000_000, letter)
    groups = LetterGroups()
    groups.add([stored] * 12_345)
    words = "12,345 rank-requests rank-requests/11/123456789 7/9876543 2026-11-18T11:06:40Z 1795000000, "
    words += 'AFTERCLICK_TIME_ZONE {"event_id":"5bfab0dc-6f54-4f0a-9a53-7f4b27a5b0de","user_id":"u-1234567"}'
    reports = dead_letter_commands.grouped(groups.all()), dead_letter_commands.each([(stored, letter.error)], "error")
    return reports, words.split()


def compression() -> Rendered:
    model = Evaluated(0.1234, 0.0987, "bfloat16", 1_234_567_890, 1_234.5)
    return (compression_table("small", {"before": model, "after": model}),), ["0.1234", "1234.6", "1234.5", "bfloat16"]


def training() -> Rendered:
    figures = {"the trained model": 0.1234, "counter co_visited": 0.0987, "language model alone": 0.0456}
    return (train.table("my-model: 20,000 query groups", figures),), ["0.1234", "0.0987", "0.0456", "20,000"]


def demo() -> Rendered:
    shop = SyntheticShop(1, 600, 20)
    view = View(shop.items, list(shop.events(60)), 1)
    return (verdict(view),), ["afterclick", "popularity", "random", "NDCG@10"]


def a_list() -> Rendered:
    items = [
        {
            "item_id": f"SKU-2026-000{number:04}-XL",
            "rank": number,
            "score": -number / 7,
            "sources": ["co-visited", "nearest", "trending"],
            "reason": {"text": "Because you bought Trail running jacket and Merino socks", "evidence": []},
        }
        for number in (1, 10)
    ]
    stored = {"user_id": "u1", "state_version": 1_234, "model": "default@451e562d", "degraded": None, "items": items}
    titles = {"SKU-2026-0000001-XL": "Waterproof [3-layer] trail running jacket", "SKU-2026-0000010-XL": "寝袋"}
    answer = recommend.Answer(json.dumps(stored).encode(), [], titles)
    words = [*titles, "-0.143", "-1.429", "default@451e562d", "[3-layer]", "寝袋", "co-visited,", "Merino"]
    return (recommend.render(answer),), words


@pytest.mark.parametrize(
    "rendered",
    [evaluation, doctor, bench, a_plan, all_topics, differences, letters, compression, training, demo, a_list],
)
@pytest.mark.parametrize(("width", "terminal"), [(80, True), (80, False), (160, True), (250, False)])
def test_every_figure_and_name_of_a_report_is_whole(rendered: object, width: int, terminal: bool) -> None:
    assert callable(rendered)
    reports, words = rendered()
    output = io.StringIO()
    show(*reports, console=Console(file=output, width=width, force_terminal=terminal, highlight=False))
    text = re.sub(r"\x1b\[[0-9;]*m", "", output.getvalue())
    assert set(words) - set(text.split()) == set()
    long = [line for line in text.splitlines() if cell_len(line.rstrip()) > max(width, *map(cell_len, words))]
    assert long == []


words_of_any_length = st.text(st.characters(whitelist_categories=["L", "N", "P"]), min_size=1, max_size=60)


@given(
    st.lists(st.lists(words_of_any_length, min_size=4, max_size=4), max_size=5),
    st.tuples(*[st.integers(0, 30)] * 4),
    st.integers(20, 120),
)
def test_no_word_of_any_table_is_broken(cells: list[list[str]], wraps: tuple[int, ...], width: int) -> None:
    report = Report([Field(f"field {number}", wrap=wrap) for number, wrap in enumerate(wraps)])
    for row in cells:
        report.add(*row)
    output = io.StringIO()
    show(report, console=Console(file=output, width=width))
    assert {word for row in cells for word in row} <= set(output.getvalue().split())


@pytest.mark.parametrize(("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colours_are_for_a_terminal_that_wants_them(environment: dict[str, str], coloured: bool) -> None:
    report = Report([Field("check")])
    report.add("fails", style="red")
    shown = {}
    for terminal in (True, False):
        output = io.StringIO()
        options = {"TERM": "xterm", **environment}
        show(report, console=Console(file=output, width=80, force_terminal=terminal, _environ=options))
        shown[terminal] = "\x1b[31m" in output.getvalue()
    assert shown == {True: coloured, False: False}


def test_what_no_system_measured_has_no_column() -> None:
    nothing, something = Estimate(math.nan, math.nan, math.nan), Estimate(0.5, 0.4, 0.6)
    measures = {"ndcg_at_10": something, "auc": nothing, COLD_NDCG: nothing}
    whole, by_history, _ = tables("one system", {"ours": System(measures, 1.0, {})}, {}, 1)
    assert [one.heading for one in (*whole.fields, *by_history.fields)] == ["system", "NDCG@10", "s", "system"]
